/* How fast rows of elements are converted: GB/s (bytes read plus bytes written) for each pair that matters and each SIMD set,
 * beside memcpy of the same source rows.
 *
 *     bench_scatter [ROW_ELEMENTS... | mixed]        default: 64, 16384 and mixed
 *
 * Rows lie apart in the source (a crop out of a wider chunk) and touch in the target (a batch). "cache": the source and target
 * fit into L2, which shows the loops; "stream": a chunk of 1 MiB that stays in the cache is scattered over 256 MiB of target,
 * which is what a worker does. Best of several rounds.
 *
 * mixed: what pieces of crops are, 32 rows of 1 to 64 elements, rows 128 elements apart in the target. */
#include "backend/kernels/scatter.h"
#include "bench_common.h"

struct pair {
    enum damacy_dtype source, output;
    bool swap;
};

static const struct pair pairs[] = {
    {DAMACY_U16, DAMACY_F32, false},  {DAMACY_U8, DAMACY_F32, false},   {DAMACY_I16, DAMACY_F32, false},
    {DAMACY_F32, DAMACY_F32, false},  {DAMACY_U16, DAMACY_U16, false},  {DAMACY_U16, DAMACY_BF16, false},
    {DAMACY_U16, DAMACY_F16, false},  {DAMACY_U8, DAMACY_BF16, false},  {DAMACY_U8, DAMACY_F16, false},
    {DAMACY_I16, DAMACY_F16, false},  {DAMACY_F32, DAMACY_BF16, false}, {DAMACY_F32, DAMACY_F16, false},
    {DAMACY_F16, DAMACY_F32, false},  {DAMACY_F16, DAMACY_BF16, false}, {DAMACY_F64, DAMACY_F32, false},
    {DAMACY_F64, DAMACY_BF16, false}, {DAMACY_F64, DAMACY_F16, false},  {DAMACY_U32, DAMACY_F32, false},
    {DAMACY_I32, DAMACY_F32, false},  {DAMACY_I32, DAMACY_BF16, false}, {DAMACY_U32, DAMACY_F16, false},
    {DAMACY_U64, DAMACY_F32, false},  {DAMACY_I64, DAMACY_F32, false},  {DAMACY_I64, DAMACY_F64, false},
    {DAMACY_I64, DAMACY_BF16, false}, {DAMACY_U8, DAMACY_U16, false},   {DAMACY_U8, DAMACY_I64, false},
    {DAMACY_BOOL, DAMACY_F32, false}, {DAMACY_U16, DAMACY_F32, true},   {DAMACY_U16, DAMACY_U16, true},
    {DAMACY_F32, DAMACY_F32, true},   {DAMACY_F64, DAMACY_F32, true},
};

static uint8_t *source_memory, *target_memory;
enum { SOURCE_BYTES = 2 << 20, CACHE_BYTES = 96 << 10, TARGET_BYTES = 256 << 20 };

/* The rows of one chunk, again and again, over `target_bytes` of target; seconds and elements of the best round. */
static double rate(dmc_scatter_rows rows_function, size_t in, size_t out, uint64_t columns, size_t source_bytes,
                   size_t target_bytes, int64_t step)
{
    int64_t source_row = (int64_t)(columns * in) + 64;
    uint64_t rows = source_bytes / (uint64_t)source_row;
    rows = rows < 1 ? 1 : rows;
    uint64_t chunk_out = rows * columns * out, chunks = target_bytes / chunk_out,
             passes = chunks < 64 ? 2000 / (chunks + 1) + 1 : 1;
    double best = 1e9;
    for (int round = 0; round < 5; round++) {
        double begin = bench_wall_s();
        for (uint64_t pass = 0; pass < passes; pass++)
            for (uint64_t chunk = 0; chunk < chunks; chunk++)
                rows_function(target_memory + chunk * chunk_out, (int64_t)(columns * out), source_memory, source_row, step,
                              rows, columns);
        double seconds = bench_wall_s() - begin;
        best = seconds < best ? seconds : best;
    }
    return (double)(passes * chunks * rows * columns * (in + out)) / best / 1e9;
}

/* Pieces of 32 rows, 1 to 64 elements wide, from anywhere in a source that fits into L2 to anywhere in `target_bytes`. */
static double mixed_rate(dmc_scatter_rows rows_function, size_t in, size_t out, size_t target_bytes)
{
    enum { ROWS = 32, WIDTH_MAX = 64, SOURCE_ROW = 64, TARGET_ROW = 128, PIECES = 4096 };
    int64_t source_row = (int64_t)(SOURCE_ROW * in), target_row = (int64_t)(TARGET_ROW * out);
    uint64_t places = target_bytes / out - (ROWS + 1) * TARGET_ROW;
    double best = 1e9;
    uint64_t bytes = 0;
    for (int round = 0; round < 9; round++) {
        uint64_t state = 1;
        bytes = 0;
        double begin = bench_wall_s();
        for (int piece = 0; piece < PIECES; piece++) {
            state = state * 6364136223846793005u + 1442695040888963407u;
            uint64_t columns = 1 + (state >> 33) % WIDTH_MAX;
            rows_function(target_memory + (state >> 20) % places * out, target_row, source_memory + (state >> 50) % 1024 * in,
                          source_row, (int64_t)in, ROWS, columns);
            bytes += ROWS * columns * (in + out);
        }
        double seconds = bench_wall_s() - begin;
        best = seconds < best ? seconds : best;
    }
    return (double)bytes / best / 1e9;
}

