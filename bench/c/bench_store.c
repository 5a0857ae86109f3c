/* What dmc_store_start costs beside the bare pread, warm; and how cold random reads go through the ring and the pool.
 *
 *     bench_store [folder] [MiB of data] [rounds]
 *
 * Warm: one thread, random reads of a file in the page cache, the bare loop and the store by turns, medians over rounds.
 * Cold: the page cache of the file is dropped before each turn; a fixed number in flight. Prints microseconds a read. */
#include "base/clock.h"
#include "base/hash.h"
#include "store/store.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FILES = 16, DEPTH = 32, ROUNDS_MAX = 101 };
static char paths[FILES][512];
static uint64_t hashes[FILES];
static int fds[FILES];
static uint64_t file_bytes;

struct turn {
    struct dmc_request request;
    struct iovec part;
};

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, int count)
{
    qsort(values, (size_t)count, sizeof *values, compare);
    return values[count / 2];
}

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static void make_files(const char *folder, uint64_t bytes)
{
    file_bytes = bytes / FILES;
    unsigned char *data = malloc(file_bytes);
    if (!data)
        die("malloc");
    for (uint64_t i = 0; i + 8 <= file_bytes; i += 8) {
        uint64_t value = dmc_hash_u64(i, 1);
        memcpy(data + i, &value, 8);
    }
    for (int i = 0; i < FILES; i++) {
        snprintf(paths[i], sizeof paths[i], "%s/bench-store-%d-%d", folder, (int)getpid(), i);
        hashes[i] = dmc_hash_bytes(paths[i], strlen(paths[i]), 0);
        int fd = open(paths[i], O_CREAT | O_RDWR | O_TRUNC | O_CLOEXEC, 0600);
        if (fd < 0 || write(fd, data, file_bytes) != (ssize_t)file_bytes || fsync(fd) < 0)
            die(paths[i]);
        fds[i] = fd;
    }
    free(data);
}

static void drop(void)
{
    for (int i = 0; i < FILES; i++)
        posix_fadvise(fds[i], 0, 0, POSIX_FADV_DONTNEED);
}

static void target(uint64_t seed, uint64_t n, size_t bytes, int *file, uint64_t *offset)
{
    uint64_t random = dmc_hash_u64(seed, n);
    *file = (int)(random % FILES);
    *offset = (random >> 8) % (file_bytes - bytes);
}

/* CPU time: what others do on the machine disturbs it less. */
static uint64_t cpu_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static double bare(uint64_t seed, uint32_t count, size_t bytes, char *data, uint64_t (*clock_ns)(void))
{
    uint64_t begin_ns = clock_ns();
    for (uint32_t n = 0; n < count; n++) {
        int file;
        uint64_t offset;
        target(seed, n, bytes, &file, &offset);
        if (pread(fds[file], data, bytes, (off_t)offset) != (ssize_t)bytes)
            die("pread");
    }
    return (double)(clock_ns() - begin_ns) / count / 1000;
}

static void check(const struct dmc_request *request, size_t bytes)
{
    if (request->outcome != DMC_OUTCOME_OK || request->bytes_read != bytes)
        die("read");
}

/* `depth` reads in flight; a read that completes inside start is used up at once. With a work time, each finished read is
 * followed by that much computing, as decoding would. */
static double store_turn(struct dmc_store *store, struct dmc_io *io, uint64_t seed, uint32_t count, size_t bytes, char *data,
                         uint32_t depth, uint32_t *here, uint64_t work_ns, uint64_t (*clock_ns)(void))
{
    static struct turn turns[DEPTH];
    uint32_t free_slots[DEPTH], free_count = depth;
    for (uint32_t i = 0; i < depth; i++)
        free_slots[i] = i;
    uint64_t begin_ns = clock_ns();
    *here = 0;
    for (uint32_t n = 0, done = 0; done < count;) {
        struct dmc_request *request;
        if (n < count && free_count) {
            uint32_t slot = free_slots[--free_count];
            int file;
            uint64_t offset;
            target(seed, n++, bytes, &file, &offset);
            struct turn *turn = &turns[slot];
            turn->part = (struct iovec){data + slot * bytes, bytes};
            request = &turn->request;
            request->store = store;
            request->key = paths[file];
            request->key_hash = hashes[file];
            request->kind = DMC_RANGE_SPAN;
            request->offset = offset;
            request->parts = &turn->part;
            request->part_count = 1;
            request->user = (void *)(uintptr_t)slot;
            if (dmc_store_start(io, request) == DMC_START_DONE)
                ++*here;
            else
                request = dmc_io_wait(io, 0);
        } else {
            request = dmc_io_wait(io, UINT64_MAX);
        }
        if (!request)
            continue;
        check(request, bytes);
        free_slots[free_count++] = (uint32_t)(uintptr_t)request->user;
        done++;
        for (uint64_t until = work_ns ? dmc_clock_ns() + work_ns : 0; until && dmc_clock_ns() < until;) {
        }
    }
    return (double)(clock_ns() - begin_ns) / count / 1000;
}

