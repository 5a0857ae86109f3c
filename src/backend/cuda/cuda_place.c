/* See cuda_place.h. */
#include "backend/cuda/cuda_place.h"
#include "backend/chunk_check.h"
#include "base/bytes.h"
#include "base/clock.h"
#include "base/crc32c.h"
#include "base/error.h"

#include <string.h>

/* After so many full tables a chunk is the CPU's: it must be one that fits no table. */
#define FULL_MAX 3u

enum step { STEP_DONE, STEP_NO_ROOM };

/* --- room in waves --- */

bool dmc_place_reserve(struct dmc_cuda_reader *reader, const struct dmc_wave_room *room, struct dmc_wave_place *place)
{
    struct dmc_cuda_engine *engine = reader->engine;
    dmc_mutex_lock(&engine->lock);
    bool found = engine->filling && dmc_wave_reserve_locked(engine->filling, room, place);
    reader->wants_room = !found; /* partner: open_wave in cuda_backend.c, which wakes us */
    if (!found)
        dmc_cond_signal(&engine->changed);
    dmc_mutex_unlock(&engine->lock);
    return found;
}

void dmc_place_written(struct dmc_cuda_reader *reader, const struct dmc_wave_place *place, bool full)
{
    struct dmc_cuda_engine *engine = reader->engine;
    dmc_mutex_lock(&engine->lock);
    place->wave->full = place->wave->full || full;
    place->wave->written++;
    if (--place->wave->writers == 0 && place->wave->state == DMC_WAVE_CLOSED)
        dmc_cond_signal(&engine->changed);
    dmc_mutex_unlock(&engine->lock);
}

/* --- one chunk --- */

struct placing {
    struct dmc_cuda_reader *reader;
    struct dmc_cuda_job *job;
    const struct dmc_backend_array *array;
    const struct dmc_chunk *chunk;
    const uint8_t *data; /* stored bytes */
    uint64_t data_bytes;
};

const struct dmc_cuda_codec *dmc_place_codec(const struct dmc_cuda_engine *engine, const struct dmc_codec_chain *chain)
{
    uint32_t step = 0;
    if (engine->options.decode == DMC_CUDA_CPU)
        return NULL;
    while (dmc_codec_step_name(chain, step) && strcmp(dmc_codec_step_name(chain, step), "crc32c") == 0)
        step++;
    const char *name = dmc_codec_step_name(chain, step);
    const struct dmc_cuda_codec *codec = name && !dmc_codec_step_name(chain, step + 1) ? dmc_cuda_codec_find(name) : NULL;
    return codec && codec->foreign && !dmc_cuda_device_nvcomp(engine->device, NULL) ? NULL : codec;
}

/* decode="gpu", and the library that could is not here: an error of the chunk. */
static bool library_missing(const struct placing *placing)
{
    struct dmc_cuda_reader *reader = placing->reader;
    const struct dmc_codec_chain *chain = placing->array->chain;
    const char *reason = "", *name;
    if (reader->engine->options.decode != DMC_CUDA_GPU || placing->job->cpu)
        return false;
    for (uint32_t step = 0; (name = dmc_codec_step_name(chain, step)) != NULL; step++) {
        const struct dmc_cuda_codec *codec = dmc_cuda_codec_find(name);
        if (!codec || !codec->foreign || dmc_cuda_device_nvcomp(reader->engine->device, &reason))
            continue;
        dmc_error_set(&reader->error, DAMACY_UNSUPPORTED, "decode",
                      "decode is forced to the GPU, but nvcomp, which decodes %s there, is missing: %s", name, reason);
        dmc_error_hint(&reader->error, "%s; or use decode=\"auto\"", DMC_NVCOMP_MEND);
        return true;
    }
    return false;
}

