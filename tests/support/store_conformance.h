/* One suite for every store: what store.h promises of ranges, absence, cancelling and many requests at once.
 *
 * A test fills in a struct conformance and calls conformance_run(). Objects are put by name; after conformance_sync() they are
 * to be readable as conformance_key() says, from `store`, which put and sync may replace (a container is written anew). */
#ifndef STORE_CONFORMANCE_H
#define STORE_CONFORMANCE_H

#include "unit/store/store_fixture.h"

#include "base/mem.h"

#define CONFORMANCE_BYTES 300007u
#define CONFORMANCE_SEED 77u

struct conformance {
    const char *name;
    struct dmc_store *store;
    struct dmc_io *io;
    char folder[300]; /* in front of the keys, with '/' behind it; "" none */
    void *user;
    void (*put)(struct conformance *subject, const char *name, const void *data, uint64_t bytes);
    void (*sync)(struct conformance *subject);                   /* NULL: what was put is there */
    void (*chill)(struct conformance *subject, const char *key); /* out of caches; NULL: cannot */
    bool allocates;                                              /* each read may */
    bool no_version;                                             /* version_tag may be 0 */
};

static inline const char *conformance_key(const struct conformance *subject, char *key, const char *name)
{
    snprintf(key, 400, "%s%s%s", subject->folder, subject->folder[0] ? "/" : "", name);
    return key;
}

static inline void conformance_put(struct conformance *subject, const char *name, uint64_t seed, uint64_t bytes)
{
    unsigned char *data = malloc(bytes + 1);
    assert_non_null(data);
    fill_bytes(data, seed, 0, bytes);
    subject->put(subject, name, data, bytes);
    free(data);
}

static inline void conformance_sync(struct conformance *subject)
{
    if (subject->sync)
        subject->sync(subject);
}

static inline void conformance_chill(struct conformance *subject, const char *key)
{
    if (subject->chill)
        subject->chill(subject, key);
}

/* --- the checks --- */

static inline void check_spans(struct conformance *subject)
{
    static const struct {
        uint64_t offset, bytes;
    } spans[] = {{0, 1},          {0, CONFORMANCE_BYTES},     {1, 4095}, {4095, 2},
                 {100000, 65536}, {CONFORMANCE_BYTES - 1, 1}, {0, 0},    {CONFORMANCE_BYTES, 0}};
    char key[400];
    conformance_put(subject, "spans", CONFORMANCE_SEED, CONFORMANCE_BYTES);
    conformance_sync(subject);
    conformance_key(subject, key, "spans");
    unsigned char *data = malloc(CONFORMANCE_BYTES);
    assert_non_null(data);
    uint64_t version = 0;
    for (size_t i = 0; i < sizeof spans / sizeof spans[0]; i++) {
        conformance_chill(subject, key);
        struct one_read read;
        memset(data, 0, CONFORMANCE_BYTES);
        struct dmc_request *request = read_span(&read, subject->io, subject->store, key, spans[i].offset, data, spans[i].bytes);
        assert_int_equal(request->outcome, DMC_OUTCOME_OK);
        assert_int_equal(request->status, DAMACY_OK);
        assert_int_equal(request->bytes_read, spans[i].bytes);
        assert_int_equal(request->object_bytes, CONFORMANCE_BYTES);
        assert_true(bytes_match(data, CONFORMANCE_SEED, spans[i].offset, spans[i].bytes));
        assert_true((request->version_tag != 0 || subject->no_version) && (version == 0 || version == request->version_tag));
        version = request->version_tag;
    }
    free(data);
}

/* The same request object again and again, through several parts, empty ones among them. */
static inline void check_parts(struct conformance *subject)
{
    char key[400];
    conformance_put(subject, "parts", CONFORMANCE_SEED + 1, CONFORMANCE_BYTES);
    conformance_sync(subject);
    conformance_key(subject, key, "parts");
    static unsigned char data[200000];
    struct one_read read;
    prepare(&read, subject->store, key, DMC_RANGE_SPAN, 777, NULL, 0);
    read.request.key_hash = dmc_hash_bytes(key, strlen(key), 0);
    for (int round = 0; round < 4; round++) {
        if (round % 2)
            conformance_chill(subject, key);
        memset(data, 0, sizeof data);
        struct iovec parts[6] = {{data, 10},       {data + 10, 0},        {data + 10, 5000},
                                 {data + 5010, 1}, {data + 5011, 194989}, {data, 0}};
        read.request.parts = parts;
        read.request.part_count = 6;
        complete(subject->io, &read.request);
        assert_int_equal(read.request.outcome, DMC_OUTCOME_OK);
        assert_int_equal(read.request.bytes_read, sizeof data);
        assert_true(bytes_match(data, CONFORMANCE_SEED + 1, 777, sizeof data));
    }
}

