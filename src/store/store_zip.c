/* Zip files: each entry an object.
 *
 *     start -> entry -+- stored, place known -----------------------------> the zip file's range, in the request's place
 *                     +- place not known -> read its local header -> as above and below
 *                     +- deflated -> inflated.h -+- READY: copy
 *                                                +- JOB: read the stored bytes -> inflate, check the CRC -> answer
 *                                                +- WAIT -> again
 *
 * The CRC of a stored entry is checked when it is read whole into one part, as metadata and chunks are. The local header says
 * where an entry's bytes begin; it is read once an entry. */
#include "base/bytes.h"
#include "base/error.h"
#include "base/mem.h"
#include "store/child_list.h"
#include "store/containers.h"
#include "store/inflated.h"
#include "store/redirect.h"
#include "store/zip_directory.h"

#include <stdio.h>
#include <string.h>

struct zip_store {
    struct dmc_store store;
    struct dmc_container_source source; /* but for `read` */
    struct dmc_object_map map;
};

enum step { STEP_RANGE, STEP_HEADER, STEP_WAIT, STEP_STORED };

static struct zip_store *of(struct dmc_store *store)
{
    return (struct zip_store *)store;
}

static struct dmc_redirect range_of(struct zip_store *zip, struct dmc_zip_entry *entry)
{
    return (struct dmc_redirect){.outer = &zip->store,
                                 .inner = zip->source.file,
                                 .key = zip->source.path,
                                 .key_hash = zip->source.path_hash,
                                 .begin = atomic_load_explicit(&entry->data_offset, memory_order_relaxed),
                                 .bytes = entry->object_bytes,
                                 .version_tag = zip->source.version_tag,
                                 .what = "the zip file",
                                 .data = entry};
}

static void fail_crc(struct dmc_request *request, uint32_t expected_crc, uint32_t found_crc)
{
    char expected[24], found[24];
    snprintf(expected, sizeof expected, "crc32 0x%08x", expected_crc);
    snprintf(found, sizeof found, "crc32 0x%08x", found_crc);
    dmc_request_fail(request, DAMACY_DECODE, 0, "the entry of the zip file is damaged");
    dmc_error_expected(request->error, expected, found);
    request->bytes_read = 0;
}

/* The request has got its range: if that is the whole entry, is it right? */
static void check_stored(const struct dmc_zip_entry *entry, struct dmc_request *request, const unsigned char *bytes)
{
    if (request->outcome == DMC_OUTCOME_FAILED || request->bytes_read != entry->object_bytes || request->part_count != 1)
        return;
    uint32_t crc = dmc_crc32(bytes, entry->object_bytes);
    if (crc != entry->crc)
        fail_crc(request, entry->crc, crc);
}

/* --- deflated entries --- */

/* May it be inflated into the request's own part? */
static bool is_direct(const struct dmc_zip_entry *entry, const struct dmc_request *request)
{
    if (request->part_count != 1)
        return false;
    uint64_t capacity = request->parts[0].iov_len;
    switch (request->kind) {
    case DMC_RANGE_WHOLE:
        return true;
    case DMC_RANGE_SPAN:
        return request->offset == 0 && capacity >= entry->object_bytes;
    case DMC_RANGE_SUFFIX:
        return capacity == entry->object_bytes;
    }
    return false;
}

/* The stored bytes are there, or not. */
static void inflate(struct zip_store *zip, struct dmc_request *request)
{
    struct dmc_inflate_job *job = dmc_request_frame(request)->data;
    const struct dmc_zip_entry *entry = job->entry;
    struct dmc_inflated_cell *cell = job->cell;
    unsigned char *target = cell ? cell->data : dmc_request_frame(request)->bytes;
    dmc_frame_pop(request);
    bool good = dmc_inner_ok(request, "the zip file", zip->source.version_tag);
    if (good && !dmc_inflate(job->inflater, job->stored, entry->stored_bytes, target, entry->object_bytes)) {
        dmc_request_fail(request, DAMACY_DECODE, 0, "the deflated entry of the zip file is damaged");
        good = false;
    }
    uint32_t crc = good ? dmc_crc32(target, entry->object_bytes) : 0;
    if (good && crc != entry->crc) {
        fail_crc(request, entry->crc, crc);
        good = false;
    }
    dmc_inflated_end(zip->source.inflated, job, good);
    if (!good) {
        request->bytes_read = 0;
        return;
    }
    request->version_tag = zip->source.version_tag;
    if (cell) {
        dmc_request_answer(request, cell->data, cell->bytes);
        dmc_inflated_unpin(zip->source.inflated, cell);
        return;
    }
    request->object_bytes = request->bytes_read = entry->object_bytes;
    if (request->kind == DMC_RANGE_SPAN && entry->object_bytes < request->parts[0].iov_len)
        request->outcome = DMC_OUTCOME_TRUNCATED;
}

