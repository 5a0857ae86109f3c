/* damacy as a C program sees it, under the benchmark's command loop (bench_common.h). Uses nothing but the public header.
 *
 *     bench_damacy CROPS [--threads N]
 *
 * CROPS is the text of bench/workload.py. Samples are pushed as the lookahead takes them and batches are released as soon as
 * they come.
 * --threads 0, the default, leaves the number of workers to damacy.
 */
#include <damacy/damacy.h>

#include "bench_common.h"

#include <pthread.h>

struct workload {
    uint32_t batch_samples, rank;
    int64_t sample_shape[DAMACY_RANK_MAX];
    size_t uri_count, crop_count, sample_elements;
    char **uris;
    struct damacy_interval *boxes; /* rank for each crop */
    struct damacy_region *regions; /* one for each crop */
    struct damacy_sample *samples;
};

struct reader {
    struct workload workload;
    uint32_t threads;
    struct damacy *pipeline; /* made when first needed */
    uint64_t memory_base;
};

static _Noreturn void die(const char *what, const char *detail)
{
    fprintf(stderr, "bench_damacy: %s: %s\n", what, detail);
    exit(1);
}

static void require(enum damacy_status status, const struct damacy_error *error, const char *what)
{
    if (status != DAMACY_OK) {
        fprintf(stderr, "bench_damacy: %s: %s: %s\n", what, damacy_status_str(status), error->message);
        exit(1);
    }
}

/* The next line without its end, which must begin with `word`; returns what follows. */
static char *expect_line(FILE *file, char *line, const char *word)
{
    size_t length = strlen(word);
    if (!fgets(line, BENCH_LINE_BYTES_MAX, file) || strncmp(line, word, length) != 0) {
        die("list of crops: expected", word);
    }
    line[strcspn(line, "\n")] = 0;
    return line + length;
}

static void *table_create(size_t count, size_t bytes)
{
    void *table = calloc(count ? count : 1, bytes);
    if (!table) {
        die("memory", "exhausted");
    }
    return table;
}

static void workload_load(struct workload *workload, const char *path)
{
    FILE *file = fopen(path, "re");
    if (!file) {
        die(path, "cannot be opened");
    }
    char line[BENCH_LINE_BYTES_MAX];
    expect_line(file, line, "damacy-bench 1");
    workload->batch_samples = (uint32_t)strtoul(expect_line(file, line, "batch "), NULL, 10);
    char *cursor = expect_line(file, line, "sample ");
    workload->sample_elements = 1;
    while (*cursor && workload->rank < DAMACY_RANK_MAX) {
        workload->sample_shape[workload->rank] = strtoll(cursor, &cursor, 10);
        workload->sample_elements *= (size_t)workload->sample_shape[workload->rank++];
    }
    workload->uri_count = strtoul(expect_line(file, line, "uris "), NULL, 10);
    workload->uris = table_create(workload->uri_count, sizeof *workload->uris);
    for (size_t i = 0; i < workload->uri_count; ++i) {
        workload->uris[i] = strdup(expect_line(file, line, ""));
    }
    workload->crop_count = strtoul(expect_line(file, line, "crops "), NULL, 10);
    workload->boxes = table_create(workload->crop_count * workload->rank, sizeof *workload->boxes);
    workload->regions = table_create(workload->crop_count, sizeof *workload->regions);
    workload->samples = table_create(workload->crop_count, sizeof *workload->samples);
    for (size_t i = 0; i < workload->crop_count; ++i) {
        cursor = expect_line(file, line, "");
        size_t uri = strtoul(cursor, &cursor, 10);
        if (uri >= workload->uri_count) {
            die(path, "names a uri that is not there");
        }
        struct damacy_interval *box = &workload->boxes[i * workload->rank];
        for (uint32_t axis = 0; axis < workload->rank; ++axis) {
            box[axis].begin = strtoll(cursor, &cursor, 10);
            box[axis].end = box[axis].begin + workload->sample_shape[axis];
        }
        workload->regions[i] = (struct damacy_region){workload->uris[uri], workload->rank, box};
        workload->samples[i] = (struct damacy_sample){&workload->regions[i], i};
    }
    fclose(file);
}

/* `field` must live as long as the configuration. */
static struct damacy_config config_of(const struct reader *reader, struct damacy_field *field, uint32_t batch_samples)
{
    struct damacy_config config = DAMACY_CONFIG_INIT;
    *field = (struct damacy_field){NULL, reader->workload.rank, reader->workload.sample_shape, DAMACY_F32};
    config.samples_per_batch = batch_samples;
    config.field_count = 1;
    config.fields = field;
    config.tuning.worker_count = reader->threads;
    return config;
}

