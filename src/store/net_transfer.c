/* A request from QUEUED to its end: retries, second attempts, and the error that says what happened. */
#include "base/bytes.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"
#include "store/http_url.h"
#include "store/io_internal.h"
#include "store/net_engine_impl.h"

#include <assert.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#define REDIRECTS_MAX 5u
#define MENDS_MAX 4u
#define ATTEMPTS_MAX 200u         /* for whoever sends a byte at a time */
#define UNKNOWN_RETRIES_MAX 3u    /* of an endpoint that never answered: more likely a wrong name */
#define PAUSE_MAX_NS 30000000000u /* of a whole endpoint */
#define LOOK_AGAIN_NS 50000000u   /* whether a hedge is due, where that cannot be said yet */
#define SECOND 1e-9
#define TOO_LARGE ((CURLcode)100) /* CURLE_TOO_LARGE, of libcurl 8.6 and newer */

static struct dmc_net_lane *lane_of(struct dmc_transfer *transfer)
{
    return &transfer->endpoint->lanes[transfer->lane];
}

/* --- waiting --- */

static void list_remove(struct dmc_transfer **first, struct dmc_transfer **last, struct dmc_transfer *transfer)
{
    if (transfer->previous)
        transfer->previous->next = transfer->next;
    else
        *first = transfer->next;
    if (transfer->next)
        transfer->next->previous = transfer->previous;
    else if (last)
        *last = transfer->previous;
    transfer->previous = transfer->next = NULL;
}

void dmc_transfer_unqueue(struct dmc_net_engine *engine, struct dmc_transfer *transfer)
{
    if (transfer->state == DMC_TRANSFER_CREDENTIALS)
        list_remove(&engine->waiting_first, NULL, transfer);
    else
        list_remove(&lane_of(transfer)->first, &lane_of(transfer)->last, transfer);
}

/* What was tried before goes to the front. The rest stands by the age of its batch: several threads ask for a batch's reads,
 * and one that comes late must not find its part behind those of later batches. */
static void enqueue(struct dmc_transfer *transfer)
{
    struct dmc_net_lane *lane = lane_of(transfer);
    struct dmc_transfer *before = dmc_transfer_has_waited(transfer) ? NULL : lane->last;
    while (before && before->age_ns > transfer->age_ns && !dmc_transfer_has_waited(before))
        before = before->previous;
    struct dmc_transfer *after = before ? before->next : lane->first;
    transfer->state = DMC_TRANSFER_QUEUED;
    transfer->previous = before;
    transfer->next = after;
    *(before ? &before->next : &lane->first) = transfer;
    *(after ? &after->previous : &lane->last) = transfer;
}

void dmc_transfer_queue(struct dmc_net_engine *engine, struct dmc_transfer *transfer)
{
    enqueue(transfer);
    dmc_engine_timer(engine, transfer, transfer->deadline_ns);
    if (!transfer->batch_deadline || dmc_clock_ns() < transfer->deadline_ns) /* else the timer ends it, unasked */
        dmc_engine_pump(engine, transfer->endpoint);
}

static void wait_for_credentials(struct dmc_net_engine *engine, struct dmc_transfer *transfer)
{
    transfer->state = DMC_TRANSFER_CREDENTIALS;
    transfer->previous = NULL;
    transfer->next = engine->waiting_first;
    if (engine->waiting_first)
        engine->waiting_first->previous = transfer;
    engine->waiting_first = transfer;
    dmc_engine_timer(engine, transfer, transfer->deadline_ns);
}

/* --- beginning and end --- */

void dmc_transfer_begin(struct dmc_net_engine *engine, struct dmc_transfer *transfer)
{
    (void)engine;
    const struct dmc_request *request = transfer->request;
    struct dmc_net_store *store = transfer->store;
    transfer->endpoint = store->endpoint;
    transfer->settings = store->settings;
    transfer->lane = request->metadata ? DMC_NET_METADATA : DMC_NET_BULK;
    memset(transfer->attempts, 0, sizeof transfer->attempts);
    transfer->kind = request->kind;
    transfer->parts = request->parts;
    transfer->part_count = request->part_count;
    transfer->own_bytes = transfer->capacity = dmc_request_capacity(request);
    transfer->ahead = NULL;
    transfer->ahead_refused = false;
    transfer->length = request->kind == DMC_RANGE_WHOLE ? UINT64_MAX : transfer->capacity;
    transfer->absolute = request->kind == DMC_RANGE_SPAN ? request->offset : request->kind == DMC_RANGE_WHOLE ? 0 : UINT64_MAX;
    transfer->covered = transfer->tail_bytes = 0;
    transfer->object_bytes = UINT64_MAX;
    transfer->version_tag = 0;
    transfer->etag[0] = 0;
    uint64_t key_hash = request->key_hash ? request->key_hash : dmc_hash_bytes(request->key, strlen(request->key), 0);
    transfer->object_hash = dmc_hash_u64(key_hash, store->seed);
    /* What can have no bytes is asked for its size only. */
    bool beyond = request->kind == DMC_RANGE_SPAN && request->offset > (uint64_t)INT64_MAX - transfer->capacity;
    transfer->ask_size = (transfer->capacity == 0 || beyond) && request->kind != DMC_RANGE_WHOLE;
    transfer->truncated = beyond;
    transfer->too_long = transfer->lane_was_full = transfer->handed_over = false;
    transfer->hedge_after_ns = 0;
    transfer->hedges_left = transfer->attempt_count = transfer->barren = transfer->mends = transfer->redirects = 0;
    transfer->begin_ns = dmc_clock_ns();
    transfer->age_ns = request->begin_ns ? request->begin_ns : transfer->begin_ns;
    transfer->deadline_ns = transfer->begin_ns + transfer->settings->request_timeout_ns;
    uint64_t batch_ns = transfer->settings->batch_timeout_ns;
    transfer->batch_deadline = batch_ns && request->begin_ns && request->begin_ns + batch_ns < transfer->deadline_ns;
    if (transfer->batch_deadline)
        transfer->deadline_ns = request->begin_ns + batch_ns;
    dmc_text_clear(&transfer->redirect);
    memset(&transfer->error, 0, offsetof(struct damacy_error, stage));
    dmc_net_count(&transfer->endpoint->requests, 1);
}

