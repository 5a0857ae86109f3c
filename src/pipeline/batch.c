/* A batch: its buffer, its rows, and who holds it. */
#include "base/bytes.h"
#include "base/error.h"
#include "base/mem.h"
#include "pipeline/pipeline.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

enum damacy_status dmc_batch_create(struct damacy *pipeline, uint32_t slot, struct damacy_batch **out,
                                    struct damacy_error *error)
{
    const struct dmc_home *home = pipeline->home;
    struct damacy_batch *batch = dmc_calloc(1, sizeof *batch);
    if (batch) {
        batch->tensors = dmc_calloc(home->field_count, sizeof *batch->tensors);
        batch->rows = dmc_calloc(home->samples_per_batch, sizeof *batch->rows);
        batch->states = dmc_calloc(home->samples_per_batch, sizeof *batch->states);
        batch->fills = dmc_calloc((size_t)home->samples_per_batch * home->field_count, sizeof *batch->fills);
        dmc_home_retain(pipeline->home);
        batch->home = pipeline->home;
        batch->slot = slot;
    }
    if (!batch || !batch->tensors || !batch->rows || !batch->states || !batch->fills) {
        dmc_batch_free(batch);
        return dmc_error_set(error, DAMACY_OOM, "config", "no memory for batch %u of %u", slot + 1,
                             pipeline->config.tuning.batch_slots);
    }
    for (uint32_t f = 0; f < home->field_count; f++) {
        struct damacy_tensor_info *tensor = &batch->tensors[f];
        tensor->name = home->fields[f].name;
        tensor->rank = home->fields[f].rank + 1;
        memcpy(tensor->shape + 1, home->fields[f].sample_shape, home->fields[f].rank * sizeof(int64_t));
    }
    *out = batch;
    return DAMACY_OK;
}

void dmc_batch_free(struct damacy_batch *batch)
{
    if (!batch)
        return;
    struct dmc_home *home = batch->home;
    if (batch->states)
        dmc_batch_clear(batch);
    if (batch->memory.ops)
        batch->memory.ops->free(&batch->memory);
    dmc_free(batch->tensors);
    dmc_free(batch->rows);
    dmc_free(batch->states);
    dmc_free(batch->fills);
    dmc_free(batch);
    if (home)
        dmc_home_release(home);
}

uint8_t *dmc_batch_bind_locked(struct damacy *pipeline, struct dmc_batch_slot *slot)
{
    struct damacy_batch *batch = slot->batch;
    if (!batch->memory.ops) {
        assert(pipeline->free_memory_count > 0); /* as many buffers as slots, and no slot has two */
        batch->memory = pipeline->free_memory[--pipeline->free_memory_count];
        for (uint32_t f = 0; f < batch->home->field_count; f++)
            batch->tensors[f].data = batch->memory.data + pipeline->tensor_offsets[f];
        atomic_store_explicit(&slot->run.memory, batch->memory.data, memory_order_release); /* partner: dmc_batch_memory */
    }
    return batch->memory.data;
}

void dmc_slot_free_locked(struct damacy *pipeline, struct dmc_batch_slot *slot)
{
    struct damacy_batch *batch = slot->batch;
    pipeline->free_memory[pipeline->free_memory_count++] = batch->memory;
    batch->memory = (struct dmc_backend_memory){0};
    atomic_store_explicit(&slot->run.memory, NULL, memory_order_relaxed); /* no thread of the backend has this batch */
    slot->state = DMC_SLOT_FREE;
}

void dmc_batch_clear(struct damacy_batch *batch)
{
    for (uint32_t i = 0; i < batch->pushed_count; i++) {
        dmc_free(batch->states[i].error);
        batch->states[i].error = NULL;
        batch->states[i].status = DAMACY_OK;
    }
    batch->pushed_count = batch->row_count = batch->skipped_count = 0;
}

uint32_t dmc_batch_failed(const struct damacy_batch *batch)
{
    uint32_t failed = 0;
    for (uint32_t i = 0; i < batch->pushed_count; i++)
        failed += batch->states[i].status != DAMACY_OK;
    return failed;
}

