/* Once warm, a batch costs no allocation, no mapping and no thread.
 *
 * Method: this executable's own malloc, calloc, realloc, aligned_alloc, mmap, mremap and pthread_create count the calls of all
 * threads and hand them on to libc. A fixed set of crops goes round through every slot until it is warm, then many more rounds
 * must cost nothing: memory store and files, with and without io_uring, several codecs. A sanitizer brings a malloc of its own:
 * there only what goes through base/mem.h is counted. */
#include "support/pipeline_world.h"

#include <dlfcn.h>
#include <malloc.h>
#include <sys/mman.h>

#if defined(__has_feature) /* clang */
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define COUNT_LIBC 0
#endif
#elif defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) /* gcc */
#define COUNT_LIBC 0
#endif
#ifndef COUNT_LIBC
#define COUNT_LIBC 1
#endif

static _Atomic uint64_t calls;

#if COUNT_LIBC
void *__libc_malloc(size_t bytes);
void *__libc_calloc(size_t count, size_t bytes);
void *__libc_realloc(void *memory, size_t bytes);
void *__libc_memalign(size_t align, size_t bytes);

static void count_call(void)
{
    atomic_fetch_add_explicit(&calls, 1, memory_order_relaxed);
}

__attribute__((visibility("default"))) void *malloc(size_t bytes)
{
    count_call();
    return __libc_malloc(bytes);
}
__attribute__((visibility("default"))) void *calloc(size_t count, size_t bytes)
{
    count_call();
    return __libc_calloc(count, bytes);
}
__attribute__((visibility("default"))) void *realloc(void *memory, size_t bytes)
{
    count_call();
    return __libc_realloc(memory, bytes);
}
__attribute__((visibility("default"))) void *aligned_alloc(size_t align, size_t bytes)
{
    count_call();
    return __libc_memalign(align, bytes);
}
__attribute__((visibility("default"))) void *memalign(size_t align, size_t bytes)
{
    count_call();
    return __libc_memalign(align, bytes);
}
__attribute__((visibility("default"))) int posix_memalign(void **memory, size_t align, size_t bytes)
{
    count_call();
    *memory = __libc_memalign(align, bytes);
    return *memory ? 0 : ENOMEM;
}
__attribute__((visibility("default"))) void *mmap(void *address, size_t bytes, int protection, int flags, int fd, off_t offset)
{
    static void *(*real)(void *, size_t, int, int, int, off_t);
    count_call();
    if (!real)
        real = (void *(*)(void *, size_t, int, int, int, off_t))dlsym(RTLD_NEXT, "mmap");
    return real(address, bytes, protection, flags, fd, offset);
}
__attribute__((visibility("default"))) int pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                                                          void *(*run)(void *), void *argument)
{
    static int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    count_call();
    if (!real)
        real = (int (*)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *))dlsym(RTLD_NEXT, "pthread_create");
    return real(thread, attributes, run, argument);
}
#endif

static uint64_t count_now(void)
{
    return atomic_load(&calls) + dmc_mem_count();
}

static const int64_t sample_shape[] = {20, 30};
#define SAMPLES 6
#define ARRAYS 5

static struct zw_array arrays[ARRAYS] = {
    {.name = "zstd",
     .number = 1,
     .dtype = DAMACY_U16,
     .rank = 2,
     .shape = {90, 90},
     .chunk = {16, 16},
     .shard = {32, 32},
     .compressor = ZW_ZSTD,
     .index_crc32c = true},
    {.name = "blosc",
     .number = 2,
     .dtype = DAMACY_F32,
     .rank = 2,
     .shape = {90, 90},
     .chunk = {16, 16},
     .shard = {48, 48},
     .compressor = ZW_BLOSC,
     .blosc_shuffle = 1,
     .index_crc32c = true,
     .missing_chunks = 20},
    {.name = "gzip", .number = 3, .dtype = DAMACY_I32, .rank = 2, .shape = {90, 90}, .chunk = {25, 25}, .compressor = ZW_GZIP},
    {.name = "raw",
     .number = 4,
     .dtype = DAMACY_U8,
     .rank = 2,
     .shape = {90, 90},
     .chunk = {40, 40},
     .big_endian = true,
     .missing_chunks = 20},
    {.name = "bloscz",
     .number = 5,
     .dtype = DAMACY_F64,
     .rank = 2,
     .shape = {90, 90},
     .chunk = {30, 30},
     .compressor = ZW_BLOSC,
     .blosc_name = "zstd",
     .blosc_shuffle = 2,
     .crc32c = true,
     .transposed = true,
     .order = {1, 0}},
};

