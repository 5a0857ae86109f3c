/* Samples in. */
#include "base/error.h"
#include "pipeline/pipeline.h"

#include <string.h>

/* What needs no store to know: shapes, bounds, texts. *uri_bytes: all uris with their zeros. */
static enum damacy_status check_sample(const struct damacy *pipeline, const struct damacy_sample *sample, uint64_t *uri_bytes,
                                       struct damacy_error *error)
{
    *uri_bytes = 0;
    if (!sample->regions)
        return dmc_error_set(error, DAMACY_INVAL, "push", "a sample without regions");
    for (uint32_t f = 0; f < pipeline->home->field_count; f++) {
        const struct damacy_field *field = &pipeline->home->fields[f];
        const struct damacy_region *region = &sample->regions[f];
        enum damacy_status status = DAMACY_OK;
        size_t length = region->uri ? strnlen(region->uri, DAMACY_URI_BYTES_MAX + 1) : 0;
        if (length == 0) {
            status = dmc_error_set(error, DAMACY_INVAL, "push", "a sample without a uri");
        } else if (length > DAMACY_URI_BYTES_MAX) {
            status = dmc_error_set(error, DAMACY_INVAL, "push", "a uri of more than %d bytes", DAMACY_URI_BYTES_MAX);
        } else if (region->rank != field->rank) {
            status = dmc_error_set(error, DAMACY_RANK, "push", "the box has %u axes, the sample shape has %u", region->rank,
                                   field->rank);
            dmc_error_hint(error, "both need every axis of the array; where a single index is meant, the extent is 1");
        } else if (!region->aabb) {
            status = dmc_error_set(error, DAMACY_INVAL, "push", "a sample without a box");
        }
        for (uint32_t a = 0; status == DAMACY_OK && a < field->rank; a++) {
            struct damacy_interval interval = region->aabb[a];
            int64_t extent;
            if (__builtin_sub_overflow(interval.end, interval.begin, &extent) || extent != field->sample_shape[a])
                status = dmc_error_set(error, DAMACY_RANK, "push",
                                       "axis %u of the box is [%lld, %lld), the sample shape has %lld there", a,
                                       (long long)interval.begin, (long long)interval.end, (long long)field->sample_shape[a]);
            else if (interval.begin < 0)
                status = dmc_error_set(error, DAMACY_INVAL, "push", "axis %u of the box begins at %lld; indices count from 0",
                                       a, (long long)interval.begin);
        }
        if (status != DAMACY_OK) {
            if (length && length <= DAMACY_URI_BYTES_MAX)
                dmc_error_where(error, region->uri, NULL, 0, 0);
            dmc_error_field(error, field->name);
            return status;
        }
        *uri_bytes += length + 1;
    }
    return DAMACY_OK;
}

bool dmc_push_never_fits(const struct damacy *pipeline, uint64_t uri_bytes)
{
    const struct dmc_lookahead *lookahead = &pipeline->lookahead;
    return pipeline->open_count && lookahead->planned == pipeline->open_first &&
           lookahead->pushed - lookahead->taken < lookahead->lookahead_samples && !dmc_lookahead_room(lookahead, uri_bytes);
}

bool dmc_push_welcome(const struct damacy *pipeline)
{
    const struct dmc_lookahead *lookahead = &pipeline->lookahead;
    uint64_t uri_bytes = (uint64_t)pipeline->home->field_count * (DAMACY_URI_BYTES_MAX + 1);
    uint64_t free_samples = lookahead->lookahead_samples - (lookahead->pushed - lookahead->taken);
    if (dmc_lookahead_room(lookahead, uri_bytes))
        return free_samples >= lookahead->lookahead_samples / 2 || pipeline->running_count == 0 || pipeline->broken;
    return dmc_push_never_fits(pipeline, uri_bytes);
}

void dmc_push_tell(struct damacy *pipeline)
{
    if (pipeline->push_waiters && dmc_push_welcome(pipeline))
        dmc_cond_broadcast(&pipeline->changed);
}

/* There is no room: for now, or because the open batch alone fills the ring. */
static enum damacy_status refuse(const struct damacy *pipeline, uint64_t uri_bytes, struct damacy_error *error)
{
    const struct dmc_lookahead *lookahead = &pipeline->lookahead;
    if (!dmc_push_never_fits(pipeline, uri_bytes))
        return dmc_error_set(error, DAMACY_AGAIN, "push", "the lookahead is full (%u samples); push the rest later",
                             lookahead->lookahead_samples);
    dmc_error_set(error, DAMACY_BUDGET, "push", "the uris of one batch exceed the %llu bytes that the lookahead has for them",
                  (unsigned long long)lookahead->uri_capacity);
    dmc_error_hint(error, "raise lookahead_samples (128 bytes each a field), lower samples_per_batch, or flush");
    return DAMACY_BUDGET;
}

enum damacy_status damacy_push(struct damacy *pipeline, struct damacy_samples samples, struct damacy_samples *rest,
                               struct damacy_error *error)
{
    struct damacy_samples left = samples;
    if (rest)
        *rest = left;
    enum damacy_status status = dmc_pipeline_enter(pipeline, error);
    if (status != DAMACY_OK)
        return status;
    if (samples.count && !samples.data)
        status = dmc_error_set(error, DAMACY_INVAL, "push", "samples.data is NULL");
    struct dmc_lookahead *lookahead = &pipeline->lookahead;
    while (status == DAMACY_OK && left.count) {
        uint64_t uri_bytes;
        status = check_sample(pipeline, left.data, &uri_bytes, error);
        if (status == DAMACY_OK && !dmc_lookahead_room(lookahead, uri_bytes))
            status = refuse(pipeline, uri_bytes, error);
        if (status != DAMACY_OK)
            break;
        if (pipeline->open_count == 0)
            pipeline->open_first = lookahead->pushed;
        dmc_lookahead_push(lookahead, left.data, pipeline->closed_count);
        pipeline->flushed = false;
        pipeline->totals.samples_pushed++;
        if (++pipeline->open_count == pipeline->home->samples_per_batch)
            dmc_scheduler_close_locked(pipeline);
        left.data++;
        left.count--;
    }
    /* A prefetcher that may take no more for now will look at the ring when it may. */
    if (left.count != samples.count && dmc_lookahead_takeable(lookahead))
        dmc_pipeline_leave_and_wake(pipeline);
    else
        dmc_pipeline_leave(pipeline);
    if (rest)
        *rest = left;
    return status;
}

enum damacy_status damacy_flush(struct damacy *pipeline, struct damacy_error *error)
{
    enum damacy_status status = dmc_pipeline_enter(pipeline, error);
    if (status != DAMACY_OK)
        return status;
    if (pipeline->open_count)
        dmc_scheduler_close_locked(pipeline);
    pipeline->flushed = true;
    dmc_cond_broadcast(&pipeline->changed); /* pop may say END now */
    dmc_pipeline_leave_and_wake(pipeline);
    return DAMACY_OK;
}