static void drop_attempt(struct dmc_net_engine *engine, struct dmc_transfer *transfer, uint32_t which)
{
    struct dmc_attempt *attempt = transfer->attempts[which];
    if (!attempt)
        return;
    dmc_net_count(&transfer->endpoint->bytes_received, attempt->body_bytes);
    transfer->attempts[which] = NULL;
    dmc_attempt_give_back(engine, attempt);
}

static void drop_attempts(struct dmc_net_engine *engine, struct dmc_transfer *transfer)
{
    for (uint32_t i = 0; i < DMC_NET_ATTEMPTS; i++)
        drop_attempt(engine, transfer, i);
}

static uint32_t count_attempts(const struct dmc_transfer *transfer)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < DMC_NET_ATTEMPTS; i++)
        count += transfer->attempts[i] != NULL;
    return count;
}

/* Leave the lane, or wherever it waits. */
static void stop_running(struct dmc_net_engine *engine, struct dmc_transfer *transfer)
{
    drop_attempts(engine, transfer);
    if (transfer->state == DMC_TRANSFER_RUNNING)
        lane_of(transfer)->running--;
    else if (transfer->state == DMC_TRANSFER_FOLLOWING)
        dmc_share_unfollow(transfer);
    else if (transfer->state == DMC_TRANSFER_QUEUED || transfer->state == DMC_TRANSFER_CREDENTIALS)
        dmc_transfer_unqueue(engine, transfer);
    transfer->state = DMC_TRANSFER_BACKOFF;
}

static void answer(struct dmc_transfer *transfer, const struct dmc_transfer *source, enum dmc_outcome outcome,
                   uint64_t bytes_read)
{
    struct dmc_request *request = transfer->request;
    request->outcome = outcome;
    request->bytes_read = bytes_read;
    request->object_bytes = source->object_bytes;
    request->version_tag = source->version_tag;
    dmc_net_count(&transfer->endpoint->bytes_used, bytes_read);
}

static void count_shared(struct dmc_net_endpoint *endpoint, uint64_t bytes)
{
    dmc_net_count(&endpoint->shared, 1);
    dmc_net_count(&endpoint->shared_bytes, bytes);
}

/* Those that follow it have what it has. */
static void end_followers(struct dmc_net_engine *engine, struct dmc_transfer *transfer, enum dmc_outcome outcome,
                          uint64_t bytes_read)
{
    struct dmc_transfer *follower;
    while ((follower = transfer->followers)) {
        enum dmc_outcome its_outcome = outcome;
        uint64_t its_bytes = 0;
        if (outcome == DMC_OUTCOME_OK || outcome == DMC_OUTCOME_TRUNCATED) {
            its_bytes = dmc_share_copy(transfer, bytes_read, follower);
            its_outcome = its_bytes == follower->capacity ? DMC_OUTCOME_OK : DMC_OUTCOME_TRUNCATED;
        }
        stop_running(engine, follower);
        answer(follower, transfer, its_outcome, its_bytes);
        count_shared(transfer->endpoint, its_bytes);
        dmc_engine_complete(engine, follower);
    }
}

/* Let more of the object come along with an index, if there is room for it. It lies in front of a suffix, and behind a span. */
static void begin_ahead(struct dmc_net_engine *engine, struct dmc_transfer *transfer)
{
    const struct dmc_request *request = transfer->request;
    uint64_t bytes = request->ahead_bytes;
    if (transfer->lane == DMC_NET_METADATA)
        dmc_ahead_forget(engine->ahead, transfer->object_hash, !transfer->settings->check_versions);
    if (bytes == 0 || bytes > transfer->settings->index_ahead_bytes_max || transfer->part_count != 1 ||
        transfer->kind == DMC_RANGE_WHOLE || transfer->lane != DMC_NET_METADATA || transfer->ask_size)
        return;
    transfer->ahead = dmc_ahead_reserve(engine->ahead, request->key, transfer->object_hash, bytes);
    if (!transfer->ahead)
        return;
    bool suffix = transfer->kind == DMC_RANGE_SUFFIX;
    transfer->ahead_parts[!suffix] = (struct iovec){dmc_ahead_bytes(transfer->ahead), bytes};
    transfer->ahead_parts[suffix] = transfer->parts[0];
    transfer->parts = transfer->ahead_parts;
    transfer->part_count = 2;
    transfer->capacity = transfer->length = transfer->own_bytes + bytes;
}

/* Go on with the request's own range. */
static void leave_ahead(struct dmc_net_engine *engine, struct dmc_transfer *transfer)
{
    dmc_ahead_drop(engine->ahead, transfer->ahead);
    transfer->ahead = NULL;
    transfer->ahead_refused = true;
    transfer->parts = transfer->request->parts;
    transfer->part_count = 1;
    transfer->capacity = transfer->own_bytes;
    transfer->length = dmc_min_u64(transfer->length, transfer->own_bytes);
    transfer->covered = dmc_min_u64(transfer->covered, transfer->length);
}

/* The index is there, and so is what came along. */
static void keep_ahead(struct dmc_net_engine *engine, struct dmc_transfer *transfer)
{
    bool suffix = transfer->kind == DMC_RANGE_SUFFIX;
    uint64_t bytes = transfer->covered - transfer->own_bytes;
    dmc_net_count(&transfer->endpoint->bytes_asked, bytes);
    dmc_ahead_keep(engine->ahead, transfer->ahead, suffix ? transfer->absolute : transfer->absolute + transfer->own_bytes,
                   bytes, transfer->version_tag, transfer->object_bytes);
    transfer->ahead = NULL;
}

/* Whatever came from elsewhere does not count. */
static void read_it_all(struct dmc_transfer *transfer)
{
    for (uint32_t i = 0; i < DMC_RANGE_ENDS; i++)
        dmc_share_forget(transfer, (enum dmc_range_end)i);
    transfer->covered = transfer->tail_bytes = 0;
    transfer->length = transfer->capacity;
    transfer->truncated = false;
}

