/* Goal: a zip file is a store like any other, whatever tool wrote it; a damaged or hostile one is an error that says what is
 * wrong. Method: the conformance suite over stored and deflated entries, with and without decorators; zip files made by hand
 * for each oddity; every allocation fails once; threads that want the same entries through little memory. */
#include "support/container_suite.h"
#include "support/zip_writer.h"

#include "base/budget.h"
#include "store/inflated.h"
#include "store/zip_directory.h"

#include <pthread.h>

/* --- the suite --- */

struct subject {
    struct container_suite container; /* first */
    bool deflate;
};

/* A zip file of all objects so far, in a new file. */
static void sync_zip(struct conformance *suite)
{
    struct container_suite *subject = (struct container_suite *)suite;
    bool deflate = ((struct subject *)suite)->deflate;
    struct zip_writer zip = {0};
    char inner[600], name[64], path[400], prefix[512];
    for (uint32_t i = 0; i < subject->count; i++) {
        snprintf(inner, sizeof inner, "in/side/%s", subject->objects[i].name);
        struct zip_odd odd = {.deflate = deflate && i % 4 != 3, .extra = (uint16_t)(i % 3 * 7), .descriptor = i % 5 == 0};
        zip_put(&zip, inner, strlen(inner), subject->objects[i].data, subject->objects[i].bytes, odd);
    }
    zip_finish(&zip, "");
    snprintf(name, sizeof name, "suite%u.zip", subject->generation++);
    in_folder(path, sizeof path, name);
    write_bytes(path, zip.file.data, zip.file.bytes);
    zip_free(&zip);
    snprintf(prefix, sizeof prefix, "%s/in//side/./", path);
    container_opened(subject, prefix, "zip");
    assert_string_equal(suite->folder, "in/side");
}

static void run_suite(const char *name, bool deflate, bool pool, bool delayed)
{
    struct subject subject = {.container.suite = {.name = name, .sync = sync_zip}, .deflate = deflate};
    container_suite_run(&subject.container, pool, delayed);
}

static void test_suite_stored(void **state)
{
    (void)state;
    run_suite("zip, stored", false, false, false);
}
static void test_suite_deflated(void **state)
{
    (void)state;
    run_suite("zip, deflated", true, true, false);
}
static void test_suite_delayed(void **state)
{
    (void)state;
    run_suite("zip, stored and deflated, over a delayed file store", true, false, true);
}

/* --- odd zip files --- */

static struct opened open_bytes(const void *data, size_t bytes, uint64_t container_bytes_max)
{
    return opened_from("ozx", data, bytes, container_bytes_max);
}

/* Finish, write and open the zip file; the writer is freed. */
static struct opened open_zip(struct zip_writer *zip, const char *comment)
{
    zip_finish(zip, comment);
    struct opened opened = open_bytes(zip->file.data, zip->file.bytes, 0);
    zip_free(zip);
    if (opened.status)
        fail_msg("%s", opened.error.message);
    return opened;
}

static struct dmc_request *read_whole(struct opened *opened, struct one_read *read, const char *key, void *data, size_t bytes)
{
    complete(opened->io, prepare(read, opened->store, key, DMC_RANGE_WHOLE, 0, data, bytes));
    return &read->request;
}

static void expect(struct opened *opened, const char *key, const char *text)
{
    char data[256];
    for (int again = 0; again < 2; again++) {
        struct one_read read;
        const struct dmc_request *request = read_whole(opened, &read, key, data, sizeof data);
        if (!text) {
            assert_int_equal(request->outcome, DMC_OUTCOME_ABSENT);
            continue;
        }
        if (request->outcome == DMC_OUTCOME_FAILED)
            fail_msg("%s: %s", key, read.error.message);
        assert_int_equal(request->outcome, DMC_OUTCOME_OK);
        assert_int_equal(request->bytes_read, strlen(text));
        assert_memory_equal(data, text, strlen(text));
        assert_string_equal(request->key, key);
        assert_int_equal(request->kind, DMC_RANGE_WHOLE);
    }
}