static enum dmc_start start_deflated(struct zip_store *zip, struct dmc_io *io, struct dmc_request *request,
                                     struct dmc_zip_entry *entry)
{
    uint64_t capacity = dmc_request_capacity(request);
    request->object_bytes = entry->object_bytes;
    request->version_tag = zip->source.version_tag;
    if (request->kind == DMC_RANGE_WHOLE && entry->object_bytes > capacity) {
        request->outcome = DMC_OUTCOME_TOO_LONG;
        return DMC_START_DONE;
    }
    if ((request->kind == DMC_RANGE_SUFFIX && entry->object_bytes < capacity) ||
        (request->kind == DMC_RANGE_SPAN && request->offset >= entry->object_bytes)) {
        if (capacity > 0)
            request->outcome = DMC_OUTCOME_TRUNCATED;
        return DMC_START_DONE;
    }
    struct dmc_inflated_cell *cell = NULL;
    struct dmc_inflate_job *job = NULL;
    struct dmc_request_frame *frame = dmc_frame_push(&zip->store, request);
    if (!frame)
        return DMC_START_DONE;
    frame->data = entry;
    frame->step = STEP_WAIT;
    request->holder = &zip->store; /* before another thread may have it */
    switch (dmc_inflated_begin(zip->source.inflated, &entry->cell, entry->stored_bytes, entry->object_bytes,
                               is_direct(entry, request), request, &cell, &job)) {
    case DMC_INFLATED_WAIT:
        return DMC_START_PENDING;
    case DMC_INFLATED_READY:
        dmc_frame_pop(request);
        dmc_request_answer(request, cell->data, cell->bytes);
        dmc_inflated_unpin(zip->source.inflated, cell);
        return DMC_START_DONE;
    case DMC_INFLATED_FAILED:
        dmc_frame_pop(request);
        return DMC_START_DONE;
    case DMC_INFLATED_JOB:
        break;
    }
    job->entry = entry;
    frame->data = job;
    frame->step = STEP_STORED;
    frame->part.iov_base = job->stored;
    if (dmc_step_start(zip->source.file, zip->source.path, zip->source.path_hash,
                       atomic_load_explicit(&entry->data_offset, memory_order_relaxed), entry->stored_bytes, io,
                       request) == DMC_START_PENDING)
        return DMC_START_PENDING;
    inflate(zip, request);
    return DMC_START_DONE;
}

/* --- the way to an entry's bytes --- */

static enum dmc_start start_known(struct zip_store *zip, struct dmc_io *io, struct dmc_request *request,
                                  struct dmc_zip_entry *entry)
{
    if (entry->method != 0)
        return start_deflated(zip, io, request, entry);
    const unsigned char *bytes = request->part_count ? request->parts[0].iov_base : NULL;
    struct dmc_redirect to = range_of(zip, entry);
    if (dmc_redirect_start(&to, io, request) == DMC_START_PENDING)
        return DMC_START_PENDING;
    check_stored(entry, request, bytes);
    return DMC_START_DONE;
}

static enum dmc_start header_read(struct zip_store *zip, struct dmc_io *io, struct dmc_request *request)
{
    struct dmc_request_frame *frame = dmc_request_frame(request);
    struct dmc_zip_entry *entry = frame->data;
    uint64_t data_offset = 0;
    bool good = dmc_inner_ok(request, "the zip file", zip->source.version_tag);
    bool valid = good && dmc_zip_local_header(frame->scratch, entry, zip->source.bytes, &data_offset);
    dmc_frame_pop(request);
    if (!valid) {
        if (good)
            dmc_request_fail(request, DAMACY_DECODE, 0, "the zip file has no valid local header where its directory says");
        request->bytes_read = 0;
        return DMC_START_DONE;
    }
    atomic_store_explicit(&entry->data_offset, data_offset, memory_order_relaxed);
    if (request->cancelled) {
        dmc_request_fail_cancelled(request);
        return DMC_START_DONE;
    }
    dmc_request_reset(request);
    return start_known(zip, io, request, entry);
}

static void refuse(struct dmc_request *request, const struct dmc_zip_entry *entry)
{
    switch ((enum dmc_zip_refusal)entry->refusal) {
    case DMC_ZIP_READABLE:
        break;
    case DMC_ZIP_ENCRYPTED:
        dmc_request_fail(request, DAMACY_UNSUPPORTED, 0, "encrypted entries of zip files are not read");
        break;
    case DMC_ZIP_METHOD: {
        char text[96];
        snprintf(text, sizeof text, "the zip entry is compressed by method %u: stored and deflated ones are read",
                 entry->method);
        dmc_request_fail(request, DAMACY_UNSUPPORTED, 0, text);
        break;
    }
    case DMC_ZIP_RANGE:
        dmc_request_fail(request, DAMACY_DECODE, 0, "the zip entry does not lie inside the file");
        break;
    case DMC_ZIP_SIZES:
        dmc_request_fail(request, DAMACY_DECODE, 0, "the sizes of the zip entry contradict each other");
        break;
    }
}

