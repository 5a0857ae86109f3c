/* The bare loop: the yardstick of the benchmark. What a perfect loader would still have to do, and nothing else.
 *
 * It is given the list of chunks beforehand, with the file, offset and length of each and with the pieces that samples need of
 * it (bench/workload.py makes the list; a chunk that several samples of a batch share is in it once). One thread per core takes
 * the next chunk off the list, preads it into its own buffer, decodes it with its own decoder context into another one, and
 * converts just the needed rows into the batch, all in recycled memory. There is no metadata, no planning, no queue and no
 * consumer. Files are open beforehand, except in rounds of the kind `fresh`.
 *
 * Uncompressed chunks need no decoding, and what to read of them is a choice: --spans 0 reads whole chunks, 1 from the first to
 * the last needed byte, 2 that in each plane. The fastest is the yardstick.
 *
 * The list, little-endian, in this order:
 *
 *     8 bytes  "DMCBARE1"
 *     u32      codec: 0 none, 1 zstd, 2 blosc, 3 gzip (libdeflate)
 *     u32      samples a batch
 *     u32[4]   chunk shape     (shapes are padded with ones in front to four axes)
 *     u32[4]   sample shape
 *     u32      files
 *     u32      batches
 *     u64      chunks
 *     u64      pieces
 *     then     files   x { u32 length, path without terminating zero }
 *     then     batches + 1 x u64: the first chunk of each batch
 *     then     chunks  x struct bare_chunk
 *     then     pieces  x struct bare_piece
 */
#include "bench_common.h"

#include <blosc.h>
#include <errno.h>
#include <fcntl.h>
#include <libdeflate.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <zstd.h>
#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__)
#include <immintrin.h>
#endif

enum bare_codec { BARE_NONE = 0, BARE_ZSTD = 1, BARE_BLOSC = 2, BARE_GZIP = 3 };

struct bare_chunk {
    uint64_t offset;
    uint32_t bytes;
    uint32_t file;
    uint64_t piece_begin;
    uint32_t piece_count;
    uint32_t reserved;
};

struct bare_piece {
    uint64_t target; /* element in the batch */
    uint32_t source; /* element in the chunk */
    uint16_t extent[4];
    uint32_t reserved;
};

struct bare_plan {
    uint32_t codec, batch_samples, chunk_shape[4], sample_shape[4], file_count, batch_count;
    uint64_t chunk_count, piece_count;
    char **paths;
    const uint64_t *batch_begin;
    const struct bare_chunk *chunks;
    const struct bare_piece *pieces;
    size_t chunk_elements, sample_elements;
    size_t chunk_stride[4], sample_stride[4];
    size_t read_bytes_max;
};

struct bare_loop {
    struct bare_plan plan;
    uint32_t thread_count, slot_count, spans;
    float **slots;
    _Atomic int *files;

    /* One round: chunks [next, end) of batches from `first_batch` on. */
    uint64_t first_batch, end_batch, end_chunk;
    _Alignas(64) _Atomic uint64_t next_chunk;
    _Alignas(64) _Atomic uint64_t *chunks_left; /* of each batch of the round */
    _Atomic bool failed;

    pthread_barrier_t begin, end;
    bool quitting;
};

struct bare_worker {
    struct bare_loop *loop;
    pthread_t thread;
    uint8_t *packed;
    uint16_t *decoded;
    ZSTD_DCtx *zstd;
    struct libdeflate_decompressor *deflate;
};

static _Noreturn void die(const char *what, const char *detail)
{
    fprintf(stderr, "bare_loop: %s: %s\n", what, detail);
    exit(1);
}

/* Zeroed memory on whole (where possible large) pages that exist already. */
static void *buffer_create(size_t bytes)
{
    size_t page = (size_t)2 << 20, rounded = (bytes + page - 1) / page * page;
    void *memory = aligned_alloc(page, rounded);
    if (!memory) {
        die("memory", strerror(errno));
    }
    madvise(memory, rounded, MADV_HUGEPAGE);
    memset(memory, 0, rounded);
    return memory;
}

/* The next `bytes` bytes of the list. */
static const void *plan_take(const uint8_t **cursor, const uint8_t *end, size_t bytes)
{
    if ((size_t)(end - *cursor) < bytes) {
        die("list of chunks", "too short");
    }
    const void *taken = *cursor;
    *cursor += bytes;
    return taken;
}