static void expect_failure(struct opened *opened, const char *key, enum damacy_status status, const char *word)
{
    char data[256];
    struct one_read read;
    const struct dmc_request *request = read_whole(opened, &read, key, data, sizeof data);
    assert_int_equal(request->outcome, DMC_OUTCOME_FAILED);
    assert_int_equal(request->status, status);
    assert_int_equal(read.error.status, status);
    if (!strstr(read.error.message, word))
        fail_msg("'%s' does not say '%s'", read.error.message, word);
}

static void test_layouts(void **state)
{
    (void)state;
    for (uint32_t bits = 0; bits < 64; bits++) {
        struct zip_writer zip = {.zip64 = (bits & 1) != 0};
        if (bits & 2)
            zip_front(&zip, 12345);
        struct zip_odd odd = {
            .zip64 = (bits & 4) != 0, .descriptor = (bits & 8) != 0, .deflate = (bits & 16) != 0, .extra = bits & 32 ? 999 : 0};
        zip_put(&zip, "zarr.json", 9, "{\"a\":1}", 7, odd);
        odd.comment = 65535;
        zip_put(&zip, "c/0/1", 5, "some bytes some bytes some bytes", 32, odd);
        zip_put(&zip, "empty", 5, "", 0, (struct zip_odd){.zip64 = odd.zip64});
        struct opened opened = open_zip(&zip, bits & 1 ? "a comment with PK\5\6 in it, and more than enough behind it" : "");
        expect(&opened, "/zarr.json", "{\"a\":1}");
        expect(&opened, "c/0/1", "some bytes some bytes some bytes");
        expect(&opened, "empty", "");
        expect(&opened, "c/0", NULL);
        expect(&opened, "c", NULL);
        expect(&opened, "c/0/10", NULL);
        expect(&opened, "", NULL);
        opened_close(&opened);
    }
}

static void test_names(void **state)
{
    (void)state;
    struct zip_writer zip = {0};
    static const char *const names[] = {"a",       "/abs",        "../up",    "x/../y", "./here", "x//y",
                                        "folder/", "back\\slash", "\xc3\xa9", "..",     ""};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        zip_put_plain(&zip, names[i], names[i], strlen(names[i]));
    zip_put(&zip, "cut\0off", 7, "cut", 3, (struct zip_odd){0});
    zip_put_plain(&zip, "twice", "first", 5);
    zip_put(&zip, "twice", 5, "last", 4, (struct zip_odd){.deflate = true});
    struct opened opened = open_zip(&zip, "");
    expect(&opened, "a", "a");
    expect(&opened, "/abs", NULL);
    expect(&opened, "../up", NULL);
    expect(&opened, "./here", NULL);
    expect(&opened, "x//y", NULL);
    expect(&opened, "folder/", NULL);
    expect(&opened, "back\\slash", "back\\slash");
    expect(&opened, "\xc3\xa9", "\xc3\xa9");
    expect(&opened, "cut", "cut");
    expect(&opened, "twice", "last");
    opened_close(&opened);
}

