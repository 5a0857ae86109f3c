/* blosc chunks, on the host: which streams are needed, and where their bytes go. The format is in codec/blosc_layout.h; what is
 * needed for which bytes is as in codec/codec_blosc.c.
 *
 * A block without filter decodes in place, and so does a shuffled one where the caller takes the elements' bytes (or bits) from
 * their planes: assemble does, if all blocks are of its elements. Else a shuffled block decodes into scratch memory, from where
 * a last kernel brings them together. */
#include "base/bytes.h"
#include "codec/blosc_layout.h"
#include "decode_emit.h"

#define UNFILTER_BYTES 16384u /* a thread block's work */

struct blosc {
    const struct dmc_gd_part *part;
    struct dmc_blosc_layout layout;
    bool planes; /* shuffled blocks stay as they are */
};

/* The stream at *at, which moves behind it. */
static bool stream_next(const struct blosc *blosc, uint64_t *at, uint64_t *stored)
{
    if (blosc->layout.stored_bytes - *at < 4)
        return false;
    *stored = dmc_load_u32le(blosc->part->source + *at);
    *at += 4;
    return *stored <= blosc->layout.stored_bytes - *at;
}

/* The streams of a block, each of stream_bytes: to target + i * stream_bytes. [begin, end) of the block are needed; of a
 * shuffled one the first stream_need of each stream. */
static enum dmc_cuda_verdict streams_emit(struct dmc_gd_emit *emit, const struct blosc *blosc, uint64_t at, uint32_t count,
                                          uint64_t stream_bytes, uint64_t target, bool in_scratch, bool filtered,
                                          uint64_t begin, uint64_t end, uint64_t stream_need)
{
    for (uint32_t i = 0; i < count; i++) {
        uint64_t stored, from = i * stream_bytes;
        if (!filtered && from >= end)
            break;
        if (!stream_next(blosc, &at, &stored))
            return DMC_CUDA_DAMAGED;
        struct dmc_gd_part part = {
            .source = blosc->part->source + at,
            .source_bytes = stored,
            .source_device = blosc->part->source_device + at,
            .target = target + from,
            .target_bytes = stream_bytes,
            .need_end = stream_need,
            .in_scratch = in_scratch,
        };
        at += stored;
        if (!filtered) {
            if (from + stream_bytes <= begin)
                continue;
            part.need_begin = begin > from ? begin - from : 0;
            part.need_end = dmc_min_u64(end - from, stream_bytes);
        }
        enum dmc_cuda_verdict verdict = DMC_CUDA_OK;
        if (stored == stream_bytes)
            dmc_gd_emit_copy(emit, &part);
        else if (blosc->layout.inner == DMC_BLOSC_ZSTD)
            verdict = dmc_gd_emit_zstd(emit, &part);
        else
            verdict = dmc_gd_emit_lz4(emit, &part);
        if (verdict)
            return verdict;
    }
    return DMC_CUDA_OK;
}

/* Bring together what is needed of a shuffled block in scratch memory. */
static void unfilter_emit(struct dmc_gd_emit *emit, const struct blosc *blosc, uint64_t source, uint64_t target, uint64_t bytes,
                          uint64_t begin, uint64_t end)
{
    uint32_t typesize = blosc->layout.typesize;
    uint64_t elements = bytes / typesize, tail = elements * typesize;
    uint64_t first = begin / typesize / 8 * 8; /* by eights, as bits need it */
    uint64_t last = dmc_min_u64(dmc_round_up(dmc_ceil_div(end, typesize), 8), elements);
    uint64_t step = dmc_round_up(dmc_max_u64(UNFILTER_BYTES / typesize, 1), 8);
    if (first >= last && end <= tail)
        return;
    first = dmc_min_u64(first, last);
    do {
        struct dmc_gd_unfilter *unfilter = dmc_gd_emit_next(emit, DMC_GD_UNFILTERS, NULL);
        unfilter->source = source;
        unfilter->target = target;
        unfilter->typesize = typesize;
        unfilter->elements = (uint32_t)elements;
        unfilter->begin = (uint32_t)first;
        unfilter->end = (uint32_t)dmc_min_u64(first + step, last);
        unfilter->bits = !blosc->layout.byte_shuffle;
        unfilter->chunk = emit->chunk;
        first += step;
        if (first >= last && end > tail)
            unfilter->tail_bytes = (uint32_t)(bytes - tail);
    } while (first < last);
}

