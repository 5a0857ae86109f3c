#include "describe/meta_reader.h"

#include "base/bytes.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/mem.h"

#include <string.h>

/* First try for an object; more only costs memory, less a second request. */
#define READ_BYTES 16384u
/* A slot keeps a buffer up to this. */
#define KEEP_BYTES (UINT64_C(1) << 20)
#define TRIES_MAX 40
#define POLL_NS UINT64_C(100000000)
#define STUCK_NS UINT64_C(2000000000)

struct slot {
    struct dmc_request request;
    struct iovec part;
    struct dmc_meta_read *read; /* NULL: free */
    uint8_t *buffer;
    uint64_t capacity;
    uint32_t tries;
    struct damacy_error error;
};

struct dmc_meta_reader {
    struct dmc_meta_reader_options options;
    struct dmc_io *io;
    struct dmc_meta_read *first, *last; /* queued */
    uint64_t polled_ns;
    uint32_t free_count;
    struct slot **free;
    struct slot *slots;
};

enum damacy_status dmc_meta_reader_create(const struct dmc_meta_reader_options *options, struct dmc_meta_reader **out,
                                          struct damacy_error *error)
{
    uint32_t count = options->reads_in_flight;
    struct dmc_meta_reader *reader = dmc_calloc(1, sizeof *reader);
    if (reader) {
        reader->slots = dmc_calloc(count, sizeof *reader->slots);
        reader->free = dmc_calloc(count, sizeof *reader->free);
    }
    if (!reader || !reader->slots || !reader->free) {
        dmc_meta_reader_destroy(reader);
        return dmc_error_set(error, DAMACY_OOM, "metadata", "no memory to read with");
    }
    reader->options = *options;
    for (uint32_t i = 0; i < count; i++)
        reader->free[reader->free_count++] = &reader->slots[count - 1 - i];
    enum damacy_status status = dmc_io_create(&(struct dmc_io_options){.depth = count}, &reader->io, error);
    if (status) {
        dmc_meta_reader_destroy(reader);
        return status;
    }
    *out = reader;
    return DAMACY_OK;
}

bool dmc_meta_reader_destroy(struct dmc_meta_reader *reader)
{
    if (!reader)
        return true;
    if (!dmc_io_destroy(reader->io, dmc_clock_deadline(STUCK_NS)))
        return false;
    for (uint32_t i = 0; reader->slots && i < reader->options.reads_in_flight; i++) {
        dmc_free(reader->slots[i].buffer);
        dmc_free(reader->slots[i].read);
    }
    for (struct dmc_meta_read *read = reader->first, *next; read; read = next) {
        next = read->next;
        dmc_free(read);
    }
    dmc_free(reader->slots);
    dmc_free(reader->free);
    dmc_free(reader);
    return true;
}

bool dmc_meta_reader_ask(struct dmc_meta_reader *reader, struct dmc_store *store, const char *prefix, const char *name,
                         uint32_t what, void *user)
{
    size_t prefix_bytes = strlen(prefix), name_bytes = strlen(name);
    struct dmc_meta_read *read = dmc_malloc(sizeof *read + prefix_bytes + 1 + name_bytes + 1);
    if (!read)
        return false;
    *read = (struct dmc_meta_read){.store = store, .user = user, .what = what};
    memcpy(read->key, prefix, prefix_bytes);
    read->key[prefix_bytes] = '/';
    memcpy(read->key + prefix_bytes + 1, name, name_bytes + 1);
    if (reader->last)
        reader->last->next = read;
    else
        reader->first = read;
    reader->last = read;
    return true;
}

enum damacy_status dmc_meta_reader_check(struct dmc_meta_reader *reader, struct damacy_error *error)
{
    uint64_t now_ns = dmc_clock_ns();
    if (now_ns >= reader->options.deadline_ns) {
        dmc_error_set(error, DAMACY_TIMEOUT, "metadata", "the time given ran out before all metadata were read");
        dmc_error_hint(error, "give a longer timeout, or ask for less (shallow)");
        return DAMACY_TIMEOUT;
    }
    if (reader->options.poll && now_ns - reader->polled_ns >= POLL_NS) {
        reader->polled_ns = now_ns;
        if (!reader->options.poll(reader->options.poll_user))
            return dmc_error_set(error, DAMACY_SHUTDOWN, "metadata", "cancelled by the caller");
    }
    return DAMACY_OK;
}

/* What the slot reads is over: hand it out. */
static void finish(struct dmc_meta_reader *reader, struct slot *slot, enum dmc_meta_answer answer)
{
    struct dmc_meta_read *read = slot->read;
    const struct dmc_meta_reader_options *options = &reader->options;
    options->done(options->user, read, answer, (const char *)slot->buffer,
                  answer == DMC_META_THERE ? slot->request.bytes_read : 0, answer == DMC_META_FAILED ? &slot->error : NULL);
    dmc_free(read);
    slot->read = NULL;
    if (slot->capacity > KEEP_BYTES) {
        dmc_free(slot->buffer);
        slot->buffer = NULL;
        slot->capacity = 0;
    }
    reader->free[reader->free_count++] = slot;
}