static void test_refusals(void **state)
{
    (void)state;
    struct zip_writer zip = {0};
    static char zeros[100000];
    zip_put_plain(&zip, "good", "good", 4);
    zip_put(&zip, "secret", 6, "abc", 3, (struct zip_odd){.flags = 1});
    zip_put(&zip, "lzma", 4, "abc", 3, (struct zip_odd){.method = 14});
    zip_put(&zip, "crc", 3, "abc", 3, (struct zip_odd){.crc_flip = 1});
    zip_put(&zip, "crc2", 4, "abcabcabc", 9, (struct zip_odd){.crc_flip = 1, .deflate = true});
    zip_put(&zip, "long", 4, "abc", 3, (struct zip_odd){.stored_more = 1 << 20, .size_more = 1 << 20});
    zip_put(&zip, "odd", 3, "abc", 3, (struct zip_odd){.size_more = 1});
    zip_put(&zip, "more", 4, zeros, 100, (struct zip_odd){.deflate = true, .size_more = 1});
    zip_put(&zip, "less", 4, zeros, 100, (struct zip_odd){.deflate = true, .size_more = -1});
    zip_put(&zip, "cut", 3, zeros, 100, (struct zip_odd){.deflate = true, .stored_more = -1});
    zip_put(&zip, "bomb", 4, "a", 1, (struct zip_odd){.deflate = true, .zip64 = true, .size_more = (int64_t)1 << 50});
    zip_put(&zip, "far", 3, "abc", 3, (struct zip_odd){.zip64 = true, .offset_more = INT64_MAX});
    zip_put(&zip, "further", 7, "abc", 3, (struct zip_odd){.zip64 = true, .offset_more = -1});
    zip_put(&zip, "local", 5, "abc", 3, (struct zip_odd){.local_broken = true});
    struct opened opened = open_zip(&zip, "");
    expect(&opened, "good", "good");
    expect_failure(&opened, "secret", DAMACY_UNSUPPORTED, "encrypted");
    expect_failure(&opened, "lzma", DAMACY_UNSUPPORTED, "method 14");
    expect_failure(&opened, "crc", DAMACY_DECODE, "crc32");
    expect_failure(&opened, "crc2", DAMACY_DECODE, "crc32");
    expect_failure(&opened, "long", DAMACY_DECODE, "inside the file");
    expect_failure(&opened, "odd", DAMACY_DECODE, "contradict");
    expect_failure(&opened, "more", DAMACY_DECODE, "damaged");
    expect_failure(&opened, "less", DAMACY_DECODE, "damaged");
    expect_failure(&opened, "cut", DAMACY_DECODE, "damaged");
    expect_failure(&opened, "bomb", DAMACY_DECODE, "contradict");
    expect_failure(&opened, "far", DAMACY_DECODE, "inside the file");
    expect_failure(&opened, "further", DAMACY_DECODE, "local header");
    expect_failure(&opened, "local", DAMACY_DECODE, "local header");
    expect(&opened, "good", "good");
    opened_close(&opened);
}

static void expect_no_zip(const void *data, size_t bytes, enum damacy_status status, const char *word)
{
    struct opened opened = open_bytes(data, bytes, 0);
    assert_int_equal(opened.status, status);
    assert_int_equal(opened.error.status, status);
    if (!strstr(opened.error.message, word))
        fail_msg("'%s' does not say '%s'", opened.error.message, word);
    opened_close(&opened);
}

static void test_damaged_directories(void **state)
{
    (void)state;
    static unsigned char zeros[70000];
    expect_no_zip("", 0, DAMACY_DECODE, "too short");
    expect_no_zip("PK\5\6", 4, DAMACY_DECODE, "too short");
    expect_no_zip(zeros, sizeof zeros, DAMACY_DECODE, "no end of the directory");
    struct zip_writer zip = {0};
    zip_put_plain(&zip, "a", "a", 1);
    zip_put(&zip, "b", 1, "b", 1, (struct zip_odd){.zip64 = true});
    zip_finish(&zip, "");
    unsigned char *end = zip.file.data + zip.file.bytes - 22;
    size_t bytes = zip.file.bytes;
    unsigned char copy[22];
    memcpy(copy, end, 22);
    end[4] = 1;
    expect_no_zip(zip.file.data, bytes, DAMACY_UNSUPPORTED, "disks");
    memcpy(end, copy, 22);
    end[13] = 0x7f; /* bytes of the directory */
    expect_no_zip(zip.file.data, bytes, DAMACY_DECODE, "beyond");
    memcpy(end, copy, 22);
    end[12] -= 3; /* the directory begins within an entry */
    expect_no_zip(zip.file.data, bytes, DAMACY_DECODE, "no entry");
    memcpy(end, copy, 22);
    end[16] += 5; /* offset: beyond */
    expect_no_zip(zip.file.data, bytes, DAMACY_DECODE, "beyond");
    memcpy(end, copy, 22);
    for (size_t cut = 1; cut < bytes; cut++) { /* whatever is missing at the end */
        struct opened opened = open_bytes(zip.file.data, bytes - cut, 0);
        assert_int_equal(opened.status, DAMACY_DECODE);
        opened_close(&opened);
    }
    zip_free(&zip);
    zip_put(&zip, "a", 1, "a", 1, (struct zip_odd){.disk = 3});
    zip_finish(&zip, "");
    expect_no_zip(zip.file.data, zip.file.bytes, DAMACY_UNSUPPORTED, "disks");
    zip_free(&zip);
    zip_put(&zip, "a", 1, "a", 1, (struct zip_odd){.flags = 1 << 13});
    zip_finish(&zip, "");
    expect_no_zip(zip.file.data, zip.file.bytes, DAMACY_UNSUPPORTED, "encrypted directory");
    zip_free(&zip);
    /* Something appended, as a download that was resumed once too often. */
    zip_put_plain(&zip, "a", "a", 1);
    zip_finish(&zip, "");
    zip_bytes(&zip.file, zeros, 1000);
    struct opened opened = open_bytes(zip.file.data, zip.file.bytes, 0);
    assert_int_equal(opened.status, DAMACY_OK);
    expect(&opened, "a", "a");
    opened_close(&opened);
    zip_free(&zip);
}

