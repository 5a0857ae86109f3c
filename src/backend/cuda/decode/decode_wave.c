#include "base/bytes.h"
#include "base/error.h"
#include "base/mem.h"
#include "base/thread.h"
#include "decode_emit.h"
#include "decode_tuning.h"
#include <string.h>

#define COST_BUCKETS 512
#define WIDE_SEQUENCES_MIN 512
#define WIDE_BYTES_MIN 65536
#define LONG_UNIT_BYTES (512u << 10)
#define FOREIGN_SHARED_BYTES (4 * (1024 + 32 + 2 * DMC_GD_FOREIGN_THREADS / 32)) /* dmc_gd_foreign_check */

struct dmc_gd_tuning dmc_gd_tuning = {0};

const struct dmc_cuda_kernel_info dmc_cuda_kernels[DMC_CUDA_KERNEL_COUNT] = {
    [DMC_CUDA_KERNEL_HUFFMAN] = {"dmc_gd_huffman", 8 * 4 * DMC_GD_HUFFMAN_WORDS, 100},
    [DMC_CUDA_KERNEL_SEQUENCES] = {"dmc_gd_sequences", 4 * 4 * DMC_GD_SEQUENCE_WORDS, 100},
    [DMC_CUDA_KERNEL_EXECUTE_BLOCK] = {"dmc_gd_execute_block", DMC_GD_EXECUTE_SHARED(DMC_GD_BLOCK_BYTES_MAX), -1},
    [DMC_CUDA_KERNEL_EXECUTE_WARP] = {"dmc_gd_execute_warp", 0, -1},
    [DMC_CUDA_KERNEL_LZ4] = {"dmc_gd_lz4", 0, -1},
    [DMC_CUDA_KERNEL_COPY] = {"dmc_gd_copy", 0, -1},
    [DMC_CUDA_KERNEL_CHECKSUM] = {"dmc_gd_checksum_kernel", 0, -1},
    [DMC_CUDA_KERNEL_UNFILTER] = {"dmc_gd_unfilter_kernel", 0, -1},
    [DMC_CUDA_KERNEL_FOREIGN_TELL] = {"dmc_gd_foreign_tell", 0, -1},
    [DMC_CUDA_KERNEL_FOREIGN_CHECK] = {"dmc_gd_foreign_check", FOREIGN_SHARED_BYTES, -1},
};

const char *dmc_cuda_verdict_name(enum dmc_cuda_verdict verdict)
{
    static const char *const names[] = {"ok", "wave is full", "not for the GPU", "damaged"};
    return (size_t)verdict < sizeof names / sizeof *names ? names[verdict] : "unknown";
}

const char *dmc_cuda_status_name(uint32_t status)
{
    static const char *const names[] = {
        "ok",
        "Huffman tree malformed",
        "Huffman stream of another length",
        "FSE table malformed",
        "sequences of another length",
        "match before the frame's first byte",
        "another decoded size",
        "lz4 stream malformed",
        "content checksum mismatch",
        "stream not decoded by nvcomp",
    };
    return status < sizeof names / sizeof *names ? names[status] : "unknown";
}

/* One chunk of the wave: where its descriptors lie. */
struct record {
    uint64_t first[DMC_GD_KINDS];
    uint32_t counts[DMC_GD_KINDS];
};

enum list {
    LIST_TREES,
    LIST_SEQUENCES,
    LIST_UNITS,
    LIST_LZ4S,
    LIST_COPIES,
    LIST_CHECKSUMS,
    LIST_UNFILTERS,
    LIST_FOREIGN, /* DMC_CUDA_FOREIGN_CODECS of them, each with its arrays behind it */
    LISTS = LIST_FOREIGN + DMC_CUDA_FOREIGN_CODECS
};

struct dmc_cuda_wave {
    uint32_t chunk_max;
    struct record *records; /* chunk_max */

    /* From begin to the next begin. */
    uint8_t *table;
    uint64_t table_bytes;
    uint64_t scratch_bytes;

    struct dmc_mutex lock; /* the sums below, while the wave is open */
    uint32_t chunk_count;
    uint64_t table_used;  /* statuses and records */
    uint64_t lists_bytes; /* that close will append */
    struct dmc_gd_counts sum;
    uint64_t decoded_bytes;

