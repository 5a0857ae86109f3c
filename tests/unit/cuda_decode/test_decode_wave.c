/* Goal: several threads put chunks into one wave at once, and each chunk's work is in the lists exactly once, dearest first;
 * bytes that change between looking and writing never spill over. Method: no kernels, only the host's half; the table is read
 * as a kernel would. Meant for TSan. */
#include "backend/cuda/cuda_decoder.h"
#include "backend/cuda/decode/decode_desc.h"
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <zstd.h>

#define THREADS 4
#define CHUNKS_EACH 60
#define CHUNKS (THREADS * CHUNKS_EACH)
#define CHUNK_BYTES 3000

static uint8_t stored[THREADS][8192];
static size_t stored_bytes[THREADS];
static struct dmc_cuda_wave *wave;
static uint32_t indices[CHUNKS];
static enum dmc_cuda_verdict verdicts[CHUNKS];

static void stored_make(void)
{
    uint8_t data[CHUNK_BYTES];
    for (int t = 0; t < THREADS; t++) {
        uint32_t state = 12345u + (uint32_t)t;
        for (int i = 0; i < CHUNK_BYTES; i++) {
            state = state * 1664525u + 1013904223u;
            data[i] = (uint8_t)(i % 40 < 10 * t ? (uint32_t)i % 7 : (state >> 24) % (9u + 3u * (uint32_t)t));
        }
        stored_bytes[t] = ZSTD_compress(stored[t], sizeof stored[t], data, sizeof data, 5);
        assert_false(ZSTD_isError(stored_bytes[t]));
    }
}

static struct dmc_cuda_chunk chunk_of(int thread, int i)
{
    return (struct dmc_cuda_chunk){
        .format = DMC_CUDA_ZSTD,
        .stored = stored[thread],
        .stored_bytes = stored_bytes[thread],
        .stored_device = 0x10000000ull * (uint64_t)(thread + 1),
        .target_device = 0x700000000ull + (uint64_t)(thread * CHUNKS_EACH + i) * 4096,
        .chunk_bytes = CHUNK_BYTES,
        .need_end = CHUNK_BYTES,
    };
}

static void *adder(void *argument)
{
    int thread = (int)(intptr_t)argument;
    for (int i = 0; i < CHUNKS_EACH; i++) {
        struct dmc_cuda_chunk chunk = chunk_of(thread, i);
        verdicts[thread * CHUNKS_EACH + i] = dmc_cuda_wave_add(wave, &chunk, &indices[thread * CHUNKS_EACH + i]);
    }
    return NULL;
}

struct seen {
    const uint8_t *table;
    uint32_t units, sequence_blocks, trees;
    uint32_t unit_of_chunk[CHUNKS];
    uint32_t last_sequences;
};

/* What the kernels would get, looked at on the way. */
static int seen_launch(void *context, enum dmc_cuda_kernel kernel, uint32_t grid, uint32_t block, uint32_t shared_bytes,
                       void *stream, void **args)
{
    (void)grid, (void)block, (void)shared_bytes, (void)stream;
    struct seen *seen = context;
    struct dmc_gd_job job;
    memcpy(&job, args[0], sizeof job);
    const uint32_t *list = (const void *)(seen->table + job.list);
    for (uint32_t i = 0; i < job.count; i++) {
        const void *descriptor = seen->table + 16ull * list[i];
        if (kernel == DMC_CUDA_KERNEL_EXECUTE_BLOCK || kernel == DMC_CUDA_KERNEL_EXECUTE_WARP) {
            const struct dmc_gd_unit *unit = descriptor;
            seen->units++;
            assert_in_range(unit->chunk, 0, CHUNKS - 1);
            seen->unit_of_chunk[unit->chunk]++;
            assert_int_equal(unit->target_bytes, CHUNK_BYTES);
        } else if (kernel == DMC_CUDA_KERNEL_SEQUENCES) {
            const struct dmc_gd_block *b = descriptor;
            assert_true(b->sequence_count > 0);
            assert_true(i == 0 || b->sequence_count <= seen->last_sequences + seen->last_sequences / 8 + 1);
            seen->last_sequences = b->sequence_count;
            seen->sequence_blocks++;
        } else if (kernel == DMC_CUDA_KERNEL_HUFFMAN) {
            seen->trees++;
        }
    }
    return 0;
}

