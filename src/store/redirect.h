/* Reading a range of another store's object in the place of an object: nothing is copied, the request itself goes there, with
 * another key and range, and comes back.
 *
 *     dmc_redirect_start -> inner->start -> DONE:    settled, the request says again what it said before
 *                                        -> PENDING: ... -> outer->resume, which calls dmc_redirect_resume -> settled
 *
 * A store whose answer takes several steps pushes a frame of its own first and starts each step with dmc_step_start. */
#ifndef DMC_REDIRECT_H
#define DMC_REDIRECT_H

#include "store/io_internal.h"

#define DMC_REDIRECT_WHOLE UINT64_MAX

struct dmc_redirect {
    struct dmc_store *outer; /* in whose place */
    struct dmc_store *inner; /* is read */
    const char *key;         /* there; stays until the request is done */
    uint64_t key_hash;       /* of the key; 0: not known */
    uint64_t begin;          /* the object is so many bytes from here on; WHOLE: all of the inner object, begin is 0 */
    uint64_t bytes;
    uint64_t version_tag; /* another version of the inner object is FAILED, and this is the answer's; 0: whatever it is */
    const char *what;     /* of the inner object, for messages: "the zip file" */
    void *data;           /* for the frame */
};

/* Settled at once, or PENDING. */
enum dmc_start dmc_redirect_start(const struct dmc_redirect *to, struct dmc_io *io, struct dmc_request *request);
/* outer->resume: the inner store is done. `to` is as at the start. Settles. */
void dmc_redirect_resume(const struct dmc_redirect *to, struct dmc_request *request);

/* Someone will ask for [offset, offset + bytes) of the object soon: tell the inner store of its range. */
void dmc_redirect_expect(const struct dmc_redirect *to, uint64_t offset, uint64_t bytes);

/* The innermost frame; NULL: none. */
static inline struct dmc_request_frame *dmc_request_frame(struct dmc_request *request)
{
    return request->frame_count ? &request->frames[request->frame_count - 1] : NULL;
}

/* Keep what the request says. NULL: too many stores in one another, and the request is FAILED. */
struct dmc_request_frame *dmc_frame_push(struct dmc_store *outer, struct dmc_request *request);
/* Say again what it said. The answer stays. */
void dmc_frame_pop(struct dmc_request *request);

/* Read `bytes` at `offset` of `key` into frame->part, whose base is set. PENDING: outer->resume is called, then
 * dmc_step_resume tells the inner store; the answer is that of this read alone. */
enum dmc_start dmc_step_start(struct dmc_store *inner, const char *key, uint64_t key_hash, uint64_t offset, uint64_t bytes,
                              struct dmc_io *io, struct dmc_request *request);
void dmc_step_resume(struct dmc_store *inner, struct dmc_request *request);

/* The inner object was read for `what`: make of anything but OK a failure. false: the request is FAILED. */
bool dmc_inner_ok(struct dmc_request *request, const char *what, uint64_t version_tag);

#endif