    /* From close on. */
    uint64_t list_at[LISTS];
    uint32_t list_count[LISTS];
    uint32_t wide_candidates; /* so many of the first units are large: */
    uint64_t wide_bytes;      /* they decode to so many bytes, */
    uint64_t wide_sequences;  /* with so many sequences */
    uint32_t unit_bytes_max;
    uint64_t foreign_bytes[DMC_CUDA_FOREIGN_CODECS], foreign_bytes_max[DMC_CUDA_FOREIGN_CODECS]; /* decoded: all, the largest */
};

/* Of a chunk's descriptors, without its status. */
static uint64_t record_bytes(const struct dmc_gd_counts *counts)
{
    uint64_t bytes = 0;
    for (int kind = 0; kind < DMC_GD_KINDS; kind++)
        bytes += (uint64_t)counts->of[kind] * dmc_gd_kind_bytes[kind];
    return bytes;
}

static uint64_t reference_bytes(const struct dmc_gd_counts *counts)
{
    return 4ull * ((uint64_t)counts->trees + counts->sequence_blocks + counts->of[DMC_GD_UNITS] + counts->of[DMC_GD_LZ4S] +
                   counts->of[DMC_GD_COPIES] + counts->of[DMC_GD_CHECKSUMS] + counts->of[DMC_GD_UNFILTERS] +
                   counts->of[DMC_GD_FOREIGNS]) +
           (uint64_t)DMC_GD_FOREIGN_ARRAY_BYTES * counts->of[DMC_GD_FOREIGNS];
}

enum dmc_cuda_verdict dmc_cuda_inspect(const struct dmc_cuda_chunk *chunk, struct dmc_cuda_cost *cost)
{
    struct dmc_gd_emit emit = {0};
    enum dmc_cuda_verdict verdict = dmc_gd_emit_chunk(&emit, chunk);
    if (verdict || !cost)
        return verdict;
    *cost = (struct dmc_cuda_cost){
        .table_bytes = 4 + record_bytes(&emit.now) + reference_bytes(&emit.now),
        .scratch_bytes = emit.now.scratch_bytes,
        .sequence_count = emit.now.sequences,
        .literal_bytes = emit.now.literals,
    };
    return DMC_CUDA_OK;
}

enum damacy_status dmc_cuda_wave_create(uint32_t chunk_max, struct dmc_cuda_wave **wave, struct damacy_error *error)
{
    struct dmc_cuda_wave *created = dmc_calloc(1, sizeof *created);
    struct record *records = dmc_calloc(chunk_max > 0 ? chunk_max : 1, sizeof *records);
    if (!created || !records) {
        dmc_free(created);
        dmc_free(records);
        return dmc_error_set(error, DAMACY_OOM, "decode", "no memory for a wave of %u chunks", chunk_max);
    }
    created->chunk_max = chunk_max;
    created->records = records;
    dmc_mutex_init(&created->lock);
    *wave = created;
    return DAMACY_OK;
}

void dmc_cuda_wave_destroy(struct dmc_cuda_wave *wave)
{
    if (!wave)
        return;
    dmc_mutex_deinit(&wave->lock);
    dmc_free(wave->records);
    dmc_free(wave);
}

void dmc_cuda_wave_begin(struct dmc_cuda_wave *wave, void *table, uint64_t table_bytes, uint64_t scratch_bytes)
{
    wave->table = table;
    /* References are 32 bits, in units of 16 bytes; all offsets in it fit the same way. */
    wave->table_bytes = dmc_min_u64(table_bytes, UINT32_MAX);
    wave->scratch_bytes = scratch_bytes;
    dmc_mutex_lock(&wave->lock);
    wave->chunk_count = 0;
    wave->table_used = dmc_round_up(4ull * wave->chunk_max, 16);
    wave->lists_bytes = 16ull * (LISTS + DMC_CUDA_FOREIGN_CODECS); /* each begins at a multiple of 16, and so do arrays */
    wave->sum = (struct dmc_gd_counts){0};
    wave->decoded_bytes = 0;
    dmc_mutex_unlock(&wave->lock);
    memset(wave->list_count, 0, sizeof wave->list_count);
}

