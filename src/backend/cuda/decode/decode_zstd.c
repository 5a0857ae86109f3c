/* The headers of zstd frames (RFC 8878), on the host.
 *
 *     frame      magic u32, descriptor u8, [window u8], [dictionary id], [content size], blocks, [checksum u32]
 *     block      u24: last 1 bit, type 2, size 21; then the content
 *     content    literals: header (type 2 bits, size format 2, sizes), [tree], streams
 *                sequences: count (1 to 3 bytes), modes u8, up to three tables, bits read from the end
 *
 * Whatever is not exactly as libzstd would write or read it is left to the CPU: being strict here costs nothing but time. */
#include "base/bytes.h"
#include "decode_emit.h"

#define MAGIC 0xFD2FB528u
#define MAGIC_SKIPPABLE 0x184D2A50u
#define MATCH_BYTES_MIN 3

struct frame {
    bool skippable;
    bool checksum;
    bool sized; /* it says how much it decodes to */
    uint64_t content_bytes;
    uint64_t blocks_at; /* from the frame's beginning */
    uint64_t bytes;     /* of the frame, checksum included */
    uint32_t block_bytes_max;
    uint32_t block_count;
    bool has_content; /* a block that is not empty */
};

struct reader {
    const uint8_t *data;
    uint64_t bytes;
};

static uint32_t load_u24le(const uint8_t *p)
{
    return (uint32_t)(p[0] | p[1] << 8 | p[2] << 16);
}

static enum dmc_cuda_verdict frame_header(const struct reader *reader, struct frame *frame)
{
    const uint8_t *p = reader->data;
    if (reader->bytes < 8)
        return reader->bytes >= 4 && dmc_load_u32le(p) == MAGIC ? DMC_CUDA_UNSUPPORTED : DMC_CUDA_DAMAGED;
    uint32_t magic = dmc_load_u32le(p);
    *frame = (struct frame){0};
    if ((magic & 0xFFFFFFF0u) == MAGIC_SKIPPABLE) {
        frame->skippable = true;
        frame->bytes = 8 + (uint64_t)dmc_load_u32le(p + 4);
        return frame->bytes <= reader->bytes ? DMC_CUDA_OK : DMC_CUDA_DAMAGED;
    }
    if (magic != MAGIC)
        return DMC_CUDA_DAMAGED;
    uint32_t descriptor = p[4];
    if (descriptor & 8) /* reserved */
        return DMC_CUDA_DAMAGED;
    bool single = descriptor >> 5 & 1;
    uint32_t dictionary_bytes = (descriptor & 3) == 3 ? 4 : descriptor & 3;
    uint32_t size_code = descriptor >> 6;
    uint32_t size_bytes = size_code == 0 ? single : 1u << size_code;
    uint64_t at = 5 + !single, window = 0;
    if (reader->bytes < at + dictionary_bytes + size_bytes + 3)
        return DMC_CUDA_DAMAGED;
    if (!single) {
        uint32_t log = 10 + (p[5] >> 3);
        if (log > 31)
            return DMC_CUDA_UNSUPPORTED;
        window = (1ull << log) + (1ull << log) / 8 * (p[5] & 7);
    }
    for (uint32_t i = 0; i < dictionary_bytes; i++) {
        if (p[at + i] != 0)
            return DMC_CUDA_UNSUPPORTED;
    }
    at += dictionary_bytes;
    frame->sized = size_bytes > 0;
    for (uint32_t i = 0; i < size_bytes; i++)
        frame->content_bytes |= (uint64_t)p[at + i] << 8 * i;
    if (size_code == 1)
        frame->content_bytes += 256;
    at += size_bytes;
    frame->checksum = descriptor >> 2 & 1;
    frame->blocks_at = at;
    frame->block_bytes_max = (uint32_t)dmc_min_u64(single ? frame->content_bytes : window, DMC_GD_BLOCK_BYTES_MAX);
    return DMC_CUDA_OK;
}

/* Header and block headers: how far the frame goes. */
static enum dmc_cuda_verdict frame_scan(const struct reader *reader, struct frame *frame)
{
    enum dmc_cuda_verdict verdict = frame_header(reader, frame);
    if (verdict || frame->skippable)
        return verdict;
    uint64_t at = frame->blocks_at;
    for (bool last = false; !last; frame->block_count++) {
        if (reader->bytes - at < 3)
            return DMC_CUDA_DAMAGED;
        uint32_t header = load_u24le(reader->data + at), type = header >> 1 & 3, size = header >> 3;
        last = header & 1;
        if (type > DMC_GD_COMPRESSED || size > frame->block_bytes_max)
            return DMC_CUDA_DAMAGED;
        frame->has_content |= size > 0;
        uint32_t stored = type == DMC_GD_RLE ? 1 : size;
        at += 3;
        if (reader->bytes - at < stored)
            return DMC_CUDA_DAMAGED;
        at += stored;
    }
    if (frame->checksum) {
        if (reader->bytes - at < 4)
            return DMC_CUDA_DAMAGED;
        at += 4;
    }
    frame->bytes = at;
    return DMC_CUDA_OK;
}