static void restart(struct dmc_net_engine *engine, struct dmc_transfer *transfer);

/* What it borrowed does not come. What it has read itself meanwhile, behind that, is read again: this is rare. */
static void lose_borrowed(struct dmc_net_engine *engine, struct dmc_transfer *transfer)
{
    dmc_net_count(&transfer->endpoint->bytes_asked, transfer->covered + transfer->tail_bytes);
    read_it_all(transfer);
    if (transfer->state == DMC_TRANSFER_RUNNING) {
        restart(engine, transfer);
    } else if (transfer->state == DMC_TRANSFER_BORROWING) {
        transfer->handed_over = true;
        dmc_transfer_queue(engine, transfer);
    }
}

/* It has its answer: so have those that borrowed from it, or they must read for themselves. */
static void end_borrowers(struct dmc_net_engine *engine, struct dmc_transfer *transfer, uint64_t bytes_read)
{
    struct dmc_borrowed *borrowed;
    while ((borrowed = transfer->lent)) {
        struct dmc_transfer *borrower = borrowed->borrower;
        if (!dmc_share_lend(transfer, bytes_read, borrowed)) {
            lose_borrowed(engine, borrower);
            continue;
        }
        dmc_net_count(&transfer->endpoint->shared_bytes, borrowed->bytes);
        if (borrower->state == DMC_TRANSFER_BORROWING && !dmc_share_waits(borrower)) {
            borrower->next = engine->whole_first;
            engine->whole_first = borrower;
        }
    }
}

static void success(struct dmc_net_engine *engine, struct dmc_transfer *transfer);

/* Those whose last borrowed bytes came end here, one after the other: each may be the one that others waited for. */
static void end_whole(struct dmc_net_engine *engine)
{
    if (engine->ending_whole)
        return;
    engine->ending_whole = true;
    struct dmc_transfer *transfer;
    while ((transfer = engine->whole_first)) {
        engine->whole_first = transfer->next;
        transfer->next = NULL;
        success(engine, transfer);
    }
    engine->ending_whole = false;
}

/* All that was asked for is there. */
static void note_latency(struct dmc_transfer *transfer)
{
    if (transfer->state == DMC_TRANSFER_RUNNING)
        dmc_net_endpoint_success(transfer->endpoint, transfer->lane, transfer->lane_was_full,
                                 dmc_clock_ns() - transfer->first_run_ns);
}

static void end(struct dmc_net_engine *engine, struct dmc_transfer *transfer, enum dmc_outcome outcome, uint64_t bytes_read)
{
    struct dmc_net_endpoint *endpoint = transfer->endpoint;
    note_latency(transfer);
    stop_running(engine, transfer);
    if (transfer->ahead && outcome == DMC_OUTCOME_OK) {
        keep_ahead(engine, transfer);
        bytes_read = transfer->own_bytes;
    } else if (transfer->ahead_refused && outcome == DMC_OUTCOME_OK) {
        atomic_store_explicit(&endpoint->ahead_refused, true, memory_order_relaxed);
    }
    dmc_share_close(engine, transfer);
    end_followers(engine, transfer, outcome, bytes_read); /* before its own parts are the caller's again */
    end_borrowers(engine, transfer, bytes_read);
    if (outcome == DMC_OUTCOME_OK)
        dmc_hold_offer(engine->hold, transfer, bytes_read);
    answer(transfer, transfer, outcome, bytes_read);
    dmc_engine_complete(engine, transfer);
    end_whole(engine);
    dmc_engine_pump(engine, endpoint);
}

static void success(struct dmc_net_engine *engine, struct dmc_transfer *transfer)
{
    if (transfer->truncated) { /* there is no end to wait for */
        transfer->covered = dmc_min_u64(transfer->covered, transfer->length);
        transfer->tail_bytes = 0;
        dmc_share_forget(transfer, DMC_RANGE_TAIL);
    }
    if (dmc_share_waits(transfer)) {
        note_latency(transfer);
        stop_running(engine, transfer);
        transfer->state = DMC_TRANSFER_BORROWING;
        dmc_engine_timer(engine, transfer, transfer->deadline_ns);
        dmc_engine_pump(engine, transfer->endpoint);
        return;
    }
    end(engine, transfer, transfer->truncated ? DMC_OUTCOME_TRUNCATED : DMC_OUTCOME_OK,
        transfer->covered + transfer->tail_bytes);
}

/* It came for another one shortly before. Bytes of a version that has passed meanwhile are not delivered: asking finds out. */
static bool end_held(struct dmc_net_engine *engine, struct dmc_transfer *transfer)
{
    bool whole = dmc_hold_take(engine->hold, transfer) || dmc_ahead_take(engine->ahead, transfer);
    if (transfer->settings->check_versions && !dmc_engine_version(engine, transfer->object_hash, transfer->version_tag)) {
        transfer->version_tag = 0;
        transfer->object_bytes = UINT64_MAX;
        read_it_all(transfer);
        return false;
    }
    if (!whole)
        return false;
    answer(transfer, transfer, DMC_OUTCOME_OK, transfer->capacity);
    count_shared(transfer->endpoint, transfer->capacity);
    dmc_engine_complete(engine, transfer);
    return true;
}

void dmc_transfer_enter(struct dmc_net_engine *engine, struct dmc_transfer *transfer)
{
    if (!transfer->handed_over && end_held(engine, transfer))
        return;
    if (dmc_share_follow(engine, transfer)) {
        read_it_all(transfer); /* if it ever must */
        transfer->state = DMC_TRANSFER_FOLLOWING;
        dmc_engine_timer(engine, transfer, transfer->deadline_ns);
        return;
    }
    dmc_net_count(&transfer->endpoint->shared_bytes, transfer->covered + transfer->tail_bytes); /* kept ones */
    dmc_share_borrow(engine, transfer);
    if (transfer->covered + transfer->tail_bytes > 0 && transfer->covered == transfer->length) {
        dmc_net_count(&transfer->endpoint->shared, 1);
        transfer->state = DMC_TRANSFER_BACKOFF; /* nowhere yet */
        success(engine, transfer);
        return;
    }
    dmc_net_endpoint_request(transfer->endpoint);
    if (!transfer->ask_size && transfer->kind != DMC_RANGE_WHOLE)
        dmc_net_count(&transfer->endpoint->bytes_asked, transfer->length - transfer->covered);
    begin_ahead(engine, transfer);
    dmc_transfer_queue(engine, transfer);
}

