/* The conformance suite over stores that are a container in a file (zip files, kerchunk references): the objects are collected
 * here, and the test writes a new container of all of them whenever the suite asks. */
#ifndef CONTAINER_SUITE_H
#define CONTAINER_SUITE_H

#include "support/store_conformance.h"

#include "base/mem.h"

enum { CONTAINER_OBJECTS_MAX = 64 };

struct container_suite {
    struct conformance suite; /* first */
    struct dmc_stores *stores;
    struct dmc_store *file, *delay;
    uint32_t count, generation; /* objects so far; containers written */
    struct {
        char name[64];
        unsigned char *data;
        uint64_t bytes;
    } objects[CONTAINER_OBJECTS_MAX];
};

static inline void write_bytes(const char *path, const void *data, size_t bytes)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    for (size_t done = 0; done < bytes;) {
        ssize_t now = write(fd, (const char *)data + done, bytes - done);
        assert_true(now > 0);
        done += (size_t)now;
    }
    close(fd);
}

static inline void container_put(struct conformance *suite, const char *name, const void *data, uint64_t bytes)
{
    struct container_suite *subject = (struct container_suite *)suite;
    uint32_t i = 0;
    while (i < subject->count && strcmp(subject->objects[i].name, name) != 0)
        i++;
    assert_true(i < CONTAINER_OBJECTS_MAX);
    if (i == subject->count)
        subject->count++;
    snprintf(subject->objects[i].name, sizeof subject->objects[i].name, "%s", name);
    free(subject->objects[i].data);
    subject->objects[i].data = malloc(bytes + 1);
    assert_non_null(subject->objects[i].data);
    memcpy(subject->objects[i].data, data, bytes);
    subject->objects[i].bytes = bytes;
}

/* The suite goes on with what `uri` leads to. */
static inline void container_opened(struct container_suite *subject, const char *uri, const char *scheme)
{
    struct conformance *suite = &subject->suite;
    struct damacy_error error;
    if (dmc_stores_resolve(subject->stores, uri, &suite->store, suite->folder, sizeof suite->folder, &error))
        fail_msg("%s", error.message);
    assert_string_equal(suite->store->ops->scheme, scheme);
}

static inline uint64_t container_delay(void *user, const char *key)
{
    (void)user;
    (void)key;
    return 100000;
}

/* `delayed`: every read of the container's file takes a while, and few files are open at once. `pool`: without io_uring. */
static inline void container_suite_run(struct container_suite *subject, bool pool, bool delayed)
{
    subject->suite.put = container_put;
    assert_int_equal(dmc_stores_create(NULL, &subject->stores, NULL), DAMACY_OK);
    if (delayed) {
        const struct dmc_store_file_options options = {.open_files_max = 2};
        assert_int_equal(dmc_store_file_create(&options, &subject->file, NULL), DAMACY_OK);
        assert_int_equal(dmc_store_delay_create(subject->file, container_delay, NULL, &subject->delay, NULL), DAMACY_OK);
        dmc_stores_set(subject->stores, "file", subject->delay);
    }
    subject->suite.io = io_make(64, pool);
    conformance_run(&subject->suite, test_seed());
    io_end(subject->suite.io);
    dmc_stores_destroy(subject->stores);
    dmc_store_destroy(subject->delay);
    dmc_store_destroy(subject->file);
    for (uint32_t i = 0; i < subject->count; i++)
        free(subject->objects[i].data);
}

/* The names that a store lists, behind a text of 200 bytes. */
static inline bool container_collect(const char *name, bool is_prefix, void *user)
{
    char *text = user;
    snprintf(text + strlen(text), 200 - strlen(text), "%s%s ", name, is_prefix ? "/" : "");
    return true;
}

/* Each allocation fails in turn while the container is opened, read (`content` is at `offset` of `key`) and listed: it is told
 * as OOM, and what comes after it is right. */
static inline void container_allocations_fail(const char *path, const char *key, uint64_t offset, const char *content,
                                              const char *folder)
{
    char prefix[512];
    bool all = false;
    for (uint64_t n = 1; !all; n++) {
        struct dmc_stores *stores;
        struct dmc_store *store;
        assert_int_equal(dmc_stores_create(NULL, &stores, NULL), DAMACY_OK);
        struct dmc_io *io = io_make(2, false);
        dmc_mem_fail_at(n);
        uint64_t before = dmc_mem_count();
        enum damacy_status status = dmc_stores_resolve(stores, path, &store, prefix, sizeof prefix, NULL);
        if (status == DAMACY_OK) {
            char data[32], names[200] = "";
            struct one_read read;
            assert_true(strlen(content) <= sizeof data);
            complete(io, prepare(&read, store, key, DMC_RANGE_SPAN, offset, data, strlen(content)));
            status = read.request.status;
            if (status == DAMACY_OK) {
                assert_memory_equal(data, content, strlen(content));
                status = dmc_store_list(store, folder, container_collect, names, NULL);
            }
        }
        all = dmc_mem_count() - before < n;
        dmc_mem_fail_at(0);
        assert_true(status == DAMACY_OOM || status == DAMACY_OK);
        assert_true(!all || status == DAMACY_OK);
        io_end(io);
        dmc_stores_destroy(stores);
    }
}

/* A container that the test wrote byte by byte, and what resolving it gave. */
struct opened {
    struct dmc_stores *stores;
    struct dmc_store *store;
    struct dmc_io *io;
    struct damacy_error error;
    enum damacy_status status;
};

/* `ending`: of the file's name, which tells what it is. */
static inline struct opened opened_from(const char *ending, const void *data, size_t bytes, uint64_t container_bytes_max)
{
    static uint32_t file_number;
    struct opened opened = {0};
    char name[32], path[400], prefix[512];
    snprintf(name, sizeof name, "odd%u.%s", file_number++, ending);
    in_folder(path, sizeof path, name);
    write_bytes(path, data, bytes);
    struct dmc_stores_options options = {.container_bytes_max = container_bytes_max};
    assert_int_equal(dmc_stores_create(&options, &opened.stores, NULL), DAMACY_OK);
    opened.io = io_make(8, false);
    opened.status = dmc_stores_resolve(opened.stores, path, &opened.store, prefix, sizeof prefix, &opened.error);
    if (opened.status == DAMACY_OK)
        assert_string_equal(prefix, "");
    return opened;
}

static inline void opened_close(struct opened *opened)
{
    io_end(opened->io);
    dmc_stores_destroy(opened->stores);
}

/* A container at `path`, over files that note in `told` what they are told to expect. */
struct listening {
    struct dmc_stores *stores;
    struct dmc_store *file, *store; /* store: the container */
    struct dmc_store_ops ops;
};

static inline void listening_open(struct listening *listening, const char *path)
{
    char prefix[512];
    assert_int_equal(dmc_stores_create(NULL, &listening->stores, NULL), DAMACY_OK);
    assert_int_equal(dmc_store_file_create(NULL, &listening->file, NULL), DAMACY_OK);
    listen_to(listening->file, &listening->ops);
    dmc_stores_set(listening->stores, "file", listening->file);
    assert_int_equal(dmc_stores_resolve(listening->stores, path, &listening->store, prefix, sizeof prefix, NULL), DAMACY_OK);
}

static inline void listening_close(struct listening *listening)
{
    dmc_stores_destroy(listening->stores);
    dmc_store_destroy(listening->file);
}

#endif
