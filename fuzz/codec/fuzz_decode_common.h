/* What the decoding targets share: the first bytes of an input choose the chunk's size and the needed range, the rest is stored
 * bytes. The target buffer ends where it must, and a decoded prefix must equal the same bytes of a whole decode. */
#ifndef FUZZ_DECODE_COMMON_H
#define FUZZ_DECODE_COMMON_H

#include "base/bytes.h"
#include "codec/codec.h"
#include <stdlib.h>
#include <string.h>

#define FUZZ_HEADER_BYTES 7
#define FUZZ_CHUNK_BYTES_MAX (UINT64_C(1) << 19)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static inline void fuzz_decode(const char *codec, const uint8_t *data, size_t bytes)
{
    static struct dmc_codec_context *context; /* reused for ever, as a worker does; reachable, so no leak */
    if (bytes < FUZZ_HEADER_BYTES || (!context && dmc_codec_context_create(NULL, &context, NULL)))
        return;
    uint64_t chunk_bytes = (data[0] | (uint64_t)data[1] << 8 | (uint64_t)data[2] << 16) % FUZZ_CHUNK_BYTES_MAX + 1;
    uint64_t need_begin = dmc_load_u16le(data + 3) * chunk_bytes >> 16;
    uint64_t need_end = need_begin + (dmc_load_u16le(data + 5) * (chunk_bytes - need_begin) >> 16);
    const struct dmc_codec_desc descs[] = {{"bytes", NULL}, {codec, NULL}};
    struct dmc_codec_chain *chain = NULL;
    struct damacy_error error;
    if (dmc_codec_chain_create(descs, 2, DAMACY_U8, 1, &chunk_bytes, &chain, NULL))
        abort();
    /* A copy, so that AddressSanitizer sees where the stored bytes begin and end. */
    size_t source_bytes = bytes - FUZZ_HEADER_BYTES;
    uint8_t *source = malloc(source_bytes ? source_bytes : 1);
    uint8_t *part = malloc(chunk_bytes), *whole = malloc(chunk_bytes);
    memcpy(source, data + FUZZ_HEADER_BYTES, source_bytes);
    struct dmc_decode decode = {source, source_bytes, part, need_begin, need_end, false, 0};
    enum damacy_status part_status = dmc_codec_decode(chain, context, &decode, &error);
    decode = (struct dmc_decode){source, source_bytes, whole, 0, chunk_bytes, true, 0};
    enum damacy_status whole_status = dmc_codec_decode(chain, context, &decode, &error);
    if (whole_status == DAMACY_OK && (part_status || memcmp(part + need_begin, whole + need_begin, need_end - need_begin) != 0))
        abort();
    free(source);
    free(part);
    free(whole);
    dmc_codec_chain_free(chain);
}

#endif