static void answer_failed(struct dmc_net_engine *engine, struct dmc_transfer *transfer, const struct damacy_error *error)
{
    struct dmc_request *request = transfer->request;
    request->outcome = DMC_OUTCOME_FAILED;
    request->status = error->status;
    if (request->error)
        *request->error = *error;
    dmc_net_count(&transfer->endpoint->failures, 1);
    dmc_engine_complete(engine, transfer);
}

/* transfer->error says why. Whoever follows it would have met the same. */
static void end_failed(struct dmc_net_engine *engine, struct dmc_transfer *transfer)
{
    struct dmc_net_endpoint *endpoint = transfer->endpoint;
    struct dmc_transfer *follower;
    stop_running(engine, transfer);
    dmc_share_close(engine, transfer);
    if (transfer->attempt_count > 1) {
        char how[96];
        snprintf(how, sizeof how, " (%u attempts in %.1f s)", transfer->attempt_count,
                 (double)(dmc_clock_ns() - transfer->begin_ns) * SECOND);
        size_t used = strlen(transfer->error.message);
        dmc_text_copy(transfer->error.message + used, sizeof transfer->error.message - used, how);
    }
    while ((follower = transfer->followers)) {
        stop_running(engine, follower);
        answer_failed(engine, follower, &transfer->error);
    }
    end_borrowers(engine, transfer, 0);
    answer_failed(engine, transfer, &transfer->error);
    dmc_engine_pump(engine, endpoint);
}

/* It ends for reasons of its own. The first of those that follow it reads for itself, and the others follow that one if they
 * can. What was read so far is read again: it lies in memory that is the caller's in a moment. */
static void hand_over(struct dmc_net_engine *engine, struct dmc_transfer *transfer)
{
    struct dmc_transfer *follower;
    stop_running(engine, transfer); /* first: what others start must not start it again */
    dmc_share_close(engine, transfer);
    while ((follower = transfer->followers)) {
        stop_running(engine, follower);
        follower->handed_over = true;
        dmc_transfer_enter(engine, follower);
    }
    end_borrowers(engine, transfer, 0);
}

void dmc_transfer_cancel(struct dmc_net_engine *engine, struct dmc_transfer *transfer)
{
    struct dmc_net_endpoint *endpoint = transfer->endpoint;
    if (transfer->timer == DMC_NET_NO_TIMER) /* it came with its cancellation, and never got into a lane */
        enqueue(transfer);
    hand_over(engine, transfer);
    dmc_request_fail_cancelled(transfer->request);
    dmc_engine_complete(engine, transfer);
    dmc_engine_pump(engine, endpoint);
}

/* --- running --- */

/* The first attempt is late by itself, a hedge only where none of the attempts got an answer yet. By all of the body that was
 * asked for, not by what is missing: the moment must not come nearer while bytes arrive as usual. UINT64_MAX: nothing is known
 * of this server yet; a moment after the transfer's end: there will be no other attempt. */
static uint64_t hedge_due(const struct dmc_transfer *transfer)
{
    const struct dmc_attempt *newest = NULL;
    bool answered = false;
    for (uint32_t i = 0; i < DMC_NET_ATTEMPTS; i++) {
        const struct dmc_attempt *attempt = transfer->attempts[i];
        if (attempt && (!newest || attempt->begin_ns >= newest->begin_ns))
            newest = attempt;
        answered |= attempt && attempt->first_ns;
    }
    if (!newest || transfer->hedges_left == 0 || transfer->ask_size || (answered && newest->hedge))
        return transfer->deadline_ns;
    uint64_t body = transfer->length == UINT64_MAX ? 0 : transfer->length - newest->asked_begin;
    uint64_t due_ns = dmc_net_endpoint_hedge_due(transfer->endpoint, newest->fresh, newest->begin_ns, newest->sent_ns,
                                                 newest->first_ns, body);
    return dmc_max_u64(due_ns, transfer->hedge_after_ns);
}

void dmc_transfer_plan_timer(struct dmc_net_engine *engine, struct dmc_transfer *transfer)
{
    uint64_t due_ns = transfer->deadline_ns;
    for (uint32_t i = 0; i < DMC_NET_ATTEMPTS; i++)
        if (transfer->attempts[i])
            due_ns = dmc_min_u64(due_ns, transfer->attempts[i]->window_ns + transfer->settings->stall_window_ns);
    uint64_t late_ns = hedge_due(transfer);
    if (late_ns == UINT64_MAX && transfer->endpoint->hedge_share > 0) /* ask again soon */
        late_ns = dmc_clock_ns() + LOOK_AGAIN_NS;
    dmc_engine_timer(engine, transfer, dmc_min_u64(due_ns, late_ns));
}

/* false: it did not come to an attempt, and the transfer was dealt with. */
static bool start_attempt(struct dmc_net_engine *engine, struct dmc_transfer *transfer, bool hedge)
{
    uint64_t now_ns = dmc_clock_ns();
    struct dmc_attempt *attempt = dmc_attempt_take(engine);
    enum dmc_net_prepared prepared = DMC_NET_FAILED;
    uint32_t place = hedge;
    while (transfer->attempts[place])
        place++;
    assert(place < DMC_NET_ATTEMPTS);
    if (attempt) {
        attempt->hedge = hedge;
        prepared = dmc_attempt_start(engine, attempt, transfer, now_ns);
    } else {
        dmc_error_set(&transfer->error, DAMACY_OOM, "read", "no memory for a network request");
    }
    if (prepared == DMC_NET_READY) {
        transfer->attempts[place] = attempt;
        transfer->attempt_count++;
        dmc_net_count(&transfer->endpoint->attempts, 1);
        dmc_transfer_plan_timer(engine, transfer);
        return true;
    }
    if (attempt)
        dmc_attempt_give_back(engine, attempt);
    if (hedge)
        return false;
    if (prepared == DMC_NET_WAIT) {
        lane_of(transfer)->running--;
        wait_for_credentials(engine, transfer);
    } else {
        end_failed(engine, transfer);
    }
    return false;
}