static struct damacy *pipeline_create(const struct reader *reader, uint32_t batch_samples)
{
    struct damacy_field field;
    struct damacy_config config = config_of(reader, &field, batch_samples);
    struct damacy_error error;
    struct damacy *pipeline = NULL;
    require(damacy_create(&config, &pipeline, &error), &error, "create");
    return pipeline;
}

/* What all batch buffers of the pipeline take. */
static uint64_t batch_buffer_bytes(const struct reader *reader)
{
    struct damacy_field field;
    struct damacy_config config = config_of(reader, &field, reader->workload.batch_samples);
    struct damacy_tuning tuning = DAMACY_TUNING_INIT;
    struct damacy_error error;
    require(damacy_tuning_defaults(&config, &tuning, &error), &error, "tuning_defaults");
    return (uint64_t)tuning.batch_slots * config.samples_per_batch * reader->workload.sample_elements * sizeof(float);
}

/* Deliver samples [first, first + count); `hashes`, if given, gets a line for each. */
static void deliver(const struct reader *reader, struct damacy *pipeline, uint64_t first, uint64_t count, FILE *hashes)
{
    struct damacy_samples rest = {reader->workload.samples + first, count};
    struct damacy_error error;
    for (uint64_t delivered = 0; delivered < count;) {
        if (rest.count > 0) {
            enum damacy_status status = damacy_push(pipeline, rest, &rest, &error);
            if (status == DAMACY_OK) {
                require(damacy_flush(pipeline, &error), &error, "flush");
            } else if (status != DAMACY_AGAIN) {
                require(status, &error, "push");
            }
        }
        struct damacy_batch *batch;
        struct damacy_batch_info info;
        require(damacy_pop(pipeline, DAMACY_FOREVER, &batch, &error), &error, "pop");
        require(damacy_batch_info(batch, &info, &error), &error, "batch_info");
        const uint32_t *words = info.tensors[0].data;
        for (uint32_t row = 0; hashes && row < info.row_count; ++row) {
            fprintf(hashes, "%016" PRIx64 "\n",
                    bench_hash(words + (size_t)row * reader->workload.sample_elements, reader->workload.sample_elements));
        }
        delivered += info.row_count;
        damacy_release(batch);
    }
}

static struct damacy *pipeline_of(struct reader *reader)
{
    if (!reader->pipeline) {
        reader->pipeline = pipeline_create(reader, reader->workload.batch_samples);
    }
    return reader->pipeline;
}

static void timed_round(struct reader *reader, const struct bench_command *command, bool fresh)
{
    if (fresh) {
        damacy_destroy(reader->pipeline);
        reader->pipeline = NULL;
    }
    struct damacy *pipeline = pipeline_of(reader);
    struct damacy_error error;
    struct damacy_stats stats = DAMACY_STATS_INIT;
    require(damacy_stats_reset(pipeline, &error), &error, "stats_reset");
    uint64_t device_bytes = bench_device_bytes();
    double wall = bench_wall_s(), cpu = bench_cpu_s();
    deliver(reader, pipeline, command->first, command->count, NULL);
    wall = bench_wall_s() - wall;
    cpu = bench_cpu_s() - cpu;
    require(damacy_stats_get(pipeline, &stats, &error), &error, "stats_get");
    printf("{\"wall\": %.9f, \"cpu\": %.9f, \"samples\": %" PRIu64 ", \"bottleneck\": \"%s\", \"reads\": %" PRIu64
           ", \"read_bytes\": %" PRIu64 ", \"needed_bytes\": %" PRIu64 ", \"metadata_bytes\": %" PRIu64 ", \"chunks\": %" PRIu64
           ", \"host_bytes\": %" PRIu64 ", \"device_bytes\": %" PRIu64 "}\n",
           wall, cpu, command->count, damacy_bottleneck_str(stats.bottleneck), stats.read.count, stats.read.bytes,
           stats.bytes_needed, stats.metadata.bytes, stats.decode.count, stats.host_bytes_committed,
           bench_device_bytes() - device_bytes);
}

/* One thread's part of a round of opening: the uris of samples [first, first + count). */
struct opening {
    const struct reader *reader;
    uint64_t first, count, ranks;
    pthread_t thread;
};

#define OPEN_BLOCK 512

