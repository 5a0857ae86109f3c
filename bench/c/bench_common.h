/* What the benchmark's C programs share: clocks, memory, the checksum and the command loop.
 *
 * A reader is a process that bench/run.py starts once and then asks, a line at a time, to do rounds, so that start-up costs do
 * not count and the rounds of different readers interleave. Commands on stdin, each answered by one line of JSON on stdout:
 *
 *     round FIRST COUNT   deliver samples [FIRST, FIRST + COUNT) of the workload in batches; time it
 *     fresh FIRST COUNT   the same with everything opened anew
 *     open FIRST COUNT    describe the arrays of these samples (shape, dtype, chunks, codecs), each opened anew; time it
 *     first COUNT         time from creating the reader to its first batch, of COUNT samples
 *     check COUNT PATH    deliver the first COUNT samples and write the hash of each to PATH; not timed
 *     memory              resident bytes now and at most
 *     quit
 */
#ifndef DAMACY_BENCH_COMMON_H
#define DAMACY_BENCH_COMMON_H

#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define BENCH_LINE_BYTES_MAX 4352

static inline double bench_clock_s(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static inline double bench_wall_s(void)
{
    return bench_clock_s(CLOCK_MONOTONIC);
}

/* User and system time of all threads of this process, also of those that ended. */
static inline double bench_cpu_s(void)
{
    return bench_clock_s(CLOCK_PROCESS_CPUTIME_ID);
}

/* A line of /proc/self/status that counts KiB, as bytes; 0 if it is not there. */
static inline uint64_t bench_status_bytes(const char *key)
{
    FILE *file = fopen("/proc/self/status", "re");
    char line[256];
    uint64_t kib = 0;
    size_t length = strlen(key);
    while (file && fgets(line, sizeof line, file)) {
        if (strncmp(line, key, length) == 0 && line[length] == ':') {
            kib = strtoull(line + length + 1, NULL, 10);
            break;
        }
    }
    if (file) {
        fclose(file);
    }
    return kib * 1024;
}

/* What this process has had read from devices, its threads together; 0 where the kernel does not count. */
static inline uint64_t bench_device_bytes(void)
{
    FILE *file = fopen("/proc/self/io", "re");
    char line[256];
    uint64_t bytes = 0;
    while (file && fgets(line, sizeof line, file)) {
        if (strncmp(line, "read_bytes:", 11) == 0) {
            bytes = strtoull(line + 11, NULL, 10);
            break;
        }
    }
    if (file) {
        fclose(file);
    }
    return bytes;
}

/* Sum of word[i] * (2 i + 1) modulo 2^64: depends on the order, and NumPy computes it as fast as C does. */
static inline uint64_t bench_hash(const uint32_t *words, size_t count)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < count; ++i) {
        sum += (uint64_t)words[i] * (2 * (uint64_t)i + 1);
    }
    return sum;
}

/* A command, split. */
struct bench_command {
    char name[16];
    uint64_t first;
    uint64_t count;
    char path[BENCH_LINE_BYTES_MAX];
};

/* Wait for the next command; false at quit and at the end of stdin. */
static inline bool bench_next_command(struct bench_command *command)
{
    char line[BENCH_LINE_BYTES_MAX];
    fflush(stdout);
    while (fgets(line, sizeof line, stdin)) {
        memset(command, 0, sizeof *command);
        if (sscanf(line, "check %" SCNu64 " %4351s", &command->count, command->path) == 2) {
            strcpy(command->name, "check");
        } else if (sscanf(line, "first %" SCNu64, &command->count) == 1) {
            strcpy(command->name, "first");
        } else if (sscanf(line, "%15s %" SCNu64 " %" SCNu64, command->name, &command->first, &command->count) < 1) {
            continue;
        }
        return strcmp(command->name, "quit") != 0;
    }
    return false;
}

/* Answer `memory`: `base` is what was resident before the reader was created. */
static inline void bench_reply_memory(uint64_t base, uint64_t batch_buffers)
{
    printf("{\"base\": %" PRIu64 ", \"resident\": %" PRIu64 ", \"peak\": %" PRIu64 ", \"batch_buffers\": %" PRIu64 "}\n", base,
           bench_status_bytes("VmRSS"), bench_status_bytes("VmHWM"), batch_buffers);
}

#endif