/* What later blocks of a frame may refer to. */
struct history {
    uint32_t tree;
    uint32_t tables[DMC_GD_TABLES];
};
static const struct history no_history = {DMC_GD_NO_REF, {DMC_GD_NO_REF, DMC_GD_NO_REF, DMC_GD_NO_REF}};

static bool literals_header(const uint8_t *p, uint32_t bytes, struct dmc_gd_block *block)
{
    uint32_t type = p[0] & 3, format = p[0] >> 2 & 3, header;
    block->literals_type = (uint8_t)type;
    if (type <= DMC_GD_LITERALS_RLE) {
        header = format == 1 ? 2 : format == 3 ? 3 : 1;
        if (bytes < header)
            return false;
        block->literal_bytes = header == 1 ? p[0] >> 3 : header == 2 ? dmc_load_u16le(p) >> 4 : load_u24le(p) >> 4;
        block->literal_stored = type == DMC_GD_LITERALS_RAW ? block->literal_bytes : 1;
    } else {
        header = format < 2 ? 3 : format + 2;
        if (bytes < header)
            return false;
        uint64_t sizes = 0;
        for (uint32_t i = 0; i < header; i++)
            sizes |= (uint64_t)p[i] << 8 * i;
        uint32_t width = format < 2 ? 10 : format == 2 ? 14 : 18, mask = (1u << width) - 1;
        block->literal_bytes = (uint32_t)(sizes >> 4) & mask;
        block->literal_stored = (uint32_t)(sizes >> (4 + width)) & mask;
        block->stream_count = format == 0 ? 1 : 4;
        if (block->literal_bytes == 0 || block->literal_stored == 0 ||
            (block->stream_count == 4 && (block->literal_bytes < 6 || block->literal_stored < 10)))
            return false;
    }
    block->literal_at = header;
    return block->literal_stored < bytes - header; /* the count of sequences takes another byte at least */
}

/* The headers inside a compressed block. `self` is the block's own reference. */
static enum dmc_cuda_verdict content_headers(const uint8_t *p, uint32_t bytes, uint32_t block_bytes_max, uint32_t self,
                                             struct history *history, struct dmc_gd_block *block)
{
    if (bytes < 2 || !literals_header(p, bytes, block) || block->literal_bytes > block_bytes_max)
        return DMC_CUDA_DAMAGED;
    if (block->literals_type == DMC_GD_LITERALS_CODED)
        history->tree = self;
    if (block->literals_type >= DMC_GD_LITERALS_CODED) {
        if (history->tree == DMC_GD_NO_REF)
            return DMC_CUDA_DAMAGED;
        block->tree = history->tree;
    }
    uint32_t at = block->literal_at + block->literal_stored, count = p[at++];
    if (count >= 128) {
        if (bytes - at < (count == 255 ? 2u : 1u))
            return DMC_CUDA_DAMAGED;
        if (count == 255) {
            count = dmc_load_u16le(p + at) + 0x7F00u;
            at += 2;
        } else {
            count = (count - 128) << 8 | p[at++];
        }
    }
    block->sequence_count = count;
    if ((uint64_t)block->literal_bytes + (uint64_t)count * MATCH_BYTES_MIN > block_bytes_max)
        return DMC_CUDA_DAMAGED;
    if (count == 0)
        return at == bytes ? DMC_CUDA_OK : DMC_CUDA_DAMAGED;
    if (bytes - at < 2)
        return DMC_CUDA_DAMAGED;
    block->modes = p[at++];
    if (block->modes & 3) /* reserved */
        return DMC_CUDA_DAMAGED;
    block->table_at = at;
    for (uint32_t i = 0; i < DMC_GD_TABLES; i++) {
        if ((block->modes >> (6 - 2 * i) & 3) != DMC_GD_TABLE_REPEAT)
            history->tables[i] = self;
        if (history->tables[i] == DMC_GD_NO_REF)
            return DMC_CUDA_DAMAGED;
        block->tables[i] = history->tables[i];
    }
    return DMC_CUDA_OK;
}

/* The blocks of a frame, from the `skip`-th byte of it; those that begin at `need` decoded bytes or behind are left out.
 * *least: decoded bytes that there are at least. */
