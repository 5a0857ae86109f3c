/* Goal: of the two ways of writing batches the one that takes less time comes to be used, wherever it begins; it follows what
 * changes, is not taken in by data that change, leaves a way for no small gain, and costs little while it tries.
 * Method: a pipeline made of numbers, in which a batch is written some batches after it was planned and takes what a table and
 * bounded noise say; then a real one that tries all the time, whose batches must be right. */
#include "support/pipeline_world.h"

#define SLOTS 4u
#define WINDOW_NS 1000000u
#define BATCH_BYTES 1000000u

struct model {
    double cost[2]; /* nanoseconds a byte: into the cache, around it */
    double noise;   /* a batch takes up to so much more or less */
    double swing;   /* so do all of them, slowly up and down */
    double change;  /* the first few batches after a change of the way take so many times as long */
    uint64_t same;  /* batches written since then */
    bool last;
    struct pw_random random;
    bool planned[SLOTS]; /* ways of the last batches, by turns */
    uint64_t count;
    uint64_t around; /* batches planned that way */
    double spent_ns;
    struct dmc_write_work done;
    struct dmc_write_choice choice;
};

static void measure(void *user, struct dmc_write_work *work)
{
    *work = ((const struct model *)user)->done;
}

static double between(struct model *model, double low, double high)
{
    return low + (high - low) * (double)(pw_next(&model->random) >> 11) / 9007199254740992.0;
}

/* Plan so many batches; each ends when its place is needed. */
static void run(struct model *model, uint64_t batches)
{
    for (uint64_t i = 0; i < batches; i++, model->count++) {
        if (model->count >= SLOTS) {
            double wave = 1 - 2 * (double)(model->count % 50000) / 50000;
            wave = 1 + model->swing * (2 * (wave < 0 ? -wave : wave) - 1);
            bool way = model->planned[model->count % SLOTS];
            model->same = way == model->last ? model->same + 1 : 0;
            model->last = way;
            double ns = BATCH_BYTES * model->cost[way] * wave * between(model, 1 - model->noise, 1 + model->noise) *
                        (model->same < 3 ? model->change : 1);
            model->spent_ns += ns;
            model->done.cpu_ns = (uint64_t)model->spent_ns;
            model->done.bytes += BATCH_BYTES;
        }
        bool around = dmc_write_choice_next(&model->choice, measure, model);
        model->planned[model->count % SLOTS] = around;
        model->around += around;
    }
}

static struct model begin(uint64_t seed, bool around, double into_cost, double around_cost, double noise)
{
    struct model model = {
        .cost = {into_cost, around_cost}, .noise = noise, .change = 3, .same = 3, .last = around, .random = {seed}};
    dmc_write_choice_init(&model.choice, around, true, SLOTS, WINDOW_NS);
    return model;
}

/* Noise is bounded: a way that is better by a tenth is found for certain. */
static void test_better_way_is_found(void **state)
{
    (void)state;
    uint64_t seed = pw_seed("better_way");
    for (uint32_t i = 0; i < 40; i++) {
        bool around = i % 2, better = i / 2 % 2;
        double base = 0.05 + 0.05 * i, worse = base * (1.12 + 0.05 * (i % 5));
        struct model model = begin(seed + i, around, better ? worse : base, better ? base : worse, 0.03);
        run(&model, 1000);
        assert_int_equal(model.choice.streamed, better);
        uint64_t there = model.around;
        double spent = model.spent_ns;
        uint64_t more = 100000;
        run(&model, more);
        assert_int_equal(model.choice.streamed, better);
        uint64_t other = better ? more - (model.around - there) : model.around - there;
        assert_true(other > 0 && other < more / 100);
        assert_true(model.spent_ns - spent < BATCH_BYTES * base * (double)more * 1.01);
    }
}

/* What gains a quarter is believed at once: for short runs. */
static void test_much_better_way_is_found_soon(void **state)
{
    (void)state;
    struct model model = begin(pw_seed("much_better"), true, 0.15, 0.2, 0.03);
    run(&model, 2 * 2 * SLOTS + 5 * 2 * SLOTS + 1);
    assert_false(model.choice.streamed);
}

static void test_what_changes_is_followed(void **state)
{
    (void)state;
    struct model model = begin(pw_seed("changes"), true, 0.3, 0.25, 0.03);
    run(&model, 20000);
    assert_true(model.choice.streamed);
    model.cost[0] = 0.2;
    run(&model, 30000);
    assert_false(model.choice.streamed);
    model.cost[0] = 0.3;
    run(&model, 30000);
    assert_true(model.choice.streamed);
}