static void *open_part(void *argument)
{
    struct opening *part = argument;
    struct damacy_open_options options = DAMACY_OPEN_OPTIONS_INIT;
    struct damacy_error error;
    for (uint64_t done = 0; done < part->count;) {
        const char *uris[OPEN_BLOCK];
        struct damacy_node *nodes[OPEN_BLOCK];
        size_t block = part->count - done < OPEN_BLOCK ? part->count - done : OPEN_BLOCK;
        for (size_t i = 0; i < block; i++) {
            uris[i] = part->reader->workload.samples[part->first + done + i].regions[0].uri;
        }
        require(damacy_open_many(uris, block, &options, nodes, NULL, &error), &error, "open");
        for (size_t i = 0; i < block; i++) {
            part->ranks += nodes[i]->array ? nodes[i]->array->rank : 0;
            damacy_node_free(nodes[i]);
        }
        done += block;
    }
    return NULL;
}

static void open_round(const struct reader *reader, const struct bench_command *command)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    uint64_t threads = reader->threads ? reader->threads : cores > 0 ? (uint64_t)cores : 1;
    struct opening *parts = table_create(threads, sizeof *parts);
    double wall = bench_wall_s(), cpu = bench_cpu_s();
    for (uint64_t i = 0; i < threads; i++) {
        uint64_t begin = command->count * i / threads, end = command->count * (i + 1) / threads;
        parts[i] = (struct opening){.reader = reader, .first = command->first + begin, .count = end - begin};
        if (i > 0 && pthread_create(&parts[i].thread, NULL, open_part, &parts[i]) != 0) {
            die("thread", "cannot be started");
        }
    }
    open_part(&parts[0]);
    uint64_t ranks = parts[0].ranks;
    for (uint64_t i = 1; i < threads; i++) {
        pthread_join(parts[i].thread, NULL);
        ranks += parts[i].ranks;
    }
    wall = bench_wall_s() - wall;
    cpu = bench_cpu_s() - cpu;
    free(parts);
    if (ranks != command->count * reader->workload.rank) {
        die("open", "an array has another number of axes");
    }
    printf("{\"wall\": %.9f, \"cpu\": %.9f, \"samples\": %" PRIu64 "}\n", wall, cpu, command->count);
}

static void first_batch(const struct reader *reader, uint64_t count)
{
    double begin = bench_wall_s();
    struct damacy *pipeline = pipeline_create(reader, (uint32_t)count);
    double created = bench_wall_s();
    deliver(reader, pipeline, 0, count, NULL);
    double end = bench_wall_s();
    damacy_destroy(pipeline);
    printf("{\"wall\": %.9f, \"create\": %.9f, \"destroy\": %.9f}\n", end - begin, created - begin, bench_wall_s() - end);
}

static void check(struct reader *reader, uint64_t count, const char *path)
{
    FILE *file = fopen(path, "we");
    if (!file) {
        die(path, "cannot be written");
    }
    deliver(reader, pipeline_of(reader), 0, count, file);
    fclose(file);
    puts("{\"ok\": true}");
}

int main(int argc, char **argv)
{
    struct reader reader = {0};
    if (argc != 2 && !(argc == 4 && strcmp(argv[2], "--threads") == 0)) {
        fprintf(stderr, "usage: bench_damacy CROPS [--threads N]\n");
        return 2;
    }
    reader.threads = argc == 4 ? (uint32_t)strtoul(argv[3], NULL, 10) : 0;
    workload_load(&reader.workload, argv[1]);
    reader.memory_base = bench_status_bytes("VmRSS");
    printf("{\"ready\": true, \"version\": \"%d.%d.%d\"}\n", DAMACY_VERSION_MAJOR, DAMACY_VERSION_MINOR, DAMACY_VERSION_PATCH);
    struct bench_command command;
    while (bench_next_command(&command)) {
        bool timed = strcmp(command.name, "round") == 0 || strcmp(command.name, "fresh") == 0;
        bool counted = command.first <= reader.workload.crop_count && command.count > 0 &&
                       command.count <= reader.workload.crop_count - command.first;
        if (strcmp(command.name, "memory") == 0) {
            bench_reply_memory(reader.memory_base, batch_buffer_bytes(&reader));
        } else if (!counted) {
            puts("{\"error\": \"no such samples\"}");
        } else if (timed) {
            timed_round(&reader, &command, strcmp(command.name, "fresh") == 0);
        } else if (strcmp(command.name, "open") == 0) {
            open_round(&reader, &command);
        } else if (strcmp(command.name, "first") == 0) {
            first_batch(&reader, command.count);
        } else if (strcmp(command.name, "check") == 0) {
            check(&reader, command.count, command.path);
        } else {
            puts("{\"error\": \"unknown command\"}");
        }
    }
    damacy_destroy(reader.pipeline);
    return 0;
}