static bool wave_reserve_locked(struct dmc_cuda_wave *wave, const struct dmc_gd_counts *counts, struct dmc_gd_emit *emit,
                                uint64_t decoded_bytes) DMC_REQUIRES(wave->lock)
{
    uint64_t bytes = record_bytes(counts), references = reference_bytes(counts);
    if (wave->chunk_count >= wave->chunk_max || counts->scratch_bytes > wave->scratch_bytes - wave->sum.scratch_bytes ||
        wave->table_used + wave->lists_bytes + bytes + references > wave->table_bytes)
        return false;
    emit->chunk = wave->chunk_count++;
    emit->scratch = wave->sum.scratch_bytes;
    emit->first[0] = wave->table_used;
    wave->table_used += bytes;
    wave->lists_bytes += references;
    wave->sum.scratch_bytes += counts->scratch_bytes;
    wave->sum.sequences += counts->sequences;
    wave->sum.literals += counts->literals;
    wave->decoded_bytes += decoded_bytes;
    return true;
}

enum dmc_cuda_verdict dmc_cuda_wave_add(struct dmc_cuda_wave *wave, const struct dmc_cuda_chunk *chunk, uint32_t *index)
{
    struct dmc_gd_emit count = {0};
    enum dmc_cuda_verdict verdict = dmc_gd_emit_chunk(&count, chunk);
    if (verdict)
        return verdict;
    struct dmc_gd_emit write = {.table = wave->table, .reserved = &count.now};
    dmc_mutex_lock(&wave->lock);
    bool reserved = wave_reserve_locked(wave, &count.now, &write, chunk->chunk_bytes);
    dmc_mutex_unlock(&wave->lock);
    if (!reserved)
        return DMC_CUDA_FULL;
    for (int kind = 1; kind < DMC_GD_KINDS; kind++)
        write.first[kind] = write.first[kind - 1] + (uint64_t)count.now.of[kind - 1] * dmc_gd_kind_bytes[kind - 1];
    verdict = dmc_gd_emit_chunk(&write, chunk);
    struct record *record = &wave->records[write.chunk];
    memcpy(record->first, write.first, sizeof record->first);
    memcpy(record->counts, count.now.of, sizeof record->counts);
    /* The bytes changed under us, so the second walk differs from the first: leave an empty record. */
    if (verdict || write.overflow || memcmp(&write.now, &count.now, sizeof count.now) != 0) {
        memset(record->counts, 0, sizeof record->counts);
        return verdict == DMC_CUDA_UNSUPPORTED ? verdict : DMC_CUDA_DAMAGED;
    }
    *index = write.chunk;
    if (chunk->planes) {
        chunk->planes->block_bytes = count.now.plane_block_bytes;
        chunk->planes->bits = count.now.plane_bits != 0;
    }
    return DMC_CUDA_OK;
}

/* ---- close: the lists ---- */

/* A place in one list for a descriptor of such a cost. */
struct entry {
    enum list list;
    uint64_t cost;
};

/* Costs in logarithmic steps of a 16th, dearest first. */
static uint32_t cost_bucket(uint64_t cost)
{
    uint32_t value = (uint32_t)dmc_min_u64(cost, UINT32_MAX / 2) + 16;
    uint32_t bit = 31 - (uint32_t)__builtin_clz(value);
    return COST_BUCKETS - 1 - ((bit - 4) * 16 + (value >> (bit - 4) & 15));
}

static bool unit_is_wide(const struct dmc_gd_unit *unit)
{
    return unit->sequence_count >= WIDE_SEQUENCES_MIN || unit->target_bytes >= WIDE_BYTES_MIN;
}