/* --- in a path --- */

static void test_listing(void **state)
{
    (void)state;
    struct zip_writer zip = {0};
    static const char *const names[] = {"zarr.json", "a/zarr.json", "a/c/0", "b", "a/c/1", "ab/x", "b/deep/er", "./no"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        zip_put_plain(&zip, names[i], "x", 1);
    struct opened opened = open_zip(&zip, "");
    static const struct {
        const char *prefix, *children;
    } cases[] = {{"", "a/ ab/ b b/ zarr.json "},
                 {"/", "a/ ab/ b b/ zarr.json "},
                 {"a", "c/ zarr.json "},
                 {"/a", "c/ zarr.json "},
                 {"a/c", "0 1 "},
                 {"b", "deep/ "},
                 {"nowhere", ""},
                 {"zarr.json", ""}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[200] = "";
        assert_int_equal(dmc_store_list(opened.store, cases[i].prefix, container_collect, text, NULL), DAMACY_OK);
        assert_string_equal(text, cases[i].children);
    }
    assert_false(dmc_store_hint_of(opened.store).remote);
    opened_close(&opened);
}

static void test_paths(void **state)
{
    (void)state;
    struct zip_writer zip = {0};
    zip_put_plain(&zip, "x/zarr.json", "x", 1);
    zip_finish(&zip, "");
    char path[400], uri[900], prefix[512];
    in_folder(path, sizeof path, "path.zarr.zip");
    write_bytes(path, zip.file.data, zip.file.bytes);
    struct dmc_stores *stores;
    struct dmc_store *first, *store;
    struct damacy_error error;
    assert_int_equal(dmc_stores_create(NULL, &stores, NULL), DAMACY_OK);
    assert_int_equal(dmc_stores_resolve(stores, path, &first, prefix, sizeof prefix, NULL), DAMACY_OK);
    static const struct {
        const char *format, *prefix;
    } good[] = {{"%s", ""},
                {"%s/", ""},
                {"%s///", ""},
                {"%s/x", "x"},
                {"%s/x/./y//z/", "x/y/z"},
                {"file://%s/x%%20y", "x y"},
                {"%s/.hidden", ".hidden"}};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        snprintf(uri, sizeof uri, good[i].format, path);
        assert_int_equal(dmc_stores_resolve(stores, uri, &store, prefix, sizeof prefix, NULL), DAMACY_OK);
        assert_string_equal(prefix, good[i].prefix);
        assert_ptr_equal(store, first); /* one store, however often it is named */
    }
    snprintf(uri, sizeof uri, "%s/x/../y", path);
    assert_int_equal(dmc_stores_resolve(stores, uri, &store, prefix, sizeof prefix, &error), DAMACY_INVAL);
    /* A folder or nothing of that name is the file store's. */
    char folder[400];
    in_folder(folder, sizeof folder, "folder.zip");
    assert_int_equal(mkdir(folder, 0700), 0);
    snprintf(uri, sizeof uri, "%s/a", folder);
    assert_int_equal(dmc_stores_resolve(stores, uri, &store, prefix, sizeof prefix, NULL), DAMACY_OK);
    assert_string_equal(store->ops->scheme, "file");
    assert_string_equal(prefix, uri);
    in_folder(uri, sizeof uri, "missing.zip");
    assert_int_equal(dmc_stores_resolve(stores, uri, &store, prefix, sizeof prefix, NULL), DAMACY_OK);
    assert_string_equal(store->ops->scheme, "file");
    /* A zip file in a folder called .zip; and what is not a file is never waited for. */
    snprintf(uri, sizeof uri, "%s/in.zip", folder);
    write_bytes(uri, zip.file.data, zip.file.bytes);
    assert_int_equal(dmc_stores_resolve(stores, uri, &store, prefix, sizeof prefix, NULL), DAMACY_OK);
    assert_string_equal(store->ops->scheme, "zip");
    assert_ptr_not_equal(store, first);
    static const char *const fifos[] = {"fifo.zip", "fifo.json", "fifo.ozx"};
    for (size_t i = 0; i < 3; i++) {
        in_folder(uri, sizeof uri, fifos[i]);
        assert_int_equal(mkfifo(uri, 0600), 0);
        strcat(uri, "/x");
        assert_int_equal(dmc_stores_resolve(stores, uri, &store, prefix, sizeof prefix, &error), DAMACY_IO);
        assert_non_null(strstr(error.message, "FIFO"));
    }
    in_folder(uri, sizeof uri, "null.zip");
    assert_int_equal(symlink("/dev/null", uri), 0);
    assert_int_equal(dmc_stores_resolve(stores, uri, &store, prefix, sizeof prefix, &error), DAMACY_IO);
    in_folder(uri, sizeof uri, "loop.zip");
    assert_int_equal(symlink("loop.zip", uri), 0);
    assert_int_equal(dmc_stores_resolve(stores, uri, &store, prefix, sizeof prefix, &error),
                     DAMACY_OK); /* the file store says why */
    /* Another file in its place is another store; what is open finds out. */
    struct dmc_io *io = io_make(4, false);
    unlink(path);
    zip_bytes(&zip.file, "\0", 1);
    write_bytes(path, zip.file.data, zip.file.bytes);
    assert_int_equal(dmc_stores_resolve(stores, path, &store, prefix, sizeof prefix, NULL), DAMACY_OK);
    assert_ptr_not_equal(store, first);
    char data[8];
    struct one_read read;
    complete(io, prepare(&read, store, "x/zarr.json", DMC_RANGE_WHOLE, 0, data, sizeof data));
    assert_int_equal(read.request.outcome, DMC_OUTCOME_OK);
    complete(io, prepare(&read, first, "x/zarr.json", DMC_RANGE_WHOLE, 0, data, sizeof data));
    assert_int_equal(read.request.outcome, DMC_OUTCOME_FAILED);
    assert_non_null(strstr(read.error.message, "changed"));
    io_end(io);
    dmc_stores_destroy(stores);
    zip_free(&zip);
}

