/* Goal: the cache de-duplicates, pins by watermark, evicts least recently used first, stays in its bound, keeps failures, and
 * says FULL or TOO_BIG by what a batch needs and not by what happened to survive. Method: small cases by hand; random
 * operations against a naive model; allocation failures. */
#include "prefetch_world.h"

static int freed; /* values freed so far */
static void count_free(void *value)
{
    freed++;
    free(value);
}

static struct dmc_prefetch_cache *make(uint64_t bytes_max)
{
    struct dmc_prefetch_cache *cache = NULL;
    struct damacy_error error;
    freed = 0;
    assert_int_equal(dmc_prefetch_cache_create("array_meta_cache_bytes", bytes_max, count_free, &cache, &error), DAMACY_OK);
    return cache;
}

static enum dmc_acquire acquire(struct dmc_prefetch_cache *cache, const char *key, uint64_t charge, uint64_t batch,
                                struct dmc_prefetch_entry **entry)
{
    return dmc_prefetch_cache_acquire(cache, key, (uint32_t)strlen(key), charge, batch, entry);
}

static struct dmc_prefetch_entry *find(const struct dmc_prefetch_cache *cache, const char *key)
{
    return dmc_prefetch_cache_find(cache, key, (uint32_t)strlen(key));
}

/* Acquire what is not there yet and finish it. */
static struct dmc_prefetch_entry *put(struct dmc_prefetch_cache *cache, const char *key, uint64_t charge, uint64_t batch)
{
    struct dmc_prefetch_entry *entry = NULL;
    assert_int_equal(acquire(cache, key, charge, batch, &entry), DMC_ACQUIRE_MADE);
    dmc_prefetch_cache_finish(cache, entry, malloc(1), charge);
    return entry;
}

static void fail_entry(struct dmc_prefetch_cache *cache, struct dmc_prefetch_entry *entry, enum damacy_status status)
{
    struct damacy_error error;
    dmc_error_set(&error, status, "metadata", "no such thing");
    dmc_prefetch_cache_fail(cache, entry, &error);
}

static void test_requests_are_deduplicated(void **state)
{
    (void)state;
    struct dmc_prefetch_cache *cache = make(1000);
    struct dmc_prefetch_entry *first = NULL, *second = NULL;
    char key[] = "k";
    assert_int_equal(acquire(cache, key, 100, 0, &first), DMC_ACQUIRE_MADE);
    key[0] = 'x'; /* the key was copied */
    assert_int_equal(first->state, DMC_ENTRY_FILLING);
    assert_int_equal(acquire(cache, "k", 100, 0, &second), DMC_ACQUIRE_FOUND);
    assert_ptr_equal(first, second);
    int *value = malloc(sizeof *value);
    dmc_prefetch_cache_finish(cache, first, value, 60);
    assert_int_equal(acquire(cache, "k", 100, 0, &second), DMC_ACQUIRE_FOUND);
    assert_ptr_equal(second->value, value);
    assert_ptr_equal(find(cache, "k"), first);
    assert_null(find(cache, "x"));
    assert_string_equal(first->key, "k");
    struct dmc_prefetch_cache_stats stats;
    dmc_prefetch_cache_stats_get(cache, &stats);
    assert_int_equal(stats.hits, 2);
    assert_int_equal(stats.misses, 1);
    assert_int_equal(stats.entries, 1);
    assert_int_equal(stats.bytes, 60);
    assert_int_equal(stats.bytes_pinned, 60);
    dmc_prefetch_cache_destroy(cache);
    assert_int_equal(freed, 1);
}

static void test_the_watermark_unpins(void **state)
{
    (void)state;
    struct dmc_prefetch_cache *cache = make(300);
    struct dmc_prefetch_entry *entry;
    put(cache, "a", 100, 0);
    put(cache, "b", 100, 1);
    put(cache, "c", 100, 2);
    assert_int_equal(acquire(cache, "d", 100, 2, &entry), DMC_ACQUIRE_FULL);
    dmc_prefetch_cache_watermark(cache, 1);
    assert_non_null(find(cache, "a")); /* evicted only when room is needed */
    put(cache, "d", 100, 2);
    assert_null(find(cache, "a"));
    assert_int_equal(acquire(cache, "e", 100, 2, &entry), DMC_ACQUIRE_FULL);
    dmc_prefetch_cache_watermark(cache, 0); /* never goes back */
    dmc_prefetch_cache_watermark(cache, 2);
    put(cache, "e", 100, 2);
    assert_null(find(cache, "b"));
    assert_non_null(find(cache, "c"));
    dmc_prefetch_cache_destroy(cache);
    assert_int_equal(freed, 5);
}