/* The lists that a descriptor belongs to; at most two. */
static uint32_t entries_of(enum dmc_gd_kind kind, const void *descriptor, struct entry entries[2])
{
    uint32_t count = 0;
    switch (kind) {
    case DMC_GD_BLOCKS: {
        const struct dmc_gd_block *block = descriptor;
        if (block->type == DMC_GD_COMPRESSED && block->literals_type >= DMC_GD_LITERALS_CODED)
            entries[count++] = (struct entry){LIST_TREES, block->literal_bytes / block->stream_count};
        if (block->type == DMC_GD_COMPRESSED && block->sequence_count > 0)
            entries[count++] = (struct entry){LIST_SEQUENCES, block->sequence_count};
        return count;
    }
    case DMC_GD_UNITS: {
        const struct dmc_gd_unit *unit = descriptor;
        uint64_t cost = (uint64_t)unit->sequence_count * 4 + unit->target_bytes / 64;
        entries[0] = (struct entry){LIST_UNITS, unit_is_wide(unit) ? cost + (1u << 20) : dmc_min_u64(cost, 1u << 16)};
        return 1;
    }
    case DMC_GD_LZ4S:
        entries[0] = (struct entry){LIST_LZ4S, ((const struct dmc_gd_stream *)descriptor)->source_bytes};
        return 1;
    case DMC_GD_COPIES:
        entries[0] = (struct entry){LIST_COPIES, 0};
        return 1;
    case DMC_GD_CHECKSUMS:
        entries[0] = (struct entry){LIST_CHECKSUMS, ((const struct dmc_gd_checksum *)descriptor)->target_bytes};
        return 1;
    case DMC_GD_UNFILTERS:
        entries[0] = (struct entry){LIST_UNFILTERS, 0};
        return 1;
    case DMC_GD_FOREIGNS:
        entries[0] = (struct entry){(enum list)(LIST_FOREIGN + ((const struct dmc_gd_foreign *)descriptor)->codec),
                                    ((const struct dmc_gd_foreign *)descriptor)->source_bytes};
        return 1;
    case DMC_GD_KINDS:
        break;
    }
    return 0;
}

/* Sums that launching wants to know. */
static void sum_up(struct dmc_cuda_wave *wave, enum dmc_gd_kind kind, const void *descriptor)
{
    if (kind == DMC_GD_UNITS) {
        const struct dmc_gd_unit *unit = descriptor;
        if (unit_is_wide(unit)) {
            wave->wide_candidates++;
            wave->wide_bytes += unit->target_bytes;
            wave->wide_sequences += unit->sequence_count;
        }
        if (unit->target_bytes > wave->unit_bytes_max)
            wave->unit_bytes_max = unit->target_bytes;
    } else if (kind == DMC_GD_FOREIGNS) {
        const struct dmc_gd_foreign *foreign = descriptor;
        uint64_t *largest = &wave->foreign_bytes_max[foreign->codec];
        wave->foreign_bytes[foreign->codec] += foreign->target_bytes;
        *largest = dmc_max_u64(*largest, foreign->target_bytes);
    }
}

/* Counting sort over all descriptors. Without references in `starts`: how many of each bucket; with: put them there. */
static void lists_walk(struct dmc_cuda_wave *wave, uint32_t starts[LISTS][COST_BUCKETS], bool place)
{
    for (uint32_t chunk = 0; chunk < wave->chunk_count; chunk++) {
        const struct record *record = &wave->records[chunk];
        for (int kind = 0; kind < DMC_GD_KINDS; kind++) {
            for (uint32_t i = 0; i < record->counts[kind]; i++) {
                uint64_t at = record->first[kind] + (uint64_t)i * dmc_gd_kind_bytes[kind];
                struct entry entries[2];
                uint32_t count = entries_of((enum dmc_gd_kind)kind, wave->table + at, entries);
                for (uint32_t e = 0; e < count; e++) {
                    uint32_t *start = &starts[entries[e].list][cost_bucket(entries[e].cost)];
                    if (place)
                        ((uint32_t *)(void *)(wave->table + wave->list_at[entries[e].list]))[*start] = (uint32_t)(at / 16);
                    (*start)++;
                }
                if (!place)
                    sum_up(wave, (enum dmc_gd_kind)kind, wave->table + at);
            }
        }
    }
}