/* May the device decode this chunk, as far as its codecs tell? Cuts off a checksum that was checked. */
static bool device_format(const struct placing *placing, enum dmc_cuda_format *format, uint64_t *stored_bytes)
{
    const struct dmc_codec_chain *chain = placing->array->chain;
    *stored_bytes = placing->data_bytes;
    if (placing->job->cpu || placing->job->cores || placing->chunk->chunk_bytes > DMC_CUDA_CHUNK_BYTES_MAX ||
        placing->data_bytes > chain->stored_bytes_max)
        return false;
    const struct dmc_cuda_codec *codec = dmc_place_codec(placing->reader->engine, chain);
    for (uint32_t step = 0; codec && strcmp(dmc_codec_step_name(chain, step), "crc32c") == 0; step++) {
        if (*stored_bytes < 4)
            return false;
        *stored_bytes -= 4;
        if (dmc_crc32c(placing->data, *stored_bytes) != dmc_load_u32le(placing->data + *stored_bytes))
            return false; /* the CPU says so */
    }
    if (codec)
        *format = codec->format;
    return codec;
}

/* Note who is finished when the wave is. The job still holds one of `remaining`, so it never comes from 0. */
static void enter(const struct placing *placing, const struct dmc_wave_place *place, uint32_t read, uint32_t status)
{
    atomic_fetch_add_explicit(&placing->job->batch->remaining, 1, memory_order_relaxed);
    place->wave->entries[place->entry] = (struct dmc_wave_entry){placing->job->batch, read, placing->job->chunk, status};
}

/* Describe a chunk to the wave's decoder; its stored bytes go, or went, to place->stored. */
static enum dmc_cuda_verdict add_to_wave(const struct placing *placing, const struct dmc_wave_place *place,
                                         enum dmc_cuda_format format, uint64_t stored_bytes, uint64_t stored_device,
                                         struct dmc_wave_source *source)
{
    const struct dmc_chunk *chunk = placing->chunk;
    const bool whole = placing->reader->engine->options.verify_full;
    *source = (struct dmc_wave_source){
        .chunk_device = dmc_wave_decoded_device(place),
        .chunk_bytes = chunk->chunk_bytes,
        .planes = {.element_bytes = (uint32_t)damacy_dtype_bytes(placing->array->zarr->dtype)},
        .status = DMC_PIECE_STATUS_NONE,
    };
    if (placing->reader->engine->options.bypass_decode)
        return DMC_CUDA_OK;
    struct dmc_cuda_chunk described = {
        .format = format,
        .stored = placing->data,
        .stored_bytes = stored_bytes,
        .stored_device = stored_device,
        .target_device = source->chunk_device,
        .chunk_bytes = chunk->chunk_bytes,
        .need_begin = whole ? 0 : chunk->need_begin,
        .need_end = whole ? chunk->chunk_bytes : chunk->need_end,
        .planes = &source->planes,
        .foreign = placing->reader->engine->options.nvcomp && dmc_cuda_device_nvcomp(placing->reader->engine->device, NULL),
    };
    enum dmc_cuda_verdict verdict = dmc_cuda_wave_add(place->wave->decode, &described, &source->status);
    if (verdict == DMC_CUDA_OK)
        dmc_placement_count_device(&placing->reader->engine->placement, dmc_placement_kind_of(format, chunk->chunk_bytes),
                                   chunk->chunk_bytes);
    return verdict;
}

enum device_answer { DEVICE_DONE, DEVICE_NO_ROOM, DEVICE_CANNOT };

