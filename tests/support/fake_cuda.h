/* A CUDA driver for tests: host memory is device memory, streams are queues whose work is done late, one step at a time, in an
 * order drawn at random wherever streams do not wait for each other, and only when somebody looks. So a missing wait shows as
 * wrong data, the whole backend runs under sanitizers, and any call can be made to fail, alone or with all after it. Kernels:
 * the assemble kernel's body, and the decoder's twin. */
#ifndef FAKE_CUDA_H
#define FAKE_CUDA_H

#include "backend/cuda/assemble_tile.h"
#include "backend/cuda/cuda_driver.h"
#include "backend/cuda/decode/decode_desc.h"
#include "cuda_twin_launch.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FAKE_ERROR = 719, FAKE_MULTIPROCESSORS = 3, FAKE_ASSEMBLE = DMC_CUDA_KERNEL_COUNT };
enum fake_kind { FAKE_COPY, FAKE_SET, FAKE_RECORD, FAKE_WAIT, FAKE_LAUNCH, FAKE_CALL };

/* One record of an event, which is what a wait refers to, whatever the event is used for afterwards. Held by the event and by
 * the work that is to set it or waits for it. */
struct fake_mark {
    uint32_t references;
    bool done;
};
struct fake_event {
    struct fake_mark *last; /* NULL: never recorded */
};

struct fake_op {
    struct fake_op *next;
    enum fake_kind kind;
    void *to;
    const void *from;
    size_t bytes;   /* COPY; SET: count of items */
    uint64_t value; /* SET */
    uint32_t item_bytes;
    struct fake_mark *mark;       /* RECORD, WAIT */
    void (*call)(void *argument); /* CALL: frees its argument */
    void *argument;
    uint32_t kernel, grid, block, shared_bytes;
    union {
        struct {
            uint64_t index, records, statuses, tile_count;
            uint32_t piece_count;
        } assemble;
        struct dmc_gd_job job;
    };
};

struct fake_stream {
    struct fake_stream *next;
    struct fake_op *first, **last;
};

struct fake_thing {
    struct fake_thing *next;
    void *memory;
    size_t bytes;
    bool event;
};

static struct {
    pthread_mutex_t lock;
    struct fake_stream *streams;
    struct fake_stream legacy;
    uint64_t random;
    uint64_t calls, fail_at; /* the n-th call fails, and then all but the entering of contexts: a sticky error */
    bool fail_once;          /* only that one */
    dmc_cu_result fail_with;
    const char *only;   /* NULL, or the function whose calls count */
    const char *failed; /* the function whose call was the n-th */
    bool broken;
    uint32_t slowness;      /* steps done at a look: 0 to 3 less this; at least now and then one */
    uint64_t device_bytes;  /* free */
    dmc_cu_context current; /* the caller's: the second device's */
    uint64_t memories, pinned, events, stream_count, retained, modules;
    uint64_t memory_bytes, memory_bytes_most, pinned_bytes;
    struct fake_thing *things; /* all that was allocated and not freed */
} fake = {
    .lock = PTHREAD_MUTEX_INITIALIZER, .random = 88172645463325252ull, .fail_with = FAKE_ERROR, .device_bytes = 1ull << 30};

static __thread uint32_t fake_entered;

static inline uint64_t fake_next(void)
{
    fake.random ^= fake.random << 13;
    fake.random ^= fake.random >> 7;
    fake.random ^= fake.random << 17;
    return fake.random;
}

/* Every call but those that only describe errors comes through here. */
static inline dmc_cu_result fake_begin_named(const char *name, bool needs_context)
{
    if (needs_context)
        assert(fake_entered > 0);
    pthread_mutex_lock(&fake.lock);
    fake.calls += !fake.only || strcmp(fake.only, name) == 0;
    bool fails = fake.fail_at && fake.calls == fake.fail_at && !fake.failed;
    if (fails) {
        fake.failed = name;
        fake.broken = !fake.fail_once;
    }
    return fails || fake.broken ? fake.fail_with : DMC_CU_SUCCESS;
}
#define fake_begin(needs_context) fake_begin_named(__func__, needs_context)
static inline dmc_cu_result fake_end(dmc_cu_result result)
{
    pthread_mutex_unlock(&fake.lock);
    return result;
}

