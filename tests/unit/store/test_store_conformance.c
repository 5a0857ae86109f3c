/* Goal: every store gives the same answers.
 * Method: one suite of checks run over the file store with a ring, with reader threads, cold and warm, on a file system that
 * refuses RWF_NOWAIT, over the memory store, and over delayed and unspoilt decorators of them. */
#include "store_fixture.h"

#include "base/mem.h"

#define OBJECT_BYTES 300007u
#define SEED 77u

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
    enum kind kind;
    struct dmc_store *stores[3]; /* from the innermost on */
    struct dmc_store *store;
    struct dmc_io *io;
    char folder[300];
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

static const char *key_of(const struct subject *subject, char *key, const char *name)
{
    snprintf(key, 400, "%s/%s", subject->folder, name);
    return key;
}

static void put(struct subject *subject, const char *name, uint64_t seed, uint64_t bytes)
{
    char key[400];
    key_of(subject, key, name);
    if (!is_memory(subject)) {
        write_file(key, seed, bytes);
        return;
    }
    unsigned char *data = malloc(bytes + 1);
    assert_non_null(data);
    fill_bytes(data, seed, 0, bytes);
    assert_int_equal(dmc_store_memory_put(subject->stores[0], key, data, bytes, NULL), DAMACY_OK);
    free(data);
}

static void chill(const struct subject *subject, const char *key)
{
    if (is_cold(subject))
        drop_file(key);
}

/* false: this machine has no tmpfs to test on. */
static bool subject_make(struct subject *subject, enum kind kind)
{
    memset(subject, 0, sizeof *subject);
    subject->kind = kind;
    snprintf(subject->folder, sizeof subject->folder, "%s", fixture_folder);
    if (kind == FILE_TMPFS) {
        snprintf(subject->folder, sizeof subject->folder, "/dev/shm/damacy-store-XXXXXX");
        if (!mkdtemp(subject->folder))
            return false;
    }
    struct dmc_store_file_options options = {.open_files_max = kind == FILE_FEW ? 1 : 16};
    if (is_memory(subject))
        assert_int_equal(dmc_store_memory_create(&subject->stores[0], NULL), DAMACY_OK);
    else
        assert_int_equal(dmc_store_file_create(&options, &subject->stores[0], NULL), DAMACY_OK);
    subject->store = subject->stores[0];
    if (kind >= DELAY_MEMORY) {
        assert_int_equal(dmc_store_delay_create(subject->store, small_delay, NULL, &subject->stores[1], NULL), DAMACY_OK);
        subject->store = subject->stores[1];
    }
    if (kind == FAULT_DELAY_FILE) {
        assert_int_equal(dmc_store_fault_create(subject->store, no_fault, NULL, &subject->stores[2], NULL), DAMACY_OK);
        subject->store = subject->stores[2];
    }
    subject->io = io_make(64, kind == FILE_POOL || kind == FILE_COLD_POOL);
    return true;
}