static enum dmc_cuda_verdict frame_blocks(struct dmc_gd_emit *emit, const uint8_t *data, uint64_t device,
                                          const struct frame *frame, uint64_t size, uint64_t need, bool size_known,
                                          struct dmc_gd_unit *unit, uint64_t *least)
{
    struct history history = no_history;
    uint64_t at = frame->blocks_at;
    for (uint32_t k = 0; k < frame->block_count; k++) {
        /* No block decodes to more than block_bytes_max, so where a block begins follows from how many are left. */
        uint64_t rest_max = (uint64_t)(frame->block_count - k) * frame->block_bytes_max;
        if (size_known && need < size && size > rest_max && size - rest_max >= need) {
            unit->cut = 1;
            break;
        }
        uint32_t header = load_u24le(data + at), bytes = header >> 3, self;
        at += 3;
        struct dmc_gd_block *block = dmc_gd_emit_next(emit, DMC_GD_BLOCKS, &self);
        if (unit->block_count++ == 0)
            unit->blocks = self;
        block->type = header >> 1 & 3;
        block->source = device + at;
        block->source_bytes = block->type == DMC_GD_RLE ? 1 : bytes;
        block->chunk = emit->chunk;
        block->frame_first = k == 0;
        /* Read again, as the bytes may have changed since the scan. */
        if (block->type > DMC_GD_COMPRESSED || bytes > frame->block_bytes_max || frame->bytes - at < block->source_bytes)
            return DMC_CUDA_DAMAGED;
        if (block->type != DMC_GD_COMPRESSED) {
            block->raw_bytes = bytes;
            *least += bytes;
        } else {
            enum dmc_cuda_verdict verdict = content_headers(data + at, bytes, frame->block_bytes_max, self, &history, block);
            if (verdict)
                return verdict;
            if (block->literals_type >= DMC_GD_LITERALS_CODED) {
                /* Without any sequences up to here, `least` is where the block begins: no scratch memory, no copy. */
                block->literals_placed = block->sequence_count == 0 && unit->sequence_count == 0;
                block->literals_in_scratch = !block->literals_placed || unit->in_scratch;
                block->literals = block->literals_placed ? unit->target + *least
                                                         : dmc_gd_emit_scratch(emit, (uint64_t)block->literal_bytes + 16);
                emit->now.literals += block->literal_bytes;
                emit->now.trees++;
            }
            if (block->sequence_count > 0) {
                block->kept = dmc_gd_emit_scratch(emit, DMC_GD_SEQUENCE_BYTES * (uint64_t)block->sequence_count + 16);
                emit->now.sequences += block->sequence_count;
                emit->now.sequence_blocks++;
                unit->sequence_count += block->sequence_count;
            }
            *least += block->literal_bytes + (uint64_t)block->sequence_count * MATCH_BYTES_MIN;
        }
        at += block->source_bytes;
        if (*least > size)
            return DMC_CUDA_DAMAGED;
    }
    return DMC_CUDA_OK;
}

/* The frames of a part, before anything is emitted. */
struct survey {
    uint64_t sized_bytes;  /* sum of the sizes that are known */
    uint32_t unsized;      /* frames that do not say theirs */
    uint64_t unsized_at;   /* where the first of them begins */
    bool joint_impossible; /* behind that one comes something that a joint unit cannot do */
};

static enum dmc_cuda_verdict parts_survey(const struct dmc_gd_part *part, struct survey *survey)
{
    *survey = (struct survey){0};
    uint32_t data_frames = 0;
    for (uint64_t at = 0; at < part->source_bytes;) {
        struct frame frame;
        const struct reader reader = {part->source + at, part->source_bytes - at};
        enum dmc_cuda_verdict verdict = frame_scan(&reader, &frame);
        if (verdict)
            return verdict;
        if (!frame.skippable) {
            data_frames++;
            if (frame.sized) {
                if (frame.content_bytes > part->target_bytes - survey->sized_bytes)
                    return DMC_CUDA_DAMAGED;
                if (frame.content_bytes == 0 && frame.has_content)
                    return DMC_CUDA_UNSUPPORTED;
                survey->sized_bytes += frame.content_bytes;
                survey->joint_impossible |= survey->unsized > 0;
            } else {
                if (survey->unsized++ == 0)
                    survey->unsized_at = at;
            }
            survey->joint_impossible |= survey->unsized > 0 && frame.checksum;
        }
        at += frame.bytes;
    }
    if (data_frames == 0 || (survey->unsized == 0 && survey->sized_bytes != part->target_bytes))
        return DMC_CUDA_DAMAGED;
    if (survey->unsized > 1 && survey->joint_impossible)
        return DMC_CUDA_UNSUPPORTED;
    return DMC_CUDA_OK;
}