static inline void fake_mark_drop(struct fake_mark *mark)
{
    if (mark && --mark->references == 0)
        free(mark);
}
static inline void fake_op_free(struct fake_op *op)
{
    fake_mark_drop(op->mark);
    free(op);
}

static inline void *fake_thing_make(size_t align, size_t bytes)
{
    struct fake_thing *thing = calloc(1, sizeof *thing);
    assert(thing);
    *thing = (struct fake_thing){fake.things, aligned_alloc(align, (bytes + align - 1) / align * align), bytes, false};
    assert(thing->memory);
    fake.things = thing;
    return thing->memory;
}
/* Returns its bytes. */
static inline size_t fake_thing_free(void *memory)
{
    struct fake_thing **at = &fake.things;
    while (*at && (*at)->memory != memory)
        at = &(*at)->next;
    assert(*at); /* else it is freed twice, or is not ours */
    struct fake_thing *thing = *at;
    size_t bytes = thing->bytes;
    *at = thing->next;
    free(thing->memory);
    free(thing);
    return bytes;
}

static inline void fake_run(struct fake_op *op)
{
    switch (op->kind) {
    case FAKE_COPY:
        memcpy(op->to, op->from, op->bytes);
        break;
    case FAKE_SET:
        for (size_t i = 0; i < op->bytes; i++)
            memcpy((uint8_t *)op->to + i * op->item_bytes, &op->value, op->item_bytes);
        break;
    case FAKE_RECORD:
        op->mark->done = true;
        break;
    case FAKE_WAIT:
        break;
    case FAKE_CALL:
        op->call(op->argument);
        break;
    case FAKE_LAUNCH:
        if (op->kernel == FAKE_ASSEMBLE) {
            for (uint64_t tile = 0; tile < op->assemble.tile_count; tile++)
                dmc_tile_assemble((const struct dmc_tile_index *)(uintptr_t)op->assemble.index, op->assemble.piece_count,
                                  (const uint8_t *)(uintptr_t)op->assemble.records,
                                  (const uint32_t *)(uintptr_t)op->assemble.statuses, tile, 0, 1);
        } else {
            struct dmc_cuda_launcher twin = dmc_twin_launcher(FAKE_MULTIPROCESSORS, 227 * 1024);
            void *arguments[] = {&op->job};
            twin.launch(twin.context, (enum dmc_cuda_kernel)op->kernel, op->grid, op->block, op->shared_bytes, NULL, arguments);
        }
        break;
    }
}

static inline bool fake_runnable(const struct fake_stream *stream)
{
    return stream->first && (stream->first->kind != FAKE_WAIT || stream->first->mark->done);
}

/* One piece of work of some stream; false: there is none that could be done. */
static inline bool fake_step(void)
{
    uint32_t runnable = 0;
    for (struct fake_stream *stream = fake.streams; stream; stream = stream->next)
        runnable += fake_runnable(stream);
    runnable += fake_runnable(&fake.legacy);
    if (runnable == 0)
        return false;
    uint64_t pick = fake_next() % runnable;
    struct fake_stream *chosen = NULL;
    for (struct fake_stream *stream = fake.streams; stream && !chosen; stream = stream->next)
        if (fake_runnable(stream) && pick-- == 0)
            chosen = stream;
    if (!chosen)
        chosen = &fake.legacy;
    struct fake_op *op = chosen->first;
    fake_run(op);
    chosen->first = op->next;
    if (!op->next)
        chosen->last = &chosen->first;
    fake_op_free(op);
    return true;
}

static inline void fake_look(void)
{
    for (uint64_t steps = fake_next() % 4; steps > 0; steps--)
        fake_step();
}

static inline void fake_drain(void)
{
    while (fake_step())
        continue;
}

static inline struct fake_stream *fake_stream_of(dmc_cu_stream stream)
{
    return stream == NULL || stream == DMC_CU_STREAM_LEGACY ? &fake.legacy : stream;
}