void dmc_cuda_wave_close(struct dmc_cuda_wave *wave, struct dmc_cuda_wave_info *info)
{
    *info = (struct dmc_cuda_wave_info){0};
    wave->wide_candidates = wave->unit_bytes_max = 0;
    wave->wide_bytes = wave->wide_sequences = 0;
    memset(wave->foreign_bytes, 0, sizeof wave->foreign_bytes);
    memset(wave->foreign_bytes_max, 0, sizeof wave->foreign_bytes_max);
    memset(wave->list_count, 0, sizeof wave->list_count);
    if (wave->chunk_count == 0)
        return;
    uint32_t starts[LISTS][COST_BUCKETS] = {{0}};
    lists_walk(wave, starts, false);
    uint64_t at = wave->table_used;
    for (int list = 0; list < LISTS; list++) {
        uint32_t sum = 0;
        for (int bucket = 0; bucket < COST_BUCKETS; bucket++) {
            uint32_t count = starts[list][bucket];
            starts[list][bucket] = sum;
            sum += count;
        }
        wave->list_at[list] = at;
        wave->list_count[list] = sum;
        at = dmc_round_up(at + 4ull * sum, 16);
        if (list >= LIST_FOREIGN)
            at = dmc_round_up(at + (uint64_t)DMC_GD_FOREIGN_ARRAY_BYTES * sum, 16);
    }
    lists_walk(wave, starts, true);
    memset(wave->table, 0, 4ull * wave->chunk_count);
    *info = (struct dmc_cuda_wave_info){
        .chunk_count = wave->chunk_count,
        .table_bytes = at,
        .status_bytes = 4ull * wave->chunk_count,
        .scratch_bytes = wave->sum.scratch_bytes,
        .decoded_bytes = wave->decoded_bytes,
        .sequence_count = wave->sum.sequences,
    };
}

/* ---- enqueue ---- */

struct launching {
    const struct dmc_cuda_launcher *launcher;
    struct dmc_gd_job job;
    int result;
};

static void launch(struct launching *launching, enum dmc_cuda_kernel kernel, uint64_t list_at, uint32_t count,
                   uint32_t per_block, uint32_t threads, uint32_t shared_bytes, void *stream)
{
    if (count == 0 || launching->result)
        return;
    launching->job.list = (uint32_t)list_at;
    launching->job.count = count;
    void *args[] = {&launching->job};
    launching->result = launching->launcher->launch(
        launching->launcher->context, kernel, (uint32_t)dmc_ceil_div(count, per_block), threads, shared_bytes, stream, args);
}

static void order(struct launching *launching, void *earlier, void *later)
{
    if (earlier != later && !launching->result)
        launching->result = launching->launcher->order(launching->launcher->context, earlier, later);
}

/* Tell the library where its streams are, and let it decode them. What the others left of the scratch memory is its own. */
static void foreign_streams(struct launching *launching, const struct dmc_cuda_wave *wave, enum dmc_cuda_foreign_codec codec,
                            void *stream)
{
    const uint32_t count = wave->list_count[LIST_FOREIGN + codec];
    const uint64_t list = wave->list_at[LIST_FOREIGN + codec];
    if (count == 0)
        return;
    launch(launching, DMC_CUDA_KERNEL_FOREIGN_TELL, list, count, 128, 128, 0, stream);
    if (!launching->launcher->foreign || launching->result)
        return;
    const uint64_t first = launching->job.table + DMC_GD_FOREIGN_ARRAYS(list, count), bytes = 8ull * count;
    const uint64_t used = dmc_round_up(wave->sum.scratch_bytes, 256);
    const struct dmc_cuda_foreign arrays = {
        .codec = codec,
        .count = count,
        .sources = first,
        .source_bytes = first + bytes,
        .capacities = first + 2 * bytes,
        .decoded = first + 3 * bytes,
        .targets = first + 4 * bytes,
        .statuses = first + 5 * bytes,
        .temp = launching->job.scratch + used,
        .temp_bytes = used < wave->scratch_bytes ? wave->scratch_bytes - used : 0,
        .target_bytes_max = wave->foreign_bytes_max[codec],
        .target_bytes = wave->foreign_bytes[codec],
    };
    launching->result = launching->launcher->foreign(launching->launcher->context, &arrays, stream);
}

/* Blocks that one warp decodes at a time. Alone in its warp a block is done 5 to 8 % sooner; together more fit a
 * multiprocessor. */
static uint32_t group_of(uint32_t tuned, uint32_t count, uint32_t multiprocessors)
{
    return tuned ? tuned : count <= 4 * multiprocessors ? 1 : count <= 8 * multiprocessors ? 2 : 4;
}

