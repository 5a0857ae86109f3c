/* The configuration: checked, completed from the machine, and added up before anything is allocated. */
#include "backend/cpu/cpu_backend.h"
#include "backend/cuda/cuda_backend.h"
#include "base/bytes.h"
#include "base/error.h"
#include "base/thread.h"
#include "pipeline/pipeline.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define MIB (1024ull * 1024)

/* One slot with the caller, one ready, two in work. Many workers finish a small batch within the time it takes to wake them, so
 * every four of them add one: with four slots 16 workers reached 0.87 of the bare loop on uncompressed data, 0.96 to 1.10
 * elsewhere (bench/scaling.py). */
#define BATCH_SLOTS 4u
/* A GPU decodes fastest in full waves, and several are under way at once: read, copied, decoded. So as many batches as hold
 * that much are in work where device memory allows: aligned crops of 128 KiB zstd chunks, batches of 128 MiB on an H100: with 7
 * slots waves were half full and readers idle for a quarter of their time; 14, 20 and 28 slots gave 66, 70 and 69 GB/s. */
#define CUDA_FLIGHT_BYTES (9 * 256 * MIB)
#define CUDA_BATCH_SLOTS_MAX 32u
#define CUDA_PLAN_BYTES (8 * MIB)
/* Enough to keep an NVMe disk busy from two workers: 64 reads in flight gave its full rate, 128 no more. */
#define READS_IN_FLIGHT 32u
/* Over a network a read takes up to a hundred times as long, and one that is late holds its place in the worker's ring. All
 * workers together; each has at least READS_IN_FLIGHT. Only where the caller left the choice. */
#define REMOTE_READS 1024u
#define REMOTE_READS_WORKER_MAX 256u
#define REMOTE_READ_BYTES 5120u /* about what the table of reads costs for each */
#define METADATA_READS_IN_FLIGHT 64u
/* Between compressed chunks a page: what lies in small gaps are small chunks, read for nothing. Between the spans of an
 * uncompressed chunk four times as much: 128 KiB chunks, crops 16x128x128, warm, core time a sample 446, 399, 391, 392, 388
 * microseconds for gaps of 1, 4, 8, 16 and 32 KiB; with one worker 4 KiB reached 0.89 of the bare loop, which reads one span a
 * chunk. Cold, two workers and one, samples a second 226 and 253, 665 and 498, 791 and 728 for gaps of 1, 4 and 16 KiB. From
 * the device came 5.6, 1.0 and 1.13 MB a sample, of whose pages 0.97 MB held something needed: many small reads look to the
 * kernel like one to read ahead of. */
#define COALESCE_GAP_BYTES 4096u
/* Longer reads leave the core's cache before they are decoded. */
#define COALESCE_READ_BYTES_MAX (512u * 1024)
#define WORKER_BYTES (16 * MIB)
#define ARRAY_META_CACHE_BYTES (32 * MIB)
#define SHARD_INDEX_CACHE_BYTES (64 * MIB)
#define CHUNK_LAYOUT_CACHE_BYTES (1 * MIB)
#define METADATA_OBJECT_BYTES_MAX (16 * MIB)
/* Decoded chunks that later batches will want: as much as the crops of 24 batches ahead have in common that are drawn from a
 * GiB of arrays (see PREVIEW_BATCHES_MAX). */
#define KEPT_CHUNK_BYTES (32 * MIB)
/* Resolved samples: as many small batches as are looked at ahead of time, to see which chunks they share. */
#define PREFETCH_SAMPLES_LEAST 256u
/* Kept free at create for what only the data tell: plans, decoded chunks; metadata in transit come on top. */
#define RESERVE_BYTES (8 * MIB)
/* Of it, what a network needs to work at all: ten transfers at once. */
#define NETWORK_BYTES_MIN (2 * MIB)
#define WORKERS_MAX 1024u