static void plan_load(struct bare_plan *plan, const char *path)
{
    int file = open(path, O_RDONLY | O_CLOEXEC);
    struct stat stat;
    if (file < 0 || fstat(file, &stat) != 0) {
        die(path, strerror(errno));
    }
    uint8_t *bytes = buffer_create((size_t)stat.st_size + 1);
    for (size_t done = 0; done < (size_t)stat.st_size;) {
        ssize_t got = read(file, bytes + done, (size_t)stat.st_size - done);
        if (got <= 0) {
            die(path, "cannot be read");
        }
        done += (size_t)got;
    }
    close(file);

    const uint8_t *cursor = bytes, *end = bytes + stat.st_size;
    if (memcmp(plan_take(&cursor, end, 8), "DMCBARE1", 8) != 0) {
        die(path, "not a list of chunks");
    }
    memcpy(&plan->codec, plan_take(&cursor, end, 4), 4);
    memcpy(&plan->batch_samples, plan_take(&cursor, end, 4), 4);
    memcpy(plan->chunk_shape, plan_take(&cursor, end, 16), 16);
    memcpy(plan->sample_shape, plan_take(&cursor, end, 16), 16);
    memcpy(&plan->file_count, plan_take(&cursor, end, 4), 4);
    memcpy(&plan->batch_count, plan_take(&cursor, end, 4), 4);
    memcpy(&plan->chunk_count, plan_take(&cursor, end, 8), 8);
    memcpy(&plan->piece_count, plan_take(&cursor, end, 8), 8);
    plan->paths = calloc(plan->file_count, sizeof *plan->paths);
    for (uint32_t i = 0; i < plan->file_count; ++i) {
        uint32_t length;
        memcpy(&length, plan_take(&cursor, end, 4), 4);
        plan->paths[i] = strndup(plan_take(&cursor, end, length), length);
    }
    /* The tables are copied so that they are aligned. */
    uint64_t *batch_begin = buffer_create(((size_t)plan->batch_count + 1) * sizeof *batch_begin);
    memcpy(batch_begin, plan_take(&cursor, end, ((size_t)plan->batch_count + 1) * sizeof *batch_begin),
           ((size_t)plan->batch_count + 1) * sizeof *batch_begin);
    struct bare_chunk *chunks = buffer_create(plan->chunk_count * sizeof *chunks);
    memcpy(chunks, plan_take(&cursor, end, plan->chunk_count * sizeof *chunks), plan->chunk_count * sizeof *chunks);
    struct bare_piece *pieces = buffer_create(plan->piece_count * sizeof *pieces);
    memcpy(pieces, plan_take(&cursor, end, plan->piece_count * sizeof *pieces), plan->piece_count * sizeof *pieces);
    free(bytes);
    plan->batch_begin = batch_begin;
    plan->chunks = chunks;
    plan->pieces = pieces;

    size_t chunk_elements = 1, sample_elements = 1;
    for (int axis = 3; axis >= 0; --axis) {
        plan->chunk_stride[axis] = chunk_elements;
        plan->sample_stride[axis] = sample_elements;
        chunk_elements *= plan->chunk_shape[axis];
        sample_elements *= plan->sample_shape[axis];
    }
    plan->chunk_elements = chunk_elements;
    plan->sample_elements = sample_elements;
    for (uint64_t i = 0; i < plan->chunk_count; ++i) {
        if (chunks[i].bytes > plan->read_bytes_max) {
            plan->read_bytes_max = chunks[i].bytes;
        }
    }
}

static int file_of(struct bare_loop *loop, uint32_t index)
{
    int file = atomic_load_explicit(&loop->files[index], memory_order_relaxed);
    if (file >= 0) {
        return file;
    }
    file = open(loop->plan.paths[index], O_RDONLY | O_CLOEXEC);
    if (file < 0) {
        die(loop->plan.paths[index], strerror(errno));
    }
    int none = -1;
    if (!atomic_compare_exchange_strong(&loop->files[index], &none, file)) {
        close(file); /* another thread was quicker */
        file = none;
    }
    return file;
}

static void files_open(struct bare_loop *loop)
{
    for (uint32_t i = 0; i < loop->plan.file_count; ++i) {
        file_of(loop, i);
    }
}

static void files_close(struct bare_loop *loop)
{
    for (uint32_t i = 0; i < loop->plan.file_count; ++i) {
        int file = atomic_exchange(&loop->files[i], -1);
        if (file >= 0) {
            close(file);
        }
    }
}

