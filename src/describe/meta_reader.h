/* Reading many small objects at once, on the caller's thread, through a dmc_io of its own.
 *
 * Whoever wants something read queues it; when all reads in flight are short of their bound and nothing is queued, `more` is
 * asked to queue something. So what waits is the caller's compact list, and only what is in flight has a request and a buffer.
 *
 * Private to src/describe. */
#ifndef DMC_META_READER_H
#define DMC_META_READER_H

#include "store/store.h"

enum dmc_meta_answer { DMC_META_ABSENT, DMC_META_THERE, DMC_META_FAILED };

struct dmc_meta_read {
    struct dmc_meta_read *next;
    struct dmc_store *store;
    void *user;
    uint32_t what; /* the caller's */
    char key[];
};

struct dmc_meta_reader_options {
    uint32_t reads_in_flight;
    uint64_t object_bytes_max;
    uint64_t deadline_ns;
    bool (*poll)(void *user); /* NULL: none */
    void *poll_user;
    /* A read is over. `text` is valid during the call, not zero-terminated; `error` is set where it failed, without uri. */
    void (*done)(void *user, struct dmc_meta_read *read, enum dmc_meta_answer answer, const char *text, size_t bytes,
                 const struct damacy_error *error);
    bool (*more)(void *user); /* queue at least one read, or finish something else; false: nothing is left to do now */
    void *user;
};

struct dmc_meta_reader;
enum damacy_status dmc_meta_reader_create(const struct dmc_meta_reader_options *options, struct dmc_meta_reader **reader,
                                          struct damacy_error *error);
/* false: a read is stuck in the kernel; the reader was left behind, and so must be the stores. */
bool dmc_meta_reader_destroy(struct dmc_meta_reader *reader);

/* Queue a read of the object `name` of `prefix`. false: no memory. */
bool dmc_meta_reader_ask(struct dmc_meta_reader *reader, struct dmc_store *store, const char *prefix, const char *name,
                         uint32_t what, void *user);

/* Until everything is done. TIMEOUT, SHUTDOWN (the poll says so), OOM, IO. */
enum damacy_status dmc_meta_reader_run(struct dmc_meta_reader *reader, struct damacy_error *error);

/* Is it time to give up? For steps that block, between them. */
enum damacy_status dmc_meta_reader_check(struct dmc_meta_reader *reader, struct damacy_error *error);

#endif