int main(int argc, char **argv)
{
    const char *folder = argc > 1 ? argv[1] : "/tmp";
    uint64_t bytes_total = (argc > 2 ? strtoull(argv[2], NULL, 0) : 512) << 20;
    int rounds = argc > 3 ? atoi(argv[3]) : 15;
    if (rounds > ROUNDS_MAX)
        rounds = ROUNDS_MAX;
    make_files(folder, bytes_total);
    struct dmc_store *store;
    struct dmc_io *ios[2];
    if (dmc_store_file_create(NULL, &store, NULL) != DAMACY_OK)
        die("store");
    for (int pool = 0; pool < 2; pool++) {
        struct dmc_io_options options = {.depth = DEPTH, .io_uring_never = pool};
        if (dmc_io_create(&options, &ios[pool], NULL) != DAMACY_OK)
            die("io");
    }
    static const size_t sizes[] = {4096, 57344, 65536, 1 << 20};
    char *data = aligned_alloc(4096, (size_t)DEPTH << 20);
    if (!data)
        die("memory");
    memset(data, 1, (size_t)DEPTH << 20);
    printf("warm, one thread, microseconds of CPU a read\n%10s %10s %10s %10s\n", "bytes", "pread", "store", "difference");
    for (size_t s = 0; s < 4; s++) {
        double plain[ROUNDS_MAX], ours[ROUNDS_MAX], difference[ROUNDS_MAX];
        uint32_t here = 0, count = sizes[s] > 500000 ? 300 : 4000;
        bare(7, count, sizes[s], data, cpu_ns);
        for (int round = 0; round < rounds; round++) {
            plain[round] = bare(7, count, sizes[s], data, cpu_ns);
            ours[round] = store_turn(store, ios[0], 7, count, sizes[s], data, 1, &here, 0, cpu_ns);
            difference[round] = ours[round] - plain[round];
        }
        printf("%10zu %10.2f %10.2f %10.3f   (%u of %u inside start)\n", sizes[s], median(plain, rounds), median(ours, rounds),
               median(difference, rounds), here, count);
    }
    printf(
        "cold, one thread, microseconds of wall time a read (with 20 us of work after each in brackets)\n%10s %10s %20s %20s\n",
        "bytes", "pread", "ring", "threads");
    for (size_t s = 1; s < 4; s++) {
        double plain[ROUNDS_MAX], ours[2][ROUNDS_MAX], worked[2][ROUNDS_MAX];
        uint32_t here = 0, count = sizes[s] > 500000 ? 100 : 1500;
        for (int round = 0; round < rounds; round++) {
            drop();
            plain[round] = bare(100 + (uint64_t)round, count, sizes[s], data, dmc_clock_ns);
            for (int pool = 0; pool < 2; pool++) {
                drop();
                ours[pool][round] =
                    store_turn(store, ios[pool], 100 + (uint64_t)round, count, sizes[s], data, DEPTH, &here, 0, dmc_clock_ns);
                drop();
                worked[pool][round] = store_turn(store, ios[pool], 100 + (uint64_t)round, count, sizes[s], data, DEPTH, &here,
                                                 20000, dmc_clock_ns);
            }
        }
        printf("%10zu %10.1f %10.1f (%6.1f) %11.1f (%6.1f)   (last: %u of %u inside start)\n", sizes[s], median(plain, rounds),
               median(ours[0], rounds), median(worked[0], rounds), median(ours[1], rounds), median(worked[1], rounds), here,
               count);
    }
    for (int pool = 0; pool < 2; pool++)
        dmc_io_destroy(ios[pool], UINT64_MAX);
    dmc_store_destroy(store);
    free(data);
    for (int i = 0; i < FILES; i++) {
        close(fds[i]);
        unlink(paths[i]);
    }
    return 0;
}