/* Stands in for the story of a failure when there was no memory to write it down. */
static const struct damacy_error story_lost = {
    .status = DAMACY_OOM, .stage = "read", .message = "no memory to tell what failed"};

static const struct damacy_error *row_error(const struct dmc_row_state *state)
{
    return state->status == DAMACY_OK ? NULL : state->error ? state->error : &story_lost;
}

void dmc_row_fail(struct damacy_batch *batch, uint32_t row, uint32_t field, uint64_t order, const struct damacy_error *error)
{
    struct dmc_row_state *state = &batch->states[row];
    if (state->status != DAMACY_OK &&
        (state->error_field < field || (state->error_field == field && state->error_order <= order)))
        return;
    if (!state->error)
        state->error = dmc_malloc(sizeof *state->error);
    state->status = state->error ? error->status : DAMACY_OOM;
    state->error_field = field;
    state->error_order = order;
    if (state->error)
        *state->error = *error;
}

static bool fill_row(struct damacy_batch *batch, struct dmc_backend *backend, uint32_t row)
{
    uint32_t field_count = batch->home->field_count;
    for (uint32_t f = 0; f < field_count; f++) {
        const struct dmc_row_fill *fill = &batch->fills[row * field_count + f];
        struct damacy_tensor_info *tensor = &batch->tensors[f];
        uint64_t item_bytes = damacy_dtype_bytes(tensor->dtype), elements = 1;
        for (uint32_t a = 1; a < tensor->rank; a++)
            elements *= (uint64_t)tensor->shape[a];
        uint8_t *target = (uint8_t *)tensor->data + row * elements * item_bytes;
        if (!backend->ops->row_fill(backend, target, elements, tensor->dtype,
                                    (struct dmc_scatter_element){fill->dtype, fill->count, 0, fill->elements}))
            return false;
    }
    return true;
}

static bool move_row(struct damacy_batch *batch, struct dmc_backend *backend, uint32_t to, uint32_t from)
{
    for (uint32_t f = 0; f < batch->home->field_count; f++) {
        struct damacy_tensor_info *tensor = &batch->tensors[f];
        uint64_t bytes = damacy_dtype_bytes(tensor->dtype);
        for (uint32_t a = 1; a < tensor->rank; a++)
            bytes *= (uint64_t)tensor->shape[a];
        if (!backend->ops->row_move(backend, (uint8_t *)tensor->data + to * bytes, (uint8_t *)tensor->data + from * bytes,
                                    bytes))
            return false;
    }
    return true;
}

bool dmc_batch_finish(struct damacy_batch *batch, struct dmc_backend *backend, enum damacy_on_error on_error)
{
    uint32_t rows = 0, skipped = 0;
    for (uint32_t f = 0; f < batch->home->field_count; f++)
        if (batch->tensors[f].dtype == DAMACY_NATIVE) /* no sample has resolved yet: any type holds zeros */
            batch->tensors[f].dtype = DAMACY_F32;
    for (uint32_t i = 0; i < batch->pushed_count; i++) {
        const struct dmc_row_state *state = &batch->states[i];
        struct damacy_row row = {state->ordinal, state->tag, state->status, row_error(state)};
        if (state->status != DAMACY_OK && on_error == DAMACY_SKIP) {
            batch->rows[batch->home->samples_per_batch - ++skipped] = row; /* from the end, turned round below */
            continue;
        }
        if (state->status != DAMACY_OK && on_error == DAMACY_FILL && !fill_row(batch, backend, i))
            return false;
        if (rows != i && !move_row(batch, backend, rows, i))
            return false;
        batch->rows[rows++] = row;
    }
    struct damacy_row *first = &batch->rows[batch->home->samples_per_batch - skipped];
    for (uint32_t i = 0; i < skipped / 2; i++) {
        struct damacy_row row = first[i];
        first[i] = first[skipped - 1 - i];
        first[skipped - 1 - i] = row;
    }
    batch->row_count = rows;
    batch->skipped_count = skipped;
    for (uint32_t f = 0; f < batch->home->field_count; f++) {
        struct damacy_tensor_info *tensor = &batch->tensors[f];
        tensor->shape[0] = rows;
        tensor->bytes = damacy_dtype_bytes(tensor->dtype);
        for (uint32_t a = 0; a < tensor->rank; a++)
            tensor->bytes *= (uint64_t)tensor->shape[a];
    }
    return true;
}