static void test_asking_again_pins_again(void **state)
{
    (void)state;
    struct dmc_prefetch_cache *cache = make(200);
    struct dmc_prefetch_entry *entry;
    put(cache, "a", 100, 0);
    put(cache, "b", 100, 0);
    assert_int_equal(acquire(cache, "a", 100, 1, &entry), DMC_ACQUIRE_FOUND);
    dmc_prefetch_cache_watermark(cache, 1);
    put(cache, "c", 100, 1);
    assert_non_null(find(cache, "a"));
    assert_null(find(cache, "b"));
    assert_int_equal(acquire(cache, "b", 100, 1, &entry), DMC_ACQUIRE_FULL);
    dmc_prefetch_cache_destroy(cache);
}

static void test_least_recently_used_goes_first(void **state)
{
    (void)state;
    struct dmc_prefetch_cache *cache = make(300);
    struct dmc_prefetch_entry *entry;
    put(cache, "a", 100, 0);
    put(cache, "b", 100, 0);
    put(cache, "c", 100, 0);
    assert_int_equal(acquire(cache, "a", 100, 0, &entry), DMC_ACQUIRE_FOUND);
    dmc_prefetch_cache_watermark(cache, 1);
    put(cache, "d", 100, 1);
    assert_null(find(cache, "b"));
    assert_non_null(find(cache, "a"));
    put(cache, "e", 200, 1); /* makes two go */
    assert_null(find(cache, "c"));
    assert_null(find(cache, "a"));
    assert_non_null(find(cache, "d"));
    dmc_prefetch_cache_destroy(cache);
}

static void test_full_and_too_big(void **state)
{
    (void)state;
    struct dmc_prefetch_cache *cache = make(300);
    struct dmc_prefetch_entry *entry;
    assert_int_equal(acquire(cache, "a", 301, 0, &entry), DMC_ACQUIRE_TOO_BIG);
    assert_int_equal(acquire(cache, "a", UINT64_MAX, 0, &entry), DMC_ACQUIRE_TOO_BIG);
    put(cache, "a", 300, 0);
    assert_int_equal(acquire(cache, "b", 1, 0, &entry), DMC_ACQUIRE_FULL);
    assert_int_equal(acquire(cache, "a", 300, 0, &entry), DMC_ACQUIRE_FOUND);
    struct damacy_error error;
    assert_int_equal(dmc_prefetch_cache_refuse(cache, "array metadata", "metadata", 1, &error), DAMACY_BUDGET);
    assert_non_null(strstr(error.message, "array_meta_cache_bytes (300 bytes)"));
    assert_int_equal(dmc_prefetch_cache_refuse(cache, "array metadata", "metadata", 301, &error), DAMACY_BUDGET);
    assert_non_null(strstr(error.message, "301 bytes for the array metadata alone exceed array_meta_cache_bytes"));
    assert_non_null(strstr(error.hint, "raise array_meta_cache_bytes"));
    dmc_prefetch_cache_destroy(cache);
}

/* Whether a batch fits must not depend on whether an entry outlived the batch before. */
static void test_room_does_not_depend_on_survivors(void **state)
{
    (void)state;
    for (int survives = 0; survives < 2; survives++) {
        struct dmc_prefetch_cache *cache = make(300);
        struct dmc_prefetch_entry *entry;
        if (survives) {
            assert_int_equal(acquire(cache, "a", 200, 0, &entry), DMC_ACQUIRE_MADE);
            dmc_prefetch_cache_finish(cache, entry, malloc(1), 50); /* holds less than was reserved */
            dmc_prefetch_cache_watermark(cache, 1);
        }
        put(cache, "b", 150, 1);
        assert_int_equal(acquire(cache, "a", 200, 1, &entry), DMC_ACQUIRE_FULL);
        dmc_prefetch_cache_destroy(cache);
    }
}

