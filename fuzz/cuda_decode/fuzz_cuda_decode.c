/* Any bytes as a stored chunk for the GPU decoders, run by the kernels' twin on the CPU: nothing outside the buffers is
 * touched, everything ends, and what the decoder calls good is what the CPU's codecs give, where these find it good, too.
 *
 * The first four bytes choose: format, way of execution, and whether it may stay in planes; size of the chunk (two); what is
 * needed. Of gzip and zlib chunks only the headers are read here. */
#include "backend/cuda/assemble_tile.h"
#include "backend/cuda/cuda_decoder.h"
#include "codec/blosc_layout.h"
#include "cuda_twin_launch.h"
#include <blosc.h>
#include <lz4.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#define BYTES_MAX 65536u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool reference_decode(const struct dmc_cuda_chunk *chunk, uint8_t *out)
{
    switch (chunk->format) {
    case DMC_CUDA_ZSTD:
        return ZSTD_decompress(out, chunk->chunk_bytes, chunk->stored, chunk->stored_bytes) == chunk->chunk_bytes;
    case DMC_CUDA_LZ4:
        return LZ4_decompress_safe((const char *)chunk->stored, (char *)out, (int)chunk->stored_bytes,
                                   (int)chunk->chunk_bytes) == (int)chunk->chunk_bytes;
    case DMC_CUDA_BLOSC: {
        struct dmc_blosc_layout layout; /* libblosc trusts a header that contradicts itself */
        return dmc_blosc_layout_parse(chunk->stored, chunk->stored_bytes, &layout, NULL) == DAMACY_OK &&
               blosc_decompress_ctx(chunk->stored, out, chunk->chunk_bytes, 1) == (int)chunk->chunk_bytes;
    }
    case DMC_CUDA_COPY:
        memcpy(out, chunk->stored, chunk->chunk_bytes);
        return true;
    case DMC_CUDA_LZ4_SIZED:
        return LZ4_decompress_safe((const char *)chunk->stored + 4, (char *)out, (int)chunk->stored_bytes - 4,
                                   (int)chunk->chunk_bytes) == (int)chunk->chunk_bytes;
    case DMC_CUDA_GZIP: /* nvcomp's, which does not run here */
    case DMC_CUDA_ZLIB:
        break;
    }
    return false;
}

/* Bring what is needed of a chunk in planes into its order. */
static void from_planes(const struct dmc_cuda_chunk *chunk, uint8_t *target)
{
    const uint32_t size = chunk->planes->element_bytes;
    const struct dmc_tile_piece piece = {
        .source = (uintptr_t)target,
        .block_bytes = chunk->planes->block_bytes,
        .chunk_bytes = (uint32_t)chunk->chunk_bytes,
        .flags = (uint8_t)(DMC_PIECE_PLANES | (chunk->planes->bits ? DMC_PIECE_BIT_PLANES : 0)),
    };
    uint8_t *ordered = calloc(1, chunk->chunk_bytes);
    for (uint64_t at = chunk->need_begin / size * size; at < chunk->need_end && at < chunk->chunk_bytes; at += size) {
        uint64_t bits = dmc_tile_load_planes(&piece, (uint32_t)at, size, false);
        memcpy(ordered + at, &bits, size);
    }
    memcpy(target, ordered, chunk->chunk_bytes);
    free(ordered);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 5 || size > BYTES_MAX)
        return 0;
    uint32_t choice = data[0], bytes = 1u + data[1] + 256u * data[2], need = data[3];
    data += 4;
    size -= 4;
    uint8_t *stored = malloc(size + 2 * DMC_CUDA_STORED_PAD_BYTES), *target = aligned_alloc(16, (bytes + 15) / 16 * 16);
    memset(stored, 0xEE, size + 2 * DMC_CUDA_STORED_PAD_BYTES);
    memset(target, 0xCD, (bytes + 15) / 16 * 16);
    memcpy(stored + DMC_CUDA_STORED_PAD_BYTES, data, size);
    struct dmc_cuda_planes planes = {.element_bytes = 1u << (choice >> 4 & 3)};
    struct dmc_cuda_chunk chunk = {
        .format = (enum dmc_cuda_format)(choice & 128 ? DMC_CUDA_LZ4_SIZED + (choice & 3) % 3 : choice & 3),
        .stored = stored + DMC_CUDA_STORED_PAD_BYTES,
        .stored_bytes = size,
        .stored_device = (uintptr_t)stored + DMC_CUDA_STORED_PAD_BYTES,
        .target_device = (uintptr_t)target,
        .chunk_bytes = bytes,
        .need_begin = need & 1 ? (uint64_t)bytes * (need >> 5) / 16 : 0,
        .need_end = need & 1 ? (uint64_t)bytes * (8 + (need >> 1 & 7)) / 16 + 1 : bytes,
        .planes = choice & 8 ? &planes : NULL,
    };
    static uint8_t *table;
    static const uint64_t table_bytes = 8 << 20, scratch_bytes = 1 << 20;
    static struct dmc_cuda_wave *wave;
    if (!wave) {
        table = aligned_alloc(256, table_bytes);
        if (!table || dmc_cuda_wave_create(1, &wave, NULL))
            abort();
    }
    dmc_twin_seed(size);
    struct dmc_cuda_launcher launcher = dmc_twin_launcher(132, choice & 4 ? 227u << 10 : 48u << 10);
    struct dmc_cuda_wave_info info;
    uint32_t index;
    dmc_cuda_wave_begin(wave, table, table_bytes, scratch_bytes);
    enum dmc_cuda_verdict verdict = dmc_cuda_inspect(&chunk, NULL);
    enum dmc_cuda_verdict added = dmc_cuda_wave_add(wave, &chunk, &index);
    if (added != verdict && !(verdict == DMC_CUDA_OK && added == DMC_CUDA_FULL))
        abort();
    dmc_cuda_wave_close(wave, &info);
    if (added == DMC_CUDA_OK && chunk.format != DMC_CUDA_GZIP && chunk.format != DMC_CUDA_ZLIB) {
        uint8_t *table_device = aligned_alloc(256, (info.table_bytes + 255) / 256 * 256);
        uint8_t *scratch = aligned_alloc(256, (info.scratch_bytes + 255) / 256 * 256 + 256);
        memcpy(table_device, table, info.table_bytes);
        memset(scratch, 0x5A, info.scratch_bytes);
        if (dmc_cuda_wave_enqueue(wave, &launcher, (uintptr_t)table_device, (uintptr_t)scratch, NULL, NULL))
            abort();
        uint32_t status;
        memcpy(&status, table_device, 4);
        if (status == DMC_CUDA_STATUS_OK && planes.block_bytes)
            from_planes(&chunk, target);
        uint8_t *expected = malloc(bytes);
        if (status == DMC_CUDA_STATUS_OK && chunk.need_begin < chunk.need_end && reference_decode(&chunk, expected)) {
            uint64_t end = chunk.need_end < bytes ? chunk.need_end : bytes;
            if (memcmp(expected + chunk.need_begin, target + chunk.need_begin, end - chunk.need_begin) != 0) {
                fprintf(stderr, "other bytes than the reference's\n");
                abort();
            }
        }
        free(expected);
        free(table_device);
        free(scratch);
    }
    free(stored);
    free(target);
    return 0;
}
