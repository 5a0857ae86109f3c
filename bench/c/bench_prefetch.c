/* What the metadata stage costs: resolving samples whose metadata are all cached, and opening new local arrays.
 *
 *     bench_prefetch [FOLDER]    arrays are made in FOLDER (default: a new one under /tmp, removed at the end)
 *
 * Three lines: nanoseconds a cached sample (16 samples a batch, each touching one shard; and eight), allocations a sample, and
 * microseconds a new array (open, read, parse, chain) and a new shard index. Medians over rounds, of the prefetcher's CPU time
 * (waking up and going to sleep are in it), so that others on the machine disturb little. */
#include "base/clock.h"
#include "base/error.h"
#include "base/mem.h"
#include "base/thread.h"
#include "prefetch/prefetcher.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BATCH = 16, ARRAYS = 400, ROUNDS = 15, BATCHES = 200 };

struct owner {
    struct dmc_mutex lock;
    struct dmc_cond changed;
    struct dmc_lookahead ring;
    uint64_t planned;
    uint64_t wait_for; /* ordinal */
    uint64_t cpu_ns;   /* of the prefetcher's thread when it resolved that */
};

static struct dmc_sample_slot *take(void *user)
{
    struct owner *owner = user;
    dmc_mutex_lock(&owner->lock);
    struct dmc_sample_slot *slot = dmc_lookahead_take(&owner->ring);
    dmc_mutex_unlock(&owner->lock);
    return slot;
}

static void resolved(void *user, struct dmc_sample_slot *slot)
{
    struct owner *owner = user;
    if (slot->error) {
        fprintf(stderr, "%s\n", slot->error->message);
        exit(1);
    }
    dmc_mutex_lock(&owner->lock);
    dmc_lookahead_resolve(&owner->ring, slot);
    if (owner->ring.resolved == owner->wait_for) {
        struct timespec cpu;
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &cpu);
        owner->cpu_ns = (uint64_t)cpu.tv_sec * 1000000000u + (uint64_t)cpu.tv_nsec;
        dmc_cond_signal(&owner->changed);
    }
    dmc_mutex_unlock(&owner->lock);
}

static uint64_t watermark(void *user)
{
    struct owner *owner = user;
    dmc_mutex_lock(&owner->lock);
    uint64_t planned = owner->planned;
    dmc_mutex_unlock(&owner->lock);
    return planned;
}

static void write_file(const char *path, const void *data, size_t bytes)
{
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(data, 1, bytes, file) != bytes || fclose(file)) {
        perror(path);
        exit(1);
    }
}

/* Arrays of 8 x 8 shards of 64 chunks each; a shard is only an index here. */
static void make_arrays(const char *folder)
{
    static const char text[] = "{\"zarr_format\":3,\"node_type\":\"array\",\"shape\":[512,512,512],\"data_type\":\"uint16\","
                               "\"chunk_grid\":{\"name\":\"regular\","
                               "\"configuration\":{\"chunk_shape\":[64,128,128]}},\"chunk_key_encoding\":{\"name\":\"default\","
                               "\"configuration\":{\"separator\":"
                               "\"/"
                               "\"}},\"fill_value\":0,\"codecs\":[{\"name\":\"sharding_indexed\",\"configuration\":{\"chunk_"
                               "shape\":[16,32,32],\"codecs\":["
                               "{\"name\":\"bytes\",\"configuration\":{\"endian\":\"little\"}},{\"name\":\"zstd\","
                               "\"configuration\":{\"level\":1,\"checksum\":false}}],"
                               "\"index_codecs\":[{\"name\":\"bytes\",\"configuration\":{\"endian\":\"little\"}}],\"index_"
                               "location\":\"end\"}}],\"attributes\":{}}";
    uint8_t index[64 * 16];
    memset(index, 0xff, sizeof index);
    char path[512];
    for (int i = 0; i < ARRAYS; i++) {
        snprintf(path, sizeof path, "%s/volume-%04d.zarr", folder, i);
        mkdir(path, 0755);
        snprintf(path, sizeof path, "%s/volume-%04d.zarr/zarr.json", folder, i);
        write_file(path, text, strlen(text));
        for (int part = 0; part < 3; part++) {
            static const char *const parts[] = {"c", "c/0", "c/0/0"};
            snprintf(path, sizeof path, "%s/volume-%04d.zarr/%s", folder, i, parts[part]);
            mkdir(path, 0755);
        }
        snprintf(path, sizeof path, "%s/volume-%04d.zarr/c/0/0/0", folder, i);
        write_file(path, index, sizeof index);
    }
}

static struct owner owner;
static struct dmc_prefetcher *prefetcher;