static void read_all(int file, void *target, size_t bytes, uint64_t offset)
{
    for (size_t done = 0; done < bytes;) {
        ssize_t got = pread(file, (uint8_t *)target + done, bytes - done, (off_t)(offset + done));
        if (got <= 0) {
            if (got < 0 && errno == EINTR) {
                continue;
            }
            die("pread", got < 0 ? strerror(errno) : "end of file");
        }
        done += (size_t)got;
    }
}

/* Convert one row; most rows are 1 to 128 elements, so the tail matters as much as the middle. */
static inline void convert_row(float *restrict target, const uint16_t *restrict source, size_t count)
{
#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__)
    size_t i = 0;
    for (; i + 16 <= count; i += 16) {
        __m256i words = _mm256_loadu_si256((const __m256i *)(const void *)(source + i));
        _mm512_storeu_ps(target + i, _mm512_cvtepi32_ps(_mm512_cvtepu16_epi32(words)));
    }
    if (i < count) {
        __mmask16 mask = (__mmask16)((1u << (count - i)) - 1);
        __m256i words = _mm256_maskz_loadu_epi16(mask, source + i);
        _mm512_mask_storeu_ps(target + i, mask, _mm512_cvtepi32_ps(_mm512_cvtepu16_epi32(words)));
    }
#else
    for (size_t i = 0; i < count; ++i) {
        target[i] = source[i];
    }
#endif
}

static void scatter(const struct bare_plan *plan, const struct bare_piece *piece, const uint16_t *chunk, float *batch)
{
    const uint16_t *source0 = chunk + piece->source;
    float *target0 = batch + piece->target;
    for (size_t a = 0; a < piece->extent[0]; ++a) {
        for (size_t b = 0; b < piece->extent[1]; ++b) {
            const uint16_t *source = source0 + a * plan->chunk_stride[0] + b * plan->chunk_stride[1];
            float *target = target0 + a * plan->sample_stride[0] + b * plan->sample_stride[1];
            for (size_t c = 0; c < piece->extent[2]; ++c) {
                convert_row(target, source, piece->extent[3]);
                source += plan->chunk_stride[2];
                target += plan->sample_stride[2];
            }
        }
    }
}

/* Read [begin, end), elements of an uncompressed chunk, to where they belong in a whole one. */
static void read_span(const struct bare_worker *worker, int file, const struct bare_chunk *chunk, size_t begin, size_t end)
{
    read_all(file, worker->decoded + begin, (end - begin) * sizeof(uint16_t), chunk->offset + begin * sizeof(uint16_t));
}

/* Read what the pieces need of an uncompressed chunk. */
static void read_spans(const struct bare_worker *worker, int file, const struct bare_chunk *chunk)
{
    const struct bare_loop *loop = worker->loop;
    const struct bare_plan *plan = &loop->plan;
    const struct bare_piece *pieces = plan->pieces + chunk->piece_begin;
    size_t begin = SIZE_MAX, end = 0;
    for (uint32_t i = 0; i < chunk->piece_count; ++i) {
        const struct bare_piece *piece = &pieces[i];
        size_t plane_end = (piece->extent[2] - 1) * plan->chunk_stride[2] + piece->extent[3];
        size_t last_plane = (piece->extent[0] - 1) * plan->chunk_stride[0] + (piece->extent[1] - 1) * plan->chunk_stride[1];
        if (loop->spans == 2) {
            for (size_t a = 0; a < piece->extent[0]; ++a) {
                for (size_t b = 0; b < piece->extent[1]; ++b) {
                    size_t plane = piece->source + a * plan->chunk_stride[0] + b * plan->chunk_stride[1];
                    read_span(worker, file, chunk, plane, plane + plane_end);
                }
            }
        }
        begin = piece->source < begin ? piece->source : begin;
        end = piece->source + last_plane + plane_end > end ? piece->source + last_plane + plane_end : end;
    }
    if (loop->spans == 1) {
        read_span(worker, file, chunk, begin, end);
    } else if (loop->spans == 0) {
        read_span(worker, file, chunk, 0, plan->chunk_elements);
    }
}

