/* Goal: every store gives the same answers.
 * Method: one suite of checks run over the file store with a ring, with reader threads, cold and warm, on a file system that
 * refuses RWF_NOWAIT, over the memory store, and over delayed and unspoilt decorators of them. */
#include "support/store_conformance.h"

enum kind {
    FILE_RING,
    FILE_POOL,
    FILE_COLD_RING,
    FILE_COLD_POOL,
    FILE_TMPFS,
    FILE_FEW,
    MEMORY,
    DELAY_MEMORY,
    DELAY_FILE,
    FAULT_DELAY_FILE,
    KINDS
};
static const char *const kind_names[KINDS] = {"file, ring",    "file, pool",        "cold file, ring", "cold file, pool",
                                              "file on tmpfs", "file, one handle",  "memory",          "delay(memory)",
                                              "delay(file)",   "fault(delay(file))"};

struct subject {
    struct conformance suite; /* first */
    enum kind kind;
    struct dmc_store *stores[3]; /* from the innermost on */
};

static uint64_t small_delay(void *user, const char *key)
{
    (void)user;
    return dmc_hash_bytes(key, strlen(key), 3) % 300000;
}
static enum dmc_fault no_fault(void *user, uint64_t n, const char *key)
{
    (void)user;
    (void)n;
    (void)key;
    return DMC_FAULT_NONE;
}

static bool is_memory(const struct subject *subject)
{
    return subject->kind == MEMORY || subject->kind == DELAY_MEMORY;
}
static bool is_cold(const struct subject *subject)
{
    return subject->kind == FILE_COLD_RING || subject->kind == FILE_COLD_POOL;
}

static void put(struct conformance *suite, const char *name, const void *data, uint64_t bytes)
{
    const struct subject *subject = (const struct subject *)suite;
    char key[400];
    conformance_key(suite, key, name);
    if (is_memory(subject)) {
        assert_int_equal(dmc_store_memory_put(subject->stores[0], key, data, bytes, NULL), DAMACY_OK);
        return;
    }
    int fd = open(key, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, bytes), (ssize_t)bytes);
    close(fd);
}

static void chill(struct conformance *suite, const char *key)
{
    (void)suite;
    drop_file(key);
}

/* false: this machine has no tmpfs to test on. */
static bool subject_make(struct subject *subject, enum kind kind)
{
    memset(subject, 0, sizeof *subject);
    subject->kind = kind;
    subject->suite.name = kind_names[kind];
    subject->suite.put = put;
    subject->suite.chill = is_cold(subject) ? chill : NULL;
    snprintf(subject->suite.folder, sizeof subject->suite.folder, "%s", fixture_folder);
    if (kind == FILE_TMPFS) {
        snprintf(subject->suite.folder, sizeof subject->suite.folder, "/dev/shm/damacy-store-XXXXXX");
        if (!mkdtemp(subject->suite.folder))
            return false;
    }
    struct dmc_store_file_options options = {.open_files_max = kind == FILE_FEW ? 1 : 16};
    if (is_memory(subject))
        assert_int_equal(dmc_store_memory_create(&subject->stores[0], NULL), DAMACY_OK);
    else
        assert_int_equal(dmc_store_file_create(&options, &subject->stores[0], NULL), DAMACY_OK);
    subject->suite.store = subject->stores[0];
    if (kind >= DELAY_MEMORY) {
        assert_int_equal(dmc_store_delay_create(subject->suite.store, small_delay, NULL, &subject->stores[1], NULL), DAMACY_OK);
        subject->suite.store = subject->stores[1];
    }
    if (kind == FAULT_DELAY_FILE) {
        assert_int_equal(dmc_store_fault_create(subject->suite.store, no_fault, NULL, &subject->stores[2], NULL), DAMACY_OK);
        subject->suite.store = subject->stores[2];
    }
    subject->suite.io = io_make(64, kind == FILE_POOL || kind == FILE_COLD_POOL);
    return true;
}