/* "3, 5-8, 11": the ordinals of the bad samples, as far as they fit. */
static void list_failed(const struct damacy_batch *batch, char *text, size_t capacity)
{
    size_t used = 0;
    for (uint32_t i = 0; i < batch->pushed_count && used + 64 < capacity; i++) {
        if (batch->states[i].status == DAMACY_OK)
            continue;
        uint32_t last = i;
        while (last + 1 < batch->pushed_count && batch->states[last + 1].status != DAMACY_OK)
            last++;
        const char *comma = used ? ", " : "";
        unsigned long long begin = batch->states[i].ordinal, end = batch->states[last].ordinal;
        if (used + 128 >= capacity) {
            snprintf(text + used, capacity - used, "%s...", comma);
            return;
        }
        if (begin == end)
            used += (size_t)snprintf(text + used, capacity - used, "%s%llu", comma, begin);
        else
            used += (size_t)snprintf(text + used, capacity - used, "%s%llu-%llu", comma, begin, end);
        i = last;
    }
}

enum damacy_status dmc_batch_raise(const struct damacy_batch *batch, struct damacy_error *error)
{
    const struct damacy_error *first = NULL;
    for (uint32_t i = 0; !first && i < batch->pushed_count; i++)
        first = row_error(&batch->states[i]);
    if (error) {
        char ordinals[768];
        list_failed(batch, ordinals, sizeof ordinals);
        uint32_t failed = dmc_batch_failed(batch);
        char message[sizeof error->message + sizeof ordinals + 64];
        *error = *first;
        snprintf(message, sizeof message, "batch %llu: %u of %u samples failed (%s): %s", (unsigned long long)batch->batch_id,
                 failed, batch->pushed_count, ordinals, first->message);
        dmc_text_copy(error->message, sizeof error->message, message);
    }
    return first->status;
}

/* --- the caller's side --- */

#define STREAM_LEGACY 1u /* the legacy default stream, by its explicit name */

static bool inherited(const struct damacy_batch *batch)
{
    return batch->home->fork_generation != dmc_fork_generation();
}

/* Drop one reference; the last one brings the batch home. After a fork nothing is touched: the parent's threads are not there,
 * and its locks may be held for ever. */
static void drop_reference(struct damacy_batch *batch)
{
    if (atomic_fetch_sub_explicit(&batch->references, 1, memory_order_acq_rel) != 1)
        return;
    struct dmc_home *home = batch->home;
    dmc_home_retain(home); /* freeing the batch drops one */
    dmc_mutex_lock(&home->lock);
    struct damacy *pipeline = home->pipeline;
    bool wake = false;
    if (pipeline) {
        dmc_pipeline_entered(pipeline); /* its home is this one */
        struct dmc_batch_slot *slot = &pipeline->slots[batch->slot];
        const struct dmc_backend_ops *ops = pipeline->backend->ops;
        slot->state = DMC_SLOT_FENCED; /* before the backend may say that it is over */
        if (!ops->memory_fenced || !ops->memory_fenced(pipeline->backend, &batch->memory, slot))
            dmc_slot_free_locked(pipeline, slot);
        pipeline->held_count--;
        /* The next batch is planned on the prefetcher's thread. */
        wake = slot->state == DMC_SLOT_FREE && dmc_scheduler_batch_full_ready(pipeline);
        pipeline->inside += wake ? 1 : 0;
    }
    dmc_mutex_unlock(&home->lock);
    if (!pipeline)
        dmc_batch_free(batch);
    else if (wake)
        dmc_pipeline_wake_and_leave(pipeline);
    dmc_home_release(home);
}

