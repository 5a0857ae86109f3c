#include "decode_emit.h"
#include "base/bytes.h"
#include <string.h>

#define COPY_BYTES_MAX 65536u /* a warp's work: longer ones are cut */

const uint32_t dmc_gd_kind_bytes[DMC_GD_KINDS] = {
    [DMC_GD_UNITS] = sizeof(struct dmc_gd_unit),         [DMC_GD_BLOCKS] = sizeof(struct dmc_gd_block),
    [DMC_GD_LZ4S] = sizeof(struct dmc_gd_stream),        [DMC_GD_COPIES] = sizeof(struct dmc_gd_stream),
    [DMC_GD_CHECKSUMS] = sizeof(struct dmc_gd_checksum), [DMC_GD_UNFILTERS] = sizeof(struct dmc_gd_unfilter),
    [DMC_GD_FOREIGNS] = sizeof(struct dmc_gd_foreign),
};

void *dmc_gd_emit_next(struct dmc_gd_emit *emit, enum dmc_gd_kind kind, uint32_t *reference)
{
    uint32_t index = emit->now.of[kind]++;
    uint32_t bytes = dmc_gd_kind_bytes[kind];
    uint64_t place = emit->first[kind] + (uint64_t)index * bytes;
    void *descriptor = &emit->nowhere;
    if (emit->table && index < emit->reserved->of[kind])
        descriptor = emit->table + place;
    else if (emit->table)
        emit->overflow = true;
    memset(descriptor, 0, bytes);
    if (reference)
        *reference = (uint32_t)(place / 16);
    return descriptor;
}

uint64_t dmc_gd_emit_scratch(struct dmc_gd_emit *emit, uint64_t bytes)
{
    uint64_t at = emit->scratch + emit->now.scratch_bytes;
    emit->now.scratch_bytes += dmc_round_up(bytes, 16);
    if (emit->table && emit->now.scratch_bytes > emit->reserved->scratch_bytes) {
        emit->overflow = true;
        return emit->scratch;
    }
    return at;
}

void dmc_gd_emit_copy(struct dmc_gd_emit *emit, const struct dmc_gd_part *part)
{
    for (uint64_t at = part->need_begin; at < part->need_end; at += COPY_BYTES_MAX) {
        struct dmc_gd_stream *copy = dmc_gd_emit_next(emit, DMC_GD_COPIES, NULL);
        copy->source = part->source_device + at;
        copy->target = part->target + at;
        copy->source_bytes = copy->target_bytes = copy->need_bytes = (uint32_t)dmc_min_u64(part->need_end - at, COPY_BYTES_MAX);
        copy->chunk = emit->chunk;
        copy->in_scratch = part->in_scratch;
    }
}

struct dmc_gd_foreign *dmc_gd_emit_foreign(struct dmc_gd_emit *emit, const struct dmc_gd_part *part,
                                           enum dmc_cuda_foreign_codec codec)
{
    struct dmc_gd_foreign *foreign = dmc_gd_emit_next(emit, DMC_GD_FOREIGNS, NULL);
    foreign->source = part->source_device;
    foreign->target = part->target;
    foreign->source_bytes = (uint32_t)part->source_bytes;
    foreign->target_bytes = (uint32_t)part->target_bytes;
    foreign->sum = DMC_GD_SUM_NONE;
    foreign->codec = (uint8_t)codec;
    foreign->chunk = emit->chunk;
    foreign->target_in_scratch = part->in_scratch;
    return foreign;
}

enum dmc_cuda_verdict dmc_gd_emit_lz4(struct dmc_gd_emit *emit, const struct dmc_gd_part *part)
{
    if (part->source_bytes == 0 || part->target_bytes == 0)
        return DMC_CUDA_DAMAGED;
    if (emit->foreign) {
        dmc_gd_emit_foreign(emit, part, DMC_CUDA_FOREIGN_LZ4);
        return DMC_CUDA_OK;
    }
    struct dmc_gd_stream *stream = dmc_gd_emit_next(emit, DMC_GD_LZ4S, NULL);
    stream->source = part->source_device;
    stream->target = part->target;
    stream->source_bytes = (uint32_t)part->source_bytes;
    stream->target_bytes = (uint32_t)part->target_bytes;
    stream->need_bytes = (uint32_t)part->need_end;
    stream->chunk = emit->chunk;
    stream->in_scratch = part->in_scratch;
    return DMC_CUDA_OK;
}

enum dmc_cuda_verdict dmc_gd_emit_chunk(struct dmc_gd_emit *emit, const struct dmc_cuda_chunk *chunk)
{
    const struct dmc_gd_part part = {
        .source = chunk->stored,
        .source_bytes = chunk->stored_bytes,
        .source_device = chunk->stored_device,
        .target = chunk->target_device,
        .target_bytes = chunk->chunk_bytes,
        .need_begin = chunk->need_begin,
        .need_end = dmc_min_u64(chunk->need_end, chunk->chunk_bytes),
    };
    if (chunk->chunk_bytes > DMC_CUDA_CHUNK_BYTES_MAX || chunk->stored_bytes > 2ull * DMC_CUDA_CHUNK_BYTES_MAX)
        return DMC_CUDA_UNSUPPORTED;
    if (part.need_begin >= part.need_end)
        return DMC_CUDA_OK;
    emit->foreign = chunk->foreign;
    emit->plane_element_bytes = chunk->planes ? chunk->planes->element_bytes : 0;
    switch (chunk->format) {
    case DMC_CUDA_ZSTD:
        return dmc_gd_emit_zstd(emit, &part);
    case DMC_CUDA_BLOSC:
        return dmc_gd_emit_blosc(emit, &part);
    case DMC_CUDA_LZ4:
        return dmc_gd_emit_lz4(emit, &part);
    case DMC_CUDA_LZ4_SIZED:
        return dmc_gd_emit_lz4_sized(emit, &part);
    case DMC_CUDA_GZIP:
        return dmc_gd_emit_gzip(emit, &part);
    case DMC_CUDA_ZLIB:
        return dmc_gd_emit_zlib(emit, &part);
    case DMC_CUDA_COPY:
        if (chunk->stored_bytes != chunk->chunk_bytes)
            return DMC_CUDA_DAMAGED;
        dmc_gd_emit_copy(emit, &part);
        return DMC_CUDA_OK;
    }
    return DMC_CUDA_UNSUPPORTED;
}
