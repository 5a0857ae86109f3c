/* What the tests of the stores share: a folder that goes away, objects with known bytes, one request from start to end. */
#ifndef STORE_FIXTURE_H
#define STORE_FIXTURE_H

#include <setjmp.h> /* IWYU pragma: keep */
#include <stdarg.h> /* IWYU pragma: keep */
#include <stddef.h> /* IWYU pragma: keep */
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/hash.h"
#include "store/store.h"
#include "support/test_seed.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SECOND_NS 1000000000u
/* No test waits longer for anything; reached only when something is broken. */
#define PATIENCE_NS (60ull * SECOND_NS)

static char fixture_folder[128];

static inline int fixture_remove_one(const char *path, const struct stat *facts, int type, struct FTW *walk)
{
    (void)facts;
    (void)type;
    (void)walk;
    return remove(path);
}

static inline int folder_setup(void **state)
{
    (void)state;
    const char *base = getenv("TMPDIR");
    bool usable = base && *base && strlen(base) < 60; /* a socket's path has no more than 107 characters */
    snprintf(fixture_folder, sizeof fixture_folder, "%s/damacy-store-XXXXXX", usable ? base : "/tmp");
    return mkdtemp(fixture_folder) ? 0 : -1;
}

static inline int folder_teardown(void **state)
{
    (void)state;
    return nftw(fixture_folder, fixture_remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static inline const char *in_folder(char *path, size_t capacity, const char *name)
{
    snprintf(path, capacity, "%s/%s", fixture_folder, name);
    return path;
}

/* The byte at each position of every test object. */
static inline unsigned char byte_at(uint64_t seed, uint64_t position)
{
    return (unsigned char)(dmc_hash_u64(seed, position / 8) >> (position % 8 * 8));
}

static inline void fill_bytes(unsigned char *data, uint64_t seed, uint64_t begin, uint64_t bytes)
{
    for (uint64_t i = 0; i < bytes; i++)
        data[i] = byte_at(seed, begin + i);
}

static inline bool bytes_match(const unsigned char *data, uint64_t seed, uint64_t begin, uint64_t bytes)
{
    for (uint64_t i = 0; i < bytes; i++)
        if (data[i] != byte_at(seed, begin + i))
            return false;
    return true;
}

static inline void write_file(const char *path, uint64_t seed, uint64_t bytes)
{
    unsigned char *data = malloc(bytes + 1);
    assert_non_null(data);
    fill_bytes(data, seed, 0, bytes);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, bytes), (ssize_t)bytes);
    close(fd);
    free(data);
}

/* Out of the page cache, as far as the file system does so. */
static inline void drop_file(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    fdatasync(fd);
    posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    close(fd);
}

static inline struct dmc_io *io_make(uint32_t depth, bool io_uring_never)
{
    struct dmc_io_options options = {.depth = depth, .io_uring_never = io_uring_never};
    struct dmc_io *io = NULL;
    assert_int_equal(dmc_io_create(&options, &io, NULL), DAMACY_OK);
    return io;
}

static inline void io_end(struct dmc_io *io)
{
    assert_true(dmc_io_destroy(io, dmc_clock_deadline(PATIENCE_NS)));
}

static inline struct dmc_request *wait_any(struct dmc_io *io)
{
    uint64_t deadline_ns = dmc_clock_deadline(PATIENCE_NS);
    struct dmc_request *request;
    while (!(request = dmc_io_wait(io, deadline_ns)))
        assert_true(dmc_clock_ns() < deadline_ns);
    return request;
}

/* Start a request and wait until it is done. */
static inline void complete(struct dmc_io *io, struct dmc_request *request)
{
    if (dmc_store_start(io, request) == DMC_START_PENDING)
        assert_ptr_equal(wait_any(io), request);
    assert_int_equal(dmc_io_pending(io), 0);
}

struct one_read {
    struct dmc_request request;
    struct iovec part;
    struct damacy_error error;
};

static inline struct dmc_request *prepare(struct one_read *read, struct dmc_store *store, const char *key,
                                          enum dmc_range_kind kind, uint64_t offset, void *data, size_t bytes)
{
    memset(read, 0, sizeof *read);
    read->part = (struct iovec){.iov_base = data, .iov_len = bytes};
    read->request.store = store;
    read->request.key = key;
    read->request.kind = kind;
    read->request.offset = offset;
    read->request.parts = &read->part;
    read->request.part_count = 1;
    read->request.error = &read->error;
    return &read->request;
}

static inline struct dmc_request *read_span(struct one_read *read, struct dmc_io *io, struct dmc_store *store, const char *key,
                                            uint64_t offset, void *data, size_t bytes)
{
    struct dmc_request *request = prepare(read, store, key, DMC_RANGE_SPAN, offset, data, bytes);
    complete(io, request);
    return request;
}

static inline uint64_t test_seed(void)
{
    return seed_of_test("store", 0);
}

/* What a store is told to expect: `store` gets an expect of its own, which notes it in `told`. */
struct told {
    uint32_t count; /* of all */
    char key[600];  /* of the last one */
    uint64_t key_hash, offset, bytes;
};
static struct told told;

static inline void note_expected(struct dmc_store *store, const char *key, uint64_t key_hash, uint64_t offset, uint64_t bytes)
{
    (void)store;
    told.count++;
    snprintf(told.key, sizeof told.key, "%s", key);
    told.key_hash = key_hash;
    told.offset = offset;
    told.bytes = bytes;
}

static inline void listen_to(struct dmc_store *store, struct dmc_store_ops *ops)
{
    memset(&told, 0, sizeof told);
    *ops = *store->ops;
    ops->expect = note_expected;
    store->ops = ops;
}

#endif
