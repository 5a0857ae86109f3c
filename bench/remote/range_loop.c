/* A bare loop over libcurl's multi interface: fetches ranges and throws them away. What the network and the server allow.
 *
 *     range_loop BASE_URL LIST CONCURRENCY [REPEAT]
 *
 * LIST has a line for each range: PATH BEGIN END (inclusive, as in a Range header). One thread, as many transfers at once as
 * told, bodies go into a buffer of their own as they would in a reader. Prints one line of JSON. */
#include <curl/curl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct range {
    char *url;
    char text[64];
    uint64_t bytes;
};
struct slot {
    CURL *easy;
    char *buffer;
    uint64_t capacity, got;
    const struct range *range;
};

static double now_s(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static size_t take(char *data, size_t size, size_t count, void *user)
{
    struct slot *slot = user;
    size_t bytes = size * count;
    if (slot->got + bytes > slot->capacity)
        return 0;
    memcpy(slot->buffer + slot->got, data, bytes);
    slot->got += bytes;
    return bytes;
}

static void begin(CURLM *multi, struct slot *slot, const struct range *range)
{
    slot->range = range;
    slot->got = 0;
    curl_easy_setopt(slot->easy, CURLOPT_URL, range->url);
    curl_easy_setopt(slot->easy, CURLOPT_RANGE, range->text);
    curl_multi_add_handle(multi, slot->easy);
}

int main(int argc, char **argv)
{
    if (argc < 4) {
        fprintf(stderr, "usage: range_loop BASE_URL LIST CONCURRENCY [REPEAT]\n");
        return 2;
    }
    FILE *file = fopen(argv[2], "re");
    if (!file) {
        perror(argv[2]);
        return 1;
    }
    size_t count = 0, room = 0, concurrency = strtoul(argv[3], NULL, 10), repeat = argc > 4 ? strtoul(argv[4], NULL, 10) : 1;
    struct range *ranges = NULL;
    char path[4096];
    unsigned long long first, last, largest = 0, total = 0;
    while (fscanf(file, "%4095s %llu %llu", path, &first, &last) == 3) {
        if (count == room)
            ranges = realloc(ranges, (room = room ? 2 * room : 1024) * sizeof *ranges);
        struct range *range = &ranges[count++];
        size_t length = strlen(argv[1]) + strlen(path) + 1;
        range->url = malloc(length);
        snprintf(range->url, length, "%s%s", argv[1], path);
        snprintf(range->text, sizeof range->text, "%llu-%llu", first, last);
        range->bytes = last - first + 1;
        total += range->bytes;
        largest = range->bytes > largest ? range->bytes : largest;
    }
    fclose(file);
    curl_global_init(CURL_GLOBAL_ALL);
    CURLM *multi = curl_multi_init();
    struct slot *slots = calloc(concurrency, sizeof *slots);
    for (size_t i = 0; i < concurrency; i++) {
        slots[i].easy = curl_easy_init();
        slots[i].capacity = largest;
        slots[i].buffer = malloc(largest + 1);
        curl_easy_setopt(slots[i].easy, CURLOPT_WRITEFUNCTION, take);
        curl_easy_setopt(slots[i].easy, CURLOPT_WRITEDATA, &slots[i]);
        curl_easy_setopt(slots[i].easy, CURLOPT_PRIVATE, &slots[i]);
        curl_easy_setopt(slots[i].easy, CURLOPT_BUFFERSIZE, 262144L);
        curl_easy_setopt(slots[i].easy, CURLOPT_NOSIGNAL, 1L);
    }
    double wall = now_s(CLOCK_MONOTONIC), cpu = now_s(CLOCK_PROCESS_CPUTIME_ID);
    size_t next = 0, done = 0, all = count * repeat, failed = 0;
    for (size_t i = 0; i < concurrency && next < all; i++)
        begin(multi, &slots[i], &ranges[next++ % count]);
    while (done < all) {
        int running, left;
        curl_multi_perform(multi, &running);
        for (CURLMsg *message; (message = curl_multi_info_read(multi, &left));) {
            if (message->msg != CURLMSG_DONE)
                continue;
            struct slot *slot;
            long status = 0;
            curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&slot);
            curl_easy_getinfo(message->easy_handle, CURLINFO_RESPONSE_CODE, &status);
            failed += message->data.result != CURLE_OK || status != 206 || slot->got != slot->range->bytes;
            curl_multi_remove_handle(multi, slot->easy);
            done++;
            if (next < all)
                begin(multi, slot, &ranges[next++ % count]);
        }
        if (done < all)
            curl_multi_poll(multi, NULL, 0, 1000, NULL);
    }
    wall = now_s(CLOCK_MONOTONIC) - wall;
    cpu = now_s(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    printf("{\"wall\": %.6f, \"cpu\": %.6f, \"requests\": %zu, \"bytes\": %llu, \"failed\": %zu}\n", wall, cpu, all,
           total * (unsigned long long)repeat, failed);
    return failed != 0;
}