static void fail(struct dmc_meta_reader *reader, struct slot *slot)
{
    finish(reader, slot, DMC_META_FAILED);
}

/* The object did not fit. false: it never will, the error says why. */
static bool make_room(struct dmc_meta_reader *reader, struct slot *slot)
{
    uint64_t object_bytes = slot->request.object_bytes, bytes_max = reader->options.object_bytes_max;
    bool told = object_bytes != UINT64_MAX;
    if ((told ? object_bytes : slot->capacity + 1) > bytes_max) {
        dmc_error_set(&slot->error, DAMACY_BUDGET, "metadata", "the metadata are larger than %llu bytes",
                      (unsigned long long)bytes_max);
        return false;
    }
    if (++slot->tries > TRIES_MAX) {
        dmc_error_set(&slot->error, DAMACY_IO, "metadata", "the object keeps changing its size");
        return false;
    }
    uint64_t bytes = told && object_bytes > slot->capacity ? object_bytes : slot->capacity * 2;
    dmc_free(slot->buffer);
    slot->capacity = 0;
    slot->buffer = dmc_malloc(dmc_min_u64(bytes, bytes_max));
    if (!slot->buffer) {
        dmc_error_set(&slot->error, DAMACY_OOM, "metadata", "no memory to read %llu bytes", (unsigned long long)bytes);
        return false;
    }
    slot->capacity = dmc_min_u64(bytes, bytes_max);
    return true;
}

/* true: the slot's read is over; false: it is to be started (again). */
static bool answered(struct dmc_meta_reader *reader, struct slot *slot)
{
    switch (slot->request.outcome) {
    case DMC_OUTCOME_OK:
        finish(reader, slot, DMC_META_THERE);
        return true;
    case DMC_OUTCOME_ABSENT:
        finish(reader, slot, DMC_META_ABSENT);
        return true;
    case DMC_OUTCOME_TOO_LONG:
        if (make_room(reader, slot))
            return false;
        break;
    case DMC_OUTCOME_TRUNCATED:
        dmc_error_set(&slot->error, DAMACY_DECODE, "metadata", "the object ended after %llu bytes while it was read",
                      (unsigned long long)slot->request.bytes_read);
        break;
    case DMC_OUTCOME_FAILED:
        break; /* the store has told */
    }
    fail(reader, slot);
    return true;
}

/* Start the slot's read, as often as it answers at once and wants more room. */
static void start(struct dmc_meta_reader *reader, struct slot *slot)
{
    do {
        slot->part = (struct iovec){.iov_base = slot->buffer, .iov_len = slot->capacity};
        slot->request.store = slot->read->store;
        slot->request.key = slot->read->key;
        slot->request.key_hash = 0;
        slot->request.kind = DMC_RANGE_WHOLE;
        slot->request.offset = 0;
        slot->request.parts = &slot->part;
        slot->request.part_count = 1;
        slot->request.error = &slot->error;
        slot->request.user = slot;
        slot->request.metadata = true;
        if (dmc_store_start(reader->io, &slot->request) == DMC_START_PENDING)
            return;
    } while (!answered(reader, slot));
}

static bool start_queued(struct dmc_meta_reader *reader, struct damacy_error *error)
{
    struct dmc_meta_read *read = reader->first;
    struct slot *slot = reader->free[reader->free_count - 1];
    if (!slot->buffer) {
        slot->buffer = dmc_malloc(READ_BYTES);
        if (!slot->buffer) {
            dmc_error_set(error, DAMACY_OOM, "metadata", "no memory to read with");
            return false;
        }
        slot->capacity = READ_BYTES;
    }
    reader->free_count--;
    reader->first = read->next;
    if (!reader->first)
        reader->last = NULL;
    read->next = NULL;
    slot->read = read;
    slot->tries = 0;
    start(reader, slot);
    return true;
}

enum damacy_status dmc_meta_reader_run(struct dmc_meta_reader *reader, struct damacy_error *error)
{
    for (;;) {
        enum damacy_status status = dmc_meta_reader_check(reader, error);
        if (status)
            return status;
        bool moved = false;
        if (reader->free_count > 0) {
            if (reader->first) {
                if (!start_queued(reader, error))
                    return DAMACY_OOM;
                moved = true;
            } else {
                moved = reader->options.more(reader->options.user);
            }
        }
        uint32_t pending = dmc_io_pending(reader->io);
        if (!moved && pending == 0 && !reader->first)
            return DAMACY_OK;
        if (pending == 0)
            continue;
        uint64_t until_ns = 0; /* only look, as long as there is something to start */
        if (!moved) {
            until_ns = reader->options.deadline_ns;
            if (reader->options.poll)
                until_ns = dmc_min_u64(until_ns, dmc_clock_deadline(POLL_NS));
        }
        struct dmc_request *request = dmc_io_wait(reader->io, until_ns);
        if (request) {
            struct slot *slot = request->user;
            if (!answered(reader, slot))
                start(reader, slot);
        }
    }
}
