#include "cli.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* How long a wait lasts before signals are looked at. */
#define TICK_NS 100000000ull
#define PROGRESS_NS 200000000ull
#define PUSH_SAMPLES 256

struct plan {
    const char *const *uris;
    uint64_t uri_count;
    uint32_t samples_per_batch;
    uint64_t batches;
    uint64_t seed;
    bool json, quiet;
    bool has_shape;
    uint32_t rank;
    int64_t shape[DAMACY_RANK_MAX];
    enum damacy_dtype dtype;
    struct damacy_config config;
};

/* An array that crops can come from. */
struct source {
    const char *uri;
    const struct damacy_array_info *array;
};

struct sources {
    struct source *list;
    uint64_t count;
    uint64_t misfits;                 /* arrays that hold no such sample */
    const struct damacy_node *misfit; /* the last of them, or NULL */
};

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* splitmix64 */
static uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* --- arguments --- */

static bool read_shape(const char *text, struct plan *plan)
{
    char *end;
    plan->has_shape = true;
    for (plan->rank = 0; plan->rank < DAMACY_RANK_MAX;) {
        long long extent = strtoll(text, &end, 10);
        if (end == text || extent < 1)
            return false;
        plan->shape[plan->rank++] = extent;
        if (!*end)
            return true;
        if (*end != ',')
            return false;
        text = end + 1;
    }
    return false;
}

/* By its short name, or as NumPy calls it. */
static bool read_dtype(const char *text, enum damacy_dtype *dtype)
{
    static const char *const long_names[DAMACY_DTYPE_COUNT] = {
        "native", "bool",   "int8",   "int16",   "int32",    "int64",   "uint8",
        "uint16", "uint32", "uint64", "float16", "bfloat16", "float32", "float64",
    };
    for (int i = 0; i < DAMACY_DTYPE_COUNT; i++)
        if (strcmp(text, damacy_dtype_str((enum damacy_dtype)i)) == 0 || strcmp(text, long_names[i]) == 0) {
            *dtype = (enum damacy_dtype)i;
            return true;
        }
    return false;
}

static bool read_device(const char *text, struct damacy_config *config)
{
    uint64_t ordinal;
    config->device_ordinal = -1;
    if (strcmp(text, "cpu") == 0) {
        config->device = DAMACY_CPU;
        config->device_ordinal = 0;
    } else if (strcmp(text, "auto") == 0) {
        config->device = DAMACY_AUTO_DEVICE;
    } else if (strcmp(text, "cuda") == 0) {
        config->device = DAMACY_CUDA_DEVICE;
    } else if (strncmp(text, "cuda:", 5) == 0 && cli_read_u64(text + 5, &ordinal) && ordinal < 1024) {
        config->device = DAMACY_CUDA_DEVICE;
        config->device_ordinal = (int32_t)ordinal;
    } else {
        return false;
    }
    return true;
}

static bool read_count(const char *text, uint64_t max, uint64_t *out)
{
    return cli_read_u64(text, out) && *out >= 1 && *out <= max;
}

static int read_arguments(struct cli_arguments *arguments, struct plan *plan, const char **uris)
{
    const char *value, *text;
    uint64_t number;
    while (arguments->at < arguments->end) {
        if (cli_option(arguments, "--shape", &value)) {
            if (!read_shape(value, plan))
                return cli_usage("--shape wants extents such as 16,128,128, not '%s'", value);
        } else if (cli_option(arguments, "--batches", &value)) {
            if (!read_count(value, UINT64_C(1) << 40, &plan->batches))
                return cli_usage("--batches wants a number from 1 on, not '%s'", value);
        } else if (cli_option(arguments, "--batch", &value)) {
            if (!read_count(value, UINT32_MAX, &number))
                return cli_usage("--batch wants a number from 1 on, not '%s'", value);
            plan->samples_per_batch = (uint32_t)number;
        } else if (cli_option(arguments, "--dtype", &value)) {
            if (!read_dtype(value, &plan->dtype))
                return cli_usage("--dtype wants bool, i8 ... u64, f16, bf16, f32, f64 or native, not '%s'", value);
        } else if (cli_option(arguments, "--device", &value)) {
            if (!read_device(value, &plan->config))
                return cli_usage("--device wants cpu, cuda, cuda:N or auto, not '%s'", value);
        } else if (cli_option(arguments, "--seed", &value)) {
            if (!cli_read_u64(value, &plan->seed))
                return cli_usage("--seed wants a number, not '%s'", value);
        } else if (cli_option(arguments, "--workers", &value)) {
            if (!read_count(value, 4096, &number))
                return cli_usage("--workers wants a number from 1 to 4096, not '%s'", value);
            plan->config.tuning.worker_count = (uint32_t)number;
        } else if (cli_option(arguments, "--memory", &value)) {
            if (!read_count(value, UINT64_MAX, &plan->config.max_host_memory_bytes))
                return cli_usage("--memory wants a number of bytes such as 4000000000, not '%s'", value);
        } else if (cli_option(arguments, "--storage-options", &value)) {
            plan->config.storage_options = value;
        } else if (cli_option(arguments, "--json", NULL)) {
            plan->json = true;
        } else if (cli_option(arguments, "--quiet", NULL)) {
            plan->quiet = true;
        } else if ((text = cli_positional(arguments))) {
            uris[plan->uri_count++] = text;
        } else if (strcmp(*arguments->at, "--") == 0) {
            break;
        } else {
            return cli_usage("stream has no option '%s'", *arguments->at);
        }
    }
    return plan->uri_count ? CLI_OK : cli_usage("stream wants at least one uri");
}