/* All takes half as long, and twice as long again, over tens of thousands of batches: that is no merit of the way. */
static void test_data_that_change(void **state)
{
    (void)state;
    for (uint32_t around = 0; around < 2; around++) {
        struct model model = begin(pw_seed("data"), around, 0.25, 0.25, 0.01);
        model.swing = 0.5;
        run(&model, 200000);
        assert_int_equal(model.choice.streamed, around);
    }
}

static void test_small_gains_are_left(void **state)
{
    (void)state;
    struct model model = begin(pw_seed("small"), true, 0.249, 0.25, 0.01);
    run(&model, 100000);
    assert_true(model.choice.streamed);
    assert_true(model.around > 99000);
}

static void not_asked(void *user, struct dmc_write_work *work)
{
    (void)user, (void)work;
    fail();
}

static void standing_still(void *user, struct dmc_write_work *work)
{
    (void)user;
    *work = (struct dmc_write_work){WINDOW_NS, 0};
}

static void test_nothing_to_try(void **state)
{
    (void)state;
    for (uint32_t around = 0; around < 2; around++) {
        struct dmc_write_choice choice;
        dmc_write_choice_init(&choice, around, false, SLOTS, WINDOW_NS);
        for (uint32_t i = 0; i < 1000; i++)
            assert_int_equal(dmc_write_choice_next(&choice, not_asked, NULL), around);
        dmc_write_choice_init(&choice, around, true, SLOTS, WINDOW_NS); /* no batch has anything in it: nothing is learnt */
        for (uint32_t i = 0; i < 1000; i++)
            assert_int_equal(dmc_write_choice_next(&choice, standing_still, NULL), around);
    }
}

static const int64_t sample_shape[] = {9, 20};
static struct zw_array array = {
    .name = "a", .number = 3, .dtype = DAMACY_U16, .rank = 2, .shape = {90, 80}, .chunk = {16, 16}, .missing_chunks = 10};

/* Both ways in one pipeline, at the same time, batch by batch. */
static void test_batches_are_right(void **state)
{
    (void)state;
    struct dmc_store *memory = pw_memory();
    zw_write(&array, &(struct zw_sink){.memory = memory});
    struct damacy_field field;
    struct damacy_config config = pw_config(&field, 2, 2, sample_shape, DAMACY_F32);
    config.tuning.batch_slots = 3;
    struct dmc_pipeline_extras extras = {.memory_store = memory, .try_writes = true};
    struct damacy *pipeline;
    struct damacy_error error;
    pw_ok(dmc_pipeline_create(&config, &extras, &pipeline, &error), &error);
    bool tried = false;
    uint64_t number = 0;
    for (uint32_t i = 0; i < 20000 && (i < 400 || !tried);
         i++) { /* longer only where a processor's time moves in large steps */
        struct pw_sample samples[3][2];
        for (uint32_t s = 0; s < 6; s++) {
            struct pw_sample *sample = &samples[s / 2][s % 2];
            *sample = (struct pw_sample){.arrays = {&array}, .tag = number};
            sample->begin[0][0] = (int64_t)(zw_hash(number, 1) % 82);
            sample->begin[0][1] = (int64_t)(zw_hash(number++, 2) % 61);
            pw_push_wait(pipeline, "memory://", sample);
        }
        for (uint32_t b = 0; b < 3; b++) {
            struct damacy_batch *batch = pw_pop(pipeline);
            assert_true(pw_batch_matches(batch, samples[b], 2));
            damacy_release(batch);
        }
        dmc_mutex_lock(&pipeline->home->lock); /* the planner had it after its last look at the choice */
        tried = tried || pipeline->write_choice.trial_length > 0;
        dmc_mutex_unlock(&pipeline->home->lock);
    }
    assert_true(tried);
    damacy_destroy(pipeline);
    dmc_store_destroy(memory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_better_way_is_found),      cmocka_unit_test(test_much_better_way_is_found_soon),
        cmocka_unit_test(test_what_changes_is_followed), cmocka_unit_test(test_data_that_change),
        cmocka_unit_test(test_small_gains_are_left),     cmocka_unit_test(test_nothing_to_try),
        cmocka_unit_test(test_batches_are_right),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