static enum dmc_cuda_verdict block_emit(struct dmc_gd_emit *emit, const struct blosc *blosc, uint64_t block, uint64_t begin,
                                        uint64_t end)
{
    const struct dmc_blosc_layout *layout = &blosc->layout;
    uint64_t block_at = block * layout->block_bytes, bytes = dmc_min_u64(layout->block_bytes, layout->bytes - block_at);
    uint32_t count = layout->split && bytes == layout->block_bytes ? layout->typesize : 1;
    uint64_t stream_bytes = bytes / count, elements = bytes / layout->typesize;
    uint64_t at = dmc_load_u32le(blosc->part->source + DMC_BLOSC_HEADER_BYTES + 4 * block);
    if (at < DMC_BLOSC_HEADER_BYTES + 4 * layout->block_count || at > layout->stored_bytes)
        return DMC_CUDA_DAMAGED;
    bool filtered = elements > 0 && (layout->byte_shuffle || (layout->bit_shuffle && elements % 8 == 0));
    uint64_t target = blosc->part->target + block_at;
    if (!filtered)
        return streams_emit(emit, blosc, at, count, stream_bytes, target, blosc->part->in_scratch, false, begin, end, 0);
    /* The first elements' bytes are the first of each stream, or of each plane of an unsplit block; their bits are all over it.
     */
    uint64_t element_end = dmc_min_u64(dmc_round_up(dmc_ceil_div(end, layout->typesize), 8), elements);
    uint64_t stream_need = stream_bytes;
    if (layout->byte_shuffle && count > 1)
        stream_need = element_end;
    else if (layout->byte_shuffle && end <= elements * layout->typesize)
        stream_need = (layout->typesize - 1) * elements + element_end;
    if (blosc->planes)
        return streams_emit(emit, blosc, at, count, stream_bytes, target, blosc->part->in_scratch, true, begin, end,
                            stream_need);
    uint64_t scratch = dmc_gd_emit_scratch(emit, bytes + 16);
    enum dmc_cuda_verdict verdict =
        streams_emit(emit, blosc, at, count, stream_bytes, scratch, true, true, begin, end, stream_need);
    if (!verdict)
        unfilter_emit(emit, blosc, scratch, target, bytes, begin, end);
    return verdict;
}

/* Are the elements that the caller loads those of every block? Then nothing is behind the last element of a block, and where
 * bits are shuffled, they are in all blocks. */
static bool planes_fit(const struct dmc_blosc_layout *layout, uint32_t element_bytes)
{
    uint64_t multiple = (uint64_t)element_bytes * (layout->bit_shuffle ? 8 : 1);
    return (layout->byte_shuffle || layout->bit_shuffle) && layout->typesize == element_bytes &&
           layout->bytes % multiple == 0 && (layout->block_count == 1 || layout->block_bytes % multiple == 0);
}

enum dmc_cuda_verdict dmc_gd_emit_blosc(struct dmc_gd_emit *emit, const struct dmc_gd_part *part)
{
    struct blosc blosc = {.part = part};
    struct dmc_blosc_layout *layout = &blosc.layout;
    enum damacy_status status = dmc_blosc_layout_parse(part->source, part->source_bytes, layout, NULL);
    if (status)
        return status == DAMACY_UNSUPPORTED ? DMC_CUDA_UNSUPPORTED : DMC_CUDA_DAMAGED;
    if (layout->stored_bytes != part->source_bytes || layout->bytes != part->target_bytes)
        return DMC_CUDA_DAMAGED;
    if (layout->memcpyed) {
        struct dmc_gd_part copy = *part;
        copy.source_device += DMC_BLOSC_HEADER_BYTES;
        dmc_gd_emit_copy(emit, &copy);
        return DMC_CUDA_OK;
    }
    if (layout->inner != DMC_BLOSC_ZSTD && layout->inner != DMC_BLOSC_LZ4)
        return DMC_CUDA_UNSUPPORTED;
    blosc.planes = planes_fit(layout, emit->plane_element_bytes);
    if (blosc.planes) {
        emit->now.plane_block_bytes = (uint32_t)dmc_min_u64(layout->block_bytes, layout->bytes);
        emit->now.plane_bits = layout->bit_shuffle;
    }
    for (uint64_t block = part->need_begin / layout->block_bytes; block * layout->block_bytes < part->need_end; block++) {
        uint64_t block_at = block * layout->block_bytes;
        uint64_t begin = part->need_begin > block_at ? part->need_begin - block_at : 0;
        uint64_t end = dmc_min_u64(part->need_end - block_at, layout->block_bytes);
        enum dmc_cuda_verdict verdict = block_emit(emit, &blosc, block, begin, end);
        if (verdict)
            return verdict;
    }
    return DMC_CUDA_OK;
}