/* What the caller's stream has been given by now is the last that uses the buffer, as far as this reference goes. Where the
 * driver says that there is no such stream any more, the default stream stands in for it: work of a destroyed stream is over
 * soon, and this one comes behind most others. */
static void fence(struct damacy_batch *batch, uint64_t stream)
{
    const struct dmc_backend_memory_ops *ops = batch->memory.ops;
    if (!ops->fence_stream)
        return;
    if (ops->fence_stream(&batch->memory, stream, NULL) != DAMACY_OK && stream != STREAM_LEGACY)
        ops->fence_stream(&batch->memory, STREAM_LEGACY, NULL);
}

void damacy_release(struct damacy_batch *batch)
{
    if (!batch || inherited(batch))
        return;
    fence(batch, atomic_load_explicit(&batch->stream, memory_order_relaxed));
    drop_reference(batch);
}

enum damacy_status damacy_release_event(struct damacy_batch *batch, void *event, struct damacy_error *error)
{
    if (!batch || !event)
        return dmc_error_set(error, DAMACY_INVAL, "pop", "batch or event is NULL");
    if (inherited(batch))
        return dmc_error_set(error, DAMACY_FORKED, "pop",
                             "this batch was inherited through fork(); make a pipeline in the child");
    if (!batch->memory.ops->fence_event)
        return dmc_error_set(error, DAMACY_INVAL, "pop", "this batch is on the CPU: there are no events to wait for");
    enum damacy_status status = batch->memory.ops->fence_event(&batch->memory, (uint64_t)(uintptr_t)event, error);
    if (status == DAMACY_OK)
        drop_reference(batch);
    return status;
}

enum damacy_status damacy_batch_stream(struct damacy_batch *batch, void *stream, struct damacy_error *error)
{
    if (!batch)
        return dmc_error_set(error, DAMACY_INVAL, "pop", "batch is NULL");
    if (inherited(batch))
        return dmc_error_set(error, DAMACY_FORKED, "pop",
                             "this batch was inherited through fork(); make a pipeline in the child");
    atomic_store_explicit(&batch->stream, stream ? (uint64_t)(uintptr_t)stream : STREAM_LEGACY, memory_order_relaxed);
    return DAMACY_OK;
}

enum damacy_status damacy_batch_info(const struct damacy_batch *batch, struct damacy_batch_info *info,
                                     struct damacy_error *error)
{
    if (!batch || !info)
        return dmc_error_set(error, DAMACY_INVAL, "pop", "batch or info is NULL");
    if (inherited(batch))
        return dmc_error_set(error, DAMACY_FORKED, "pop",
                             "this batch was inherited through fork(); make a pipeline in the child");
    *info = (struct damacy_batch_info){
        .batch_id = batch->batch_id,
        .device = batch->home->device,
        .device_ordinal = batch->home->device_ordinal,
        .field_count = batch->home->field_count,
        .row_count = batch->row_count,
        .skipped_count = batch->skipped_count,
        .tensors = batch->tensors,
        .rows = batch->rows,
        .skipped = &batch->rows[batch->home->samples_per_batch - batch->skipped_count],
    };
    return DAMACY_OK;
}

/* --- DLPack: the layout of https://github.com/dmlc/dlpack, include/dlpack/dlpack.h, version 1.0 --- */

struct dlpack_tensor {
    void *data;
    int32_t device_type; /* 1: CPU, 2: CUDA */
    int32_t device_id;
    int32_t ndim;
    uint8_t dtype_code; /* 0 int, 1 uint, 2 float, 4 bfloat, 6 bool */
    uint8_t dtype_bits;
    uint16_t dtype_lanes;
    int64_t *shape;
    int64_t *strides; /* elements */
    uint64_t byte_offset;
};
struct dlpack_managed { /* DLManagedTensor */
    struct dlpack_tensor tensor;
    void *context;
    void (*deleter)(struct dlpack_managed *);
};
struct dlpack_versioned { /* DLManagedTensorVersioned */
    uint32_t major, minor;
    void *context;
    void (*deleter)(struct dlpack_versioned *);
    uint64_t flags;
    struct dlpack_tensor tensor;
};