/* ... nor on whether the batch before was still there to pin it. */
static void test_room_does_not_depend_on_the_batch_before(void **state)
{
    (void)state;
    for (int planned = 0; planned < 2; planned++) {
        struct dmc_prefetch_cache *cache = make(300);
        struct dmc_prefetch_entry *entry;
        assert_int_equal(acquire(cache, "a", 200, 0, &entry), DMC_ACQUIRE_MADE);
        dmc_prefetch_cache_finish(cache, entry, malloc(1), 50);
        if (planned)
            dmc_prefetch_cache_watermark(cache, 1);
        put(cache, "b", 150, 1);
        assert_int_equal(acquire(cache, "a", 200, 1, &entry), DMC_ACQUIRE_FULL);
        assert_int_equal(acquire(cache, "a", 150, 1, &entry), DMC_ACQUIRE_FOUND);
        assert_int_equal(acquire(cache, "a", 200, 1, &entry), DMC_ACQUIRE_FOUND); /* it is this batch's now */
        dmc_prefetch_cache_destroy(cache);
    }
}

static void test_what_is_filling_stays(void **state)
{
    (void)state;
    struct dmc_prefetch_cache *cache = make(300);
    struct dmc_prefetch_entry *filling, *entry;
    assert_int_equal(acquire(cache, "a", 200, 0, &filling), DMC_ACQUIRE_MADE);
    put(cache, "b", 100, 0);
    dmc_prefetch_cache_watermark(cache, 5);
    assert_int_equal(acquire(cache, "c", 200, 5, &entry), DMC_ACQUIRE_FULL);
    put(cache, "c", 100, 5); /* b goes, though a is older */
    assert_null(find(cache, "b"));
    dmc_prefetch_cache_finish(cache, filling, malloc(1), 200); /* and is evictable at once */
    put(cache, "d", 200, 5);
    assert_null(find(cache, "a"));
    assert_int_equal(acquire(cache, "e", 0, 5, &entry), DMC_ACQUIRE_MADE);
    dmc_prefetch_cache_destroy(cache); /* with one still filling */
    assert_int_equal(freed, 4);
}

static void test_failures_are_kept(void **state)
{
    (void)state;
    struct dmc_prefetch_cache *cache = make(20000);
    struct dmc_prefetch_entry *entry, *again;
    assert_int_equal(acquire(cache, "a", 6000, 0, &entry), DMC_ACQUIRE_MADE);
    fail_entry(cache, entry, DAMACY_NOTFOUND);
    assert_int_equal(entry->state, DMC_ENTRY_FAILED);
    assert_string_equal(entry->error->message, "no such thing");
    assert_true(entry->charge_bytes > sizeof(struct damacy_error) && entry->charge_bytes < 6000);
    dmc_prefetch_cache_watermark(cache, 3);
    assert_int_equal(acquire(cache, "a", 6000, 3, &again), DMC_ACQUIRE_FOUND);
    assert_ptr_equal(entry, again);
    dmc_prefetch_cache_destroy(cache);
}

static void test_failures_that_may_pass_are_tried_again_once_unpinned(void **state)
{
    (void)state;
    const enum damacy_status statuses[] = {DAMACY_IO, DAMACY_OOM, DAMACY_BUDGET};
    for (int i = 0; i < 3; i++) {
        struct dmc_prefetch_cache *cache = make(20000);
        struct dmc_prefetch_entry *entry, *again;
        assert_int_equal(acquire(cache, "a", 6000, 0, &entry), DMC_ACQUIRE_MADE);
        fail_entry(cache, entry, statuses[i]);
        assert_int_equal(acquire(cache, "a", 6000, 0, &again), DMC_ACQUIRE_FOUND);
        dmc_prefetch_cache_watermark(cache, 1);
        assert_int_equal(acquire(cache, "a", 6000, 1, &again), DMC_ACQUIRE_MADE);
        assert_int_equal(again->state, DMC_ENTRY_FILLING);
        dmc_prefetch_cache_finish(cache, again, malloc(1), 10);
        dmc_prefetch_cache_destroy(cache);
    }
}