/* Units per multiprocessor up to which a thread block each is faster than a warp each. Only one thread block fits a
 * multiprocessor, and how much faster it is for one unit depends on how many sequences it can copy at once: measured on an H100
 * with 16 KiB to 1 MiB, 5 to 7 times in images (7 bytes a sequence), twice in text (24), hardly where matches are long and hang
 * on one another. */
static uint32_t wide_limit(const struct dmc_cuda_wave *wave)
{
    if (dmc_gd_tuning.wide_units_per_sm)
        return dmc_gd_tuning.wide_units_per_sm == DMC_GD_NEVER_WIDE ? 0 : dmc_gd_tuning.wide_units_per_sm;
    /* Long units keep a warp busy for longer than two rounds of thread blocks take: 1 MiB, 2.5 ms against 1.1 ms each. */
    bool few_bytes = wave->wide_bytes < 40 * wave->wide_sequences;
    bool long_units = wave->wide_bytes >= LONG_UNIT_BYTES * (uint64_t)wave->wide_candidates;
    return wave->wide_bytes < 12 * wave->wide_sequences ? 6 : few_bytes || long_units ? 2 : 1;
}

int dmc_cuda_wave_enqueue(struct dmc_cuda_wave *wave, const struct dmc_cuda_launcher *launcher, uint64_t table_device,
                          uint64_t scratch_device, void *stream, void *side)
{
    struct launching launching = {.launcher = launcher, .job = {.table = table_device, .scratch = scratch_device}};
    const uint64_t *at = wave->list_at;
    const uint32_t *count = wave->list_count;
    bool fork = count[LIST_TREES] || count[LIST_LZ4S] || count[LIST_COPIES]; /* deflate streams come with copies */
    if (!side || !launcher->order || !fork)
        side = stream;
    /* Huffman trees and sequences are bound by latency and do not disturb each other. */
    order(&launching, stream, side);
    uint32_t group = launching.job.group =
        group_of(dmc_gd_tuning.sequence_group, count[LIST_SEQUENCES], launcher->multiprocessors);
    launch(&launching, DMC_CUDA_KERNEL_SEQUENCES, at[LIST_SEQUENCES], count[LIST_SEQUENCES], group, 32,
           group * 4 * DMC_GD_SEQUENCE_WORDS, stream);
    group = launching.job.group = group_of(dmc_gd_tuning.huffman_group, count[LIST_TREES], launcher->multiprocessors);
    launch(&launching, DMC_CUDA_KERNEL_HUFFMAN, at[LIST_TREES], count[LIST_TREES], group, 32, group * 4 * DMC_GD_HUFFMAN_WORDS,
           side);
    launch(&launching, DMC_CUDA_KERNEL_LZ4, at[LIST_LZ4S], count[LIST_LZ4S], 2, 64, 0, side);
    launch(&launching, DMC_CUDA_KERNEL_COPY, at[LIST_COPIES], count[LIST_COPIES], 4, 128, 0, side);
    for (int codec = 0; codec < DMC_CUDA_FOREIGN_CODECS; codec++)
        foreign_streams(&launching, wave, (enum dmc_cuda_foreign_codec)codec, side);
    order(&launching, side, stream);
    for (int list = LIST_FOREIGN; list < LISTS; list++)
        launch(&launching, DMC_CUDA_KERNEL_FOREIGN_CHECK, at[list], count[list], 1, DMC_GD_FOREIGN_THREADS,
               FOREIGN_SHARED_BYTES, stream);
    /* A thread block a unit is much faster for one unit, but only one fits a multiprocessor: for few units only. */
    uint32_t wide = 0, window = wave->unit_bytes_max < DMC_GD_BLOCK_BYTES_MAX ? wave->unit_bytes_max : DMC_GD_BLOCK_BYTES_MAX;
    if (DMC_GD_EXECUTE_SHARED(window) <= launcher->shared_bytes_block &&
        wave->wide_candidates <= (uint64_t)wide_limit(wave) * launcher->multiprocessors)
        wide = wave->wide_candidates;
    launching.job.window_bytes = window;
    launch(&launching, DMC_CUDA_KERNEL_EXECUTE_BLOCK, at[LIST_UNITS], wide, 1, DMC_GD_EXECUTE_THREADS,
           DMC_GD_EXECUTE_SHARED(window), stream);
    launch(&launching, DMC_CUDA_KERNEL_EXECUTE_WARP, at[LIST_UNITS] + 4ull * wide, count[LIST_UNITS] - wide, 2, 64, 0, stream);
    launch(&launching, DMC_CUDA_KERNEL_CHECKSUM, at[LIST_CHECKSUMS], count[LIST_CHECKSUMS], 1, 32, 0, stream);
    launch(&launching, DMC_CUDA_KERNEL_UNFILTER, at[LIST_UNFILTERS], count[LIST_UNFILTERS], 1, 256, 0, stream);
    return launching.result;
}