static void load_chunk(struct bare_worker *worker, const struct bare_chunk *chunk)
{
    struct bare_loop *loop = worker->loop;
    const struct bare_plan *plan = &loop->plan;
    int file = file_of(loop, chunk->file);
    size_t want = plan->chunk_elements * sizeof(uint16_t);
    if (plan->codec == BARE_NONE) {
        read_spans(worker, file, chunk);
        return;
    }
    read_all(file, worker->packed, chunk->bytes, chunk->offset);
    if (plan->codec == BARE_ZSTD) {
        if (ZSTD_decompressDCtx(worker->zstd, worker->decoded, want, worker->packed, chunk->bytes) != want) {
            die("zstd", "damaged chunk");
        }
    } else if (plan->codec == BARE_GZIP) {
        if (libdeflate_gzip_decompress(worker->deflate, worker->packed, chunk->bytes, worker->decoded, want, NULL) !=
            LIBDEFLATE_SUCCESS) {
            die("gzip", "damaged chunk");
        }
    } else if (blosc_decompress_ctx(worker->packed, worker->decoded, want, 1) != (int)want) {
        die("blosc", "damaged chunk");
    }
}

/* Take chunks off the list until it is empty. */
static void work(struct bare_worker *worker)
{
    struct bare_loop *loop = worker->loop;
    const struct bare_plan *plan = &loop->plan;
    uint64_t batch = loop->first_batch;
    for (;;) {
        uint64_t index = atomic_fetch_add_explicit(&loop->next_chunk, 1, memory_order_relaxed);
        if (index >= loop->end_chunk) {
            return;
        }
        while (index >= plan->batch_begin[batch + 1]) {
            ++batch;
        }
        uint64_t ordinal = batch - loop->first_batch;
        if (ordinal >= loop->slot_count) {
            /* The buffer is free when the batch that had it is whole. It is, unless the thread with its last chunk lost its
             * core; so sleep, that the wait does not pass for work. */
            while (atomic_load_explicit(&loop->chunks_left[ordinal - loop->slot_count], memory_order_acquire) != 0) {
                nanosleep(&(struct timespec){.tv_nsec = 20000}, NULL);
            }
        }
        const struct bare_chunk *chunk = &plan->chunks[index];
        load_chunk(worker, chunk);
        for (uint32_t i = 0; i < chunk->piece_count; ++i) {
            scatter(plan, &plan->pieces[chunk->piece_begin + i], worker->decoded, loop->slots[ordinal % loop->slot_count]);
        }
        atomic_fetch_sub_explicit(&loop->chunks_left[ordinal], 1, memory_order_release);
    }
}

static void *worker_main(void *argument)
{
    struct bare_worker *worker = argument;
    for (;;) {
        pthread_barrier_wait(&worker->loop->begin);
        if (worker->loop->quitting) {
            return NULL;
        }
        work(worker);
        pthread_barrier_wait(&worker->loop->end);
    }
}

/* Deliver batches [first, end) with all threads. */
static void run_batches(struct bare_loop *loop, struct bare_worker *self, uint64_t first, uint64_t end)
{
    loop->first_batch = first;
    loop->end_batch = end;
    loop->end_chunk = loop->plan.batch_begin[end];
    for (uint64_t batch = first; batch < end; ++batch) {
        atomic_store_explicit(&loop->chunks_left[batch - first],
                              loop->plan.batch_begin[batch + 1] - loop->plan.batch_begin[batch], memory_order_relaxed);
    }
    atomic_store(&loop->next_chunk, loop->plan.batch_begin[first]);
    if (loop->thread_count > 1) {
        pthread_barrier_wait(&loop->begin);
    }
    work(self);
    if (loop->thread_count > 1) {
        pthread_barrier_wait(&loop->end);
    }
}

static void check(struct bare_loop *loop, struct bare_worker *self, uint64_t count, const char *path)
{
    FILE *file = fopen(path, "we");
    if (!file) {
        die(path, strerror(errno));
    }
    for (uint64_t batch = 0; batch * loop->plan.batch_samples < count; ++batch) {
        run_batches(loop, self, batch, batch + 1);
        for (uint64_t i = 0; i < loop->plan.batch_samples && batch * loop->plan.batch_samples + i < count; ++i) {
            const float *sample = loop->slots[0] + i * loop->plan.sample_elements;
            fprintf(file, "%016" PRIx64 "\n", bench_hash((const uint32_t *)(const void *)sample, loop->plan.sample_elements));
        }
    }
    fclose(file);
    puts("{\"ok\": true}");
}