/* --- bounds --- */

static void test_memory_bound(void **state)
{
    (void)state;
    struct zip_writer zip = {0};
    enum { BYTES = 100000 };
    unsigned char *data = malloc(BYTES), *out = malloc(BYTES);
    assert_true(data && out);
    char name[32];
    for (uint64_t i = 0; i < 8; i++) {
        memset(data, 0, BYTES);
        fill_bytes(data, i, 0, 1000);
        snprintf(name, sizeof name, "e%llu", (unsigned long long)i);
        zip_put(&zip, name, strlen(name), data, BYTES, (struct zip_odd){.deflate = true});
    }
    zip_finish(&zip, "");
    /* A quarter is for inflating: there is room for one of them in parts, and the others take turns. */
    struct opened opened = open_bytes(zip.file.data, zip.file.bytes, 4 * 150000);
    assert_int_equal(opened.status, DAMACY_OK);
    for (uint64_t i = 0; i < 40; i++) {
        struct one_read read;
        snprintf(name, sizeof name, "e%llu", (unsigned long long)(i / 2 % 8));
        const struct dmc_request *request = read_span(&read, opened.io, opened.store, name, 500, out, 500);
        assert_int_equal(request->outcome, DMC_OUTCOME_OK);
        assert_true(bytes_match(out, i / 2 % 8, 500, 500));
    }
    opened_close(&opened);
    /* Too little for one in parts, enough for all of it at once. */
    opened = open_bytes(zip.file.data, zip.file.bytes, 4 * 80000);
    assert_int_equal(opened.status, DAMACY_OK);
    struct one_read read;
    read_span(&read, opened.io, opened.store, "e1", 500, out, 500);
    assert_int_equal(read.request.outcome, DMC_OUTCOME_FAILED);
    assert_int_equal(read.request.status, DAMACY_BUDGET);
    read_whole(&opened, &read, "e1", out, BYTES);
    assert_int_equal(read.request.outcome, DMC_OUTCOME_OK);
    assert_int_equal(read.request.bytes_read, BYTES);
    opened_close(&opened);
    /* Too little for the directory. */
    opened = open_bytes(zip.file.data, zip.file.bytes, 1000);
    assert_int_equal(opened.status, DAMACY_BUDGET);
    opened_close(&opened);
    zip_free(&zip);
    free(data);
    free(out);
}