/* Bytes of one sample of a field, or 0 when the product does not fit. NATIVE counts 8 bytes an element. */
uint64_t dmc_config_row_bytes(const struct damacy_field *field)
{
    uint64_t bytes = field->dtype == DAMACY_NATIVE ? 8 : damacy_dtype_bytes(field->dtype);
    for (uint32_t a = 0; a < field->rank; a++)
        if (!dmc_mul_u64(bytes, (uint64_t)field->sample_shape[a], &bytes) || bytes >> 62)
            return 0;
    return bytes;
}

uint64_t dmc_config_tensor_bytes(const struct damacy_config *config, uint32_t field)
{
    return dmc_round_up(dmc_config_row_bytes(&config->fields[field]) * config->samples_per_batch, 64);
}

static enum damacy_status invalid(struct damacy_error *error, const char *format, ...) __attribute__((format(printf, 2, 3)));
static enum damacy_status invalid(struct damacy_error *error, const char *format, ...)
{
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    return dmc_error_set(error, DAMACY_INVAL, "config", "%s", text);
}

static enum damacy_status check_field(const struct damacy_config *config, uint32_t index, struct damacy_error *error)
{
    const struct damacy_field *field = &config->fields[index];
    const char *name = field->name ? field->name : "";
    if (strlen(name) > 63)
        return invalid(error, "the name of field %u has %zu bytes, at most 63 are allowed", index, strlen(name));
    if (!*name && config->field_count > 1)
        return invalid(error, "field %u of %u has no name; only a single field may go without", index, config->field_count);
    for (uint32_t i = 0; i < index; i++)
        if (strcmp(config->fields[i].name, name) == 0)
            return invalid(error, "two fields are called '%s'", name);
    char place[96] = ""; /* the only field may have no name */
    if (*name)
        snprintf(place, sizeof place, "field '%s': ", name);
    if (field->rank < 1 || field->rank > DAMACY_RANK_MAX || !field->sample_shape)
        return invalid(error, "%ssample_shape has %u axes, expected 1 to %d", place, field->rank, DAMACY_RANK_MAX);
    for (uint32_t a = 0; a < field->rank; a++)
        if (field->sample_shape[a] < 1)
            return invalid(error, "%ssample_shape[%u] is %lld, expected at least 1", place, a,
                           (long long)field->sample_shape[a]);
    if ((unsigned)field->dtype >= DAMACY_DTYPE_COUNT)
        return invalid(error, "%sdtype %d is none of enum damacy_dtype", place, (int)field->dtype);
    uint64_t bytes = dmc_config_row_bytes(field);
    if (!bytes || !dmc_mul_u64(bytes, config->samples_per_batch, &bytes) || bytes >> 62)
        return invalid(error, "%s%u samples of this shape do not fit any memory", place, config->samples_per_batch);
    return DAMACY_OK;
}