/* More parts than one system call takes. */
static inline void check_many_parts(struct conformance *subject)
{
    enum { PARTS = 3000, PART = 64 };
    char key[400];
    conformance_put(subject, "many", CONFORMANCE_SEED + 2, PARTS * PART + 10);
    conformance_sync(subject);
    conformance_key(subject, key, "many");
    unsigned char *data = calloc(PARTS, PART);
    struct iovec *parts = calloc(PARTS, sizeof *parts);
    assert_true(data && parts);
    for (int cold = 0; cold < 2; cold++) {
        if (cold)
            conformance_chill(subject, key);
        memset(data, 0, PARTS * PART);
        for (size_t i = 0; i < PARTS; i++)
            parts[i] = (struct iovec){data + i * PART, PART};
        struct one_read read;
        prepare(&read, subject->store, key, DMC_RANGE_SPAN, 5, NULL, 0);
        read.request.parts = parts;
        read.request.part_count = PARTS;
        complete(subject->io, &read.request);
        assert_int_equal(read.request.outcome, DMC_OUTCOME_OK);
        assert_true(bytes_match(data, CONFORMANCE_SEED + 2, 5, PARTS * PART));
    }
    free(parts);
    free(data);
}

static inline void check_ends(struct conformance *subject)
{
    static const struct {
        uint64_t offset, bytes, there;
    } spans[] = {{0, 101, 100}, {99, 2, 1},           {100, 1, 0},         {101, 1, 0},
                 {5000, 7, 0},  {UINT64_MAX, 100, 0}, {INT64_MAX, 100, 0}, {(uint64_t)INT64_MAX - 5, 100, 0}};
    char key[400];
    conformance_put(subject, "ends", CONFORMANCE_SEED, 100);
    conformance_sync(subject);
    conformance_key(subject, key, "ends");
    for (size_t i = 0; i < sizeof spans / sizeof spans[0]; i++) {
        unsigned char data[128] = {0};
        struct one_read read;
        conformance_chill(subject, key);
        struct dmc_request *request = read_span(&read, subject->io, subject->store, key, spans[i].offset, data, spans[i].bytes);
        assert_int_equal(request->outcome, DMC_OUTCOME_TRUNCATED);
        assert_int_equal(request->bytes_read, spans[i].there);
        assert_int_equal(request->object_bytes, 100);
        assert_true(bytes_match(data, CONFORMANCE_SEED, spans[i].offset, spans[i].there));
    }
}

static inline void check_suffix(struct conformance *subject)
{
    char key[400];
    conformance_put(subject, "suffix", CONFORMANCE_SEED, CONFORMANCE_BYTES);
    conformance_sync(subject);
    conformance_key(subject, key, "suffix");
    static unsigned char data[CONFORMANCE_BYTES + 1];
    static const uint64_t lengths[] = {0, 1, 20, 16388, CONFORMANCE_BYTES, CONFORMANCE_BYTES + 1};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        struct one_read read;
        conformance_chill(subject, key);
        complete(subject->io, prepare(&read, subject->store, key, DMC_RANGE_SUFFIX, 0, data, lengths[i]));
        assert_int_equal(read.request.object_bytes, CONFORMANCE_BYTES);
        if (lengths[i] > CONFORMANCE_BYTES) {
            assert_int_equal(read.request.outcome, DMC_OUTCOME_TRUNCATED);
            assert_int_equal(read.request.bytes_read, 0);
            continue;
        }
        assert_int_equal(read.request.outcome, DMC_OUTCOME_OK);
        assert_int_equal(read.request.bytes_read, lengths[i]);
        assert_true(bytes_match(data, CONFORMANCE_SEED, CONFORMANCE_BYTES - lengths[i], lengths[i]));
    }
}

