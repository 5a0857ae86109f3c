/* How fast chunks decode on one thread, against the libraries used plainly: GB/s of decoded bytes, medians of interleaved
 * rounds.
 *
 *     bench_codec [ROUNDS]
 *
 * Chunks are microscopy-like uint16 (and wider elements made from it). "library" is what a simple program would do: libblosc's
 * blosc_decompress_ctx(), or ZSTD_decompressDCtx() with a context that is kept. The last columns decode only a part in the
 * middle, as a crop does. */
#include "base/clock.h"
#include "codec/codec.h"
#include "codec/unshuffle.h"
#include <blosc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#define CHUNKS 16 /* different ones in turn, so that branch predictors do not learn a chunk by heart */
#define ROUNDS_MAX 1001

struct subject {
    const char *name;
    struct dmc_codec_chain *chain;
    uint64_t chunk_bytes;
    uint8_t *stored[CHUNKS];
    size_t stored_bytes[CHUNKS];
    bool blosc;
};

static struct dmc_codec_context *context;
static ZSTD_DCtx *library_zstd;
static uint64_t seed = 1;

static uint32_t random_u32(void)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(seed >> 33);
}

/* A smooth background with shot noise of a few counts: what a camera gives. */
static void image_fill(uint8_t *to, uint64_t bytes, size_t typesize)
{
    uint32_t phase = random_u32() % 4096;
    for (uint64_t i = 0; i < bytes / typesize; i++) {
        uint32_t x = (uint32_t)(i % 128), y = (uint32_t)(i / 128 % 128);
        uint32_t base = 300 + ((x + phase) / 16) * ((y + phase / 3) / 16) % 97;
        uint32_t noise = (random_u32() & 15) + (random_u32() & 15);
        uint64_t value = base + noise;
        memcpy(to + i * typesize, &value, typesize);
    }
}

static void must(enum damacy_status status, const struct damacy_error *error)
{
    if (status) {
        fprintf(stderr, "%s\n", error->message);
        exit(1);
    }
}

static void subject_make(struct subject *subject, const char *name, const char *codec, const char *inner, int shuffle,
                         size_t typesize, uint64_t chunk_bytes)
{
    static const enum damacy_dtype dtypes[] = {[1] = DAMACY_U8, [2] = DAMACY_U16, [4] = DAMACY_U32, [8] = DAMACY_U64};
    struct damacy_error error;
    const struct dmc_codec_desc descs[] = {{"bytes", "{\"endian\":\"little\"}"}, {codec, NULL}};
    uint64_t shape = chunk_bytes / typesize;
    *subject = (struct subject){.name = name, .chunk_bytes = chunk_bytes, .blosc = strcmp(codec, "blosc") == 0};
    must(dmc_codec_chain_create(descs, 2, dtypes[typesize], 1, &shape, &subject->chain, &error), &error);
    uint8_t *image = malloc(chunk_bytes);
    for (int i = 0; i < CHUNKS; i++) {
        size_t room = 2 * chunk_bytes + 4096;
        subject->stored[i] = malloc(room);
        image_fill(image, chunk_bytes, typesize);
        if (subject->blosc)
            subject->stored_bytes[i] =
                (size_t)blosc_compress_ctx(5, shuffle, typesize, chunk_bytes, image, subject->stored[i], room, inner, 0, 1);
        else
            subject->stored_bytes[i] = ZSTD_compress(subject->stored[i], room, image, chunk_bytes, 3);
    }
    free(image);
}