/* --- what to stream --- */

static bool go_on(void *user)
{
    (void)user;
    return !cli_interrupted();
}

/* Up to 128 along each of the last three axes, 1 along the others: a usual patch. */
static void choose_shape(struct plan *plan, const struct damacy_array_info *array)
{
    plan->rank = array->rank;
    for (uint32_t axis = 0; axis < array->rank; axis++) {
        uint64_t most = axis + 3 >= array->rank ? 128 : 1;
        plan->shape[axis] = (int64_t)(array->shape[axis] < most ? array->shape[axis] : most);
    }
}

static bool is_empty(const struct damacy_array_info *array)
{
    for (uint32_t axis = 0; axis < array->rank; axis++)
        if (array->shape[axis] == 0)
            return true;
    return false;
}

static bool fits(const struct plan *plan, const struct damacy_array_info *array)
{
    if (array->rank != plan->rank)
        return false;
    for (uint32_t axis = 0; axis < array->rank; axis++)
        if (array->shape[axis] < (uint64_t)plan->shape[axis])
            return false;
    return true;
}

/* An image is its first level; of anything else that is no array, all arrays below. */
static bool take_node(struct plan *plan, struct sources *sources, const struct damacy_node *node)
{
    bool image = node->level_count > 0;
    uint64_t count = image ? 1 : node->array_count;
    struct source *list = realloc(sources->list, (sources->count + count) * sizeof *list);
    if (!list && sources->count + count > 0)
        return false;
    sources->list = list;
    for (uint64_t i = 0; i < count; i++) {
        const struct damacy_node *array = image ? node->levels[0] : node->arrays[i];
        if (array->status || !array->array || array->array->rank == 0)
            continue;
        if (!plan->has_shape && plan->rank == 0 && !is_empty(array->array))
            choose_shape(plan, array->array);
        if (!fits(plan, array->array)) {
            sources->misfit = array;
            sources->misfits++;
            continue;
        }
        /* the root by the uri it was opened with, since its fragment may pick a member */
        sources->list[sources->count++] = (struct source){array == node ? node->uri : array->uri, array->array};
    }
    return true;
}

/* --- progress and result --- */

struct progress {
    bool shown;
    uint64_t begin_ns, last_ns;
};

static void show_progress(const struct plan *plan, struct progress *progress, struct damacy *pipeline, uint64_t batches)
{
    uint64_t now = now_ns();
    if (plan->quiet || !isatty(STDERR_FILENO) || now - progress->last_ns < PROGRESS_NS)
        return;
    progress->last_ns = now;
    progress->shown = true;
    struct damacy_stats stats = DAMACY_STATS_INIT;
    if (damacy_stats_get(pipeline, &stats, NULL))
        return;
    char rate[32];
    double seconds = (double)(now - progress->begin_ns) / 1e9;
    fprintf(stderr, "\r\033[Kbatch %llu of %llu  %.1f samples/s  %s/s  limit: %s", (unsigned long long)batches,
            (unsigned long long)plan->batches, (double)stats.samples_delivered / seconds,
            cli_bytes((double)stats.bytes_delivered / seconds, rate), damacy_bottleneck_str(stats.bottleneck));
    fflush(stderr);
}

