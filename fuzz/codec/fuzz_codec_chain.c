/* Codec lists with arbitrary names and configuration texts: one codec a line, "name configuration". The first byte chooses rank
 * and dtype. */
#include "codec/codec.h"
#include <stdlib.h>
#include <string.h>

#define LINES_MAX 12

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static const uint64_t shape[] = {3, 5, 2, 7};
    static const enum damacy_dtype dtypes[] = {DAMACY_U8, DAMACY_I16, DAMACY_F32, DAMACY_BOOL};
    if (bytes == 0)
        return 0;
    uint32_t rank = data[0] & 3, count = 0;
    struct dmc_codec_desc descs[LINES_MAX];
    char *text = malloc(bytes);
    memcpy(text, data + 1, bytes - 1);
    text[bytes - 1] = 0;
    char *line = text;
    while (line && count < LINES_MAX) {
        char *next = strchr(line, '\n');
        if (next)
            *next++ = 0;
        char *space = strchr(line, ' ');
        if (space)
            *space++ = 0;
        descs[count++] = (struct dmc_codec_desc){line, space};
        line = next;
    }
    struct dmc_codec_chain *chain = NULL;
    struct damacy_error error;
    if (dmc_codec_chain_create(descs, count, dtypes[data[0] >> 2 & 3], rank, shape, &chain, &error) == DAMACY_OK) {
        uint64_t elements = 1, last = 0;
        for (uint32_t i = 0; i < rank; i++) {
            elements *= shape[i];
            last += (shape[i] - 1) * (uint64_t)chain->strides[i];
        }
        if (last + 1 != elements || chain->memory_bytes > dmc_codec_chain_memory_max())
            abort();
    } else if (error.message[0] == 0 || chain) {
        abort();
    }
    dmc_codec_chain_free(chain);
    free(text);
    return 0;
}