static inline struct fake_op *fake_put(dmc_cu_stream handle, enum fake_kind kind)
{
    struct fake_stream *stream = fake_stream_of(handle);
    struct fake_op *op = calloc(1, sizeof *op);
    assert(op);
    op->kind = kind;
    if (!stream->last)
        stream->last = &stream->first;
    *stream->last = op;
    stream->last = &op->next;
    return op;
}

static dmc_cu_result fake_init(unsigned flags)
{
    (void)flags;
    return DMC_CU_SUCCESS;
}
static dmc_cu_result fake_driver_version(int *version)
{
    *version = 13000;
    return fake_end(fake_begin(false));
}
static dmc_cu_result fake_error_name(dmc_cu_result result, const char **text)
{
    *text = result == DMC_CU_OUT_OF_MEMORY ? "CUDA_ERROR_OUT_OF_MEMORY" : "CUDA_ERROR_LAUNCH_FAILED";
    return DMC_CU_SUCCESS;
}
static dmc_cu_result fake_error_string(dmc_cu_result result, const char **text)
{
    (void)result;
    *text = "a test made it fail";
    return DMC_CU_SUCCESS;
}
static dmc_cu_result fake_device_count(int *count)
{
    *count = 2;
    return fake_end(fake_begin(false));
}
static dmc_cu_result fake_device_get(dmc_cu_device *device, int ordinal)
{
    *device = ordinal;
    return fake_end(fake_begin(false));
}
static dmc_cu_result fake_device_pci_bus_id(char *text, int capacity, dmc_cu_device device)
{
    snprintf(text, (size_t)capacity, "0000:%02X:00.0", 0x3b + device);
    return fake_end(fake_begin(false));
}
static dmc_cu_result fake_device_attribute(int *value, int attribute, dmc_cu_device device)
{
    (void)device;
    *value = attribute == DMC_CU_MULTIPROCESSOR_COUNT       ? FAKE_MULTIPROCESSORS
             : attribute == DMC_CU_SHARED_BYTES_BLOCK_OPTIN ? 227 * 1024
                                                            : 9;
    return fake_end(fake_begin(false));
}
static dmc_cu_result fake_primary_retain(dmc_cu_context *context, dmc_cu_device device)
{
    static int contexts[2];
    dmc_cu_result result = fake_begin(false);
    *context = &contexts[device];
    fake.retained += result == DMC_CU_SUCCESS;
    return fake_end(result);
}
static dmc_cu_result fake_primary_release(dmc_cu_device device)
{
    (void)device;
    dmc_cu_result result = fake_begin(false);
    fake.retained--;
    return fake_end(result);
}
static dmc_cu_result fake_context_current(dmc_cu_context *context)
{
    *context = fake.current;
    return fake_end(fake_begin(false));
}
static dmc_cu_result fake_context_push(dmc_cu_context context)
{
    (void)context;
    pthread_mutex_lock(&fake.lock);
    bool was_broken = fake.broken; /* a lost context can still be entered, one that is gone cannot */
    pthread_mutex_unlock(&fake.lock);
    dmc_cu_result result = fake_begin(false);
    if (was_broken)
        result = DMC_CU_SUCCESS;
    fake_entered += result == DMC_CU_SUCCESS;
    return fake_end(result);
}
static dmc_cu_result fake_context_pop(dmc_cu_context *context)
{
    *context = NULL;
    fake_entered--;
    return DMC_CU_SUCCESS;
}
static dmc_cu_result fake_context_device(dmc_cu_device *device)
{
    *device = 1;
    return fake_end(fake_begin(false));
}
static dmc_cu_result fake_memory_info(size_t *free_bytes, size_t *total_bytes)
{
    *free_bytes = *total_bytes = fake.device_bytes;
    return fake_end(fake_begin(true));
}
static dmc_cu_result fake_memory_alloc(dmc_cu_address *address, size_t bytes)
{
    dmc_cu_result result = fake_begin(true);
    if (result == DMC_CU_SUCCESS) {
        void *memory = fake_thing_make(256, bytes);
        memset(memory, 0xa5, bytes < 65536 ? bytes : 65536);
        *address = (uint64_t)(uintptr_t)memory;
        fake.memories++;
        fake.memory_bytes += bytes;
        fake.memory_bytes_most = fake.memory_bytes > fake.memory_bytes_most ? fake.memory_bytes : fake.memory_bytes_most;
    }
    return fake_end(result);
}
static dmc_cu_result fake_memory_free(dmc_cu_address address)
{
    fake_begin(true);
    fake_drain(); /* as the driver does */
    fake.memories--;
    fake.memory_bytes -= fake_thing_free((void *)(uintptr_t)address);
    return fake_end(DMC_CU_SUCCESS);
}
static dmc_cu_result fake_host_alloc(void **memory, size_t bytes, unsigned flags)
{
    (void)flags;
    dmc_cu_result result = fake_begin(true);
    if (result == DMC_CU_SUCCESS) {
        *memory = fake_thing_make(4096, bytes);
        fake.pinned++;
        fake.pinned_bytes += bytes;
    }
    return fake_end(result);
}
static dmc_cu_result fake_host_free(void *memory)
{
    fake_begin(true);
    fake_drain();
    fake.pinned--;
    fake.pinned_bytes -= fake_thing_free(memory);
    return fake_end(DMC_CU_SUCCESS);
}
static dmc_cu_result fake_copy(const char *name, void *to, const void *from, size_t bytes, dmc_cu_stream stream)
{
    dmc_cu_result result = fake_begin_named(name, true);
    if (result == DMC_CU_SUCCESS) {
        struct fake_op *op = fake_put(stream, FAKE_COPY);
        op->to = to;
        op->from = from;
        op->bytes = bytes;
    }
    return fake_end(result);
}
static dmc_cu_result fake_copy_to_device(dmc_cu_address to, const void *from, size_t bytes, dmc_cu_stream stream)
{
    return fake_copy(__func__, (void *)(uintptr_t)to, from, bytes, stream);
}
static dmc_cu_result fake_copy_to_host(void *to, dmc_cu_address from, size_t bytes, dmc_cu_stream stream)
{
    return fake_copy(__func__, to, (const void *)(uintptr_t)from, bytes, stream);
}
static dmc_cu_result fake_copy_on_device(dmc_cu_address to, dmc_cu_address from, size_t bytes, dmc_cu_stream stream)
{
    return fake_copy(__func__, (void *)(uintptr_t)to, (const void *)(uintptr_t)from, bytes, stream);
}
static dmc_cu_result fake_set(const char *name, dmc_cu_address to, uint64_t value, uint32_t item_bytes, size_t count,
                              dmc_cu_stream stream)
{
    dmc_cu_result result = fake_begin_named(name, true);
    if (result == DMC_CU_SUCCESS) {
        struct fake_op *op = fake_put(stream, FAKE_SET);
        op->to = (void *)(uintptr_t)to;
        op->value = value;
        op->item_bytes = item_bytes;
        op->bytes = count;
    }
    return fake_end(result);
}
static dmc_cu_result fake_set_u8(dmc_cu_address to, unsigned char value, size_t count, dmc_cu_stream stream)
{
    return fake_set(__func__, to, value, 1, count, stream);
}
static dmc_cu_result fake_set_u16(dmc_cu_address to, unsigned short value, size_t count, dmc_cu_stream stream)
{
    return fake_set(__func__, to, value, 2, count, stream);
}
static dmc_cu_result fake_set_u32(dmc_cu_address to, unsigned value, size_t count, dmc_cu_stream stream)
{
    return fake_set(__func__, to, value, 4, count, stream);
}
static dmc_cu_result fake_stream_create(dmc_cu_stream *stream, unsigned flags)
{
    assert(flags == DMC_CU_STREAM_NON_BLOCKING);
    dmc_cu_result result = fake_begin(true);
    if (result == DMC_CU_SUCCESS) {
        struct fake_stream *made = calloc(1, sizeof *made);
        assert(made);
        made->last = &made->first;
        made->next = fake.streams;
        fake.streams = made;
        fake.stream_count++;
        *stream = made;
    }
    return fake_end(result);
}
static dmc_cu_result fake_stream_destroy(dmc_cu_stream stream)
{
    fake_begin(true);
    fake_drain();
    struct fake_stream **at = &fake.streams;
    while (*at != stream)
        at = &(*at)->next;
    *at = (*at)->next;
    for (struct fake_op *op = ((struct fake_stream *)stream)->first, *next; op; op = next) {
        next = op->next;
        fake_op_free(op);
    }
    free(stream);
    fake.stream_count--;
    return fake_end(DMC_CU_SUCCESS);
}
static dmc_cu_result fake_stream_query(dmc_cu_stream stream)
{
    dmc_cu_result result = fake_begin(false);
    fake_look();
    if (result == DMC_CU_SUCCESS && fake_stream_of(stream)->first)
        result = DMC_CU_NOT_READY;
    return fake_end(result);
}
static dmc_cu_result fake_stream_synchronize(dmc_cu_stream stream)
{
    dmc_cu_result result = fake_begin(true);
    while (result == DMC_CU_SUCCESS && fake_stream_of(stream)->first)
        assert(fake_step()); /* else it waits for what never comes */
    return fake_end(result);
}
static dmc_cu_result fake_stream_wait(dmc_cu_stream stream, dmc_cu_event event, unsigned flags)
{
    (void)flags;
    dmc_cu_result result = fake_begin(true);
    struct fake_event *waited = event;
    if (result == DMC_CU_SUCCESS && waited->last) {
        struct fake_op *op = fake_put(stream, FAKE_WAIT);
        op->mark = waited->last;
        op->mark->references++;
    }
    return fake_end(result);
}
static dmc_cu_result fake_event_create(dmc_cu_event *event, unsigned flags)
{
    (void)flags;
    dmc_cu_result result = fake_begin(true);
    if (result == DMC_CU_SUCCESS) {
        *event = memset(fake_thing_make(16, sizeof(struct fake_event)), 0, sizeof(struct fake_event));
        fake.things->event = true;
        fake.events++;
    }
    return fake_end(result);
}
static dmc_cu_result fake_event_destroy(dmc_cu_event event)
{
    fake_begin(true);
    fake_drain();
    fake.events--;
    fake_mark_drop(((struct fake_event *)event)->last);
    fake_thing_free(event);
    return fake_end(DMC_CU_SUCCESS);
}
static dmc_cu_result fake_event_record(dmc_cu_event event, dmc_cu_stream stream)
{
    dmc_cu_result result = fake_begin(true);
    if (result == DMC_CU_SUCCESS) {
        struct fake_op *op = fake_put(stream, FAKE_RECORD);
        struct fake_event *recorded = event;
        fake_mark_drop(recorded->last);
        recorded->last = op->mark = calloc(1, sizeof *op->mark);
        assert(op->mark);
        op->mark->references = 2;
    }
    return fake_end(result);
}
static dmc_cu_result fake_event_query(dmc_cu_event event)
{
    dmc_cu_result result = fake_begin(true);
    struct fake_event *queried = event;
    fake_look();
    if (result == DMC_CU_SUCCESS && queried->last && !queried->last->done)
        result = DMC_CU_NOT_READY;
    return fake_end(result);
}
static dmc_cu_result fake_event_elapsed(float *milliseconds, dmc_cu_event begin, dmc_cu_event end)
{
    const struct fake_event *first = begin, *second = end;
    dmc_cu_result result = fake_begin(true);
    assert(result != DMC_CU_SUCCESS || (first->last->done && second->last->done));
    *milliseconds = 0.25f;
    return fake_end(result);
}
static dmc_cu_result fake_module_load(dmc_cu_module *module, const void *image)
{
    dmc_cu_result result = fake_begin(true);
    *module = (void *)(uintptr_t)image;
    fake.modules += result == DMC_CU_SUCCESS;
    return fake_end(result);
}
static dmc_cu_result fake_module_unload(dmc_cu_module module)
{
    (void)module;
    fake_begin(true);
    fake.modules--;
    return fake_end(DMC_CU_SUCCESS);
}
static dmc_cu_result fake_module_function(dmc_cu_function *function, dmc_cu_module module, const char *name)
{
    (void)module;
    dmc_cu_result result = fake_begin(true);
    uintptr_t kernel = 0;
    while (kernel < DMC_CUDA_KERNEL_COUNT && strcmp(dmc_cuda_kernels[kernel].name, name) != 0)
        kernel++;
    assert(kernel < DMC_CUDA_KERNEL_COUNT || strcmp(name, "dmc_assemble") == 0);
    *function = (dmc_cu_function)(kernel + 1);
    return fake_end(result);
}
static dmc_cu_result fake_function_attribute(dmc_cu_function function, int attribute, int value)
{
    (void)function, (void)attribute, (void)value;
    return fake_end(fake_begin(true));
}
static dmc_cu_result fake_launch(dmc_cu_function function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                                 unsigned block_y, unsigned block_z, unsigned shared_bytes, dmc_cu_stream stream,
                                 void **arguments, void **extra)
{
    (void)extra;
    assert(grid_x > 0 && grid_y == 1 && grid_z == 1 && block_x > 0 && block_y == 1 && block_z == 1);
    dmc_cu_result result = fake_begin(true);
    if (result == DMC_CU_SUCCESS) {
        struct fake_op *op = fake_put(stream, FAKE_LAUNCH);
        op->kernel = (uint32_t)(uintptr_t)function - 1;
        op->grid = grid_x;
        op->block = block_x;
        op->shared_bytes = shared_bytes;
        if (op->kernel == FAKE_ASSEMBLE) {
            op->assemble.index = *(uint64_t *)arguments[0];
            op->assemble.piece_count = *(uint32_t *)arguments[1];
            op->assemble.records = *(uint64_t *)arguments[2];
            op->assemble.statuses = *(uint64_t *)arguments[3];
            op->assemble.tile_count = *(uint64_t *)arguments[4];
        } else {
            memcpy(&op->job, arguments[0], sizeof op->job);
        }
    }
    return fake_end(result);
}