/* Nanoseconds for every chunk of the subject once, with our chain or with the library. */
static uint64_t pass(const struct subject *subject, uint8_t *target, bool ours, uint64_t need_begin, uint64_t need_end)
{
    struct damacy_error error;
    uint64_t begin = dmc_clock_ns();
    for (int i = 0; i < CHUNKS; i++) {
        if (ours) {
            struct dmc_decode decode = {subject->stored[i], subject->stored_bytes[i], target, need_begin, need_end, false, 0};
            must(dmc_codec_decode(subject->chain, context, &decode, &error), &error);
        } else if (subject->blosc) {
            blosc_decompress_ctx(subject->stored[i], target, subject->chunk_bytes, 1);
        } else {
            ZSTD_decompressDCtx(library_zstd, target, subject->chunk_bytes, subject->stored[i], subject->stored_bytes[i]);
        }
    }
    return dmc_clock_ns() - begin;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double median(double *values, int count)
{
    qsort(values, (size_t)count, sizeof *values, compare);
    return values[count / 2];
}

static void subject_run(const struct subject *subject, int rounds)
{
    static double ours[ROUNDS_MAX], library[ROUNDS_MAX], ratio[ROUNDS_MAX], part[ROUNDS_MAX];
    uint8_t *target = aligned_alloc(64, subject->chunk_bytes);
    uint64_t bytes = CHUNKS * subject->chunk_bytes, stored = 0;
    uint64_t third = subject->chunk_bytes / 3;
    for (int i = 0; i < CHUNKS; i++)
        stored += subject->stored_bytes[i];
    for (int i = -2; i < rounds; i++) { /* two rounds to warm up */
        uint64_t a = pass(subject, target, i & 1, 0, subject->chunk_bytes);
        uint64_t b = pass(subject, target, !(i & 1), 0, subject->chunk_bytes);
        uint64_t c = pass(subject, target, true, third, 2 * third);
        if (i < 0)
            continue;
        ours[i] = (double)bytes / (double)(i & 1 ? a : b);
        library[i] = (double)bytes / (double)(i & 1 ? b : a);
        ratio[i] = ours[i] / library[i];
        part[i] = (double)(i & 1 ? a : b) / (double)c;
    }
    printf("%-34s %6llu KiB %5.2fx %8.2f %8.2f %7.2f %9.2f\n", subject->name, (unsigned long long)subject->chunk_bytes >> 10,
           (double)bytes / (double)stored, median(ours, rounds), median(library, rounds), median(ratio, rounds),
           median(part, rounds));
    free(target);
}

static void subject_free(struct subject *subject)
{
    for (int i = 0; i < CHUNKS; i++)
        free(subject->stored[i]);
    dmc_codec_chain_free(subject->chain);
}

/* The filters alone, plain against the machine's best, in the first two levels of the cache. */
static void unshuffle_run(size_t typesize, bool bits, int rounds)
{
    static double best[ROUNDS_MAX], plain[ROUNDS_MAX];
    const size_t elements = (128 << 10) / typesize;
    uint8_t *source = malloc(elements * typesize), *target = malloc(elements * typesize);
    const uint8_t *planes[64];
    memset(source, 7, elements * typesize);
    for (size_t b = 0; b < typesize; b++)
        planes[b] = source + b * elements;
    for (int i = -2; i < rounds; i++) {
        for (int which = 0; which < 2; which++) {
            const struct dmc_unshuffle_ops *ops = which ? dmc_unshuffle_best() : &dmc_unshuffle_plain;
            uint64_t begin = dmc_clock_ns();
            for (int k = 0; k < 8; k++) {
                if (bits)
                    ops->bits(planes, typesize, elements, 0, elements, target);
                else
                    ops->bytes(planes, typesize, 0, elements, target);
            }
            if (i >= 0)
                (which ? best : plain)[i] = (double)(8 * elements * typesize) / (double)(dmc_clock_ns() - begin);
        }
    }
    printf("%-11s typesize %2zu                        %8.2f %8.2f\n", bits ? "bitshuffle" : "shuffle", typesize,
           median(best, rounds), median(plain, rounds));
    free(source);
    free(target);
}

int main(int count, char **arguments)
{
    int rounds = count > 1 ? atoi(arguments[1]) : 31;
    if (rounds < 1 || rounds > ROUNDS_MAX) {
        fprintf(stderr, "usage: bench_codec [ROUNDS]  (1 to %d)\n", ROUNDS_MAX);
        return 2;
    }
    struct damacy_error error;
    must(dmc_codec_context_create(NULL, &context, &error), &error);
    library_zstd = ZSTD_createDCtx();
    printf("%-34s %10s %6s %8s %8s %7s %9s\n", "chunk", "size", "packed", "GB/s", "library", "ratio", "third: x");
    static const struct {
        const char *name, *codec, *inner;
        int shuffle;
        size_t typesize;
    } kinds[] = {
        {"zstd, u16", "zstd", NULL, 0, 2},
        {"blosc lz4 shuffle, u16", "blosc", "lz4", BLOSC_SHUFFLE, 2},
        {"blosc lz4 shuffle, u32", "blosc", "lz4", BLOSC_SHUFFLE, 4},
        {"blosc lz4 shuffle, u64", "blosc", "lz4", BLOSC_SHUFFLE, 8},
        {"blosc lz4 noshuffle, u16", "blosc", "lz4", BLOSC_NOSHUFFLE, 2},
        {"blosc lz4 bitshuffle, u16", "blosc", "lz4", BLOSC_BITSHUFFLE, 2},
        {"blosc zstd shuffle, u16", "blosc", "zstd", BLOSC_SHUFFLE, 2},
        {"blosc zstd bitshuffle, u16", "blosc", "zstd", BLOSC_BITSHUFFLE, 2},
        {"blosc zlib shuffle, u16", "blosc", "zlib", BLOSC_SHUFFLE, 2},
    };
    static const uint64_t sizes[] = {128 << 10, 1 << 20};
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++) {
            struct subject subject;
            subject_make(&subject, kinds[k].name, kinds[k].codec, kinds[k].inner, kinds[k].shuffle, kinds[k].typesize,
                         sizes[s]);
            subject_run(&subject, rounds);
            subject_free(&subject);
        }
    }
    printf("\nfilters, 128 KiB, GB/s                           best    plain\n");
    static const size_t typesizes[] = {2, 4, 8, 16, 3, 12};
    for (size_t i = 0; i < sizeof typesizes / sizeof typesizes[0]; i++)
        unshuffle_run(typesizes[i], false, rounds);
    for (size_t i = 0; i < sizeof typesizes / sizeof typesizes[0]; i++)
        unshuffle_run(typesizes[i], true, rounds);
    ZSTD_freeDCtx(library_zstd);
    dmc_codec_context_destroy(context);
    return 0;
}