/* Pieces [job->piece, *piece_end) of a chunk that the device decodes. */
static enum device_answer place_stored(struct placing *placing, enum dmc_cuda_format format, uint64_t stored_bytes,
                                       uint32_t *piece_end)
{
    struct dmc_cuda_reader *reader = placing->reader;
    struct dmc_cuda_job *job = placing->job;
    const struct dmc_wave_limits *limits = &reader->engine->options.wave;
    for (;;) {
        struct dmc_wave_room room = {
            .stored_bytes = stored_bytes,
            .decoded_bytes = dmc_wave_decoded_bytes(placing->chunk->chunk_bytes),
            .entries = 1,
        };
        *piece_end = dmc_wave_measure(limits, job->batch, job->piece, placing->chunk->piece_end, &room);
        if (!dmc_wave_fits(limits, &room) || job->full_count >= FULL_MAX)
            return DEVICE_CANNOT;
        struct dmc_wave_place place;
        struct dmc_wave_source source;
        if (!dmc_place_reserve(reader, &room, &place))
            return DEVICE_NO_ROOM;
        memcpy(dmc_wave_stored(&place), placing->data, stored_bytes);
        enum dmc_cuda_verdict verdict =
            add_to_wave(placing, &place, format, stored_bytes, dmc_wave_stored_device(&place), &source);
        if (verdict == DMC_CUDA_OK) {
            dmc_wave_write_pieces(&place, job->batch, placing->array, job->piece, *piece_end, &source);
            enter(placing, &place, job->read, source.status);
            dmc_place_written(reader, &place, false);
            return DEVICE_DONE;
        }
        dmc_wave_write_nothing(&place, &room);
        dmc_place_written(reader, &place, verdict == DMC_CUDA_FULL);
        if (verdict != DMC_CUDA_FULL)
            return DEVICE_CANNOT;
        job->full_count++;
    }
}

/* Tell that the chunk is bad, with placing->reader->error. */
static void fail_chunk(struct placing *placing)
{
    struct dmc_cuda_job *job = placing->job;
    const struct dmc_read *read = &job->batch->plan.reads[job->read];
    struct dmc_cuda_reader *reader = placing->reader;
    dmc_chunk_where(job->batch, read, placing->chunk, dmc_chunk_stored_bytes(read, placing->chunk, &job->request),
                    &reader->error);
    if (!atomic_load_explicit(&reader->engine->stop, memory_order_relaxed))
        dmc_chunk_fail(&reader->engine->hooks, job->batch, placing->chunk, &reader->error);
}

/* Pieces of a chunk whose decoded bytes, or a span of them, come from here. A failed chunk is done, too. */
static enum step place_decoded(struct placing *placing, uint32_t *piece_end)
{
    struct dmc_cuda_reader *reader = placing->reader;
    struct dmc_cuda_job *job = placing->job;
    const struct dmc_wave_limits *limits = &reader->engine->options.wave;
    const struct dmc_codec_chain *chain = placing->array->chain;
    /* A span begins anywhere in its chunk: keep the chunk's alignment, so that elements stay aligned. */
    uint64_t skew = chain->raw ? placing->chunk->part_begin % 64 : 0;
    struct dmc_wave_room room = {
        .stored_bytes = chain->raw ? placing->data_bytes + skew : placing->chunk->chunk_bytes,
        .entries = 1,
    };
    *piece_end = dmc_wave_measure(limits, job->batch, job->piece, placing->chunk->piece_end, &room);
    struct dmc_wave_place place;
    if (!dmc_wave_fits(limits, &room)) {
        dmc_error_set(&reader->error, DAMACY_BUDGET, "decode",
                      "a decoded chunk of %llu bytes does not fit a wave of %llu bytes", (unsigned long long)room.stored_bytes,
                      (unsigned long long)limits->stored_bytes);
        dmc_error_hint(&reader->error, "raise max_gpu_memory_bytes and max_host_memory_bytes");
        fail_chunk(placing);
        *piece_end = placing->chunk->piece_end;
        return STEP_DONE;
    }
    if (!dmc_place_reserve(reader, &room, &place))
        return STEP_NO_ROOM;
    uint8_t *target = dmc_wave_stored(&place);
    uint64_t device = dmc_wave_stored_device(&place);
    enum damacy_status status = DAMACY_OK;
    if (chain->raw) {
        memcpy(target + skew, placing->data, placing->data_bytes);
        device += skew - placing->chunk->part_begin; /* only an address, never read before the span */
    } else if (!reader->engine->options.bypass_decode) {
        uint64_t begin_ns = dmc_clock_ns();
        struct dmc_decode decode = {
            .source = placing->data,
            .source_bytes = placing->data_bytes,
            .target = target,
            .chunk_bytes = placing->chunk->chunk_bytes,
            .need_begin = placing->chunk->need_begin,
            .need_end = placing->chunk->need_end,
            .verify_full = reader->engine->options.verify_full,
        };
        atomic_store_explicit(&reader->computing, true, memory_order_relaxed);
        status = dmc_codec_decode(chain, reader->codec, &decode, &reader->error);
        atomic_store_explicit(&reader->computing, false, memory_order_relaxed);
        uint64_t decode_ns = dmc_clock_ns() - begin_ns;
        dmc_counter_add(&reader->decode, 1, placing->chunk->need_end - placing->chunk->need_begin, decode_ns);
        const struct dmc_cuda_codec *codec = dmc_place_codec(reader->engine, chain);
        if (codec)
            dmc_placement_count_cores(&reader->engine->placement,
                                      dmc_placement_kind_of(codec->format, placing->chunk->chunk_bytes),
                                      placing->chunk->chunk_bytes, decode_ns);
    }
    if (status != DAMACY_OK) {
        dmc_wave_write_nothing(&place, &room);
        dmc_place_written(reader, &place, false);
        fail_chunk(placing);
        *piece_end = placing->chunk->piece_end;
        return STEP_DONE;
    }
    const struct dmc_wave_source source = {.chunk_device = device, .status = DMC_PIECE_STATUS_NONE};
    dmc_wave_write_pieces(&place, job->batch, placing->array, job->piece, *piece_end, &source);
    enter(placing, &place, DMC_WAVE_READ_NONE, DMC_PIECE_STATUS_NONE);
    dmc_place_written(reader, &place, false);
    return STEP_DONE;
}