static void subject_end(struct subject *subject)
{
    io_end(subject->io);
    for (int i = 2; i >= 0; i--)
        dmc_store_destroy(subject->stores[i]);
    if (subject->kind == FILE_TMPFS)
        nftw(subject->folder, fixture_remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* --- the checks --- */

static void check_spans(struct subject *subject)
{
    static const struct {
        uint64_t offset, bytes;
    } spans[] = {{0, 1},          {0, OBJECT_BYTES},     {1, 4095}, {4095, 2},
                 {100000, 65536}, {OBJECT_BYTES - 1, 1}, {0, 0},    {OBJECT_BYTES, 0}};
    char key[400];
    put(subject, "spans", SEED, OBJECT_BYTES);
    key_of(subject, key, "spans");
    unsigned char *data = malloc(OBJECT_BYTES);
    assert_non_null(data);
    uint64_t version = 0;
    for (size_t i = 0; i < sizeof spans / sizeof spans[0]; i++) {
        chill(subject, key);
        struct one_read read;
        memset(data, 0, OBJECT_BYTES);
        struct dmc_request *request = read_span(&read, subject->io, subject->store, key, spans[i].offset, data, spans[i].bytes);
        assert_int_equal(request->outcome, DMC_OUTCOME_OK);
        assert_int_equal(request->status, DAMACY_OK);
        assert_int_equal(request->bytes_read, spans[i].bytes);
        assert_int_equal(request->object_bytes, OBJECT_BYTES);
        assert_true(bytes_match(data, SEED, spans[i].offset, spans[i].bytes));
        assert_true(request->version_tag != 0 && (version == 0 || version == request->version_tag));
        version = request->version_tag;
    }
    free(data);
}

/* The same request object again and again, through several parts, empty ones among them. */
static void check_parts(struct subject *subject)
{
    char key[400];
    put(subject, "parts", SEED + 1, OBJECT_BYTES);
    key_of(subject, key, "parts");
    static unsigned char data[200000];
    struct one_read read;
    prepare(&read, subject->store, key, DMC_RANGE_SPAN, 777, NULL, 0);
    read.request.key_hash = dmc_hash_bytes(key, strlen(key), 0);
    for (int round = 0; round < 4; round++) {
        if (round % 2)
            chill(subject, key);
        memset(data, 0, sizeof data);
        struct iovec parts[6] = {{data, 10},       {data + 10, 0},        {data + 10, 5000},
                                 {data + 5010, 1}, {data + 5011, 194989}, {data, 0}};
        read.request.parts = parts;
        read.request.part_count = 6;
        complete(subject->io, &read.request);
        assert_int_equal(read.request.outcome, DMC_OUTCOME_OK);
        assert_int_equal(read.request.bytes_read, sizeof data);
        assert_true(bytes_match(data, SEED + 1, 777, sizeof data));
    }
}

/* More parts than one system call takes. */
static void check_many_parts(struct subject *subject)
{
    enum { PARTS = 3000, PART = 64 };
    char key[400];
    put(subject, "many", SEED + 2, PARTS * PART + 10);
    key_of(subject, key, "many");
    unsigned char *data = calloc(PARTS, PART);
    struct iovec *parts = calloc(PARTS, sizeof *parts);
    assert_true(data && parts);
    for (int cold = 0; cold < 2; cold++) {
        if (cold)
            chill(subject, key);
        memset(data, 0, PARTS * PART);
        for (size_t i = 0; i < PARTS; i++)
            parts[i] = (struct iovec){data + i * PART, PART};
        struct one_read read;
        prepare(&read, subject->store, key, DMC_RANGE_SPAN, 5, NULL, 0);
        read.request.parts = parts;
        read.request.part_count = PARTS;
        complete(subject->io, &read.request);
        assert_int_equal(read.request.outcome, DMC_OUTCOME_OK);
        assert_true(bytes_match(data, SEED + 2, 5, PARTS * PART));
    }
    free(parts);
    free(data);
}

static void check_ends(struct subject *subject)
{
    static const struct {
        uint64_t offset, bytes, there;
    } spans[] = {{0, 101, 100}, {99, 2, 1},           {100, 1, 0},         {101, 1, 0},
                 {5000, 7, 0},  {UINT64_MAX, 100, 0}, {INT64_MAX, 100, 0}, {(uint64_t)INT64_MAX - 5, 100, 0}};
    char key[400];
    put(subject, "ends", SEED, 100);
    key_of(subject, key, "ends");
    for (size_t i = 0; i < sizeof spans / sizeof spans[0]; i++) {
        unsigned char data[128] = {0};
        struct one_read read;
        chill(subject, key);
        struct dmc_request *request = read_span(&read, subject->io, subject->store, key, spans[i].offset, data, spans[i].bytes);
        assert_int_equal(request->outcome, DMC_OUTCOME_TRUNCATED);
        assert_int_equal(request->bytes_read, spans[i].there);
        assert_int_equal(request->object_bytes, 100);
        assert_true(bytes_match(data, SEED, spans[i].offset, spans[i].there));
    }
}

static void check_suffix(struct subject *subject)
{
    char key[400];
    put(subject, "suffix", SEED, OBJECT_BYTES);
    key_of(subject, key, "suffix");
    static unsigned char data[OBJECT_BYTES + 1];
    static const uint64_t lengths[] = {0, 1, 20, 16388, OBJECT_BYTES, OBJECT_BYTES + 1};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        struct one_read read;
        chill(subject, key);
        complete(subject->io, prepare(&read, subject->store, key, DMC_RANGE_SUFFIX, 0, data, lengths[i]));
        assert_int_equal(read.request.object_bytes, OBJECT_BYTES);
        if (lengths[i] > OBJECT_BYTES) {
            assert_int_equal(read.request.outcome, DMC_OUTCOME_TRUNCATED);
            assert_int_equal(read.request.bytes_read, 0);
            continue;
        }
        assert_int_equal(read.request.outcome, DMC_OUTCOME_OK);
        assert_int_equal(read.request.bytes_read, lengths[i]);
        assert_true(bytes_match(data, SEED, OBJECT_BYTES - lengths[i], lengths[i]));
    }
}

static void check_whole(struct subject *subject)
{
    static const uint64_t sizes[] = {0, 1, 4096, 99999};
    static unsigned char data[200000];
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        char name[32], key[400];
        snprintf(name, sizeof name, "whole%zu", i);
        put(subject, name, SEED, sizes[i]);
        key_of(subject, key, name);
        for (int slack = -1; slack <= 2; slack++) {
            if (sizes[i] == 0 && slack < 0)
                continue;
            uint64_t capacity = slack == 2 ? sizeof data : sizes[i] + (uint64_t)slack;
            struct one_read read;
            chill(subject, key);
            complete(subject->io, prepare(&read, subject->store, key, DMC_RANGE_WHOLE, 0, data, capacity));
            assert_int_equal(read.request.object_bytes, sizes[i]);
            if (slack < 0) {
                assert_int_equal(read.request.outcome, DMC_OUTCOME_TOO_LONG);
                continue;
            }
            assert_int_equal(read.request.outcome, DMC_OUTCOME_OK);
            assert_int_equal(read.request.bytes_read, sizes[i]);
            assert_true(bytes_match(data, SEED, 0, sizes[i]));
        }
    }
}

