/* What tests of the whole pipeline share: a memory store behind optional decorators, a pipeline over it, samples that know what
 * they should become, and the comparison. */
#ifndef PIPELINE_WORLD_H
#define PIPELINE_WORLD_H

#include <setjmp.h>
#include <stdatomic.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/mem.h"
#include "pipeline/pipeline.h"
#include "support/test_seed.h"
#include "support/zarr_writer.h"
#ifdef PW_CUDA /* the same tests on the CUDA backend, over a driver that keeps device memory on the host */
#include "support/fake_cuda.h"
#include "support/fake_nvcomp.h"
#endif

#include <pthread.h>
#include <time.h>

#define PW_FIELDS 3
/* As long as it takes where something must happen: a test that hangs is ended by ctest. */
#define PW_LONG 60000000000ull

static inline uint64_t pw_seed(const char *test)
{
    return seed_of_test(test, 0);
}

struct pw_random {
    uint64_t state;
};
static inline uint64_t pw_next(struct pw_random *random)
{
    return dmc_hash_u64(random->state++, 0x9a9a);
}
static inline uint64_t pw_between(struct pw_random *random, uint64_t low, uint64_t high)
{
    return low + pw_next(random) % (high - low + 1);
}
static inline bool pw_chance(struct pw_random *random, uint32_t percent)
{
    return pw_next(random) % 100 < percent;
}

/* Another order of the first `count` axes. */
static inline void pw_shuffle(struct pw_random *random, uint32_t *order, uint32_t count)
{
    for (uint32_t a = count; a-- > 1;) {
        uint32_t other = (uint32_t)pw_between(random, 0, a), axis = order[a];
        order[a] = order[other];
        order[other] = axis;
    }
}

/* What blosc does, should it be the compressor, and a checksum. */
static inline void pw_random_frame(struct pw_random *random, struct zw_array *array)
{
    static const char *const names[] = {"lz4", "lz4hc", "zstd", "zlib", "blosclz"};
    array->blosc_name = names[pw_between(random, 0, 4)];
    array->blosc_shuffle = (int)pw_between(random, 0, 2);
    array->crc32c = pw_chance(random, 25);
}

/* One sample: its arrays and where its boxes begin. */
struct pw_sample {
    const struct zw_array *arrays[PW_FIELDS];
    int64_t begin[PW_FIELDS][ZW_RANK];
    uint64_t tag;
    const char *uri; /* instead of the array's own, for the first field */
};