/* One export: either kind of managed tensor, and what it points to. */
struct export
{
    union {
        struct dlpack_managed managed;
        struct dlpack_versioned versioned;
    };
    struct damacy_batch *batch;
    uint64_t stream; /* the batch's when this was made: the next tensor may be for another one */
    int64_t shape[DAMACY_RANK_MAX + 1];
    int64_t strides[DAMACY_RANK_MAX + 1];
};

static void end_export(struct export *export)
{
    if (!inherited(export->batch)) {
        uint64_t last = atomic_load_explicit(&export->batch->stream, memory_order_relaxed);
        fence(export->batch, export->stream);
        if (last != export->stream)
            fence(export->batch, last);
        drop_reference(export->batch);
    }
    dmc_free(export);
}
static void delete_managed(struct dlpack_managed *managed)
{
    end_export(managed->context);
}
static void delete_versioned(struct dlpack_versioned *versioned)
{
    end_export(versioned->context);
}

static struct dlpack_tensor describe_tensor(const struct damacy_tensor_info *info, struct export *export)
{
    static const uint8_t codes[DAMACY_DTYPE_COUNT] = {
        [DAMACY_BOOL] = 6, [DAMACY_I8] = 0,  [DAMACY_I16] = 0, [DAMACY_I32] = 0, [DAMACY_I64] = 0,
        [DAMACY_U8] = 1,   [DAMACY_U16] = 1, [DAMACY_U32] = 1, [DAMACY_U64] = 1, [DAMACY_F16] = 2,
        [DAMACY_BF16] = 4, [DAMACY_F32] = 2, [DAMACY_F64] = 2,
    };
    int64_t stride = 1;
    for (uint32_t a = info->rank; a-- > 0;) {
        export->shape[a] = info->shape[a];
        export->strides[a] = stride;
        stride *= info->shape[a] ? info->shape[a] : 1;
    }
    return (struct dlpack_tensor){
        .data = info->data,
        .device_type = export->batch->home->device == DAMACY_CUDA_DEVICE ? 2 : 1,
        .device_id = export->batch->home->device_ordinal,
        .ndim = (int32_t)info->rank,
        .dtype_code = codes[info->dtype],
        .dtype_bits = (uint8_t)(8 * damacy_dtype_bytes(info->dtype)),
        .dtype_lanes = 1,
        .shape = export->shape,
        .strides = export->strides,
    };
}

enum damacy_status damacy_batch_dlpack(struct damacy_batch *batch, uint32_t field, bool versioned, void **tensor,
                                       struct damacy_error *error)
{
    if (!batch || !tensor)
        return dmc_error_set(error, DAMACY_INVAL, "pop", "batch or tensor is NULL");
    if (inherited(batch))
        return dmc_error_set(error, DAMACY_FORKED, "pop",
                             "this batch was inherited through fork(); make a pipeline in the child");
    if (field >= batch->home->field_count)
        return dmc_error_set(error, DAMACY_INVAL, "pop", "field %u of %u", field, batch->home->field_count);
    struct export *export = dmc_calloc(1, sizeof *export);
    if (!export)
        return dmc_error_set(error, DAMACY_OOM, "pop", "no memory for a tensor's description");
    export->batch = batch;
    export->stream = atomic_load_explicit(&batch->stream, memory_order_relaxed);
    struct dlpack_tensor description = describe_tensor(&batch->tensors[field], export);
    if (versioned)
        export->versioned = (struct dlpack_versioned){1, 0, export, delete_versioned, 0, description};
    else
        export->managed = (struct dlpack_managed){description, export, delete_managed};
    atomic_fetch_add_explicit(&batch->references, 1, memory_order_relaxed);
    *tensor = versioned ? (void *)&export->versioned : (void *)&export->managed;
    return DAMACY_OK;
}