static void push_round(struct damacy *pipeline, const char *prefix, struct pw_sample *samples, uint32_t batch)
{
    for (uint32_t i = 0; i < SAMPLES; i++) {
        /* The same samples each time, in every slot: no plan is larger than the one before. */
        samples[i] =
            (struct pw_sample){.arrays = {&arrays[i % ARRAYS]}, .begin = {{(i * 13) % 70, (i * 29) % 60}}, .tag = batch};
        pw_push_wait(pipeline, prefix, &samples[i]);
    }
}

static uint64_t run_rounds(struct damacy *pipeline, const char *prefix, uint32_t rounds, bool check)
{
    struct pw_sample samples[SAMPLES];
    uint64_t before = count_now();
    for (uint32_t i = 0; i < rounds; i++) {
        for (uint32_t slot = 0; slot < 2; slot++)
            push_round(pipeline, prefix, samples, i);
        for (uint32_t slot = 0; slot < 2; slot++) {
            struct damacy_batch *batch = pw_pop(pipeline);
            if (check)
                zw_require(pw_batch_matches(batch, samples, SAMPLES));
            damacy_release(batch);
        }
    }
    return count_now() - before;
}

static void check_steady(const char *prefix, struct dmc_store *memory, uint32_t io_uring)
{
    struct damacy_field field;
    struct damacy_config config = pw_config(&field, SAMPLES, 2, sample_shape, DAMACY_F32);
    config.tuning.batch_slots = 3;
    config.tuning.io_uring = io_uring;
    struct damacy *pipeline = pw_create(&config, memory);
    run_rounds(pipeline, prefix, 20, true);
    /* Which worker meets which codec first is chance, and one that the machine lets wait may meet some of them late: so warm
     * means many rounds in a row without an allocation. They must come; what costs an allocation again and again never gets
     * there. */
    uint32_t quiet = 0, rounds = 0;
    uint64_t cost = 0;
    while (quiet < 350) {
        uint64_t more = run_rounds(pipeline, prefix, 1, false);
        quiet = more == 0 ? quiet + 1 : 0;
        cost += more;
        if (++rounds > 10000)
            fail_msg("%u batches cost %llu allocations, mappings or threads", 2 * rounds, (unsigned long long)cost);
    }
    run_rounds(pipeline, prefix, 2, true);
    damacy_destroy(pipeline);
}

static void test_memory_store(void **state)
{
    (void)state;
    struct dmc_store *memory = pw_memory();
    for (uint32_t i = 0; i < ARRAYS; i++)
        zw_write(&arrays[i], &(struct zw_sink){.memory = memory});
    check_steady("memory://", memory, 0);
    dmc_store_destroy(memory);
}

static void test_file_store(void **state)
{
    (void)state;
    char folder[64], prefix[80];
    pw_make_folder(folder);
    for (uint32_t i = 0; i < ARRAYS; i++)
        zw_write(&arrays[i], &(struct zw_sink){.folder = folder});
    snprintf(prefix, sizeof prefix, "%s/", folder);
    check_steady(prefix, NULL, 0);
    check_steady(prefix, NULL, 2);
    pw_remove_folder(folder);
}

/* The counting counts. */
static void test_counting(void **state)
{
    (void)state;
    uint64_t before = count_now();
    void *volatile memory = dmc_malloc(100);
    assert_true(count_now() > before);
    dmc_free(memory);
#if COUNT_LIBC
    before = atomic_load(&calls);
    memory = malloc(100);
    free(memory);
    memory = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(memory, 4096);
    assert_int_equal(atomic_load(&calls), before + 2);
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_counting), cmocka_unit_test(test_memory_store),
                                       cmocka_unit_test(test_file_store)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
