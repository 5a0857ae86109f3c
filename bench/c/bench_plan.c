/* What planning costs: nanoseconds of CPU time a chunk, everything included, in a warm arena.
 *
 * The data set is MEASURED's usual one: arrays (4, 64, 1024, 1024) of uint16 in shards (1, 64, 512, 512) of chunks (1, 16, 64,
 * 64), crops (1, 16, 128, 128) at random places: 17 chunks a crop on average. Rows differ in what is around that. "Under way"
 * are the batches planned before, in which every chunk looks for a host; then making the table of hosts counts, too. */
#include "base/hash.h"
#include "plan/host_table.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define RANK 4
#define SAMPLES_MAX 32
#define ROUNDS 4000
#define ENTRIES 256 /* chunks in a shard */
#define SHARDS 16   /* of an array */
#define RUNNING_MAX 8

static uint64_t seed;
static uint64_t draw(uint64_t below)
{
    return dmc_hash_u64(++seed, 11) % below;
}

struct bench_array {
    struct dmc_zarr_array zarr;
    struct dmc_plan_array plan;
    struct dmc_shard_entry entries[SHARDS][ENTRIES];
};

static const uint64_t shape[RANK] = {4, 64, 1024, 1024}, chunk[RANK] = {1, 16, 64, 64}, shard[RANK] = {1, 64, 512, 512};
static const int64_t strides[RANK] = {65536, 4096, 64, 1}, sample_shape[RANK] = {1, 16, 128, 128};

/* Chunks lie in Morton-like disorder, as zarr-python writes them. */
static void array_init(struct bench_array *array, bool sharded, bool raw)
{
    array->zarr = (struct dmc_zarr_array){.rank = RANK,
                                          .key_rank = RANK,
                                          .dtype = DAMACY_U16,
                                          .sharded = sharded,
                                          .key_encoding = {.separator = '/'},
                                          .shape = shape,
                                          .chunk_shape = chunk,
                                          .grid_shape = sharded ? shard : chunk,
                                          .chunk_elements = 65536,
                                          .chunks_per_shard = sharded ? ENTRIES : 1,
                                          .item_bytes = 2};
    array->plan = (struct dmc_plan_array){
        .zarr = &array->zarr, .strides = strides, .raw = raw, .stored_bytes_max = 140000, .user = array};
    for (uint32_t s = 0; s < SHARDS; s++) {
        uint64_t offset = 0, order[ENTRIES];
        for (uint64_t i = 0; i < ENTRIES; i++) {
            uint64_t j = draw(i + 1);
            order[i] = order[j];
            order[j] = i;
        }
        for (uint64_t i = 0; i < ENTRIES; i++) {
            uint64_t length = raw ? 131072 : 50000 + draw(10000);
            array->entries[s][order[i]] = (struct dmc_shard_entry){offset, length};
            offset += length;
        }
    }
}

static const struct dmc_shard_entry *look_up(void *user, const struct dmc_plan_array *array, const uint64_t *at, bool *failed)
{
    (void)user;
    (void)failed;
    const struct bench_array *owner = array->user;
    return owner->entries[(at[0] * 2 + at[2]) * 2 + at[3]];
}

/* The plans of the last batches. */
struct running {
    struct dmc_arena arenas[RUNNING_MAX + 1];
    struct dmc_plan plans[RUNNING_MAX + 1];
    struct dmc_host_table tables[RUNNING_MAX + 1];
    uint32_t count, planned;
    uint64_t found;
};

/* Looks everywhere, and has the batch decode the chunk itself: plans stay the same. */
static struct dmc_plan_source find_source(void *user, const struct dmc_chunk_ask *ask)
{
    struct running *running = user;
    uint64_t hash = dmc_host_hash(ask->array, ask->index);
    for (uint32_t i = 1; i <= running->count; i++) {
        const struct dmc_host_table *table = &running->tables[(running->planned + RUNNING_MAX + 1 - i) % (RUNNING_MAX + 1)];
        running->found += dmc_host_find(table, hash, ask) != DMC_HOST_NONE;
    }
    return (struct dmc_plan_source){0};
}

