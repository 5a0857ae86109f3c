/* After fork() a child that touches what it inherited hears FORKED at once, and dropping a batch or a tensor does nothing; a
 * pipeline made in the child works. The parent's goes on.
 *
 * Method: children under an alarm report through their exit status. The worst case is made by hand: the parent holds the
 * pipeline's lock while it forks, so that a child which took it would wait for ever. */
#include "support/pipeline_world.h"

#include <signal.h>
#include <sys/wait.h>

/* The thread sanitizer's own allocator may be locked by a thread that a fork leaves behind: then threads of the child wait for
 * ever for memory. */
#if defined(__has_feature) /* clang */
#if __has_feature(thread_sanitizer)
#define THREADS_AFTER_FORK false
#endif
#elif defined(__SANITIZE_THREAD__) /* gcc */
#define THREADS_AFTER_FORK false
#endif
#ifndef THREADS_AFTER_FORK
#define THREADS_AFTER_FORK true
#endif

static const int64_t sample_shape[] = {9};
static struct zw_array array = {
    .name = "a", .number = 4, .dtype = DAMACY_I16, .rank = 1, .shape = {200}, .chunk = {30}, .compressor = ZW_ZSTD};

struct parent {
    struct dmc_store *memory;
    struct damacy *pipeline;
    struct damacy_batch *batch;
    struct dl_versioned {
        uint32_t major, minor;
        void *context;
        void (*deleter)(struct dl_versioned *);
    } * tensor;
};

static struct damacy *make_pipeline(struct dmc_store *memory)
{
    struct damacy_field field;
    struct damacy_config config = pw_config(&field, 2, 1, sample_shape, DAMACY_F32);
    return pw_create(&config, memory);
}

static struct pw_sample sample_of(uint32_t i)
{
    return (struct pw_sample){.arrays = {&array}, .begin = {{i % 190}}, .tag = i};
}

static void stream(struct damacy *pipeline, uint32_t first, uint32_t batches)
{
    for (uint32_t b = 0; b < batches; b++) {
        struct pw_sample samples[2] = {sample_of(first + 2 * b), sample_of(first + 2 * b + 1)};
        pw_push_wait(pipeline, "memory://", &samples[0]);
        pw_push_wait(pipeline, "memory://", &samples[1]);
        struct damacy_batch *batch = pw_pop(pipeline);
        zw_require(pw_batch_matches(batch, samples, 2));
        damacy_release(batch);
    }
}

static void begin(struct parent *parent)
{
    *parent = (struct parent){.memory = pw_memory()};
    zw_write(&array, &(struct zw_sink){.memory = parent->memory});
    parent->pipeline = make_pipeline(parent->memory);
    struct pw_sample sample = sample_of(3);
    for (int i = 0; i < 4; i++) /* one batch to hold, one that is on its way when the fork comes */
        pw_push_wait(parent->pipeline, "memory://", &sample);
    parent->batch = pw_pop(parent->pipeline);
    void *tensor;
    struct damacy_error error;
    pw_ok(damacy_batch_dlpack(parent->batch, 0, true, &tensor, &error), &error);
    parent->tensor = tensor;
}

static void end(struct parent *parent)
{
    parent->tensor->deleter(parent->tensor);
    damacy_release(parent->batch);
    damacy_destroy(parent->pipeline);
    dmc_store_destroy(parent->memory);
}