static enum damacy_status check(const struct damacy_config *config, struct damacy_error *error)
{
    if (config->samples_per_batch < 1)
        return invalid(error, "samples_per_batch is 0, expected at least 1");
    if (config->samples_per_batch >
        1u << 24) /* the most that prefetch_samples may be: a batch is planned when all its samples are there */
        return invalid(error, "samples_per_batch is %u, at most 2^24 are allowed", config->samples_per_batch);
    if (config->field_count < 1 || !config->fields)
        return invalid(error, "a configuration needs at least one field");
    for (uint32_t f = 0; f < config->field_count; f++) {
        enum damacy_status status = check_field(config, f, error);
        if (status != DAMACY_OK)
            return status;
    }
    if ((unsigned)config->on_error > DAMACY_SKIP)
        return invalid(error, "on_error is %d, expected raise, fill or skip", (int)config->on_error);
    if ((unsigned)config->verify > DAMACY_VERIFY_FULL)
        return invalid(error, "verify is %d, expected needed or full", (int)config->verify);
    if ((unsigned)config->device > DAMACY_AUTO_DEVICE)
        return invalid(error, "device is %d, expected cpu, cuda or auto", (int)config->device);
    if (config->device_ordinal < -1)
        return invalid(error, "device_ordinal is %d, expected the number of a device, or -1 for the current one",
                       (int)config->device_ordinal);
    if ((unsigned)config->decode > DAMACY_DECODE_CPU)
        return invalid(error, "decode is %d, expected auto, gpu or cpu", (int)config->decode);
    if ((unsigned)config->numa > DAMACY_NUMA_NODE)
        return invalid(error, "numa is %d, expected auto, off or a node", (int)config->numa);
    if (config->gpu_direct_storage > 1)
        return invalid(error, "gpu_direct_storage is %u, expected 0 or 1", config->gpu_direct_storage);
    if (config->gpu_direct_storage && config->device == DAMACY_CPU)
        return invalid(error, "gpu_direct_storage is on, but device is cpu, which has no memory of its own to read into");
    const struct damacy_tuning *tuning = &config->tuning;
    if (tuning->worker_count > WORKERS_MAX)
        return invalid(error, "worker_count is %u, at most %u are allowed", tuning->worker_count, WORKERS_MAX);
    if (tuning->batch_slots == 1)
        return invalid(error, "batch_slots is 1, expected at least 2: one being filled while you hold the other");
    if (tuning->prefetch_samples && tuning->prefetch_samples < config->samples_per_batch)
        return invalid(error, "prefetch_samples is %u, expected at least samples_per_batch (%u)", tuning->prefetch_samples,
                       config->samples_per_batch);
    if (tuning->reads_in_flight > 4096 || tuning->metadata_reads_in_flight > 4096)
        return invalid(error, "reads_in_flight and metadata_reads_in_flight are at most 4096");
    if (tuning->batch_slots > 65536 || tuning->lookahead_samples > (1u << 24) || tuning->prefetch_samples > (1u << 24))
        return invalid(error, "batch_slots is at most 65536, lookahead_samples and prefetch_samples 2^24");
    if (tuning->io_uring > 2)
        return invalid(error, "io_uring is %u, expected 0 (auto), 1 (require) or 2 (never)", tuning->io_uring);
    if (tuning->bypass_decode > 1)
        return invalid(error, "bypass_decode is %u, expected 0 or 1", tuning->bypass_decode);
    return DAMACY_OK;
}

static void default_u32(uint32_t *setting, uint64_t value)
{
    if (*setting == 0)
        *setting = (uint32_t)value;
}
static void default_u64(uint64_t *setting, uint64_t value)
{
    if (*setting == 0)
        *setting = value;
}

void dmc_config_prefetcher(const struct damacy_config *config, const uint32_t *ranks, const int64_t *const *sample_shapes,
                           struct dmc_prefetcher_options *options)
{
    const struct damacy_tuning *tuning = &config->tuning;
    *options = (struct dmc_prefetcher_options){
        .field_count = config->field_count,
        .ranks = ranks,
        .sample_shapes = sample_shapes,
        .prefetch_samples = tuning->prefetch_samples,
        .reads_in_flight = tuning->metadata_reads_in_flight,
        .io_uring_never = tuning->io_uring == 2,
        .latency_ns = tuning->metadata_latency_ns,
        .array_meta_cache_bytes = tuning->array_meta_cache_bytes,
        .shard_index_cache_bytes = tuning->shard_index_cache_bytes,
        .chunk_layout_cache_bytes = tuning->chunk_layout_cache_bytes,
        .metadata_object_bytes_max = tuning->metadata_object_bytes_max,
    };
}

/* For a worker; no more than a small part of the memory goes into their tables. */
uint32_t dmc_config_remote_reads(const struct damacy_config *config)
{
    const struct damacy_tuning *tuning = &config->tuning;
    if (tuning->reads_in_flight != READS_IN_FLIGHT)
        return tuning->reads_in_flight;
    uint64_t reads = dmc_min_u64(REMOTE_READS, config->max_host_memory_bytes / 256 / REMOTE_READ_BYTES) / tuning->worker_count;
    return (uint32_t)dmc_max_u64(READS_IN_FLIGHT, dmc_min_u64(reads, REMOTE_READS_WORKER_MAX));
}

