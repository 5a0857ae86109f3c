/* Whole chains with their configurations, and what they are given to decode: every codec, alone and with others.
 *
 *     u8 dtype, u8 rank, u16 extent of each axis, u16 where the needed range begins and ends (of 65536)
 *     lines "name configuration", a zero byte, the stored bytes
 *
 * tests/data/codec_vectors.py makes the corpus. */
#include "base/bytes.h"
#include "codec/codec.h"
#include <stdlib.h>

#define LINES_MAX 10
#define RANK_MAX 4u
#define CHUNK_BYTES_MAX (1u << 18)
#define SCRATCH_BYTES_MAX (UINT64_C(1) << 26)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static uint32_t split_lines(char *text, struct dmc_codec_desc *descs)
{
    uint32_t count = 0;
    while (text && count < LINES_MAX) {
        char *next = strchr(text, '\n'), *space;
        if (next)
            *next++ = 0;
        space = strchr(text, ' ');
        if (space)
            *space++ = 0;
        if (*text)
            descs[count++] = (struct dmc_codec_desc){text, space};
        text = next;
    }
    return count;
}

static void decode_twice(const struct dmc_codec_chain *chain, const uint8_t *stored, size_t stored_bytes, uint64_t begin,
                         uint64_t end)
{
    static struct dmc_codec_context *context; /* reused for ever, as a worker does; reachable, so no leak */
    static struct dmc_budget budget;
    struct damacy_error error;
    if (!context) {
        dmc_budget_init(&budget, SCRATCH_BYTES_MAX);
        if (dmc_codec_context_create(&budget, &context, NULL))
            return;
    }
    uint8_t *source = malloc(stored_bytes ? stored_bytes : 1); /* a copy, so that AddressSanitizer sees where it ends */
    uint8_t *part = malloc(chain->chunk_bytes + 1), *whole = malloc(chain->chunk_bytes + 1);
    memcpy(source, stored, stored_bytes);
    begin = begin * chain->chunk_bytes >> 16;
    end = begin + (end * (chain->chunk_bytes - begin) >> 16);
    struct dmc_decode decode = {source, stored_bytes, part, begin, end, false, 0};
    enum damacy_status part_status = dmc_codec_decode(chain, context, &decode, &error);
    decode = (struct dmc_decode){source, stored_bytes, whole, 0, chain->chunk_bytes, true, 0};
    if (dmc_codec_decode(chain, context, &decode, &error) == DAMACY_OK &&
        (part_status || memcmp(part + begin, whole + begin, end - begin) != 0))
        abort();
    free(source);
    free(part);
    free(whole);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    uint64_t shape[RANK_MAX], elements = 1;
    if (bytes < 6 + 2 * RANK_MAX)
        return 0;
    enum damacy_dtype dtype = (enum damacy_dtype)(1 + data[0] % (DAMACY_DTYPE_COUNT - 1));
    uint32_t rank = data[1] % (RANK_MAX + 1);
    const uint8_t *at = data + 2, *end = data + bytes;
    for (uint32_t i = 0; i < rank; i++, at += 2) {
        shape[i] = dmc_load_u16le(at);
        elements *= shape[i] ? shape[i] : 1;
        if (elements * damacy_dtype_bytes(dtype) > CHUNK_BYTES_MAX)
            return 0;
    }
    uint64_t need_begin = dmc_load_u16le(at), need_end = dmc_load_u16le(at + 2);
    at += 4;
    const uint8_t *stored = memchr(at, 0, (size_t)(end - at));
    if (!stored)
        return 0;
    char *text = strdup((const char *)at);
    struct dmc_codec_desc descs[LINES_MAX];
    struct dmc_codec_chain *chain = NULL;
    struct damacy_error error;
    uint32_t count = split_lines(text, descs);
    if (dmc_codec_chain_create(descs, count, dtype, rank, shape, &chain, &error) == DAMACY_OK) {
        if (chain->memory_bytes > dmc_codec_chain_memory_max())
            abort();
        decode_twice(chain, stored + 1, (size_t)(end - stored - 1), need_begin, need_end);
        dmc_codec_chain_free(chain);
    } else if (error.message[0] == 0 || chain) {
        abort();
    }
    free(text);
    return 0;
}