static struct dmc_gd_unit *unit_begin(struct dmc_gd_emit *emit, const struct dmc_gd_part *part, uint64_t position,
                                      uint64_t size, uint64_t need)
{
    struct dmc_gd_unit *unit = dmc_gd_emit_next(emit, DMC_GD_UNITS, NULL);
    unit->target = part->target + position;
    unit->target_bytes = (uint32_t)size;
    unit->need_bytes = (uint32_t)need;
    unit->chunk = emit->chunk;
    unit->in_scratch = part->in_scratch;
    return unit;
}

/* A frame whose place in the target is known. */
static enum dmc_cuda_verdict frame_emit(struct dmc_gd_emit *emit, const struct dmc_gd_part *part, uint64_t at,
                                        const struct frame *frame, uint64_t position, uint64_t size)
{
    if (position >= part->need_end || position + size <= part->need_begin)
        return DMC_CUDA_OK; /* an empty one, too */
    uint64_t need = frame->checksum ? size : dmc_min_u64(part->need_end - position, size), least = 0;
    enum dmc_cuda_verdict verdict = DMC_CUDA_OK;
    if (emit->foreign) {
        const struct dmc_gd_part stream = {
            .source_device = part->source_device + at,
            .source_bytes = frame->bytes,
            .target = part->target + position,
            .target_bytes = size,
            .in_scratch = part->in_scratch,
        };
        dmc_gd_emit_foreign(emit, &stream, DMC_CUDA_FOREIGN_ZSTD);
    } else {
        struct dmc_gd_unit *unit = unit_begin(emit, part, position, size, need);
        struct dmc_gd_unit unit_copy = *unit; /* while counting, blocks are emitted to the same nowhere */
        verdict = frame_blocks(emit, part->source + at, part->source_device + at, frame, size, need, true, &unit_copy, &least);
        *unit = unit_copy;
    }
    if (!verdict && frame->checksum) {
        struct dmc_gd_checksum *checksum = dmc_gd_emit_next(emit, DMC_GD_CHECKSUMS, NULL);
        checksum->target = part->target + position;
        checksum->target_bytes = (uint32_t)size;
        checksum->expected = dmc_load_u32le(part->source + at + frame->bytes - 4);
        checksum->chunk = emit->chunk;
        checksum->in_scratch = part->in_scratch;
    }
    return verdict;
}

enum dmc_cuda_verdict dmc_gd_emit_zstd(struct dmc_gd_emit *emit, const struct dmc_gd_part *part)
{
    struct survey survey;
    enum dmc_cuda_verdict verdict = parts_survey(part, &survey);
    if (verdict)
        return verdict;
    uint64_t position = 0, at = 0;
    for (; at < part->source_bytes && !(survey.unsized > 1 && at >= survey.unsized_at);) {
        struct frame frame;
        const struct reader reader = {part->source + at, part->source_bytes - at};
        verdict = frame_scan(&reader, &frame);
        if (verdict)
            return verdict;
        if (!frame.skippable) {
            uint64_t size = frame.sized ? frame.content_bytes : part->target_bytes - survey.sized_bytes;
            if (size > part->target_bytes - position)
                return DMC_CUDA_DAMAGED;
            verdict = frame_emit(emit, part, at, &frame, position, size);
            if (verdict)
                return verdict;
            position += size;
        }
        at += frame.bytes;
    }
    if (at >= part->source_bytes)
        return DMC_CUDA_OK;
    /* Several frames that do not say how long they are: one unit, so that where one ends the next goes on. */
    if (position >= part->need_end)
        return DMC_CUDA_OK;
    uint64_t size = part->target_bytes - position, need = dmc_min_u64(part->need_end - position, size), least = 0;
    struct dmc_gd_unit *unit = unit_begin(emit, part, position, size, need), unit_copy = *unit;
    while (at < part->source_bytes) {
        struct frame frame;
        const struct reader reader = {part->source + at, part->source_bytes - at};
        verdict = frame_scan(&reader, &frame);
        if (!verdict && !frame.skippable) {
            if (frame.sized || frame.checksum)
                return DMC_CUDA_UNSUPPORTED;
            verdict =
                frame_blocks(emit, part->source + at, part->source_device + at, &frame, size, need, false, &unit_copy, &least);
        }
        if (verdict)
            return verdict;
        at += frame.bytes;
    }
    *unit = unit_copy;
    return DMC_CUDA_OK;
}