static void check_absent(struct subject *subject)
{
    static const enum dmc_range_kind kinds[] = {DMC_RANGE_WHOLE, DMC_RANGE_SPAN, DMC_RANGE_SUFFIX};
    char key[400];
    put(subject, "there", SEED, 10);
    for (size_t i = 0; i < 6; i++) {
        unsigned char data[8];
        struct one_read read;
        /* Not there, or below something that is not a folder. */
        key_of(subject, key, i < 3 ? "nowhere/at/all" : "there/below");
        complete(subject->io, prepare(&read, subject->store, key, kinds[i % 3], 0, data, sizeof data));
        assert_int_equal(read.request.outcome, DMC_OUTCOME_ABSENT);
        assert_int_equal(read.request.bytes_read, 0);
    }
}

/* Many requests at once, random ranges of several objects, ends among them: each comes back exactly once with its own bytes. */
static void check_many_at_once(struct subject *subject, uint64_t seed)
{
    enum { OBJECTS = 24, DEPTH = 60, TOTAL = 600, LONGEST = 40000 };
    char keys[OBJECTS][400];
    uint64_t sizes[OBJECTS];
    for (uint64_t i = 0; i < OBJECTS; i++) {
        char name[32];
        snprintf(name, sizeof name, "m%llu", (unsigned long long)i);
        sizes[i] = dmc_hash_u64(seed, i) % 150000;
        put(subject, name, seed + i, sizes[i]);
        key_of(subject, keys[i], name);
        chill(subject, keys[i]);
    }
    struct one_read *reads = calloc(DEPTH, sizeof *reads);
    unsigned char *data = malloc(DEPTH * LONGEST);
    uint32_t *object = calloc(DEPTH, sizeof *object);
    bool busy[DEPTH] = {false};
    assert_true(reads && data && object);
    uint32_t started = 0, finished = 0;
    while (finished < TOTAL) {
        uint32_t slot = UINT32_MAX;
        for (uint32_t i = 0; i < DEPTH && slot == UINT32_MAX; i++)
            if (!busy[i])
                slot = i;
        struct dmc_request *request = NULL;
        if (started < TOTAL && slot != UINT32_MAX) {
            uint64_t random = dmc_hash_u64(seed + 1000, started);
            object[slot] = (uint32_t)(random % OBJECTS);
            uint64_t offset = (random >> 8) % (sizes[object[slot]] + 100), bytes = (random >> 32) % LONGEST + 1;
            request =
                prepare(&reads[slot], subject->store, keys[object[slot]], DMC_RANGE_SPAN, offset, data + slot * LONGEST, bytes);
            request->user = (void *)(uintptr_t)slot;
            if (started % 64 == 0)
                chill(subject, keys[object[slot]]);
            started++;
            busy[slot] = true;
            if (dmc_store_start(subject->io, request) == DMC_START_PENDING)
                request = started % 3 ? NULL : dmc_io_wait(subject->io, 0);
        } else {
            request = wait_any(subject->io);
        }
        if (!request)
            continue;
        slot = (uint32_t)(uintptr_t)request->user;
        assert_ptr_equal(request, &reads[slot].request);
        assert_true(busy[slot]);
        busy[slot] = false;
        finished++;
        /* The part moves along with the bytes; the range is known from the slot. */
        uint64_t size = sizes[object[slot]], begin = request->offset;
        uint64_t there = begin < size ? size - begin : 0;
        assert_true(request->outcome == DMC_OUTCOME_OK || request->outcome == DMC_OUTCOME_TRUNCATED);
        assert_true(request->outcome == DMC_OUTCOME_OK || request->bytes_read == there);
        assert_true(request->bytes_read <= there);
        assert_true(bytes_match(data + slot * LONGEST, seed + object[slot], begin, request->bytes_read));
    }
    assert_int_equal(dmc_io_pending(subject->io), 0);
    assert_null(dmc_io_wait(subject->io, 0));
    free(object);
    free(data);
    free(reads);
}