void dmc_transfer_start(struct dmc_net_engine *engine, struct dmc_transfer *transfer)
{
    struct dmc_net_lane *lane = lane_of(transfer);
    transfer->state = DMC_TRANSFER_RUNNING;
    if (transfer->attempt_count == 0) /* waiting in the lane is no latency of the server */
        transfer->first_run_ns = dmc_clock_ns();
    transfer->hedges_left = DMC_NET_ATTEMPTS - 1;
    lane->running++;
    lane->newest_ns = dmc_max_u64(lane->newest_ns, transfer->age_ns);
    transfer->lane_was_full = lane->running + 1 >= (uint32_t)lane->limit;
    start_attempt(engine, transfer, false);
}

static void try_hedge(struct dmc_net_engine *engine, struct dmc_transfer *transfer)
{
    const struct dmc_attempt *first = transfer->attempts[0];
    bool whole =
        first && first->verdict == DMC_VERDICT_BODY && first->response.status != 206 && transfer->kind != DMC_RANGE_WHOLE;
    if (whole || transfer->too_long) {
        transfer->hedges_left = 0;
        return;
    }
    if (engine->attempts_out >= dmc_engine_attempts_max(engine) || !dmc_net_endpoint_hedge_take(transfer->endpoint)) {
        transfer->hedge_after_ns = dmc_clock_ns() + LOOK_AGAIN_NS;
        return;
    }
    transfer->hedges_left--;
    if (start_attempt(engine, transfer, true)) {
        dmc_net_count(&transfer->endpoint->hedges, 1);
        dmc_log(DMC_STORE, DAMACY_LOG_DEBUG, "%s: late, another request goes out", transfer->request->key);
    }
}

/* Try again after a while; transfer->error says why. `barren`: nothing came. `after_s`: what the server asked for, or UNKNOWN.
 */
static void try_later(struct dmc_net_engine *engine, struct dmc_transfer *transfer, bool barren, uint64_t after_s)
{
    const struct dmc_net_settings *settings = transfer->settings;
    struct dmc_net_endpoint *endpoint = transfer->endpoint;
    transfer->barren = barren ? transfer->barren + 1 : 0;
    uint32_t most = settings->retries_max;
    if (!dmc_net_endpoint_answered(endpoint) && most > UNKNOWN_RETRIES_MAX)
        most = UNKNOWN_RETRIES_MAX;
    if (transfer->barren > most || transfer->attempt_count >= ATTEMPTS_MAX) {
        end_failed(engine, transfer);
        return;
    }
    uint32_t doublings = transfer->barren > 1 ? transfer->barren - 1 : 0;
    uint64_t wait_ns = doublings < 20 ? settings->backoff_min_ns << doublings : settings->backoff_max_ns;
    wait_ns = dmc_min_u64(wait_ns, settings->backoff_max_ns);
    wait_ns = (uint64_t)((double)wait_ns * (barren ? 0.5 + 0.5 * dmc_engine_random(engine) : 0.1 * dmc_engine_random(engine)));
    if (after_s != DMC_HTTP_UNKNOWN)
        wait_ns = dmc_max_u64(wait_ns, after_s > 86400 ? 86400000000000u : after_s * 1000000000u);
    uint64_t now_ns = dmc_clock_ns();
    if (wait_ns >= transfer->deadline_ns - dmc_min_u64(now_ns, transfer->deadline_ns)) {
        if (after_s != DMC_HTTP_UNKNOWN)
            dmc_error_hint(&transfer->error, "it asks to be left alone for %llu s, which %s does not allow",
                           (unsigned long long)after_s, transfer->batch_deadline ? "batch_timeout" : "request_timeout");
        end_failed(engine, transfer);
        return;
    }
    dmc_log(DMC_STORE, DAMACY_LOG_DEBUG, "%s: %s; trying again in %.3f s", transfer->request->key, transfer->error.message,
            (double)wait_ns * SECOND);
    dmc_net_count(&endpoint->retries, 1);
    stop_running(engine, transfer);
    dmc_text_clear(&transfer->redirect); /* where it led may be over */
    dmc_engine_timer(engine, transfer, now_ns + wait_ns);
    dmc_engine_pump(engine, endpoint);
}

/* A stalled attempt is given up; if it was the last one, the transfer goes on later. false: the transfer is not running any
 * more. */
static bool check_stall(struct dmc_net_engine *engine, struct dmc_transfer *transfer, uint32_t which, uint64_t now_ns)
{
    struct dmc_attempt *attempt = transfer->attempts[which];
    const struct dmc_net_settings *settings = transfer->settings;
    if (!attempt || now_ns < attempt->window_ns + settings->stall_window_ns)
        return true;
    double seconds = (double)(now_ns - attempt->window_ns) * SECOND;
    if ((double)(attempt->body_bytes - attempt->window_bytes) >= (double)settings->stall_bytes_per_s * seconds) {
        attempt->window_ns = now_ns;
        attempt->window_bytes = attempt->body_bytes;
        return true;
    }
    bool barren = attempt->body_bytes == 0 || attempt->position == attempt->asked_begin;
    dmc_net_count(&transfer->endpoint->stalls, 1);
    dmc_error_set(&transfer->error, DAMACY_IO, "read", "%s for %.1f s",
                  attempt->first_ns ? "the body of the answer hardly moved" : "no answer came", seconds);
    bool hedge = attempt->hedge;
    drop_attempt(engine, transfer, which);
    if (hedge)
        dmc_net_endpoint_hedge_over(transfer->endpoint, false);
    if (count_attempts(transfer) > 0)
        return true;
    if (barren)
        dmc_net_endpoint_overload(transfer->endpoint, transfer->lane, now_ns);
    try_later(engine, transfer, barren, DMC_HTTP_UNKNOWN);
    return false;
}