static void print_result(const struct plan *plan, const struct damacy_stats *stats, const struct sources *sources,
                         uint64_t batches, double seconds)
{
    char delivered[32], stored[32], total[32];
    double amplification = stats->bytes_needed ? (double)stats->read.bytes / (double)stats->bytes_needed : 0;
    if (plan->json) {
        printf("{\"arrays\":%llu,\"arrays_left_out\":%llu,\"batches\":%llu,\"samples\":%llu,\"seconds\":%.6f,\"samples_per_"
               "second\":%.3f,\"bytes\":%llu,"
               "\"bytes_per_second\":%.0f,\"read_bytes\":%llu,\"read_amplification\":%.4f,\"bottleneck\":\"%s\"}\n",
               (unsigned long long)sources->count, (unsigned long long)sources->misfits, (unsigned long long)batches,
               (unsigned long long)stats->samples_delivered, seconds, (double)stats->samples_delivered / seconds,
               (unsigned long long)stats->bytes_delivered, (double)stats->bytes_delivered / seconds,
               (unsigned long long)stats->read.bytes, amplification, damacy_bottleneck_str(stats->bottleneck));
        return;
    }
    char shape[DAMACY_RANK_MAX * 24];
    uint64_t extents[DAMACY_RANK_MAX];
    for (uint32_t axis = 0; axis < plan->rank; axis++)
        extents[axis] = (uint64_t)plan->shape[axis];
    char left_out[64] = "";
    if (sources->misfits)
        snprintf(left_out, sizeof left_out, " (%llu hold%s none)", (unsigned long long)sources->misfits,
                 sources->misfits == 1 ? "s" : "");
    printf("%-11s %llu of %s, from %llu array%s%s, in %.2f s\n", "samples", (unsigned long long)stats->samples_delivered,
           cli_shape(extents, plan->rank, shape, sizeof shape), (unsigned long long)sources->count,
           sources->count == 1 ? "" : "s", left_out, seconds);
    printf("%-11s %.1f samples/s, %s/s\n", "rate", (double)stats->samples_delivered / seconds,
           cli_bytes((double)stats->bytes_delivered / seconds, delivered));
    printf("%-11s %s, %s/s as stored, %.2f times what was needed\n", "read", cli_bytes((double)stats->read.bytes, total),
           cli_bytes((double)stats->read.bytes / seconds, stored), amplification);
    printf("%-11s %s\n", "limit", damacy_bottleneck_str(stats->bottleneck));
}

/* --- streaming --- */

/* One random crop of a random array. */
static void draw(const struct plan *plan, const struct sources *sources, uint64_t *random, struct damacy_region *region,
                 struct damacy_interval *aabb)
{
    const struct source *source = &sources->list[next_random(random) % sources->count];
    for (uint32_t axis = 0; axis < plan->rank; axis++) {
        uint64_t room = source->array->shape[axis] - (uint64_t)plan->shape[axis];
        aabb[axis].begin = (int64_t)(room == UINT64_MAX ? next_random(random) : next_random(random) % (room + 1));
        aabb[axis].end = aabb[axis].begin + plan->shape[axis];
    }
    *region = (struct damacy_region){source->uri, plan->rank, aabb};
}

struct feed {
    struct damacy_sample samples[PUSH_SAMPLES];
    struct damacy_region regions[PUSH_SAMPLES];
    struct damacy_interval boxes[PUSH_SAMPLES][DAMACY_RANK_MAX];
    struct damacy_samples rest; /* drawn, not yet taken */
    uint64_t left;              /* to draw */
};

/* Push as much as fits. */
static enum damacy_status push_some(const struct plan *plan, const struct sources *sources, uint64_t *random, struct feed *feed,
                                    struct damacy *pipeline, struct damacy_error *error)
{
    while (feed->left > 0 || feed->rest.count > 0) {
        if (feed->rest.count == 0) {
            uint64_t count = feed->left < PUSH_SAMPLES ? feed->left : PUSH_SAMPLES;
            for (uint64_t i = 0; i < count; i++) {
                draw(plan, sources, random, &feed->regions[i], feed->boxes[i]);
                feed->samples[i] = (struct damacy_sample){&feed->regions[i], 0};
            }
            feed->left -= count;
            feed->rest = (struct damacy_samples){feed->samples, count};
        }
        enum damacy_status status = damacy_push(pipeline, feed->rest, &feed->rest, error);
        if (status == DAMACY_AGAIN)
            return DAMACY_OK;
        if (status)
            return status;
    }
    return damacy_flush(pipeline, error);
}

static int stream(const struct plan *plan, const struct sources *sources, struct damacy *pipeline)
{
    struct damacy_error error = {0};
    struct damacy_stats stats = DAMACY_STATS_INIT;
    struct progress progress = {.begin_ns = now_ns()};
    struct feed *feed = calloc(1, sizeof *feed);
    uint64_t random = plan->seed, batches = 0;
    if (!feed) {
        fputs("damacy: OOM: no memory\n", stderr);
        return CLI_FAILED;
    }
    feed->left = plan->batches * plan->samples_per_batch;
    enum damacy_status status = DAMACY_OK;
    while (status == DAMACY_OK && batches < plan->batches && !cli_interrupted()) {
        status = push_some(plan, sources, &random, feed, pipeline, &error);
        if (status)
            break;
        struct damacy_batch *batch;
        status = damacy_pop(pipeline, TICK_NS, &batch, &error);
        if (status == DAMACY_OK) {
            damacy_release(batch);
            batches++;
        } else if (status == DAMACY_TIMEOUT) {
            status = DAMACY_OK;
        }
        show_progress(plan, &progress, pipeline, batches);
    }
    double seconds = (double)(now_ns() - progress.begin_ns) / 1e9;
    free(feed);
    if (progress.shown)
        fputs("\r\033[K", stderr);
    damacy_stats_get(pipeline, &stats, NULL);
    if (status)
        return cli_fail(&error);
    print_result(plan, &stats, sources, batches, seconds);
    return cli_interrupted() ? CLI_INTERRUPTED : CLI_OK;
}