void dmc_config_cpu(const struct damacy_config *config, const struct dmc_config_layout *layout, struct dmc_cpu_options *options)
{
    const struct damacy_tuning *tuning = &config->tuning;
    *options = (struct dmc_cpu_options){
        .worker_count = tuning->worker_count,
        .batches_max = tuning->batch_slots,
        .reads_in_flight = tuning->reads_in_flight,
        .remote_reads_in_flight = dmc_config_remote_reads(config),
        .worker_bytes = tuning->worker_bytes,
        .share_bytes = layout->share_bytes,
        .oversize_bytes = layout->oversize_bytes,
        .verify_full = config->verify == DAMACY_VERIFY_FULL,
        .bypass_decode = tuning->bypass_decode == 1,
        .io_uring_never = tuning->io_uring == 2,
    };
}

/* Tables of fixed size: the workers', the batches' rows, the ring of closed batches. */
static uint64_t table_bytes(const struct damacy_config *config)
{
    struct dmc_cpu_options cpu;
    dmc_config_cpu(config, &(struct dmc_config_layout){0}, &cpu);
    uint64_t row = sizeof(struct damacy_row) + sizeof(struct dmc_row_state) + config->field_count * sizeof(struct dmc_row_fill);
    uint64_t ring = (uint64_t)config->tuning.lookahead_samples + config->tuning.prefetch_samples;
    return dmc_cpu_memory(&cpu) + (uint64_t)config->tuning.batch_slots * config->samples_per_batch * row +
           ring * sizeof(struct dmc_closed_batch);
}

static uint64_t sum_fixed(const struct damacy_config *config, const struct dmc_config_layout *layout)
{
    const struct damacy_tuning *tuning = &config->tuning;
    uint64_t batch_bytes = config->device == DAMACY_CPU ? layout->batch_bytes : 0; /* else they are on the device */
    return tuning->batch_slots * batch_bytes + tuning->worker_count * tuning->worker_bytes + tuning->array_meta_cache_bytes +
           tuning->shard_index_cache_bytes + tuning->chunk_layout_cache_bytes + layout->lookahead_bytes +
           layout->prefetcher_bytes + table_bytes(config);
}

/* Decoded bytes of a batch, as far as the configuration tells: most arrays have elements of two bytes. */
static uint64_t usual_bytes(const struct damacy_config *config)
{
    uint64_t bytes = 1;
    for (uint32_t f = 0; f < config->field_count; f++) {
        const struct damacy_field *field = &config->fields[f];
        uint64_t item_bytes = field->dtype == DAMACY_NATIVE ? 8 : damacy_dtype_bytes(field->dtype);
        bytes += dmc_config_row_bytes(field) / item_bytes * config->samples_per_batch * 2;
    }
    return bytes;
}

/* Choose what the caller left open. Where memory is tight, caches and worker buffers shrink first, then batch slots down to 2.
 */