void dmc_transfer_due(struct dmc_net_engine *engine, struct dmc_transfer *transfer)
{
    uint64_t now_ns = dmc_clock_ns();
    if (now_ns >= transfer->deadline_ns) {
        char last[400] = "";
        const struct damacy_error *before = transfer->leader ? &transfer->leader->error : &transfer->error;
        if (before->message[0] && before->status != DAMACY_OK)
            snprintf(last, sizeof last, "; before that: %.380s", before->message);
        if (transfer->batch_deadline)
            dmc_error_set(&transfer->error, DAMACY_IO, "read",
                          "not read within batch_timeout (%g s) of its batch's first read%s",
                          (double)transfer->settings->batch_timeout_ns * SECOND, last);
        else
            dmc_error_set(&transfer->error, DAMACY_IO, "read", "no whole answer within request_timeout (%g s)%s",
                          (double)transfer->settings->request_timeout_ns * SECOND, last);
        hand_over(engine, transfer); /* the others began later */
        end_failed(engine, transfer);
        return;
    }
    switch (transfer->state) {
    case DMC_TRANSFER_BACKOFF:
        dmc_transfer_queue(engine, transfer);
        return;
    case DMC_TRANSFER_QUEUED:
    case DMC_TRANSFER_CREDENTIALS:
    case DMC_TRANSFER_FOLLOWING:
    case DMC_TRANSFER_BORROWING:
        dmc_engine_timer(engine, transfer, transfer->deadline_ns);
        return;
    case DMC_TRANSFER_RUNNING:
        break;
    }
    if (transfer->covered >= transfer->length && !transfer->ask_size) { /* all there; only the connection dawdles */
        success(engine, transfer);
        return;
    }
    for (uint32_t i = 0; i < DMC_NET_ATTEMPTS; i++)
        if (!check_stall(engine, transfer, i, now_ns))
            return;
    if (hedge_due(transfer) <= now_ns)
        try_hedge(engine, transfer);
    dmc_transfer_plan_timer(engine, transfer);
}

/* --- an attempt is over --- */

/* What another try on another connection may mend. What libcurl tells of its options, of its own memory, of certificates, and
 * of encodings that nobody asked for is the same every time. */
static bool is_transient(CURLcode code)
{
    switch (code) {
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_CONNECT:
    case CURLE_WEIRD_SERVER_REPLY:
    case CURLE_PARTIAL_FILE:
    case CURLE_OPERATION_TIMEDOUT:
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_GOT_NOTHING:
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
    case CURLE_AGAIN:
    case CURLE_HTTP2:
    case CURLE_HTTP2_STREAM:
    case CURLE_NO_CONNECTION_AVAILABLE:
#if LIBCURL_VERSION_NUM >= 0x074900
    case CURLE_PROXY: /* a SOCKS proxy that cannot reach the server now, or refuses to: its code does not tell */
#endif
        return true;
    default:
        return false;
    }
}

static bool shows_overload(CURLcode code)
{
    return code == CURLE_COULDNT_CONNECT || code == CURLE_OPERATION_TIMEDOUT || code == CURLE_GOT_NOTHING;
}

static void curl_error(struct dmc_net_engine *engine, struct dmc_transfer *transfer, const struct dmc_attempt *attempt,
                       CURLcode code)
{
    dmc_error_set(&transfer->error, code == CURLE_OUT_OF_MEMORY ? DAMACY_OOM : DAMACY_IO, "read", "%s",
                  dmc_curl_reason(engine->curl, attempt->curl_error, code));
    if (code == CURLE_PEER_FAILED_VERIFICATION || code == CURLE_SSL_CACERT_BADFILE)
        dmc_error_hint(&transfer->error,
                       "if the server's certificate is your own organisation's, give its CA as ca_bundle in storage_options");
    else if (code == CURLE_SSL_CONNECT_ERROR)
        dmc_error_hint(&transfer->error, "does the server speak https at that port? http:// is for one that does not");
}

/* The question went out, and what came back does not begin as an answer in HTTP does. That may be stray bytes on a kept
 * connection, or a server that speaks something else: only more tries tell. */
static bool is_no_http(struct dmc_net_engine *engine, const struct dmc_attempt *attempt, CURLcode code)
{
    long sent_bytes = 0; /* none: libcurl does not know the url's scheme */
    return code == CURLE_WEIRD_SERVER_REPLY || (code == CURLE_WRITE_ERROR && attempt->kept_bytes > 0) ||
           (code == CURLE_UNSUPPORTED_PROTOCOL &&
            engine->curl->easy_getinfo(attempt->easy, CURLINFO_REQUEST_SIZE, &sent_bytes) == CURLE_OK && sent_bytes > 0);
}

#define SHOWN_BYTES 16u

/* The first word: enough to know a protocol by, and never what may be secret (a server that sends questions back would show
 * its query). */
static void show_word(const char *bytes, uint32_t count, char *text, size_t capacity)
{
    size_t used = 0;
    for (uint32_t i = 0; i < count && i < SHOWN_BYTES && (i == 0 || bytes[i] != ' '); i++) {
        unsigned char c = (unsigned char)bytes[i];
        if (c > ' ' && c < 0x7f && c != '"' && c != '\\')
            text[used++] = (char)c;
        else
            used += (size_t)snprintf(text + used, capacity - used, "\\x%02x", c);
    }
    text[used] = 0;
}

static void explain_no_http(struct dmc_net_engine *engine, struct dmc_transfer *transfer, const struct dmc_attempt *attempt,
                            CURLcode code)
{
    char word[4 * SHOWN_BYTES + 1];
    show_word(attempt->kept, attempt->kept_bytes, word, sizeof word);
    if (word[0])
        dmc_error_set(&transfer->error, DAMACY_IO, "read",
                      "what came is no answer in HTTP: it begins with \"%s\" instead of \"HTTP/\"", word);
    else
        dmc_error_set(&transfer->error, DAMACY_IO, "read", "what came is no answer in HTTP/1 or HTTP/2 (%s)",
                      dmc_curl_reason(engine->curl, attempt->curl_error, code));
    dmc_error_hint(&transfer->error, "do the uri's scheme (http or https), host and port lead to a web server?");
}