struct racer {
    struct dmc_store *store;
    uint64_t seed;
    bool good;
};

/* Reads parts and wholes of the same few entries, cancelling some. */
static void *race(void *argument)
{
    enum { DEPTH = 12, TOTAL = 400, LONGEST = 70000 };
    struct racer *racer = argument;
    struct dmc_io *io = NULL;
    struct one_read *reads = calloc(DEPTH, sizeof *reads);
    unsigned char *data = malloc(DEPTH * LONGEST);
    static const char *const names[] = {"e0", "e1", "e2", "e3", "e4", "e5"};
    struct dmc_io_options options = {.depth = DEPTH};
    if (!reads || !data || dmc_io_create(&options, &io, NULL))
        abort();
    racer->good = true;
    uint32_t started = 0, finished = 0, free_count = DEPTH, free_slots[DEPTH];
    for (uint32_t i = 0; i < DEPTH; i++)
        free_slots[i] = i;
    while (finished < TOTAL) {
        struct dmc_request *request = NULL;
        if (started < TOTAL && free_count > 0) {
            uint32_t slot = free_slots[--free_count];
            uint64_t random = dmc_hash_u64(racer->seed, started++);
            bool whole = random % 4 == 0;
            request =
                prepare(&reads[slot], racer->store, names[(random >> 4) % 6], whole ? DMC_RANGE_WHOLE : DMC_RANGE_SPAN,
                        whole ? 0 : (random >> 8) % 50000, data + slot * LONGEST, whole ? LONGEST : (random >> 32) % 9000 + 1);
            request->user = (void *)(uintptr_t)slot;
            if (dmc_store_start(io, request) == DMC_START_PENDING) {
                if (random >> 60 == 0)
                    dmc_store_cancel(io, request);
                continue;
            }
        } else {
            request = dmc_io_wait(io, dmc_clock_deadline(PATIENCE_NS));
            if (!request)
                abort();
        }
        uint32_t slot = (uint32_t)(uintptr_t)request->user;
        if (request->outcome == DMC_OUTCOME_FAILED)
            racer->good &= request->status == DAMACY_SHUTDOWN;
        else
            racer->good &=
                bytes_match(data + slot * LONGEST, (uint64_t)(request->key[1] - '0') % 2, request->offset, request->bytes_read);
        free_slots[free_count++] = slot;
        finished++;
    }
    dmc_io_destroy(io, UINT64_MAX);
    free(reads);
    free(data);
    return NULL;
}

static enum dmc_fault no_fault(void *user, uint64_t n, const char *key)
{
    (void)user;
    (void)n;
    (void)key;
    return DMC_FAULT_NONE;
}

static void test_threads(void **state)
{
    (void)state;
    uint64_t seed = test_seed();
    struct zip_writer zip = {0};
    unsigned char *data = malloc(60000);
    assert_non_null(data);
    char name[32], path[400], prefix[400];
    for (uint64_t i = 0; i < 6; i++) {
        fill_bytes(data, i % 2, 0, 60000);
        snprintf(name, sizeof name, "e%llu", (unsigned long long)i);
        zip_put(&zip, name, strlen(name), data, 60000, (struct zip_odd){.deflate = i < 5});
    }
    zip_finish(&zip, "");
    in_folder(path, sizeof path, "threads.zip");
    write_bytes(path, zip.file.data, zip.file.bytes);
    struct dmc_stores *stores;
    struct dmc_store *file, *delay, *fault, *store;
    struct dmc_stores_options options = {.container_bytes_max = 4 * 400000};
    assert_int_equal(dmc_stores_create(&options, &stores, NULL), DAMACY_OK);
    assert_int_equal(dmc_store_file_create(NULL, &file, NULL), DAMACY_OK);
    assert_int_equal(dmc_store_delay_create(file, container_delay, NULL, &delay, NULL), DAMACY_OK);
    assert_int_equal(dmc_store_fault_create(delay, no_fault, NULL, &fault, NULL), DAMACY_OK);
    dmc_stores_set(stores, "file", fault);
    assert_int_equal(dmc_stores_resolve(stores, path, &store, prefix, sizeof prefix, NULL), DAMACY_OK);
    pthread_t threads[3];
    struct racer racers[3];
    for (uint32_t i = 0; i < 3; i++) {
        racers[i] = (struct racer){.store = store, .seed = seed + i};
        assert_int_equal(pthread_create(&threads[i], NULL, race, &racers[i]), 0);
    }
    for (uint32_t i = 0; i < 3; i++) {
        pthread_join(threads[i], NULL);
        assert_true(racers[i].good);
    }
    dmc_stores_destroy(stores);
    dmc_store_destroy(fault);
    dmc_store_destroy(delay);
    dmc_store_destroy(file);
    zip_free(&zip);
    free(data);
}

