#include "store/redirect.h"

#include "base/bytes.h"
#include "base/error.h"

struct dmc_request_frame *dmc_frame_push(struct dmc_store *outer, struct dmc_request *request)
{
    if (request->frame_count == DMC_REQUEST_FRAMES) {
        dmc_request_fail(request, DAMACY_UNSUPPORTED, 0, "too many containers inside one another");
        return NULL;
    }
    struct dmc_request_frame *frame = &request->frames[request->frame_count++];
    frame->store = outer;
    frame->key = request->key;
    frame->key_hash = request->key_hash;
    frame->offset = request->offset;
    frame->kind = request->kind;
    frame->parts = request->parts;
    frame->part_count = request->part_count;
    frame->capacity = dmc_request_capacity(request);
    frame->length = 0;
    frame->bytes = request->part_count ? request->parts[0].iov_base : NULL;
    frame->data = NULL;
    frame->step = 0;
    return frame;
}

void dmc_frame_pop(struct dmc_request *request)
{
    const struct dmc_request_frame *frame = &request->frames[--request->frame_count];
    request->key = frame->key;
    request->key_hash = frame->key_hash;
    request->offset = frame->offset;
    request->kind = frame->kind;
    request->parts = frame->parts;
    request->part_count = frame->part_count;
    request->holder = frame->store;
    request->part_begin = 0;
    request->read_bytes = 0;
}

static enum dmc_start start_inner(struct dmc_store *inner, struct dmc_io *io, struct dmc_request *request)
{
    dmc_request_reset(request);
    request->holder = inner;
    return inner->ops->start(inner, io, request);
}

bool dmc_inner_ok(struct dmc_request *request, const char *what, uint64_t version_tag)
{
    enum dmc_outcome outcome = request->outcome;
    if (outcome == DMC_OUTCOME_FAILED)
        return false;
    if (outcome == DMC_OUTCOME_OK && (!version_tag || !request->version_tag || request->version_tag == version_tag))
        return true;
    const char *why = outcome == DMC_OUTCOME_OK       ? "was changed while it was in use"
                      : outcome == DMC_OUTCOME_ABSENT ? "is not there"
                                                      : "ends before the bytes that are wanted";
    request->outcome = DMC_OUTCOME_FAILED;
    request->bytes_read = 0;
    request->status = DAMACY_IO;
    dmc_error_set(request->error, DAMACY_IO, "read", "%s %s", what, why);
    return false;
}

/* Cut the parts to `bytes`. */
static void cut_parts(struct dmc_request *request, uint64_t bytes)
{
    for (uint32_t i = 0; i < request->part_count; i++) {
        if (request->parts[i].iov_len > bytes)
            request->parts[i].iov_len = bytes;
        bytes -= request->parts[i].iov_len;
    }
}

static void settle(const struct dmc_redirect *to, struct dmc_request *request)
{
    uint64_t length = dmc_request_frame(request)->length, capacity = dmc_request_frame(request)->capacity;
    dmc_frame_pop(request);
    if (to->bytes == DMC_REDIRECT_WHOLE) {
        if (request->outcome == DMC_OUTCOME_TRUNCATED || request->outcome == DMC_OUTCOME_TOO_LONG)
            return; /* it means what it says */
        dmc_inner_ok(request, to->what, to->version_tag);
        return;
    }
    if (!dmc_inner_ok(request, to->what, to->version_tag))
        return;
    request->bytes_read = length;
    request->object_bytes = to->bytes;
    if (to->version_tag)
        request->version_tag = to->version_tag;
    if (request->kind != DMC_RANGE_WHOLE && length < capacity)
        request->outcome = DMC_OUTCOME_TRUNCATED;
}

enum dmc_start dmc_redirect_start(const struct dmc_redirect *to, struct dmc_io *io, struct dmc_request *request)
{
    uint64_t begin = 0, capacity = dmc_request_capacity(request);
    if (to->bytes != DMC_REDIRECT_WHOLE) {
        request->object_bytes = to->bytes;
        request->version_tag = to->version_tag;
        if (request->kind == DMC_RANGE_WHOLE && to->bytes > capacity) {
            request->outcome = DMC_OUTCOME_TOO_LONG;
            return DMC_START_DONE;
        }
        if (request->kind == DMC_RANGE_SUFFIX && to->bytes < capacity) {
            request->outcome = DMC_OUTCOME_TRUNCATED;
            return DMC_START_DONE;
        }
        if (request->kind == DMC_RANGE_SPAN)
            begin = dmc_min_u64(request->offset, to->bytes);
        if (request->kind == DMC_RANGE_SUFFIX)
            begin = to->bytes - capacity;
    }
    struct dmc_request_frame *frame = dmc_frame_push(to->outer, request);
    if (!frame)
        return DMC_START_DONE;
    frame->data = to->data;
    request->key = to->key;
    request->key_hash = to->key_hash;
    if (to->bytes != DMC_REDIRECT_WHOLE) {
        frame->length = dmc_min_u64(capacity, to->bytes - begin);
        cut_parts(request, frame->length);
        request->kind = DMC_RANGE_SPAN;
        request->offset = to->begin + begin;
    }
    if (start_inner(to->inner, io, request) == DMC_START_PENDING)
        return DMC_START_PENDING;
    settle(to, request);
    return DMC_START_DONE;
}

void dmc_redirect_expect(const struct dmc_redirect *to, uint64_t offset, uint64_t bytes)
{
    if (!to->inner->ops->expect)
        return;
    if (to->bytes != DMC_REDIRECT_WHOLE) { /* as dmc_redirect_start does */
        uint64_t begin = dmc_min_u64(offset, to->bytes);
        bytes = dmc_min_u64(bytes, to->bytes - begin);
        offset = to->begin + begin;
    }
    if (bytes > 0)
        to->inner->ops->expect(to->inner, to->key, to->key_hash, offset, bytes);
}

void dmc_redirect_resume(const struct dmc_redirect *to, struct dmc_request *request)
{
    dmc_step_resume(to->inner, request);
    settle(to, request);
}

enum dmc_start dmc_step_start(struct dmc_store *inner, const char *key, uint64_t key_hash, uint64_t offset, uint64_t bytes,
                              struct dmc_io *io, struct dmc_request *request)
{
    struct dmc_request_frame *frame = dmc_request_frame(request);
    frame->part.iov_len = bytes;
    request->key = key;
    request->key_hash = key_hash;
    request->kind = DMC_RANGE_SPAN;
    request->offset = offset;
    request->parts = &frame->part;
    request->part_count = 1;
    return start_inner(inner, io, request);
}

void dmc_step_resume(struct dmc_store *inner, struct dmc_request *request)
{
    if (inner->ops->finish)
        inner->ops->finish(inner, request);
}