/* ---- advice ---- */

void dmc_cuda_advise_count(enum dmc_cuda_format format, uint64_t chunk_bytes, uint64_t stored_bytes, uint32_t chunks,
                           struct dmc_cuda_advice *advice)
{
    /* Scratch a decoded byte, counted: 0.5 to 0.8 for images of 16 bits behind zstd; 0.5 where they were shuffled; anything up
     * to 1 for floats, by where the first match is found, so 1 is enough for zstd. A blosc chunk that is not left in planes
     * (odd element sizes) takes as much again as it decodes to: of those a wave holds fewer. */
    uint64_t blocks = dmc_ceil_div(dmc_max_u64(chunk_bytes, 1), DMC_GD_BLOCK_BYTES_MAX), scratch = 0;
    if (format == DMC_CUDA_ZSTD)
        scratch = chunk_bytes;
    else if (format == DMC_CUDA_BLOSC)
        scratch = chunk_bytes * 5 / 8, blocks *= 4;
    else if (format == DMC_CUDA_GZIP || format == DMC_CUDA_ZLIB)
        scratch = stored_bytes > 0 ? stored_bytes : chunk_bytes;
    if (format == DMC_CUDA_ZSTD && stored_bytes > 0 && stored_bytes < chunk_bytes / 4)
        scratch = chunk_bytes / 2;
    uint64_t table =
        4 + 16 + sizeof(struct dmc_gd_unit) + blocks * (sizeof(struct dmc_gd_block) + sizeof(struct dmc_gd_stream) + 16);
    if (format == DMC_CUDA_BLOSC)
        table += (chunk_bytes / 8192 + 2) * (sizeof(struct dmc_gd_unfilter) + 4);
    else if (format == DMC_CUDA_GZIP || format == DMC_CUDA_ZLIB)
        table += sizeof(struct dmc_gd_foreign) + DMC_GD_FOREIGN_ARRAY_BYTES;
    else if (format == DMC_CUDA_COPY)
        table = 20 + (chunk_bytes / 65536 + 1) * (sizeof(struct dmc_gd_stream) + 4);
    advice->wave_chunks = chunks;
    advice->waves = 3; /* one being filled, one being copied, one being decoded */
    advice->scratch_bytes = dmc_round_up((scratch + 256) * chunks, 256);
    advice->table_bytes = dmc_round_up(table * chunks + 4096, 256);
}

void dmc_cuda_advise(enum dmc_cuda_format format, uint64_t chunk_bytes, uint64_t stored_bytes, uint32_t multiprocessors,
                     struct dmc_cuda_advice *advice)
{
    /* So many blocks decode at once; their serial part takes 1 ms however many they are. 20 fit a multiprocessor; a few less
     * leave room for chunks of two blocks. Beyond 1 GiB decoded, memory is better spent on another wave. */
    uint64_t blocks = dmc_ceil_div(dmc_max_u64(chunk_bytes, 1), DMC_GD_BLOCK_BYTES_MAX);
    uint64_t chunks = 19ull * (multiprocessors > 0 ? multiprocessors : 1) / blocks;
    uint64_t small =
        dmc_min_u64(DMC_GD_BLOCK_BYTES_MAX / 2 / dmc_max_u64(chunk_bytes, 1), 8); /* headers, not latency, rule there */
    if (small > 1)
        chunks *= small;
    dmc_cuda_advise_count(format, chunk_bytes, stored_bytes, (uint32_t)dmc_max_u64(chunks, 1), advice);
}