static enum step place_fill(struct placing *placing, uint32_t *piece_end)
{
    struct dmc_cuda_job *job = placing->job;
    struct dmc_wave_room room = {.entries = 1};
    *piece_end =
        dmc_wave_measure(&placing->reader->engine->options.wave, job->batch, job->piece, placing->chunk->piece_end, &room);
    struct dmc_wave_place place;
    if (!dmc_place_reserve(placing->reader, &room, &place))
        return STEP_NO_ROOM;
    const struct dmc_wave_source source = {.status = DMC_PIECE_STATUS_NONE, .fill = true};
    dmc_wave_write_pieces(&place, job->batch, placing->array, job->piece, *piece_end, &source);
    enter(placing, &place, DMC_WAVE_READ_NONE, DMC_PIECE_STATUS_NONE);
    dmc_place_written(placing->reader, &place, false);
    if (job->piece == placing->chunk->piece_begin)
        dmc_counter_add(&placing->reader->fill, 1, 0, 0);
    return STEP_DONE;
}

/* The job's current chunk, from its current piece on. */
static enum step place_chunk(struct placing *placing, enum dmc_chunk_verdict verdict)
{
    struct dmc_cuda_job *job = placing->job;
    while (job->piece < placing->chunk->piece_end) {
        uint32_t piece_end = job->piece;
        enum step step = STEP_DONE;
        enum device_answer answer = DEVICE_CANNOT;
        enum dmc_cuda_format format;
        uint64_t stored_bytes;
        if (verdict == DMC_CHUNK_FILL) {
            step = place_fill(placing, &piece_end);
        } else {
            if (!placing->array->chain->raw && device_format(placing, &format, &stored_bytes))
                answer = place_stored(placing, format, stored_bytes, &piece_end);
            if (answer == DEVICE_CANNOT && library_missing(placing)) {
                fail_chunk(placing);
                piece_end = placing->chunk->piece_end;
            } else if (answer == DEVICE_CANNOT) {
                step = place_decoded(placing, &piece_end);
            } else if (answer == DEVICE_NO_ROOM) {
                step = STEP_NO_ROOM;
            }
        }
        if (step == STEP_NO_ROOM)
            return STEP_NO_ROOM;
        job->piece = piece_end;
    }
    return STEP_DONE;
}