/* A proxy does not lead to the server, and would not the next time: said as such a status of the server's own. */
static bool is_forbidden_by_proxy(struct dmc_net_engine *engine, struct dmc_transfer *transfer,
                                  const struct dmc_attempt *attempt)
{
    long status = 0;
    if (engine->curl->easy_getinfo(attempt->easy, CURLINFO_HTTP_CONNECTCODE, &status) != CURLE_OK || status < 400 ||
        status >= 500 || status == 408 || status == 425 || status == 429)
        return false;
    dmc_error_set(&transfer->error, DAMACY_IO, "read", "the proxy does not lead to the server: it answered %ld", status);
    if (status == 407)
        dmc_error_hint(&transfer->error, "the proxy wants credentials");
    return true;
}

/* A line of headers that libcurl does not take. Before 8.6 it says of it what it says where memory is short: that it was not,
 * is seen from an answer that had begun, and from memory for such a line. on_header() knows of whole lines only. */
static bool is_line_too_long(struct dmc_net_engine *engine, const struct dmc_attempt *attempt, CURLcode code)
{
    curl_off_t answered_us = 0;
    if (code == TOO_LARGE)
        return true;
    if (code != CURLE_OUT_OF_MEMORY ||
        engine->curl->easy_getinfo(attempt->easy, CURLINFO_STARTTRANSFER_TIME_T, &answered_us) != CURLE_OK || answered_us == 0)
        return false;
    void *line = dmc_malloc(CURL_MAX_HTTP_HEADER);
    dmc_free(line);
    return line != NULL;
}

/* It ended without headers. */
static void explain_no_headers(struct dmc_net_engine *engine, struct dmc_transfer *transfer, struct dmc_attempt *attempt,
                               CURLcode code)
{
    bool again = code == CURLE_OK || is_transient(code);
    if (code == CURLE_OK) {
        dmc_error_set(&transfer->error, DAMACY_IO, "read", "the answer has no headers");
    } else if (is_no_http(engine, attempt, code)) {
        explain_no_http(engine, transfer, attempt, code);
        again = true;
    } else if (is_line_too_long(engine, attempt, code)) {
        dmc_error_set(&transfer->error, DAMACY_IO, "read", "the answer's headers have a line of more than %d KiB",
                      CURL_MAX_HTTP_HEADER / 1024);
        dmc_error_hint(&transfer->error, "libcurl takes none that is longer; do the uri's host and port lead to a web server?");
        again = true;
    } else if (is_forbidden_by_proxy(engine, transfer, attempt)) {
        again = false;
    } else {
        curl_error(engine, transfer, attempt, code);
        if (shows_overload(code))
            dmc_net_endpoint_overload(transfer->endpoint, transfer->lane, dmc_clock_ns());
    }
    if (again)
        try_later(engine, transfer, true, DMC_HTTP_UNKNOWN);
    else
        end_failed(engine, transfer);
}

static void restart(struct dmc_net_engine *engine, struct dmc_transfer *transfer)
{
    drop_attempts(engine, transfer);
    transfer->hedges_left = 0;
    start_attempt(engine, transfer, false);
}

static void redirect(struct dmc_net_engine *engine, struct dmc_transfer *transfer, struct dmc_attempt *attempt)
{
    const char *location = attempt->response.location;
    const char *wrong = location[0] ? NULL : "it does not say where to";
    dmc_net_count(&transfer->endpoint->redirects, 1);
    if (!wrong && ++transfer->redirects > REDIRECTS_MAX)
        wrong = "there are too many in a row";
    struct dmc_text target = {0};
    if (!wrong)
        wrong = dmc_http_redirect(attempt->url.data, location, &target);
    if (wrong) {
        dmc_error_set(&transfer->error, target.failed ? DAMACY_OOM : DAMACY_IO, "read", "a redirect (%u) is not followed: %s",
                      attempt->response.status, wrong);
        dmc_text_free(&target);
        end_failed(engine, transfer);
        return;
    }
    dmc_text_free(&transfer->redirect);
    transfer->redirect = target;
    restart(engine, transfer);
}

static void explain_status(struct dmc_net_engine *engine, struct dmc_transfer *transfer, struct dmc_attempt *attempt)
{
    struct dmc_net_endpoint *endpoint = transfer->endpoint;
    const struct dmc_http_response *response = &attempt->response;
    uint64_t now_ns = dmc_clock_ns(), after_s = response->retry_after_s;
    attempt->kept[attempt->kept_bytes] = 0;
    switch (transfer->store->service->advise(transfer->store, response, attempt->kept, &transfer->error)) {
    case DMC_NET_ABSENT:
        end(engine, transfer, DMC_OUTCOME_ABSENT, 0);
        return;
    case DMC_NET_PERMANENT:
        end_failed(engine, transfer);
        return;
    case DMC_NET_MENDED:
        if (++transfer->mends <= MENDS_MAX) {
            restart(engine, transfer);
            return;
        }
        dmc_error_set(&transfer->error, DAMACY_IO, "read",
                      "the server answered %u again and again, though it was asked as it wanted", response->status);
        end_failed(engine, transfer);
        return;
    case DMC_NET_TRANSIENT:
        break;
    }
    if (response->status == 429 || response->status == 503) {
        if (after_s != DMC_HTTP_UNKNOWN)
            dmc_net_endpoint_pause(endpoint, now_ns + dmc_min_u64(dmc_min_u64(after_s, 3600) * 1000000000u, PAUSE_MAX_NS));
        dmc_net_endpoint_overload(endpoint, transfer->lane, now_ns);
        dmc_net_count(&endpoint->throttled, 1);
    }
    try_later(engine, transfer, true, after_s);
}