static void test_memory_runs_out(void **state)
{
    (void)state;
    struct dmc_prefetch_cache *cache = NULL;
    struct damacy_error error;
    for (uint64_t n = 1; n <= 2; n++) {
        dmc_mem_fail_at(n);
        assert_int_equal(dmc_prefetch_cache_create("x", 1000, count_free, &cache, &error), DAMACY_OOM);
    }
    dmc_mem_fail_at(0);
    cache = make(20000);
    struct dmc_prefetch_entry *entry;
    put(cache, "a", 15000, 0);
    dmc_prefetch_cache_watermark(cache, 1);
    dmc_mem_fail_at(1);
    assert_int_equal(acquire(cache, "b", 15000, 1, &entry), DMC_ACQUIRE_OOM);
    assert_non_null(find(cache, "a")); /* nothing was given up for it */
    dmc_mem_fail_at(0);
    assert_int_equal(acquire(cache, "b", 15000, 1, &entry), DMC_ACQUIRE_MADE);
    dmc_mem_fail_at(1);
    fail_entry(cache, entry, DAMACY_NOTFOUND);
    assert_int_equal(entry->state, DMC_ENTRY_FAILED);
    assert_int_equal(entry->error->status, DAMACY_OOM); /* there was no memory for the truth */
    dmc_mem_fail_at(0);
    dmc_prefetch_cache_destroy(cache);
}

/* --- the naive model --- */

#define KEYS 40
struct model_entry {
    bool there, may_pass;
    enum dmc_entry_state state;
    uint64_t charge, batch_last, used;
    struct dmc_prefetch_entry *real;
};
struct model {
    struct model_entry entries[KEYS];
    uint64_t bytes_max, watermark, clock, evictions;
};

static bool model_pinned(const struct model *model, const struct model_entry *entry)
{
    return entry->state == DMC_ENTRY_FILLING || entry->batch_last >= model->watermark;
}

static enum dmc_acquire model_acquire(struct model *model, int key, uint64_t charge, uint64_t batch)
{
    struct model_entry *entry = &model->entries[key];
    if (!(entry->there && entry->batch_last == batch)) {
        uint64_t pinned = 0;
        bool was_pinned = entry->there && model_pinned(model, entry);
        for (int i = 0; i < KEYS; i++) {
            const struct model_entry *other = &model->entries[i];
            if (other->there && (was_pinned ? other->batch_last == batch : model_pinned(model, other)))
                pinned += other->charge;
        }
        if (charge > model->bytes_max)
            return DMC_ACQUIRE_TOO_BIG;
        if (pinned + charge > model->bytes_max)
            return DMC_ACQUIRE_FULL;
        if (entry->there && !was_pinned && entry->state == DMC_ENTRY_FAILED && entry->may_pass) {
            entry->there = false;
            model->evictions++;
        }
    }
    if (entry->there) {
        entry->batch_last = batch;
        entry->used = ++model->clock;
        return DMC_ACQUIRE_FOUND;
    }
    for (;;) {
        uint64_t bytes = 0;
        struct model_entry *oldest = NULL;
        for (int i = 0; i < KEYS; i++) {
            struct model_entry *other = &model->entries[i];
            if (!other->there)
                continue;
            bytes += other->charge;
            if (!model_pinned(model, other) && (!oldest || other->used < oldest->used))
                oldest = other;
        }
        if (bytes + charge <= model->bytes_max)
            break;
        oldest->there = false;
        model->evictions++;
    }
    *entry = (struct model_entry){
        .there = true, .state = DMC_ENTRY_FILLING, .charge = charge, .batch_last = batch, .used = ++model->clock};
    return DMC_ACQUIRE_MADE;
}

static void key_text(char *text, int key)
{
    sprintf(text, "memory://array-%d", key);
}

static void check(struct dmc_prefetch_cache *cache, const struct model *model)
{
    uint64_t bytes = 0, entries = 0, pinned = 0;
    for (int i = 0; i < KEYS; i++) {
        char key[64];
        key_text(key, i);
        const struct model_entry *expected = &model->entries[i];
        struct dmc_prefetch_entry *real = find(cache, key);
        assert_int_equal(real != NULL, expected->there);
        if (!real)
            continue;
        assert_ptr_equal(real, expected->real);
        assert_int_equal(real->state, expected->state);
        assert_int_equal(real->charge_bytes, expected->charge);
        bytes += expected->charge;
        entries++;
        pinned += model_pinned(model, expected) ? expected->charge : 0;
    }
    struct dmc_prefetch_cache_stats stats;
    dmc_prefetch_cache_stats_get(cache, &stats);
    assert_int_equal(stats.bytes, bytes);
    assert_int_equal(stats.bytes_pinned, pinned);
    assert_int_equal(stats.entries, entries);
    assert_int_equal(stats.evictions, model->evictions);
    assert_true(bytes <= model->bytes_max);
}