static void no_failure(void *user, uint32_t row, uint32_t field, const struct damacy_error *error)
{
    (void)user;
    (void)error;
    fprintf(stderr, "bench_plan: row %u, field %u failed\n", row, field);
    exit(1);
}

/* Of this thread, so that others on the machine do not count. */
static uint64_t cpu_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void run(const char *name, uint32_t samples, uint32_t arrays, bool sharded, bool raw, uint32_t under_way)
{
    struct bench_array *all = malloc(arrays * sizeof *all);
    for (uint32_t i = 0; i < arrays; i++)
        array_init(&all[i], sharded, raw);
    struct running running = {.count = under_way};
    for (uint32_t i = 0; i <= RUNNING_MAX; i++)
        dmc_arena_init(&running.arenas[i], NULL);
    struct dmc_plan_field field = {RANK, sample_shape, 4};
    struct dmc_plan_lookup lookup = {&running, look_up, under_way ? find_source : NULL};
    struct dmc_plan_failure failure = {.fail_region = no_failure};
    struct dmc_plan_options options = {.coalesce_gap_bytes = 4096, .coalesce_read_bytes_max = 1 << 20};
    uint64_t chunks = 0, pieces = 0, reads = 0, ns = 0;
    for (uint32_t round = 0; round < ROUNDS; round++) {
        struct dmc_plan_region regions[SAMPLES_MAX];
        struct damacy_interval boxes[SAMPLES_MAX][RANK];
        for (uint32_t r = 0; r < samples; r++) {
            for (uint32_t a = 0; a < RANK; a++) {
                int64_t begin = (int64_t)draw(shape[a] - (uint64_t)sample_shape[a] + 1);
                boxes[r][a] = (struct damacy_interval){begin, begin + sample_shape[a]};
            }
            regions[r] = (struct dmc_plan_region){.row = r, .array = &all[draw(arrays)].plan, .aabb = boxes[r]};
        }
        uint32_t at = running.planned % (RUNNING_MAX + 1);
        struct dmc_arena *arena = &running.arenas[at];
        struct dmc_plan *plan = &running.plans[at];
        dmc_arena_reset(arena);
        uint64_t begin = cpu_ns();
        if (dmc_plan_make(regions, samples, &field, 1, &lookup, &failure, &options, arena, plan, NULL) != DAMACY_OK)
            exit(1);
        if (under_way)
            dmc_host_table_init(&running.tables[at], plan, arena);
        running.planned++;
        if (round < ROUNDS / 10)
            continue; /* warming up */
        ns += cpu_ns() - begin;
        chunks += plan->chunk_count;
        pieces += plan->piece_count;
        reads += plan->read_count;
    }
    double rounds = ROUNDS - ROUNDS / 10;
    printf("%-20s %u under way %3u samples  %6.1f chunks  %6.1f reads  %6.1f pieces  %7.1f us a batch  %6.1f ns a chunk\n",
           name, under_way, samples, (double)chunks / rounds, (double)reads / rounds, (double)pieces / rounds,
           (double)ns / rounds / 1e3, (double)ns / (double)chunks);
    for (uint32_t i = 0; i <= RUNNING_MAX; i++)
        dmc_arena_deinit(&running.arenas[i]);
    free(all);
}

int main(void)
{
    for (uint32_t under_way = 0; under_way <= 6; under_way += 3) {
        run("sharded, one array", 8, 1, true, false, under_way);
        run("sharded, one array", 32, 1, true, false, under_way);
        run("sharded, 8 arrays", 8, 8, true, false, under_way);
        run("sharded, 8 arrays", 32, 8, true, false, under_way);
        run("sharded, 2000 arrays", 32, 2000, true, false, under_way);
        run("sharded, raw spans", 32, 8, true, true, under_way);
        run("unsharded", 32, 8, false, false, under_way);
        run("unsharded, raw spans", 32, 8, false, true, under_way);
    }
    return 0;
}