static void complete_tuning(struct damacy_config *config, struct dmc_config_layout *layout)
{
    struct damacy_tuning *tuning = &config->tuning;
    uint64_t limit = layout->limit_bytes;
    uint32_t samples = config->samples_per_batch;
    tuning->struct_size = sizeof *tuning;
    default_u32(&tuning->worker_count, dmc_min_u64(dmc_cores_allowed(), WORKERS_MAX));
    default_u32(&tuning->lookahead_samples, dmc_min_u64(dmc_max_u64(2ull * samples, 64), 1u << 24));
    default_u32(&tuning->prefetch_samples, dmc_min_u64(dmc_max_u64(4ull * samples, PREFETCH_SAMPLES_LEAST), 1u << 24));
    default_u32(&tuning->reads_in_flight, READS_IN_FLIGHT);
    default_u32(&tuning->metadata_reads_in_flight, METADATA_READS_IN_FLIGHT);
    default_u64(&tuning->coalesce_gap_bytes, COALESCE_GAP_BYTES);
    default_u64(&tuning->coalesce_read_bytes_max, COALESCE_READ_BYTES_MAX);
    /* Also where the caller asked for the defaults and gave them back. */
    layout->gap_open = tuning->coalesce_gap_bytes == COALESCE_GAP_BYTES;
    layout->read_max_open = tuning->coalesce_read_bytes_max == COALESCE_READ_BYTES_MAX;
    default_u64(&tuning->array_meta_cache_bytes, dmc_min_u64(ARRAY_META_CACHE_BYTES, limit / 32));
    default_u64(&tuning->shard_index_cache_bytes, dmc_min_u64(SHARD_INDEX_CACHE_BYTES, limit / 16));
    default_u64(&tuning->chunk_layout_cache_bytes, dmc_min_u64(CHUNK_LAYOUT_CACHE_BYTES, limit / 64));
    default_u64(&tuning->metadata_object_bytes_max, METADATA_OBJECT_BYTES_MAX);
    default_u64(&tuning->kept_chunk_bytes, KEPT_CHUNK_BYTES);
    default_u64(&tuning->worker_bytes, dmc_max_u64(dmc_min_u64(WORKER_BYTES, limit / 8 / tuning->worker_count), 64 * 1024));
    struct dmc_prefetcher_options prefetcher;
    dmc_config_prefetcher(config, NULL, NULL, &prefetcher);
    layout->prefetcher_bytes = dmc_prefetcher_memory(&prefetcher);
    layout->reserve_bytes = RESERVE_BYTES + dmc_prefetcher_memory_transient(&prefetcher);
    layout->lookahead_bytes = dmc_config_lookahead_bytes(config);
    if (tuning->batch_slots == 0) {
        layout->batch_slots_least = (uint32_t)dmc_max_u64(BATCH_SLOTS, BATCH_SLOTS - 1 + tuning->worker_count / 4);
        tuning->batch_slots = layout->batch_slots_least;
        if (config->device == DAMACY_CUDA_DEVICE) {
            uint64_t wanted = dmc_min_u64(2 + CUDA_FLIGHT_BYTES / usual_bytes(config), CUDA_BATCH_SLOTS_MAX);
            uint64_t planned = limit / 16 / CUDA_PLAN_BYTES; /* each slot has a part of its own for its plan: see divide() */
            tuning->batch_slots = (uint32_t)dmc_max_u64(tuning->batch_slots, dmc_min_u64(wanted, planned));
        }
        while (tuning->batch_slots > 2 && sum_fixed(config, layout) + layout->reserve_bytes > limit)
            tuning->batch_slots--;
    }
}

/* Share out what the fixed parts leave. Each use has a part of its own, so that what is too large for it never depends on what
 * the others hold at that moment. */
static void divide(const struct damacy_config *config, struct dmc_config_layout *layout)
{
    const struct damacy_tuning *tuning = &config->tuning;
    uint64_t left = layout->limit_bytes - layout->fixed_bytes - layout->reserve_bytes;
    layout->plan_bytes = (RESERVE_BYTES - NETWORK_BYTES_MIN + left / 32 * 3) / tuning->batch_slots;
    layout->metadata_bytes = layout->prefetcher_bytes + layout->reserve_bytes - RESERVE_BYTES + left / 16;
    layout->parse_bytes = left / 16;
    layout->container_bytes = left / 16;
    layout->network_bytes = NETWORK_BYTES_MIN + left / 32;
    if (config->device == DAMACY_CUDA_DEVICE) { /* readers draw what they need, and what is left is for pinned memory first */
        layout->pinned_bytes = left / 4 * 3 - left / 8;
        return;
    }
    layout->kept_bytes = dmc_min_u64(tuning->kept_chunk_bytes, left / 32);
    if (layout->kept_bytes < DMC_KEPT_CHUNKS_LEAST)
        layout->kept_bytes = 0;
    /* The largest chunk is the same at any number of workers: worker_bytes and seven sixteenths of what is left, less what is
     * kept. */
    uint64_t larger_bytes = left / 4 / tuning->worker_count;
    layout->share_bytes = tuning->worker_bytes + larger_bytes;
    layout->oversize_bytes = left / 2 - left / 16 - larger_bytes - layout->kept_bytes;
}