/* Bytes of the object came, and now no more do. */
static void body_over(struct dmc_net_engine *engine, struct dmc_transfer *transfer, struct dmc_attempt *attempt, CURLcode code)
{
    if (attempt->overrun) {
        dmc_error_set(&transfer->error, DAMACY_IO, "read", "the server sends more bytes than it announced");
        try_later(engine, transfer, true, DMC_HTTP_UNKNOWN);
        return;
    }
    bool whole = attempt->response.status != 206 && code == CURLE_OK;
    if (transfer->too_long) {
        if (code == CURLE_OK)
            transfer->object_bytes = attempt->body_bytes;
        if (code == CURLE_OK || code == CURLE_WRITE_ERROR) {
            end(engine, transfer, DMC_OUTCOME_TOO_LONG, 0);
            return;
        }
        transfer->too_long = false;
    } else if (whole && transfer->length > transfer->covered && attempt->response.content_length == DMC_HTTP_UNKNOWN) {
        /* The end of the body is the end of the object, and nobody had said before where that would be. */
        transfer->object_bytes = attempt->body_bytes;
        transfer->length = attempt->position;
        transfer->truncated = transfer->kind != DMC_RANGE_WHOLE && transfer->length < transfer->own_bytes;
    }
    if (transfer->covered >= transfer->length) {
        uint64_t now_ns = dmc_clock_ns();
        dmc_net_endpoint_body(transfer->endpoint, attempt->body_bytes, now_ns - attempt->first_ns);
        for (uint32_t i = 1; i < DMC_NET_ATTEMPTS; i++)
            if (transfer->attempts[i])
                dmc_net_endpoint_hedge_over(transfer->endpoint, transfer->attempts[i] == attempt);
        if (attempt->hedge)
            dmc_net_count(&transfer->endpoint->hedges_won, 1);
        success(engine, transfer);
        return;
    }
    if (code != CURLE_OK)
        curl_error(engine, transfer, attempt, code);
    else
        dmc_error_set(&transfer->error, DAMACY_IO, "read", "the body ended %llu bytes too early",
                      (unsigned long long)(transfer->length - transfer->covered));
    if (code != CURLE_OK && !is_transient(code))
        end_failed(engine, transfer);
    else
        try_later(engine, transfer, attempt->position == attempt->asked_begin, DMC_HTTP_UNKNOWN);
}

/* An attempt that failed in a way that another try may mend, while others of the same transfer still run: just leave it. */
static bool other_goes_on(struct dmc_net_engine *engine, struct dmc_transfer *transfer, struct dmc_attempt *attempt,
                          CURLcode code)
{
    if (count_attempts(transfer) < 2)
        return false;
    bool conclusive;
    switch (attempt->verdict) {
    case DMC_VERDICT_BODY:
        conclusive = !attempt->overrun && (transfer->covered >= transfer->length || transfer->too_long ||
                                           (code == CURLE_OK && attempt->response.status != 206));
        break;
    case DMC_VERDICT_NONE:
    case DMC_VERDICT_BROKEN:
    case DMC_VERDICT_STATUS:
        conclusive = false; /* the others will tell whether it was this connection or not */
        break;
    default:
        conclusive = true;
    }
    if (conclusive)
        return false;
    uint32_t which = 0;
    while (transfer->attempts[which] != attempt)
        which++;
    if (attempt->verdict == DMC_VERDICT_STATUS && (attempt->response.status == 429 || attempt->response.status == 503))
        dmc_net_endpoint_overload(transfer->endpoint, transfer->lane, dmc_clock_ns());
    drop_attempt(engine, transfer, which);
    if (which > 0)
        dmc_net_endpoint_hedge_over(transfer->endpoint, false);
    dmc_transfer_plan_timer(engine, transfer);
    return true;
}

static void learn_version(struct dmc_net_engine *engine, struct dmc_net_endpoint *endpoint, struct dmc_attempt *attempt)
{
    long version = 0;
    if (engine->curl->easy_getinfo(attempt->easy, CURLINFO_HTTP_VERSION, &version) != CURLE_OK || !version)
        return;
    endpoint->http2 = version >= (long)CURL_HTTP_VERSION_2_0;
    if (version == (long)CURL_HTTP_VERSION_1_0)
        dmc_net_endpoint_closes(endpoint);
}

void dmc_transfer_attempt_over(struct dmc_net_engine *engine, struct dmc_attempt *attempt, CURLcode code)
{
    struct dmc_transfer *transfer = attempt->transfer;
    engine->curl->multi_remove_handle(engine->multi, attempt->easy);
    attempt->running = false;
    if (!transfer) /* given up meanwhile */
        return;
    if (!transfer->endpoint->http2 && code == CURLE_OK)
        learn_version(engine, transfer->endpoint, attempt);
    if (other_goes_on(engine, transfer, attempt, code))
        return;
    switch (attempt->verdict) {
    case DMC_VERDICT_NONE:
        explain_no_headers(engine, transfer, attempt, code);
        return;
    case DMC_VERDICT_BODY:
        body_over(engine, transfer, attempt, code);
        return;
    case DMC_VERDICT_SIZE:
    case DMC_VERDICT_ENDED:
        success(engine, transfer);
        return;
    case DMC_VERDICT_ABSENT:
        end(engine, transfer, DMC_OUTCOME_ABSENT, 0);
        return;
    case DMC_VERDICT_TRUNCATED:
        end(engine, transfer, DMC_OUTCOME_TRUNCATED, 0);
        return;
    case DMC_VERDICT_TOO_LONG:
        end(engine, transfer, DMC_OUTCOME_TOO_LONG, 0);
        return;
    case DMC_VERDICT_ALONE:
        leave_ahead(engine, transfer);
        if (transfer->covered >= transfer->length)
            success(engine, transfer);
        else
            restart(engine, transfer);
        return;
    case DMC_VERDICT_ASK_SIZE:
        transfer->ask_size = true;
        transfer->truncated = true;
        restart(engine, transfer);
        return;
    case DMC_VERDICT_REDIRECT:
        redirect(engine, transfer, attempt);
        return;
    case DMC_VERDICT_STATUS:
        explain_status(engine, transfer, attempt);
        return;
    case DMC_VERDICT_FAILED:
        end_failed(engine, transfer);
        return;
    case DMC_VERDICT_BROKEN:
        try_later(engine, transfer, true, DMC_HTTP_UNKNOWN);
        return;
    }
}