/* The job's current chunk: where its bytes are, if they are. A chunk that fails is told of. */
static enum dmc_chunk_verdict look_at_chunk(struct dmc_cuda_reader *reader, struct dmc_cuda_job *job, struct placing *placing)
{
    struct dmc_backend_batch *batch = job->batch;
    const struct dmc_chunk *chunk = &batch->plan.chunks[job->chunk];
    *placing = (struct placing){.reader = reader, .job = job, .array = chunk->array->user, .chunk = chunk};
    if (job->read == DMC_WAVE_READ_NONE)
        return DMC_CHUNK_FILL;
    const struct dmc_read *read = &batch->plan.reads[job->read];
    placing->data = job->data + chunk->stored_offset;
    placing->data_bytes = dmc_chunk_stored_bytes(read, chunk, &job->request);
    enum dmc_chunk_verdict verdict = dmc_chunk_check(batch, read, chunk, &job->request, &job->error, &reader->error);
    if (verdict == DMC_CHUNK_FAIL)
        dmc_chunk_fail(&reader->engine->hooks, batch, chunk, &reader->error);
    return verdict;
}

bool dmc_place_job(struct dmc_cuda_reader *reader, struct dmc_cuda_job *job)
{
    for (; job->chunk < job->chunk_end; job->chunk++) {
        if (atomic_load_explicit(&reader->engine->stop, memory_order_relaxed))
            return false; /* the batch never ends; destroy is waiting */
        struct placing placing;
        enum dmc_chunk_verdict verdict = look_at_chunk(reader, job, &placing);
        if (job->piece < placing.chunk->piece_begin)
            job->piece = placing.chunk->piece_begin;
        if (verdict != DMC_CHUNK_FAIL && place_chunk(&placing, verdict) == STEP_NO_ROOM)
            return false;
        job->piece = 0;
        job->full_count = 0;
    }
    return true;
}

/* One chunk whose bytes are in the wave. false: the device cannot, or has no room; then nothing is placed. `full` is or-ed. */
static bool place_landed_chunk(struct placing *placing, enum dmc_chunk_verdict verdict, bool *full)
{
    struct dmc_cuda_job *job = placing->job;
    struct dmc_wave_place *place = &job->landing;
    const struct dmc_chunk *chunk = placing->chunk;
    const uint64_t device = place->wave->memory + (uint64_t)(placing->data - place->wave->pinned);
    enum dmc_cuda_format format;
    uint64_t stored_bytes;
    struct dmc_wave_source source = {.status = DMC_PIECE_STATUS_NONE};
    if (verdict == DMC_CHUNK_FILL) {
        dmc_counter_add(&placing->reader->fill, 1, 0, 0);
        source.fill = true;
    } else if (placing->array->chain->raw) {
        source.chunk_device = device - chunk->part_begin;
    } else {
        if (!device_format(placing, &format, &stored_bytes))
            return false;
        enum dmc_cuda_verdict answer = add_to_wave(placing, place, format, stored_bytes, device, &source);
        if (answer != DMC_CUDA_OK) {
            *full = *full || answer == DMC_CUDA_FULL;
            return false;
        }
        place->decoded += dmc_wave_decoded_bytes(chunk->chunk_bytes);
    }
    dmc_wave_write_pieces(place, job->batch, placing->array, chunk->piece_begin, chunk->piece_end, &source);
    enter(placing, place, source.status == DMC_PIECE_STATUS_NONE ? DMC_WAVE_READ_NONE : job->read, source.status);
    place->entry++;
    return true;
}

bool dmc_place_landed(struct dmc_cuda_reader *reader, struct dmc_cuda_job *job, bool *full)
{
    for (; job->chunk < job->chunk_end; job->chunk++) {
        struct placing placing;
        enum dmc_chunk_verdict verdict = look_at_chunk(reader, job, &placing);
        if (verdict == DMC_CHUNK_FAIL) {
            struct dmc_wave_room room = {0};
            dmc_wave_measure(&reader->engine->options.wave, job->batch, placing.chunk->piece_begin, placing.chunk->piece_end,
                             &room);
            dmc_wave_write_nothing(&job->landing, &room);
            job->landing.entry++;
        } else if (!place_landed_chunk(&placing, verdict, full)) {
            return false;
        }
    }
    return true;
}