static inline void pw_fail(const struct damacy_error *error, enum damacy_status status)
{
    fprintf(stderr, "%s: %s\n", damacy_status_str(status), error->message);
}
#define pw_ok(call, error)                                                                                                     \
    do {                                                                                                                       \
        enum damacy_status pw_status = (call);                                                                                 \
        if (pw_status != DAMACY_OK) {                                                                                          \
            pw_fail(error, pw_status);                                                                                         \
            zw_require(pw_status == DAMACY_OK && #call);                                                                       \
        }                                                                                                                      \
    } while (0)

/* A configuration of one unnamed field. `shape` must live until create. */
static inline struct damacy_config pw_config(struct damacy_field *field, uint32_t samples, uint32_t rank, const int64_t *shape,
                                             enum damacy_dtype dtype)
{
    *field = (struct damacy_field){NULL, rank, shape, dtype};
    struct damacy_config config = DAMACY_CONFIG_INIT;
    config.samples_per_batch = samples;
    config.field_count = 1;
    config.fields = field;
    config.tuning.worker_count = 2;
    config.max_host_memory_bytes = 256u << 20; /* the same on every machine */
    return config;
}

#ifdef PW_GPU /* the same tests on a real device */
#include "backend/cuda/cuda_driver.h"

/* A call of the driver that must do: says what it answered if it does not. */
#define pw_cuda(driver, call)                                                                                                  \
    do {                                                                                                                       \
        dmc_cu_result pw_result = (driver)->call;                                                                              \
        if (pw_result != DMC_CU_SUCCESS) {                                                                                     \
            const char *pw_name = NULL;                                                                                        \
            (driver)->error_name(pw_result, &pw_name);                                                                         \
            fprintf(stderr, "%s: %s\n", #call, pw_name ? pw_name : "?");                                                       \
            zw_require(pw_result == DMC_CU_SUCCESS && #call);                                                                  \
        }                                                                                                                      \
    } while (0)

/* The first device's context, retained until the process ends: each pipeline comes and goes with its own reference, and making
 * a context takes longer than most tests. */
static dmc_cu_context pw_context;
static const struct dmc_cuda_driver *pw_driver;
static inline void pw_retain_context(void)
{
    struct damacy_error error;
    pw_ok(dmc_cuda_driver_load(&pw_driver, &error), &error);
    pw_cuda(pw_driver, primary_retain(&pw_context, 0));
}
#endif

/* `bytes` at `data`, which may be on a device, where the CPU can read them; until the next call of the same thread. */
static inline const uint8_t *pw_readable(const void *data, uint64_t bytes)
{
#ifdef PW_GPU
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    static __thread uint8_t *copy;
    zw_require(pthread_once(&once, pw_retain_context) == 0);
    if (bytes == 0)
        return data;
    dmc_cu_context popped;
    copy = realloc(copy, bytes);
    zw_require(copy != NULL);
    /* Around every call: the caller's context may have been changed meanwhile, or be another device's. */
    pw_cuda(pw_driver, context_push(pw_context));
    pw_cuda(pw_driver, copy_to_host(copy, (uint64_t)(uintptr_t)data, bytes, DMC_CU_STREAM_LEGACY));
    pw_cuda(pw_driver, stream_synchronize(DMC_CU_STREAM_LEGACY));
    pw_cuda(pw_driver, context_pop(&popped));
    return copy;
#else
    (void)bytes;
    return data;
#endif
}

/* What DLPack calls the device that the tests are built for. */
#if defined(PW_CUDA) || defined(PW_GPU)
#define PW_DLPACK_DEVICE 2
#else
#define PW_DLPACK_DEVICE 1
#endif

/* The device that the tests are built for. */
static inline struct damacy_config pw_placed(const struct damacy_config *config, struct dmc_pipeline_extras *extras)
{
    struct damacy_config placed = *config;
#if defined(PW_CUDA) || defined(PW_GPU)
    placed.device = DAMACY_CUDA_DEVICE;
    if (getenv("PW_DECODE"))
        placed.decode = (enum damacy_decode)atoi(getenv("PW_DECODE"));
#endif
#ifdef PW_CUDA
    if (!placed.max_gpu_memory_bytes)
        placed.max_gpu_memory_bytes = 256u << 20;
    extras->cuda_driver = &fake_driver;
    extras->cuda_image = fake_image;
    extras->cuda_nvcomp = getenv("PW_NO_NVCOMP") ? NULL : &fake_nvcomp;
#elif defined(PW_GPU)
    if (!placed.max_gpu_memory_bytes) /* pinning the waves of a large one takes longer than the test */
        placed.max_gpu_memory_bytes = 64u << 20;
    (void)extras;
#else
    (void)extras;
#endif
    return placed;
}

static inline struct damacy *pw_create(const struct damacy_config *config, struct dmc_store *memory)
{
    static _Atomic uint32_t made; /* both ways of writing a batch must do */
    struct dmc_pipeline_extras extras = {.memory_store = memory, .streamed = made++ % 2 == 1};
    struct damacy *pipeline = NULL;
    struct damacy_error error;
    struct damacy_config placed = pw_placed(config, &extras);
    pw_ok(dmc_pipeline_create(&placed, &extras, &pipeline, &error), &error);
    return pipeline;
}

/* Push one sample; what push answers. `prefix`: "memory://" or a folder with a slash. */
static inline enum damacy_status pw_try_push(struct damacy *pipeline, const char *prefix, const struct pw_sample *sample,
                                             struct damacy_error *error)
{
    char uris[PW_FIELDS][512];
    struct damacy_interval boxes[PW_FIELDS][ZW_RANK];
    struct damacy_region regions[PW_FIELDS];
    const struct dmc_home *home = pipeline->home;
    for (uint32_t f = 0; f < home->field_count; f++) {
        const struct damacy_field *field = &home->fields[f];
        snprintf(uris[f], sizeof uris[f], "%s%s", prefix, sample->arrays[f] ? sample->arrays[f]->name : "none");
        for (uint32_t a = 0; a < field->rank; a++)
            boxes[f][a] = (struct damacy_interval){sample->begin[f][a], sample->begin[f][a] + field->sample_shape[a]};
        regions[f] = (struct damacy_region){f == 0 && sample->uri ? sample->uri : uris[f], field->rank, boxes[f]};
    }
    struct damacy_sample pushed = {regions, sample->tag};
    return damacy_push(pipeline, (struct damacy_samples){&pushed, 1}, NULL, error);
}

/* Push one sample that must fit. */
static inline void pw_push(struct damacy *pipeline, const char *prefix, const struct pw_sample *sample)
{
    struct damacy_error error;
    pw_ok(pw_try_push(pipeline, prefix, sample, &error), &error);
}

/* Push one sample, waiting for room. */
static inline void pw_push_wait(struct damacy *pipeline, const char *prefix, const struct pw_sample *sample)
{
    struct damacy_error error;
    enum damacy_status status;
    while ((status = pw_try_push(pipeline, prefix, sample, &error)) == DAMACY_AGAIN)
        pw_ok(damacy_wait(pipeline, DAMACY_WAIT_PUSH, PW_LONG, NULL, &error), &error);
    pw_ok(status, &error);
}

static inline void pw_flush(struct damacy *pipeline)
{
    struct damacy_error error;
    pw_ok(damacy_flush(pipeline, &error), &error);
}

static inline struct damacy_batch *pw_pop(struct damacy *pipeline)
{
    struct damacy_batch *batch = NULL;
    struct damacy_error error;
    pw_ok(damacy_pop(pipeline, PW_LONG, &batch, &error), &error);
    return batch;
}

static inline struct damacy_batch_info pw_info(const struct damacy_batch *batch)
{
    struct damacy_batch_info info;
    struct damacy_error error;
    pw_ok(damacy_batch_info(batch, &info, &error), &error);
    return info;
}

/* Is `row` of every field what the naive reader says? Says where not. */
static inline bool pw_row_matches(const struct damacy_batch_info *info, uint32_t row, const struct pw_sample *sample)
{
    for (uint32_t f = 0; f < info->field_count; f++) {
        const struct damacy_tensor_info *tensor = &info->tensors[f];
        uint32_t rank = tensor->rank - 1;
        uint64_t extent[ZW_RANK], at[ZW_RANK] = {0}, position[ZW_RANK], item = damacy_dtype_bytes(tensor->dtype);
        for (uint32_t a = 0; a < rank; a++)
            extent[a] = (uint64_t)tensor->shape[a + 1];
        uint64_t row_bytes = zw_elements(extent, rank) * item;
        const uint8_t *found = pw_readable((const uint8_t *)tensor->data + row * row_bytes, row_bytes);
        do {
            uint8_t expected[8];
            for (uint32_t a = 0; a < rank; a++)
                position[a] = (uint64_t)sample->begin[f][a] + at[a];
            zw_expect(sample->arrays[f], position, tensor->dtype, expected);
            if (memcmp(expected, found, item) != 0) {
                uint64_t is = 0, should = 0;
                memcpy(&is, found, item);
                memcpy(&should, expected, item);
                fprintf(stderr, "batch %llu row %u field %u (%s of %s as %s), element", (unsigned long long)info->batch_id, row,
                        f, sample->arrays[f]->name, damacy_dtype_str(sample->arrays[f]->dtype),
                        damacy_dtype_str(tensor->dtype));
                for (uint32_t a = 0; a < rank; a++)
                    fprintf(stderr, " %llu", (unsigned long long)position[a]);
                fprintf(stderr, ": found 0x%llx, expected 0x%llx\n", (unsigned long long)is, (unsigned long long)should);
                return false;
            }
            found += item;
        } while (zw_next(at, extent, rank));
    }
    return true;
}

/* All rows hold these samples, in this order. */
static inline bool pw_batch_matches(const struct damacy_batch *batch, const struct pw_sample *samples, uint32_t count)
{
    struct damacy_batch_info info = pw_info(batch);
    if (info.row_count != count) {
        fprintf(stderr, "batch %llu has %u rows, expected %u\n", (unsigned long long)info.batch_id, info.row_count, count);
        return false;
    }
    for (uint32_t i = 0; i < count; i++)
        if (info.rows[i].status != DAMACY_OK || info.rows[i].tag != samples[i].tag || !pw_row_matches(&info, i, &samples[i]))
            return false;
    return true;
}

/* Sixteen chunks of 256 bytes, four by four, in one shard. */
static const struct zw_array pw_one_shard = {.name = "a",
                                             .number = 5,
                                             .dtype = DAMACY_U16,
                                             .rank = 2,
                                             .shape = {32, 64},
                                             .chunk = {8, 16},
                                             .shard = {32, 64},
                                             .index_crc32c = true};

static inline struct dmc_store *pw_memory(void)
{
    struct dmc_store *store = NULL;
    struct damacy_error error;
    pw_ok(dmc_store_memory_create(&store, &error), &error);
    return store;
}

/* A folder of this process that pw_remove_folder() takes away. */
static inline void pw_make_folder(char folder[64])
{
    snprintf(folder, 64, "/tmp/damacy-test-XXXXXX");
    zw_require(mkdtemp(folder));
}
static inline void pw_remove_folder(const char *folder)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    zw_require(system(command) == 0);
}

/* Asleep, for letting other threads get into a wait; nothing depends on its being enough. */
static inline void pw_nap(uint64_t ns)
{
    struct timespec pause = {(time_t)(ns / 1000000000), (long)(ns % 1000000000)};
    nanosleep(&pause, NULL);
}

static inline struct damacy_stats pw_stats(struct damacy *pipeline)
{
    struct damacy_stats stats = DAMACY_STATS_INIT;
    struct damacy_error error;
    pw_ok(damacy_stats_get(pipeline, &stats, &error), &error);
    return stats;
}

#endif