/* Every call on what was inherited. */
static void touch_everything(struct parent *parent)
{
    struct damacy_error error;
    struct damacy_batch *batch = NULL;
    struct damacy_batch_info info;
    struct damacy_stats stats = DAMACY_STATS_INIT;
    struct damacy_interval box = {0, 9};
    struct damacy_region region = {"memory://a", 1, &box};
    struct damacy_sample sample = {&region, 0};
    struct damacy_samples rest = {NULL, 7};
    enum damacy_device_type type;
    int32_t ordinal;
    uint32_t happened;
    void *tensor;
#define FORKED(call)                                                                                                           \
    memset(&error, 0, sizeof error);                                                                                           \
    zw_require((call) == DAMACY_FORKED);                                                                                       \
    zw_require(error.status == DAMACY_FORKED && strstr(error.message, "fork"))
    FORKED(damacy_push(parent->pipeline, (struct damacy_samples){&sample, 1}, &rest, &error));
    zw_require(rest.count == 1 && rest.data == &sample);
    FORKED(damacy_flush(parent->pipeline, &error));
    FORKED(damacy_pop(parent->pipeline, DAMACY_FOREVER, &batch, &error));
    zw_require(batch == NULL);
    FORKED(damacy_wait(parent->pipeline, DAMACY_WAIT_POP, DAMACY_FOREVER, &happened, &error));
    FORKED(damacy_stats_get(parent->pipeline, &stats, &error));
    FORKED(damacy_stats_reset(parent->pipeline, &error));
    FORKED(damacy_get_device(parent->pipeline, &type, &ordinal, &error));
    FORKED(damacy_batch_info(parent->batch, &info, &error));
    FORKED(damacy_batch_dlpack(parent->batch, 0, true, &tensor, &error));
    zw_require(damacy_pop(parent->pipeline, 0, &batch, NULL) == DAMACY_FORKED);
    parent->tensor->deleter(parent->tensor);
    damacy_release(parent->batch);
    damacy_destroy(parent->pipeline);
}

static void run_child(void (*run)(struct parent *), struct parent *parent)
{
    fflush(NULL);
    pid_t pid = fork();
    zw_require(pid >= 0);
    if (pid == 0) {
        signal(SIGALRM, SIG_DFL);
        alarm(30);
        run(parent);
        _exit(0);
    }
    int status;
    zw_require(waitpid(pid, &status, 0) == pid);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        fail_msg("the child ended with status 0x%x", status);
}

static void test_child_gets_forked(void **state)
{
    (void)state;
    struct parent parent;
    begin(&parent);
    run_child(touch_everything, &parent);
    damacy_release(pw_pop(parent.pipeline)); /* the parent is none the worse */
    stream(parent.pipeline, 10, 5);
    end(&parent);
}

/* The child must not even try the lock. */
static void test_child_touches_no_lock(void **state)
{
    (void)state;
    struct parent parent;
    begin(&parent);
    dmc_mutex_lock(&parent.pipeline->home->lock);
    run_child(touch_everything, &parent);
    dmc_mutex_unlock(&parent.pipeline->home->lock);
    end(&parent);
}

static void make_own(struct parent *parent)
{
    (void)parent;
    struct dmc_store *memory = pw_memory();
    zw_write(&array, &(struct zw_sink){.memory = memory});
    struct damacy *pipeline = make_pipeline(memory);
    stream(pipeline, 0, 20);
    damacy_destroy(pipeline);
    dmc_store_destroy(memory);
}

/* A child of the child, too. */
static void make_own_and_fork(struct parent *parent)
{
    struct parent own;
    begin(&own);
    run_child(touch_everything, &own);
    run_child(make_own, NULL);
    touch_everything(parent);
    end(&own);
}

static void test_child_makes_its_own(void **state)
{
    (void)state;
    struct parent parent;
    begin(&parent);
    if (THREADS_AFTER_FORK) {
        run_child(make_own, &parent);
        run_child(make_own_and_fork, &parent);
    }
    end(&parent);
}

struct busy {
    struct damacy *pipeline;
    _Atomic bool stop;
};

static void *keep_busy(void *argument)
{
    struct busy *busy = argument;
    for (uint32_t i = 0; !atomic_load(&busy->stop); i++)
        stream(busy->pipeline, i, 1);
    return NULL;
}

/* Forks at any moment of a pipeline at work. */
static void test_fork_while_busy(void **state)
{
    (void)state;
    struct parent parent;
    begin(&parent);
    struct damacy *pipeline = make_pipeline(parent.memory);
    struct busy busy = {.pipeline = pipeline};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, keep_busy, &busy), 0);
    struct damacy *idle = parent.pipeline;
    for (int i = 0; i < 20; i++) {
        parent.pipeline = pipeline;
        run_child(touch_everything, &parent);
    }
    parent.pipeline = idle;
    atomic_store(&busy.stop, true);
    pthread_join(thread, NULL);
    damacy_destroy(pipeline);
    end(&parent);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_child_gets_forked),
        cmocka_unit_test(test_child_touches_no_lock),
        cmocka_unit_test(test_child_makes_its_own),
        cmocka_unit_test(test_fork_while_busy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