/* Push `count` samples at once and wait until they are resolved; returns nanoseconds of the prefetcher. */
static uint64_t resolve(const char *folder, int first_array, int count, int64_t extent)
{
    uint64_t before_ns = owner.cpu_ns;
    struct damacy_interval box[3] = {{0, 64}, {0, extent}, {0, extent}};
    box[0].end = extent > 128 ? 128 : 64;
    char uri[512];
    dmc_mutex_lock(&owner.lock);
    owner.wait_for = owner.ring.pushed + (uint64_t)count;
    for (int i = 0; i < count; i++) {
        snprintf(uri, sizeof uri, "%s/volume-%04d.zarr", folder, (first_array + i) % ARRAYS);
        struct damacy_region region = {uri, 3, box};
        dmc_lookahead_push(&owner.ring, &(struct damacy_sample){&region, 0}, owner.planned);
    }
    dmc_mutex_unlock(&owner.lock);
    dmc_prefetcher_wake(prefetcher);
    dmc_mutex_lock(&owner.lock);
    while (owner.ring.resolved < owner.wait_for)
        dmc_cond_wait(&owner.changed, &owner.lock);
    dmc_lookahead_planned(&owner.ring, (uint64_t)count);
    owner.planned++;
    uint64_t spent_ns = owner.cpu_ns - before_ns;
    dmc_mutex_unlock(&owner.lock);
    return spent_ns;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, int count)
{
    qsort(values, (size_t)count, sizeof *values, by_value);
    return values[count / 2];
}

static void begin(struct dmc_stores **stores, struct dmc_budget *budget)
{
    static const uint32_t ranks[1] = {3};
    struct damacy_error error;
    struct dmc_prefetcher_options options = {.field_count = 1,
                                             .ranks = ranks,
                                             .prefetch_samples = 512,
                                             .reads_in_flight = 32,
                                             .array_meta_cache_bytes = 64 << 20,
                                             .shard_index_cache_bytes = 64 << 20,
                                             .chunk_layout_cache_bytes = 1 << 20,
                                             .metadata_object_bytes_max = 1 << 20};
    struct dmc_prefetcher_hooks hooks = {&owner, take, resolved, watermark};
    dmc_mutex_init(&owner.lock);
    dmc_cond_init(&owner.changed);
    owner.planned = owner.cpu_ns = 0;
    dmc_budget_init(budget, 1 << 30);
    if (dmc_lookahead_init(&owner.ring, 512, 512, 1, ranks, &error) ||
        dmc_stores_create(&(struct dmc_stores_options){.file.open_files_max = 512}, stores, &error) ||
        dmc_prefetcher_create(&options, &hooks, *stores, budget, &prefetcher, &error)) {
        fprintf(stderr, "%s\n", error.message);
        exit(1);
    }
}

static void end(struct dmc_stores *stores)
{
    dmc_prefetcher_destroy(prefetcher, UINT64_MAX);
    dmc_stores_destroy(stores);
    dmc_lookahead_deinit(&owner.ring);
    dmc_cond_deinit(&owner.changed);
    dmc_mutex_deinit(&owner.lock);
}

int main(int argc, char **argv)
{
    char made[] = "/tmp/bench_prefetch_XXXXXX";
    const char *folder = argc > 1 ? argv[1] : mkdtemp(made);
    make_arrays(folder);
    double one[ROUNDS], eight[ROUNDS], allocations[ROUNDS], opening[ROUNDS];
    for (int round = 0; round < ROUNDS; round++) {
        struct dmc_stores *stores;
        struct dmc_budget budget;
        begin(&stores, &budget);
        opening[round] = (double)resolve(folder, 0, ARRAYS, 32) / ARRAYS / 1000;
        resolve(folder, 0, BATCH, 256);
        uint64_t count = dmc_mem_count(), one_ns = 0, eight_ns = 0;
        for (int i = 0; i < BATCHES; i++) {
            one_ns += resolve(folder, i * BATCH, BATCH, 32);
            eight_ns += resolve(folder, 0, BATCH, 256);
        }
        allocations[round] = (double)(dmc_mem_count() - count) / (2.0 * BATCHES * BATCH);
        one[round] = (double)one_ns / (BATCHES * BATCH);
        eight[round] = (double)eight_ns / (BATCHES * BATCH);
        end(stores);
    }
    printf("cached sample, 1 shard      %7.0f ns\n", median(one, ROUNDS));
    printf("cached sample, 8 shards     %7.0f ns\n", median(eight, ROUNDS));
    printf("allocations a cached sample %7.3f\n", median(allocations, ROUNDS));
    printf("new array and shard index   %7.1f us\n", median(opening, ROUNDS));
    if (argc <= 1) {
        char command[600];
        snprintf(command, sizeof command, "rm -r '%s'", folder);
        return system(command) != 0;
    }
    return 0;
}