static void subject_end(struct subject *subject)
{
    io_end(subject->suite.io);
    for (int i = 2; i >= 0; i--)
        dmc_store_destroy(subject->stores[i]);
    if (subject->kind == FILE_TMPFS)
        nftw(subject->suite.folder, fixture_remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void run_kind(enum kind kind, uint64_t seed)
{
    struct subject subject;
    if (!subject_make(&subject, kind)) {
        printf("skipped: %s\n", kind_names[kind]);
        return;
    }
    conformance_run(&subject.suite, seed);
    subject_end(&subject);
}

#define KIND_TEST(name, kind)                                                                                                  \
    static void name(void **state)                                                                                             \
    {                                                                                                                          \
        (void)state;                                                                                                           \
        run_kind(kind, test_seed());                                                                                           \
    }
KIND_TEST(test_file_ring, FILE_RING)
KIND_TEST(test_file_pool, FILE_POOL)
KIND_TEST(test_cold_file_ring, FILE_COLD_RING)
KIND_TEST(test_cold_file_pool, FILE_COLD_POOL)
KIND_TEST(test_file_on_tmpfs, FILE_TMPFS)
KIND_TEST(test_file_with_one_handle, FILE_FEW)
KIND_TEST(test_memory, MEMORY)
KIND_TEST(test_delayed_memory, DELAY_MEMORY)
KIND_TEST(test_delayed_file, DELAY_FILE)
KIND_TEST(test_unspoilt_delayed_file, FAULT_DELAY_FILE)

/* Requests with different delays go on to the inner store in the order in which they are due. (How those that are over are
 * handed out is the dmc_io's affair.) */
static uint64_t delay_by_name(void *user, const char *key)
{
    return (uint64_t)('9' - key[0] + 1) * *(const uint64_t *)user;
}

static const struct dmc_store_ops *inner_ops;
static char went_on[6];
static enum dmc_start note_start(struct dmc_store *store, struct dmc_io *io, struct dmc_request *request)
{
    strncat(went_on, request->key, 1);
    return inner_ops->start(store, io, request);
}

static void test_delay_reorders(void **state)
{
    (void)state;
    struct dmc_store *memory, *delay;
    uint64_t step_ns = 5000000;
    assert_int_equal(dmc_store_memory_create(&memory, NULL), DAMACY_OK);
    assert_int_equal(dmc_store_delay_create(memory, delay_by_name, &step_ns, &delay, NULL), DAMACY_OK);
    struct dmc_store_ops ops = *(inner_ops = memory->ops);
    ops.start = note_start;
    memory->ops = &ops;
    struct dmc_io *io = io_make(8, false);
    static const char *const keys[] = {"5", "7", "9", "6", "8"};
    struct one_read reads[5];
    char data[5];
    for (bool in_time = false; !in_time; step_ns *= 4) { /* until all are on their way before the first is due */
        assert_true(step_ns < 5ull * SECOND_NS);
        went_on[0] = 0;
        uint64_t first_ns = dmc_clock_ns() + step_ns;
        for (int i = 0; i < 5; i++) {
            assert_int_equal(dmc_store_memory_put(memory, keys[i], keys[i], 1, NULL), DAMACY_OK);
            prepare(&reads[i], delay, keys[i], DMC_RANGE_SPAN, 0, &data[i], 1);
            assert_int_equal(dmc_store_start(io, &reads[i].request), DMC_START_PENDING);
        }
        in_time = dmc_clock_ns() < first_ns;
        for (int i = 0; i < 5; i++) {
            const struct dmc_request *request = wait_any(io);
            assert_int_equal(data[(const struct one_read *)(const void *)request - reads], request->key[0]);
        }
        if (in_time)
            assert_string_equal(went_on, "98765");
    }
    memory->ops = inner_ops;
    /* Removing, and replacing by something else. */
    assert_int_equal(dmc_store_memory_put(memory, "5", NULL, 0, NULL), DAMACY_OK);
    assert_int_equal(dmc_store_memory_put(memory, "5", NULL, 0, NULL), DAMACY_OK);
    assert_int_equal(dmc_store_memory_put(memory, "6", "xy", 2, NULL), DAMACY_OK);
    complete(io, prepare(&reads[0], delay, "5", DMC_RANGE_WHOLE, 0, data, 5));
    assert_int_equal(reads[0].request.outcome, DMC_OUTCOME_ABSENT);
    complete(io, prepare(&reads[0], delay, "6", DMC_RANGE_WHOLE, 0, data, 5));
    assert_int_equal(reads[0].request.bytes_read, 2);
    io_end(io);
    dmc_store_destroy(delay);
    dmc_store_destroy(memory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_file_ring),      cmocka_unit_test(test_file_pool),
                                       cmocka_unit_test(test_cold_file_ring), cmocka_unit_test(test_cold_file_pool),
                                       cmocka_unit_test(test_file_on_tmpfs),  cmocka_unit_test(test_file_with_one_handle),
                                       cmocka_unit_test(test_memory),         cmocka_unit_test(test_delayed_memory),
                                       cmocka_unit_test(test_delayed_file),   cmocka_unit_test(test_unspoilt_delayed_file),
                                       cmocka_unit_test(test_delay_reorders)};
    return cmocka_run_group_tests(tests, folder_setup, folder_teardown);
}