#define FAKE_MEMBER(member, symbol, arguments) .member = fake_##member,
static const struct dmc_cuda_driver fake_driver = {DMC_CUDA_DRIVER_FUNCTIONS(FAKE_MEMBER)};
#undef FAKE_MEMBER
static const char fake_image[] = "the kernels";

/* The context is destroyed with all that is in it. */
static inline void fake_forget(void)
{
    pthread_mutex_lock(&fake.lock);
    while (fake.streams) {
        struct fake_stream *stream = fake.streams;
        fake.streams = stream->next;
        for (struct fake_op *op = stream->first, *next; op; op = next) {
            next = op->next;
            if (op->kind == FAKE_CALL)
                free(op->argument);
            fake_op_free(op);
        }
        free(stream);
    }
    while (fake.things) {
        if (fake.things->event)
            fake_mark_drop(((struct fake_event *)fake.things->memory)->last);
        fake_thing_free(fake.things->memory);
    }
    fake.memories = fake.pinned = fake.events = fake.stream_count = fake.retained = fake.modules = 0;
    fake.memory_bytes = fake.pinned_bytes = 0;
    pthread_mutex_unlock(&fake.lock);
}

/* Everything that was made has been given back. */
static inline bool fake_is_clean(void)
{
    if (!(fake.memories | fake.pinned | fake.events | fake.stream_count | fake.retained | fake.modules))
        return true;
    printf("left on the device: %llu memories, %llu pinned, %llu events, %llu streams, %llu contexts, %llu modules\n",
           (unsigned long long)fake.memories, (unsigned long long)fake.pinned, (unsigned long long)fake.events,
           (unsigned long long)fake.stream_count, (unsigned long long)fake.retained, (unsigned long long)fake.modules);
    return false;
}

#endif