/* Why there is nothing to stream. */
static void explain(const struct plan *plan, const struct sources *sources, struct damacy_node *const *nodes)
{
    char shown[DAMACY_URI_BYTES_MAX + 1], has[DAMACY_RANK_MAX * 24], wanted[DAMACY_RANK_MAX * 24];
    const struct damacy_node *misfit = sources->misfit;
    if (misfit) {
        uint64_t extents[DAMACY_RANK_MAX];
        for (uint32_t axis = 0; axis < plan->rank; axis++)
            extents[axis] = (uint64_t)plan->shape[axis];
        damacy_uri_shown(misfit->uri, shown, sizeof shown);
        cli_shape(misfit->array->shape, misfit->array->rank, has, sizeof has);
        if (plan->rank)
            fprintf(stderr,
                    "damacy: RANK: no array there holds a sample of %s: %s is %s; --shape wants an extent for each axis\n",
                    cli_shape(extents, plan->rank, wanted, sizeof wanted), shown, has);
        else
            fprintf(stderr, "damacy: RANK: there is nothing in %s: its shape is %s\n", shown, has);
    } else if (plan->uri_count == 1 && nodes[0]->array && nodes[0]->status) {
        damacy_uri_shown(nodes[0]->uri, shown, sizeof shown);
        fprintf(stderr, "damacy: %s: %s: %s\n", damacy_status_str(nodes[0]->status), shown, nodes[0]->message);
    } else {
        fprintf(stderr, "damacy: NOTFOUND: no array there that can be read; see damacy info\n");
    }
}

static int run(struct plan *plan, struct damacy_node **nodes)
{
    struct damacy_error error;
    struct damacy_open_options options = DAMACY_OPEN_OPTIONS_INIT;
    options.poll = go_on;
    options.wells = true;
    options.attributes_never = true;
    options.storage_options = plan->config.storage_options;
    if (damacy_open_many(plan->uris, plan->uri_count, &options, nodes, NULL, &error))
        return cli_fail(&error);
    struct sources sources = {0};
    bool memory = true;
    for (uint64_t i = 0; memory && i < plan->uri_count; i++)
        memory = take_node(plan, &sources, nodes[i]);
    int result = CLI_FAILED;
    if (!memory) {
        fputs("damacy: OOM: no memory\n", stderr);
    } else if (sources.count == 0) {
        explain(plan, &sources, nodes);
    } else {
        struct damacy_field field = {.rank = plan->rank, .sample_shape = plan->shape, .dtype = plan->dtype};
        /* The memory of a batch of dtype NATIVE is decided before the first array is read, so it is told here. */
        if (field.dtype == DAMACY_NATIVE)
            field.dtype = sources.list[0].array->dtype;
        plan->config.samples_per_batch = plan->samples_per_batch;
        plan->config.field_count = 1;
        plan->config.fields = &field;
        struct damacy *pipeline;
        if (damacy_create(&plan->config, &pipeline, &error)) {
            result = cli_fail(&error);
        } else {
            result = stream(plan, &sources, pipeline);
            damacy_destroy(pipeline);
        }
    }
    free(sources.list);
    return result;
}

int cli_stream(struct cli_arguments *arguments)
{
    struct plan plan = {.samples_per_batch = 8, .batches = 100, .config = DAMACY_CONFIG_INIT};
    size_t most = (size_t)(arguments->end - arguments->at) + 1;
    const char **uris = calloc(most, sizeof *uris);
    struct damacy_node **nodes = calloc(most, sizeof(struct damacy_node *));
    if (!uris || !nodes) {
        free(uris);
        free(nodes);
        fputs("damacy: OOM: no memory\n", stderr);
        return CLI_FAILED;
    }
    plan.uris = uris;
    int result = read_arguments(arguments, &plan, uris);
    if (result == CLI_OK)
        result = run(&plan, nodes);
    for (uint64_t i = 0; i < plan.uri_count; i++)
        damacy_node_free(nodes[i]);
    free(uris);
    free(nodes);
    return result;
}