/* The inner store fails in each of the steps. */
static uint64_t fail_at;
static enum dmc_fault failing;
static enum dmc_fault choose(void *user, uint64_t n, const char *key)
{
    (void)user;
    (void)key;
    return n == fail_at ? failing : DMC_FAULT_NONE;
}

static void test_inner_faults(void **state)
{
    (void)state;
    struct zip_writer zip = {0};
    static char text[5000];
    memset(text, 'a', sizeof text);
    zip_put_plain(&zip, "stored", text, sizeof text);
    zip_put(&zip, "packed", 6, text, sizeof text, (struct zip_odd){.deflate = true});
    zip_finish(&zip, "");
    char path[400], prefix[400];
    in_folder(path, sizeof path, "faults.zip");
    write_bytes(path, zip.file.data, zip.file.bytes);
    zip_free(&zip);
    static const enum dmc_fault faults[] = {DMC_FAULT_FAIL, DMC_FAULT_SHORT, DMC_FAULT_ABSENT, DMC_FAULT_FLIP, DMC_FAULT_HANG};
    for (size_t f = 0; f < sizeof faults / sizeof faults[0]; f++)
        for (uint32_t bits = 0; bits < 16; bits++) {
            bool packed = bits & 1, parts = bits & 2, delayed = bits & 4;
            fail_at = bits >> 3; /* the local header, or the bytes */
            failing = faults[f];
            struct dmc_stores *stores;
            struct dmc_store *file, *delay, *fault, *store;
            assert_int_equal(dmc_stores_create(NULL, &stores, NULL), DAMACY_OK);
            assert_int_equal(dmc_store_file_create(NULL, &file, NULL), DAMACY_OK);
            assert_int_equal(dmc_store_delay_create(file, container_delay, NULL, &delay, NULL), DAMACY_OK);
            assert_int_equal(dmc_store_fault_create(delayed ? delay : file, choose, NULL, &fault, NULL), DAMACY_OK);
            dmc_stores_set(stores, "file", fault);
            assert_int_equal(dmc_stores_resolve(stores, path, &store, prefix, sizeof prefix, NULL), DAMACY_OK);
            struct dmc_io *io = io_make(4, false);
            static char data[5000];
            struct one_read read;
            prepare(&read, store, packed ? "packed" : "stored", parts ? DMC_RANGE_SPAN : DMC_RANGE_WHOLE, parts ? 10 : 0, data,
                    parts ? 100 : sizeof data);
            enum dmc_start start = dmc_store_start(io, &read.request);
            if (failing == DMC_FAULT_HANG) {
                while (start == DMC_START_PENDING) {
                    dmc_store_cancel(io, &read.request);
                    if (dmc_io_wait(io, dmc_clock_deadline(1000000)))
                        break;
                    read.request.cancelled = false; /* it was on its way to the next step: once more */
                }
                assert_int_equal(read.request.status, DAMACY_SHUTDOWN);
            } else if (start == DMC_START_PENDING) {
                assert_ptr_equal(wait_any(io), &read.request);
            }
            bool unseen = failing == DMC_FAULT_FLIP && (fail_at == 0 || (!packed && parts));
            if (!unseen) { /* a flipped bit in a header may or may not matter; one in a part of a stored entry cannot be seen */
                assert_int_equal(read.request.outcome, DMC_OUTCOME_FAILED);
                assert_true(read.request.status != DAMACY_OK && read.error.status == read.request.status);
                assert_int_equal(read.request.bytes_read, 0);
            }
            assert_ptr_equal(read.request.parts, &read.part);
            assert_int_equal(read.request.frame_count, 0);
            fail_at = UINT64_MAX;
            if (failing != DMC_FAULT_FLIP) { /* and then it works */
                complete(io, prepare(&read, store, packed ? "packed" : "stored", DMC_RANGE_SPAN, 10, data, 100));
                assert_int_equal(read.request.outcome, DMC_OUTCOME_OK);
            }
            io_end(io);
            dmc_stores_destroy(stores);
            dmc_store_destroy(fault);
            dmc_store_destroy(delay);
            dmc_store_destroy(file);
        }
}