static inline void check_whole(struct conformance *subject)
{
    static const uint64_t sizes[] = {0, 1, 4096, 99999};
    static unsigned char data[200000];
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        char name[32], key[400];
        snprintf(name, sizeof name, "whole%zu", i);
        conformance_put(subject, name, CONFORMANCE_SEED, sizes[i]);
        conformance_sync(subject);
        conformance_key(subject, key, name);
        for (int slack = -1; slack <= 2; slack++) {
            if (sizes[i] == 0 && slack < 0)
                continue;
            uint64_t capacity = slack == 2 ? sizeof data : sizes[i] + (uint64_t)slack;
            struct one_read read;
            conformance_chill(subject, key);
            complete(subject->io, prepare(&read, subject->store, key, DMC_RANGE_WHOLE, 0, data, capacity));
            assert_int_equal(read.request.object_bytes, sizes[i]);
            if (slack < 0) {
                assert_int_equal(read.request.outcome, DMC_OUTCOME_TOO_LONG);
                continue;
            }
            assert_int_equal(read.request.outcome, DMC_OUTCOME_OK);
            assert_int_equal(read.request.bytes_read, sizes[i]);
            assert_true(bytes_match(data, CONFORMANCE_SEED, 0, sizes[i]));
        }
    }
}

static inline void check_absent(struct conformance *subject)
{
    static const enum dmc_range_kind kinds[] = {DMC_RANGE_WHOLE, DMC_RANGE_SPAN, DMC_RANGE_SUFFIX};
    char key[400];
    conformance_put(subject, "there", CONFORMANCE_SEED, 10);
    conformance_sync(subject);
    for (size_t i = 0; i < 6; i++) {
        unsigned char data[8];
        struct one_read read;
        /* Not there, or below something that is not a folder. */
        conformance_key(subject, key, i < 3 ? "nowhere/at/all" : "there/below");
        complete(subject->io, prepare(&read, subject->store, key, kinds[i % 3], 0, data, sizeof data));
        assert_int_equal(read.request.outcome, DMC_OUTCOME_ABSENT);
        assert_int_equal(read.request.bytes_read, 0);
    }
}

/* Many requests at once, random ranges of several objects, ends among them: each comes back exactly once with its own bytes. */
static inline void check_many_at_once(struct conformance *subject, uint64_t seed)
{
    enum { OBJECTS = 24, DEPTH = 60, TOTAL = 600, LONGEST = 40000 };
    char keys[OBJECTS][400];
    uint64_t sizes[OBJECTS];
    for (uint64_t i = 0; i < OBJECTS; i++) {
        char name[32];
        snprintf(name, sizeof name, "m%llu", (unsigned long long)i);
        sizes[i] = dmc_hash_u64(seed, i) % 150000;
        conformance_put(subject, name, seed + i, sizes[i]);
    }
    conformance_sync(subject);
    for (uint64_t i = 0; i < OBJECTS; i++) {
        char name[32];
        snprintf(name, sizeof name, "m%llu", (unsigned long long)i);
        conformance_key(subject, keys[i], name);
        conformance_chill(subject, keys[i]);
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
                conformance_chill(subject, keys[object[slot]]);
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
static inline void check_cancel(struct conformance *subject)
{
    enum { COUNT = 20 };
    char key[400];
    conformance_put(subject, "cancel", CONFORMANCE_SEED, CONFORMANCE_BYTES);
    conformance_sync(subject);
    conformance_key(subject, key, "cancel");
    conformance_chill(subject, key);
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
            assert_true(bytes_match(data[i], CONFORMANCE_SEED, request->offset, sizeof data[i]));
            continue;
        }
        assert_int_equal(request->offset / 14000u % 2, 1);
        assert_int_equal(request->outcome, DMC_OUTCOME_FAILED);
        assert_int_equal(request->status, DAMACY_SHUTDOWN);
        assert_int_equal(request->error->status, DAMACY_SHUTDOWN);
    }
}

/* Once warm, reading allocates nothing. */
static inline void check_no_malloc(struct conformance *subject)
{
    char key[400];
    conformance_put(subject, "steady", CONFORMANCE_SEED, CONFORMANCE_BYTES);
    conformance_sync(subject);
    conformance_key(subject, key, "steady");
    static unsigned char data[70000];
    uint64_t before = 0;
    for (int round = 0; round < 40; round++) {
        struct one_read read;
        if (round % 4 == 0)
            conformance_chill(subject, key);
        if (round == 20)
            before = dmc_mem_count();
        read_span(&read, subject->io, subject->store, key, (uint64_t)round * 1000, data, sizeof data);
        assert_int_equal(read.request.outcome, DMC_OUTCOME_OK);
    }
    if (!subject->allocates)
        assert_int_equal(dmc_mem_count(), before);
}

static inline void conformance_run(struct conformance *subject, uint64_t seed)
{
    printf("store: %s\n", subject->name);
    check_spans(subject);
    check_parts(subject);
    check_many_parts(subject);
    check_ends(subject);
    check_suffix(subject);
    check_whole(subject);
    check_absent(subject);
    check_many_at_once(subject, seed);
    check_cancel(subject);
    check_no_malloc(subject);
}

#endif