enum damacy_status dmc_config_complete(const struct damacy_config *config, struct damacy_config *complete,
                                       struct dmc_config_layout *layout, struct damacy_error *error)
{
    if (!config)
        return invalid(error, "config is NULL");
    if (config->struct_size != sizeof *config)
        return invalid(error, "config.struct_size is %zu, expected %zu; start from DAMACY_CONFIG_INIT", config->struct_size,
                       sizeof *config);
    enum damacy_status status = check(config, error);
    if (status != DAMACY_OK)
        return status;
    *complete = *config;
    complete->device = dmc_config_device(config->device);
    *layout = (struct dmc_config_layout){0};
    for (uint32_t f = 0; f < config->field_count; f++) {
        layout->batch_bytes += dmc_config_tensor_bytes(config, f);
        if (layout->batch_bytes >> 60)
            return invalid(error, "a batch of %u samples does not fit any memory", config->samples_per_batch);
    }
    layout->batch_bytes = dmc_round_up(layout->batch_bytes, 4096);
    layout->default_limit_bytes = dmc_memory_allowed() / 4;
    layout->limit_bytes = config->max_host_memory_bytes ? config->max_host_memory_bytes : layout->default_limit_bytes;
    complete->max_host_memory_bytes = layout->limit_bytes;
    complete_tuning(complete, layout);
    layout->fixed_bytes = sum_fixed(complete, layout);
    bool overflow = layout->batch_bytes > UINT64_MAX / 4 / complete->tuning.batch_slots ||
                    complete->tuning.worker_bytes > UINT64_MAX / 4 / complete->tuning.worker_count ||
                    complete->tuning.array_meta_cache_bytes > UINT64_MAX / 16 ||
                    complete->tuning.shard_index_cache_bytes > UINT64_MAX / 16 ||
                    complete->tuning.chunk_layout_cache_bytes > UINT64_MAX / 16; /* else the sum fits 64 bits */
    if (overflow)
        layout->fixed_bytes = UINT64_MAX - layout->reserve_bytes;
    if (!overflow && layout->fixed_bytes + layout->reserve_bytes <= layout->limit_bytes) {
        divide(complete, layout);
        return DAMACY_OK;
    }
    char breakdown[1024];
    dmc_config_breakdown(complete, layout, breakdown, sizeof breakdown);
    return dmc_error_set(error, DAMACY_BUDGET, "config", "the configuration needs more than max_host_memory_bytes:\n%s",
                         breakdown);
}

uint64_t dmc_config_lookahead_bytes(const struct damacy_config *config)
{
    uint32_t ranks[64];
    uint64_t bytes = 0;
    for (uint32_t f = 0; f < config->field_count; f += 64) { /* in groups, so that any number of fields fits */
        uint32_t count = (uint32_t)dmc_min_u64(config->field_count - f, 64);
        for (uint32_t i = 0; i < count; i++)
            ranks[i] = config->fields[f + i].rank;
        bytes += dmc_lookahead_memory(config->tuning.lookahead_samples, config->tuning.prefetch_samples, count, ranks);
    }
    return bytes;
}

static const char *mib(uint64_t bytes, char text[32])
{
    snprintf(text, 32, "%.1f MiB", (double)bytes / (double)MIB);
    return text;
}