/* What will be asked for of a stored entry is told to the store below, once it is known where the entry lies. */
static void test_expected(void **state)
{
    (void)state;
    static unsigned char bytes[5000], found[5000];
    struct zip_writer zip = {0};
    fill_bytes(bytes, 3, 0, sizeof bytes);
    zip_put_plain(&zip, "stored", bytes, sizeof bytes);
    zip_put(&zip, "packed", 6, bytes, sizeof bytes, (struct zip_odd){.deflate = true});
    zip_finish(&zip, "");
    char path[400];
    in_folder(path, sizeof path, "expected.zip");
    write_bytes(path, zip.file.data, zip.file.bytes);
    struct listening listening;
    listening_open(&listening, path);
    struct dmc_store *store = listening.store;
    struct dmc_io *io = io_make(4, false);
    struct one_read read;
    store->ops->expect(store, "stored", 0, 10, 100);
    assert_int_equal(told.count, 0); /* its local header was not read yet */
    for (int i = 0; i < 2; i++) {
        complete(io, prepare(&read, store, i ? "packed" : "stored", DMC_RANGE_SPAN, 0, found, 10));
        assert_int_equal(read.request.outcome, DMC_OUTCOME_OK);
    }
    store->ops->expect(store, "stored", 0, 10, 100);
    assert_int_equal(told.count, 1);
    assert_string_equal(told.key, path);
    assert_int_equal(told.bytes, 100);
    assert_memory_equal(zip.file.data + told.offset, bytes + 10, 100);
    uint64_t begin = told.offset - 10;
    store->ops->expect(store, "/stored", 0, 4990, 100);
    assert_int_equal(told.count, 2);
    assert_int_equal(told.offset, begin + 4990);
    assert_int_equal(told.bytes, 10);
    store->ops->expect(store, "stored", 0, 5000, 100);
    store->ops->expect(store, "stored", 0, UINT64_MAX - 5, 100);
    store->ops->expect(store, "packed", 0, 10, 100);
    store->ops->expect(store, "absent", 0, 10, 100);
    assert_int_equal(told.count, 2);
    io_end(io);
    listening_close(&listening);
    zip_free(&zip);
}

static void test_allocations_that_fail(void **state)
{
    (void)state;
    struct zip_writer zip = {0};
    char name[32], path[400];
    for (int i = 0; i < 200; i++) {
        snprintf(name, sizeof name, "a/rather/long/name/%d", i);
        zip_put(&zip, name, strlen(name), "content content content", 23, (struct zip_odd){.deflate = i % 2 == 0});
    }
    zip_finish(&zip, "");
    in_folder(path, sizeof path, "fails.zip");
    write_bytes(path, zip.file.data, zip.file.bytes);
    zip_free(&zip);
    container_allocations_fail(path, "a/rather/long/name/2", 3, "tent conte", "a/rather/long");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_suite_stored),
                                       cmocka_unit_test(test_suite_deflated),
                                       cmocka_unit_test(test_suite_delayed),
                                       cmocka_unit_test(test_layouts),
                                       cmocka_unit_test(test_names),
                                       cmocka_unit_test(test_refusals),
                                       cmocka_unit_test(test_damaged_directories),
                                       cmocka_unit_test(test_listing),
                                       cmocka_unit_test(test_paths),
                                       cmocka_unit_test(test_memory_bound),
                                       cmocka_unit_test(test_threads),
                                       cmocka_unit_test(test_inner_faults),
                                       cmocka_unit_test(test_expected),
                                       cmocka_unit_test(test_allocations_that_fail)};
    return cmocka_run_group_tests(tests, folder_setup, folder_teardown);
}