static void test_threads(void **state)
{
    (void)state;
    static uint8_t table[1 << 20] __attribute__((aligned(256)));
    stored_make();
    assert_int_equal(dmc_cuda_wave_create(CHUNKS, &wave, NULL), DAMACY_OK);
    for (int round = 0; round < 2; round++) {
        /* The second time not all fit. */
        uint64_t scratch_bytes = round == 0 ? 8 << 20 : 200000;
        dmc_cuda_wave_begin(wave, table, sizeof table, scratch_bytes);
        pthread_t threads[THREADS];
        for (int t = 0; t < THREADS; t++)
            assert_int_equal(pthread_create(&threads[t], NULL, adder, (void *)(intptr_t)t), 0);
        for (int t = 0; t < THREADS; t++)
            pthread_join(threads[t], NULL);
        uint32_t added = 0;
        bool index_seen[CHUNKS] = {false};
        for (int i = 0; i < CHUNKS; i++) {
            if (verdicts[i] == DMC_CUDA_OK) {
                assert_in_range(indices[i], 0, CHUNKS - 1);
                assert_false(index_seen[indices[i]]);
                index_seen[indices[i]] = true;
                added++;
            } else {
                assert_int_equal(verdicts[i], DMC_CUDA_FULL);
            }
        }
        struct dmc_cuda_wave_info info;
        dmc_cuda_wave_close(wave, &info);
        assert_int_equal(info.chunk_count, added);
        assert_true(round == 0 ? added == CHUNKS : added > 0 && added < CHUNKS);
        assert_true(info.table_bytes <= sizeof table && info.scratch_bytes <= scratch_bytes);
        assert_int_equal(info.decoded_bytes, (uint64_t)added * CHUNK_BYTES);
        struct seen seen = {.table = table};
        struct dmc_cuda_launcher launcher = {
            .context = &seen, .launch = seen_launch, .multiprocessors = 1, .shared_bytes_block = 1 << 20};
        assert_int_equal(dmc_cuda_wave_enqueue(wave, &launcher, (uintptr_t)table, 0, NULL, NULL), 0);
        assert_int_equal(seen.units, added);
        assert_int_equal(seen.sequence_blocks, added);
        assert_int_equal(seen.trees, added);
        for (uint32_t i = 0; i < added; i++)
            assert_int_equal(seen.unit_of_chunk[i], 1);
    }
    dmc_cuda_wave_destroy(wave);
}

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define RACES_ARE_REPORTED
#endif
#elif defined(__SANITIZE_THREAD__)
#define RACES_ARE_REPORTED
#endif

static volatile bool scribbling;
static uint8_t scribbled[8192];
static void *scribbler(void *argument)
{
    (void)argument;
    for (uint32_t i = 0; __atomic_load_n(&scribbling, __ATOMIC_RELAXED); i++) {
        uint32_t at = i * 7919u % 40;
        __atomic_store_n(&scribbled[at], (uint8_t)(stored[0][at] ^ (i & 64 ? i >> 7 : 0)), __ATOMIC_RELAXED);
    }
    return NULL;
}

/* Somebody writes to the stored bytes all the while: a verdict, never a write outside the table. */
__attribute__((no_sanitize("thread"))) static void test_changing_bytes(void **state)
{
    (void)state;
#ifdef RACES_ARE_REPORTED
    skip(); /* a race by design */
#endif
    stored_make();
    memcpy(scribbled, stored[0], sizeof scribbled);
    assert_int_equal(dmc_cuda_wave_create(8, &wave, NULL), DAMACY_OK);
    pthread_t thread;
    scribbling = true;
    assert_int_equal(pthread_create(&thread, NULL, scribbler, NULL), 0);
    uint32_t counts[4] = {0};
    /* As long as it takes the other thread, too, to have been there. */
    for (uint32_t i = 0; i < 20000 || (counts[DMC_CUDA_OK] == 0 && i < 100000000); i++) {
        if (i % 256 == 0)
            sched_yield();
        struct dmc_cuda_chunk chunk = chunk_of(0, 0);
        chunk.stored = scribbled;
        struct dmc_cuda_cost cost;
        if (dmc_cuda_inspect(&chunk, &cost))
            cost.table_bytes = 300;
        /* Memory of just what the chunk takes, as long as nothing changes. */
        uint64_t table_bytes = 32 + 16 * 7 + cost.table_bytes + 16;
        uint8_t *table = aligned_alloc(16, (table_bytes + 15) / 16 * 16);
        dmc_cuda_wave_begin(wave, table, table_bytes, 1 << 20);
        uint32_t index;
        enum dmc_cuda_verdict verdict = dmc_cuda_wave_add(wave, &chunk, &index);
        assert_in_range(verdict, 0, 3);
        counts[verdict]++;
        struct dmc_cuda_wave_info info;
        dmc_cuda_wave_close(wave, &info);
        assert_true(info.table_bytes <= table_bytes);
        free(table);
    }
    __atomic_store_n(&scribbling, false, __ATOMIC_RELAXED);
    pthread_join(thread, NULL);
    dmc_cuda_wave_destroy(wave);
    assert_true(counts[DMC_CUDA_OK] > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_threads), cmocka_unit_test(test_changing_bytes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