/* A chunk of 64 x 128 x 128 elements in the opposite (Fortran) order. Rows along the axis that is contiguous in the source, as
 * dmc_assemble_piece() has them, against rows along the next to last axis. */
static void bench_transposed(void)
{
    enum { DEPTH = 64, HEIGHT = 128, WIDTH = 128, IN = 2, OUT = 4 };
    dmc_scatter_rows rows = dmc_scatter_select(DAMACY_U16, false, DAMACY_F32);
    double best[2] = {1e9, 1e9};
    for (int round = 0; round < 200; round++) {
        int along_depth = round & 1;
        double begin = bench_clock_s(CLOCK_THREAD_CPUTIME_ID);
        if (along_depth) {
            for (int y = 0; y < HEIGHT; y++)
                rows(target_memory + y * WIDTH * OUT, HEIGHT * WIDTH * OUT, source_memory + y * DEPTH * IN, IN,
                     HEIGHT * DEPTH * IN, DEPTH, WIDTH);
        } else {
            for (int z = 0; z < DEPTH; z++)
                rows(target_memory + z * HEIGHT * WIDTH * OUT, WIDTH * OUT, source_memory + z * IN, DEPTH * IN,
                     HEIGHT * DEPTH * IN, HEIGHT, WIDTH);
        }
        double seconds = bench_clock_s(CLOCK_THREAD_CPUTIME_ID) - begin;
        best[along_depth] = seconds < best[along_depth] ? seconds : best[along_depth];
    }
    double gigabytes = DEPTH * HEIGHT * WIDTH * (IN + OUT) / 1e9;
    printf("transposed u16 -> f32: %.1f GB/s along the contiguous axis, %.1f GB/s along the next to last\n",
           gigabytes / best[1], gigabytes / best[0]);
}

int main(int argc, char **argv)
{
    source_memory = aligned_alloc(4096, SOURCE_BYTES + (1 << 20));
    target_memory = aligned_alloc(1 << 21, TARGET_BYTES);
    if (!source_memory || !target_memory)
        return 1;
    for (size_t i = 0; i < SOURCE_BYTES + (1 << 20); i++)
        source_memory[i] = (uint8_t)(i * 2654435761u >> 13);
    memset(target_memory, 1, TARGET_BYTES);
    enum { SIMD_NAMES = 5 };
    static const char *const simd_names[SIMD_NAMES] = {"plain", "avx2", "avx512", "avx2-streamed", "avx512-streamed"};
    static char *defaults[] = {"64", "16384", "mixed"};
    char **lengths = argc > 1 ? argv + 1 : defaults;
    int count = argc > 1 ? argc - 1 : 3;
    for (int k = 0; k < count; k++) {
        bool mixed = strcmp(lengths[k], "mixed") == 0;
        uint64_t columns = mixed ? 1 : strtoull(lengths[k], NULL, 0);
        if (columns < 1 || columns > 32768)
            continue;
        printf("rows of %s elements, GB/s          cache                       stream\n", mixed ? "1 to 64" : lengths[k]);
        printf("%-22s %8s %8s %8s   %8s %8s %8s %8s %8s %8s\n", "pair", "plain", "avx2", "avx512", "plain", "avx2", "avx512",
               "avx2-s", "avx512-s", "memcpy");
        for (size_t p = 0; p < sizeof pairs / sizeof pairs[0]; p++) {
            size_t in = damacy_dtype_bytes(pairs[p].source), out = damacy_dtype_bytes(pairs[p].output);
            double rates[2][SIMD_NAMES] = {{0}};
            for (int simd = 0; simd < SIMD_NAMES; simd++) {
                dmc_scatter_rows rows =
                    dmc_scatter_select_simd(simd_names[simd], pairs[p].source, pairs[p].swap, pairs[p].output);
                if (!rows)
                    continue;
                /* Of the cache's bytes, the source's share. */
                size_t share = CACHE_BYTES * in / (in + out);
                share = share < columns * in + 64 ? columns * in + 64 : share;
                rates[0][simd] = mixed ? mixed_rate(rows, in, out, CACHE_BYTES + 33 * 128 * out)
                                       : rate(rows, in, out, columns, share, share * out / in, (int64_t)in);
                rates[1][simd] = mixed ? mixed_rate(rows, in, out, TARGET_BYTES)
                                       : rate(rows, in, out, columns, SOURCE_BYTES / 4, TARGET_BYTES, (int64_t)in);
            }
            dmc_scatter_rows copy = dmc_scatter_select(DAMACY_U8, false, DAMACY_U8);
            double limit = mixed ? 0 : rate(copy, 1, 1, columns * out, SOURCE_BYTES / 4, TARGET_BYTES, 1);
            char name[32];
            snprintf(name, sizeof name, "%s -> %s%s", damacy_dtype_str(pairs[p].source), damacy_dtype_str(pairs[p].output),
                     pairs[p].swap ? " swapped" : "");
            printf("%-22s %8.1f %8.1f %8.1f   %8.1f %8.1f %8.1f %8.1f %8.1f %8.1f\n", name, rates[0][0], rates[0][1],
                   rates[0][2], rates[1][0], rates[1][1], rates[1][2], rates[1][3], rates[1][4], limit);
            fflush(stdout);
        }
    }
    bench_transposed();
    free(source_memory);
    free(target_memory);
    return 0;
}