/* A request that was told to end early comes back once, done or cancelled, and the store goes on. */
static void check_cancel(struct subject *subject)
{
    enum { COUNT = 20 };
    char key[400];
    put(subject, "cancel", SEED, OBJECT_BYTES);
    key_of(subject, key, "cancel");
    chill(subject, key);
    static struct one_read reads[COUNT];
    static unsigned char data[COUNT][8000];
    uint32_t pending = 0;
    for (uint32_t i = 0; i < COUNT; i++) {
        prepare(&reads[i], subject->store, key, DMC_RANGE_SPAN, i * 14000u, data[i], sizeof data[i]);
        if (dmc_store_start(subject->io, &reads[i].request) == DMC_START_PENDING) {
            pending++;
            if (i % 2) {
                dmc_store_cancel(subject->io, &reads[i].request);
                dmc_store_cancel(subject->io, &reads[i].request);
            }
        }
    }
    assert_int_equal(dmc_io_pending(subject->io), pending);
    while (pending-- > 0) {
        struct dmc_request *request = wait_any(subject->io);
        if (request->outcome == DMC_OUTCOME_OK) {
            uint64_t i = request->offset / 14000u;
            assert_true(bytes_match(data[i], SEED, request->offset, sizeof data[i]));
            continue;
        }
        assert_int_equal(request->offset / 14000u % 2, 1);
        assert_int_equal(request->outcome, DMC_OUTCOME_FAILED);
        assert_int_equal(request->status, DAMACY_SHUTDOWN);
        assert_int_equal(request->error->status, DAMACY_SHUTDOWN);
    }
}

/* Once warm, reading allocates nothing. */
static void check_no_malloc(struct subject *subject)
{
    char key[400];
    put(subject, "steady", SEED, OBJECT_BYTES);
    key_of(subject, key, "steady");
    static unsigned char data[70000];
    uint64_t before = 0;
    for (int round = 0; round < 40; round++) {
        struct one_read read;
        if (round % 4 == 0)
            chill(subject, key);
        if (round == 20)
            before = dmc_mem_count();
        read_span(&read, subject->io, subject->store, key, (uint64_t)round * 1000, data, sizeof data);
        assert_int_equal(read.request.outcome, DMC_OUTCOME_OK);
    }
    assert_int_equal(dmc_mem_count(), before);
}

static void run_kind(enum kind kind, uint64_t seed)
{
    struct subject subject;
    if (!subject_make(&subject, kind)) {
        printf("skipped: %s\n", kind_names[kind]);
        return;
    }
    printf("store: %s\n", kind_names[kind]);
    check_spans(&subject);
    check_parts(&subject);
    check_many_parts(&subject);
    check_ends(&subject);
    check_suffix(&subject);
    check_whole(&subject);
    check_absent(&subject);
    check_many_at_once(&subject, seed);
    check_cancel(&subject);
    check_no_malloc(&subject);
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

/* Requests with different delays come back in the order in which they are due. */
static uint64_t delay_by_name(void *user, const char *key)
{
    (void)user;
    return (uint64_t)('9' - key[0]) * 20000000u;
}
static void test_delay_reorders(void **state)
{
    (void)state;
    struct dmc_store *memory, *delay;
    assert_int_equal(dmc_store_memory_create(&memory, NULL), DAMACY_OK);
    assert_int_equal(dmc_store_delay_create(memory, delay_by_name, NULL, &delay, NULL), DAMACY_OK);
    struct dmc_io *io = io_make(8, false);
    static const char *const keys[] = {"5", "7", "9", "6", "8"};
    struct one_read reads[5];
    char data[5];
    for (int i = 0; i < 5; i++) {
        assert_int_equal(dmc_store_memory_put(memory, keys[i], keys[i], 1, NULL), DAMACY_OK);
        prepare(&reads[i], delay, keys[i], DMC_RANGE_SPAN, 0, &data[i], 1);
        assert_int_equal(dmc_store_start(io, &reads[i].request), DMC_START_PENDING);
    }
    for (int i = 0; i < 5; i++) {
        struct dmc_request *request = wait_any(io);
        assert_int_equal(request->key[0], '9' - i);
        assert_int_equal(data[(struct one_read *)(void *)request - reads], request->key[0]);
    }
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