void dmc_config_breakdown(const struct damacy_config *config, const struct dmc_config_layout *layout, char *text,
                          size_t capacity)
{
    const struct damacy_tuning *tuning = &config->tuning;
    char a[32], b[32], c[32], d[32], e[32], f[32], g[32], h[32], i[32], j[32];
    snprintf(
        text, capacity,
        "  batch buffers       %12s  batch_slots %u x %s\n"
        "  worker buffers      %12s  worker_count %u x worker_bytes\n"
        "  metadata caches     %12s  array_meta_cache_bytes + shard_index_cache_bytes + chunk_layout_cache_bytes\n"
        "  lookahead           %12s  lookahead_samples %u + prefetch_samples %u\n"
        "  kept for the data   %12s  plans, decoded chunks, metadata in transit; grows up to the limit\n"
        "  networks' part of it %11s  at most, once it has grown: libcurl's buffers and connections, the disk cache's queue\n"
        "  together            %12s\n"
        "  limit               %12s  max_host_memory_bytes; default %s, a quarter of the memory allowed\n",
        mib(config->device == DAMACY_CPU ? tuning->batch_slots * layout->batch_bytes : 0, a), tuning->batch_slots,
        mib(layout->batch_bytes, b), mib(tuning->worker_count * tuning->worker_bytes, c), tuning->worker_count,
        mib(tuning->array_meta_cache_bytes + tuning->shard_index_cache_bytes + tuning->chunk_layout_cache_bytes, d),
        mib(layout->lookahead_bytes + layout->prefetcher_bytes, e), tuning->lookahead_samples, tuning->prefetch_samples,
        mib(layout->reserve_bytes, f), mib(dmc_max_u64(layout->network_bytes, NETWORK_BYTES_MIN), j),
        mib(layout->fixed_bytes + layout->reserve_bytes, g), mib(layout->limit_bytes, h), mib(layout->default_limit_bytes, i));
}

enum damacy_status damacy_tuning_defaults(const struct damacy_config *config, struct damacy_tuning *tuning,
                                          struct damacy_error *error)
{
    struct damacy_config complete;
    struct dmc_config_layout layout;
    if (!tuning)
        return invalid(error, "tuning is NULL");
    enum damacy_status status = dmc_config_complete(config, &complete, &layout, error);
    if (status == DAMACY_OK && complete.device == DAMACY_CUDA_DEVICE)
        status = dmc_cuda_available(error);
    if (status == DAMACY_OK)
        *tuning = complete.tuning;
    return status;
}

enum damacy_status damacy_config_describe(const struct damacy_config *config, char *text, size_t capacity, size_t *length,
                                          struct damacy_error *error)
{
    struct damacy_config complete;
    struct dmc_config_layout layout;
    struct damacy_error own;
    enum damacy_status status = dmc_config_complete(config, &complete, &layout, &own);
    if (status == DAMACY_OK && complete.device == DAMACY_CUDA_DEVICE)
        status = dmc_cuda_available(&own);
    if (status != DAMACY_OK && error)
        *error = own;
    if (status != DAMACY_OK && status != DAMACY_BUDGET)
        return status;
    char breakdown[1024], whole[2048];
    dmc_config_breakdown(&complete, &layout, breakdown, sizeof breakdown);
    const struct damacy_tuning *tuning = &complete.tuning;
    int written = snprintf(
        whole, sizeof whole,
        "damacy %d.%d.%d on %s: %u samples a batch, %u field%s, %u workers\n"
        "host memory\n%s"
        "reads in flight %u per worker, %u for metadata; ranges closer than %llu bytes are read as one, up to %llu bytes\n",
        DAMACY_VERSION_MAJOR, DAMACY_VERSION_MINOR, DAMACY_VERSION_PATCH,
        complete.device == DAMACY_CPU ? "the CPU" : "a CUDA device", complete.samples_per_batch, complete.field_count,
        complete.field_count == 1 ? "" : "s", tuning->worker_count, breakdown, tuning->reads_in_flight,
        tuning->metadata_reads_in_flight, (unsigned long long)tuning->coalesce_gap_bytes,
        (unsigned long long)tuning->coalesce_read_bytes_max);
    if (length)
        *length = (size_t)written;
    if (text && capacity)
        snprintf(text, capacity, "%s", whole);
    return status;
}