static enum dmc_start zip_start(struct dmc_store *store, struct dmc_io *io, struct dmc_request *request)
{
    struct zip_store *zip = of(store);
    const char *name = request->key + (request->key[0] == '/'); /* of the root */
    struct dmc_zip_entry *entry = dmc_object_map_get(&zip->map, name, strlen(name));
    if (!entry) {
        request->outcome = DMC_OUTCOME_ABSENT;
        return DMC_START_DONE;
    }
    if (entry->refusal != DMC_ZIP_READABLE) {
        refuse(request, entry);
        return DMC_START_DONE;
    }
    if (atomic_load_explicit(&entry->data_offset, memory_order_relaxed))
        return start_known(zip, io, request, entry);
    struct dmc_request_frame *frame = dmc_frame_push(store, request);
    if (!frame)
        return DMC_START_DONE;
    frame->data = entry;
    frame->step = STEP_HEADER;
    frame->part.iov_base = frame->scratch;
    if (dmc_step_start(zip->source.file, zip->source.path, zip->source.path_hash, entry->header_offset, DMC_ZIP_LOCAL_BYTES, io,
                       request) == DMC_START_PENDING)
        return DMC_START_PENDING;
    return header_read(zip, io, request);
}

static enum dmc_start zip_resume(struct dmc_store *store, struct dmc_io *io, struct dmc_request *request)
{
    struct zip_store *zip = of(store);
    struct dmc_request_frame *frame = dmc_request_frame(request);
    struct dmc_zip_entry *entry = frame->data;
    switch ((enum step)frame->step) {
    case STEP_RANGE: {
        const unsigned char *bytes = frame->bytes;
        struct dmc_redirect to = range_of(zip, entry);
        dmc_redirect_resume(&to, request);
        check_stored(entry, request, bytes);
        return DMC_START_DONE;
    }
    case STEP_HEADER:
        dmc_step_resume(zip->source.file, request);
        return header_read(zip, io, request);
    case STEP_WAIT:
        dmc_frame_pop(request);
        if (!request->cancelled)
            return start_deflated(zip, io, request, entry);
        dmc_request_fail_cancelled(request);
        return DMC_START_DONE;
    case STEP_STORED:
        dmc_step_resume(zip->source.file, request);
        inflate(zip, request);
        return DMC_START_DONE;
    }
    return DMC_START_DONE;
}

/* Held here is only what waits; reads are held by the file store. */
static void zip_cancel(struct dmc_store *store, struct dmc_io *io, struct dmc_request *request)
{
    (void)io;
    struct dmc_zip_entry *entry = dmc_request_frame(request)->data;
    if (dmc_inflated_stop_waiting(of(store)->source.inflated, &entry->cell, request)) {
        dmc_frame_pop(request);
        dmc_request_fail_cancelled(request);
        dmc_io_complete(request);
    }
}

static enum damacy_status zip_list(struct dmc_store *store, const char *prefix, dmc_store_child_fn child, void *user,
                                   struct damacy_error *error)
{
    return dmc_child_list_map(&of(store)->map, prefix, child, user, error);
}

/* Where an entry begins is known once it was read: of a shard that is its index, of a chunk in an entry of its own it does not
 * matter, since those are read whole. */
static void zip_expect(struct dmc_store *store, const char *key, uint64_t key_hash, uint64_t offset, uint64_t bytes)
{
    (void)key_hash;
    struct zip_store *zip = of(store);
    const char *name = key + (key[0] == '/');
    struct dmc_zip_entry *entry = dmc_object_map_get(&zip->map, name, strlen(name));
    if (!entry || entry->refusal != DMC_ZIP_READABLE || entry->method != 0 ||
        !atomic_load_explicit(&entry->data_offset, memory_order_relaxed))
        return;
    struct dmc_redirect to = range_of(zip, entry);
    dmc_redirect_expect(&to, offset, bytes);
}

static void zip_hint(struct dmc_store *store, struct dmc_store_hint *hint)
{
    *hint = dmc_store_hint_of(of(store)->source.file);
}

static void zip_destroy(struct dmc_store *store)
{
    struct zip_store *zip = of(store);
    dmc_object_map_deinit(&zip->map);
    dmc_free(zip);
}

static const struct dmc_store_ops zip_ops = {.scheme = "zip",
                                             .start = zip_start,
                                             .resume = zip_resume,
                                             .cancel = zip_cancel,
                                             .list = zip_list,
                                             .expect = zip_expect,
                                             .hint = zip_hint,
                                             .destroy = zip_destroy};

enum damacy_status dmc_store_zip_open(const struct dmc_container_source *source, struct dmc_store **out,
                                      struct damacy_error *error)
{
    struct zip_store *zip = dmc_calloc(1, sizeof *zip);
    if (!zip)
        return dmc_error_set(error, DAMACY_OOM, "metadata", "no memory for the zip file");
    zip->store.ops = &zip_ops;
    zip->source = *source;
    dmc_object_map_init(&zip->map, sizeof(struct dmc_zip_entry), source->budget);
    enum damacy_status status = dmc_zip_directory_read(source->read, source->read_user, source->bytes, &zip->map, error);
    if (status) {
        zip_destroy(&zip->store);
        return status;
    }
    *out = &zip->store;
    return DAMACY_OK;
}