static void test_random_against_model(void **state)
{
    (void)state;
    uint64_t seed = world_test_seed();
    for (int round = 0; round < 30; round++) {
        struct model model = {.bytes_max = 20000 + world_random(&seed) % 200000};
        struct dmc_prefetch_cache *cache = make(model.bytes_max);
        uint64_t batch = 0, counts[5] = {0};
        for (int step = 0; step < 1500; step++) {
            int key = (int)(world_random(&seed) % KEYS);
            struct model_entry *entry = &model.entries[key];
            uint64_t what = world_random(&seed) % 10;
            if (what < 6) {
                char text[64];
                key_text(text, key);
                uint64_t charge = 5000 + world_random(&seed) % 20000;
                struct dmc_prefetch_entry *real = NULL;
                enum dmc_acquire expected = model_acquire(&model, key, charge, batch);
                enum dmc_acquire got = acquire(cache, text, charge, batch, &real);
                assert_int_equal(got, expected);
                counts[got]++;
                if (got == DMC_ACQUIRE_MADE)
                    entry->real = real;
                else if (got == DMC_ACQUIRE_FOUND)
                    assert_ptr_equal(entry->real, real);
            } else if (what < 8 && entry->there && entry->state == DMC_ENTRY_FILLING) {
                uint64_t how = world_random(&seed) % 4;
                if (how < 2) {
                    entry->state = DMC_ENTRY_READY;
                    entry->charge = world_random(&seed) % (entry->charge + 1);
                    dmc_prefetch_cache_finish(cache, entry->real, malloc(1), entry->charge);
                } else {
                    entry->state = DMC_ENTRY_FAILED;
                    entry->may_pass = how == 2;
                    fail_entry(cache, entry->real, entry->may_pass ? DAMACY_IO : DAMACY_DECODE);
                    uint64_t held = dmc_prefetch_cache_held(entry->real->key_bytes, sizeof(struct damacy_error));
                    entry->charge = held < entry->charge ? held : entry->charge;
                }
            } else if (what == 8) {
                batch += world_random(&seed) % 2;
            } else if (batch > model.watermark) {
                model.watermark += 1 + world_random(&seed) % (batch - model.watermark);
                dmc_prefetch_cache_watermark(cache, model.watermark);
            }
            check(cache, &model);
        }
        assert_true(counts[DMC_ACQUIRE_FOUND] && counts[DMC_ACQUIRE_MADE]);
        dmc_prefetch_cache_destroy(cache);
    }
}

/* Enough entries that the table doubles many times. */
static void test_many_entries(void **state)
{
    (void)state;
    struct dmc_prefetch_cache *cache = make(UINT64_C(1) << 40);
    char key[64];
    for (int i = 0; i < 10000; i++) {
        key_text(key, i);
        put(cache, key, 10, 0);
    }
    for (int i = 0; i < 10000; i++) {
        key_text(key, i);
        assert_string_equal(find(cache, key)->key, key);
    }
    dmc_prefetch_cache_destroy(cache);
    assert_int_equal(freed, 10000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_requests_are_deduplicated),
        cmocka_unit_test(test_the_watermark_unpins),
        cmocka_unit_test(test_asking_again_pins_again),
        cmocka_unit_test(test_least_recently_used_goes_first),
        cmocka_unit_test(test_full_and_too_big),
        cmocka_unit_test(test_room_does_not_depend_on_survivors),
        cmocka_unit_test(test_room_does_not_depend_on_the_batch_before),
        cmocka_unit_test(test_what_is_filling_stays),
        cmocka_unit_test(test_failures_are_kept),
        cmocka_unit_test(test_failures_that_may_pass_are_tried_again_once_unpinned),
        cmocka_unit_test(test_memory_runs_out),
        cmocka_unit_test(test_random_against_model),
        cmocka_unit_test(test_many_entries),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