static void timed_round(struct bare_loop *loop, struct bare_worker *self, const struct bench_command *command, bool fresh)
{
    uint64_t first = command->first / loop->plan.batch_samples, end = first + command->count / loop->plan.batch_samples;
    if (end > loop->plan.batch_count || first >= end) {
        puts("{\"error\": \"no such samples\"}");
        return;
    }
    if (fresh) {
        files_close(loop);
    } else {
        files_open(loop);
    }
    double wall = bench_wall_s(), cpu = bench_cpu_s();
    run_batches(loop, self, first, end);
    if (fresh) {
        files_close(loop);
    }
    printf("{\"wall\": %.9f, \"cpu\": %.9f, \"samples\": %" PRIu64 ", \"chunks\": %" PRIu64 "}\n", bench_wall_s() - wall,
           bench_cpu_s() - cpu, (end - first) * loop->plan.batch_samples,
           loop->plan.batch_begin[end] - loop->plan.batch_begin[first]);
}

int main(int argc, char **argv)
{
    static struct bare_loop loop = {.thread_count = 1, .slot_count = 2, .spans = 1};
    for (int i = 2; i + 1 < argc; i += 2) {
        uint32_t value = (uint32_t)strtoul(argv[i + 1], NULL, 10);
        if (strcmp(argv[i], "--threads") == 0) {
            loop.thread_count = value ? value : 1;
        } else if (strcmp(argv[i], "--slots") == 0) {
            loop.slot_count = value ? value : 1;
        } else if (strcmp(argv[i], "--spans") == 0) {
            loop.spans = value;
        } else {
            die(argv[i], "unknown option");
        }
    }
    if (argc < 2 || argc % 2 != 0) {
        fprintf(stderr, "usage: bare_loop LIST [--threads N] [--slots N] [--spans 0|1|2]\n");
        return 2;
    }
    uint64_t base = bench_status_bytes("VmRSS");
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
    plan_load(&loop.plan, argv[1]);
    loop.files = calloc(loop.plan.file_count, sizeof *loop.files);
    loop.chunks_left = calloc((size_t)loop.plan.batch_count + 1, sizeof *loop.chunks_left);
    loop.slots = calloc(loop.slot_count, sizeof *loop.slots);
    for (uint32_t i = 0; i < loop.plan.file_count; ++i) {
        atomic_init(&loop.files[i], -1);
    }
    for (uint32_t i = 0; i < loop.slot_count; ++i) {
        loop.slots[i] = buffer_create(loop.plan.batch_samples * loop.plan.sample_elements * sizeof(float));
    }
    pthread_barrier_init(&loop.begin, NULL, loop.thread_count);
    pthread_barrier_init(&loop.end, NULL, loop.thread_count);
    struct bare_worker *workers = calloc(loop.thread_count, sizeof *workers);
    for (uint32_t i = 0; i < loop.thread_count; ++i) {
        workers[i].loop = &loop;
        workers[i].packed = buffer_create(loop.plan.read_bytes_max);
        workers[i].decoded = buffer_create(loop.plan.chunk_elements * sizeof(uint16_t));
        workers[i].zstd = ZSTD_createDCtx();
        workers[i].deflate = libdeflate_alloc_decompressor();
        if (i > 0 && pthread_create(&workers[i].thread, NULL, worker_main, &workers[i]) != 0) {
            die("thread", "cannot be started");
        }
    }

    printf("{\"ready\": true, \"version\": \"zstd %s, blosc %s, libdeflate %s\"}\n", ZSTD_versionString(),
           blosc_get_version_string(), LIBDEFLATE_VERSION_STRING);
    struct bench_command command;
    while (bench_next_command(&command)) {
        if (strcmp(command.name, "round") == 0) {
            timed_round(&loop, &workers[0], &command, false);
        } else if (strcmp(command.name, "fresh") == 0) {
            timed_round(&loop, &workers[0], &command, true);
        } else if (strcmp(command.name, "check") == 0) {
            check(&loop, &workers[0], command.count, command.path);
        } else if (strcmp(command.name, "memory") == 0) {
            bench_reply_memory(base, loop.slot_count * loop.plan.batch_samples * loop.plan.sample_elements * sizeof(float));
        } else {
            puts("{\"error\": \"the bare loop does not do that\"}");
        }
    }
    loop.quitting = true;
    if (loop.thread_count > 1) {
        pthread_barrier_wait(&loop.begin);
    }
    for (uint32_t i = 1; i < loop.thread_count; ++i) {
        pthread_join(workers[i].thread, NULL);
    }
    return 0;
}
