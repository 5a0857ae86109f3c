/* Goal: the space for reads is given out at the lowest place where it fits, is refused only where no gap is long enough, and
 * comes back in any order without a trace; growing and giving memory back are accounted for. Method: random takes and gives
 * beside a map that says of every 64 bytes whether they are taken. DAMACY_TEST_SEED repeats a run. */
#include "backend/cpu/cpu_worker.h"
#include "support/pipeline_world.h"

#define LINE 64u
#define LINES 128u
#define READS 24u
#define STEPS 40000u

struct world {
    struct dmc_read_buffer buffer;
    struct dmc_budget budget;
    bool taken[LINES];
    struct dmc_extent rooms[READS];
    uint32_t count;
};

/* Where `lines` fit first; LINES: nowhere. */
static uint32_t lowest(const struct world *world, uint32_t lines)
{
    for (uint32_t at = 0, run = 0; at < LINES; at++) {
        run = world->taken[at] ? 0 : run + 1;
        if (run == lines)
            return at + 1 - lines;
    }
    return LINES;
}

static void mark(struct world *world, struct dmc_extent room, bool taken)
{
    for (uint64_t at = room.begin / LINE; at < room.end / LINE; at++) {
        zw_require(world->taken[at] != taken);
        world->taken[at] = taken;
    }
}

static void take(struct world *world, uint64_t bytes)
{
    uint32_t lines = (uint32_t)dmc_ceil_div(bytes ? bytes : 1, LINE), at = lowest(world, lines);
    struct dmc_extent room;
    zw_require(dmc_read_buffer_take(&world->buffer, bytes, &room) == (at < LINES));
    if (at == LINES)
        return;
    zw_require(room.begin == (uint64_t)at * LINE && room.end == (uint64_t)(at + lines) * LINE);
    mark(world, room, true);
    world->rooms[world->count++] = room;
}

static void give(struct world *world, uint32_t index)
{
    mark(world, world->rooms[index], false);
    dmc_read_buffer_give(&world->buffer, world->rooms[index]);
    world->rooms[index] = world->rooms[--world->count];
}

static void test_any_order(void **state)
{
    (void)state;
    struct pw_random random = {pw_seed("test_any_order")};
    struct damacy_error error;
    struct world world = {.count = 0};
    dmc_budget_init(&world.budget, 2 * LINES * LINE);
    zw_require(dmc_read_buffer_init(&world.buffer, READS));
    struct dmc_extent room;
    zw_require(!dmc_read_buffer_take(&world.buffer, 0, &room)); /* it has no memory yet */
    pw_ok(dmc_read_buffer_grow(&world.buffer, LINES * LINE, &world.budget, &error), &error);
    zw_require(!dmc_read_buffer_take(&world.buffer, LINES * LINE + 1, &room));
    zw_require(!dmc_read_buffer_take(&world.buffer, UINT64_MAX, &room));
    uint32_t percent = 50;
    for (uint32_t i = 0; i < STEPS; i++) {
        if (i % 64 == 0) /* now nearly full, now nearly empty */
            percent = (uint32_t)pw_between(&random, 20, 80);
        if (world.count < READS && pw_chance(&random, percent))
            take(&world, pw_between(&random, 0, pw_chance(&random, 10) ? LINES * LINE : LINES * LINE / 8));
        else if (world.count)
            give(&world, (uint32_t)pw_between(&random, 0, world.count - 1));
        zw_require(world.buffer.outstanding == world.count && world.buffer.free_count <= world.count + 1);
    }
    while (world.count)
        give(&world, (uint32_t)pw_between(&random, 0, world.count - 1));
    take(&world, LINES * LINE);
    zw_require(world.count == 1);
    give(&world, 0);

    zw_require(dmc_read_buffer_grow(&world.buffer, 3 * LINES * LINE, &world.budget, &error) == DAMACY_BUDGET);
    zw_require(dmc_budget_used(&world.budget) == 0 && !dmc_read_buffer_take(&world.buffer, 1, &room));
    pw_ok(dmc_read_buffer_grow(&world.buffer, LINES * LINE, &world.budget, &error), &error);
    zw_require(dmc_budget_used(&world.budget) == LINES * LINE);
    dmc_read_buffer_trim(&world.buffer, &world.budget);
    zw_require(dmc_budget_used(&world.budget) == 0 && !dmc_read_buffer_take(&world.buffer, 1, &room));
    dmc_read_buffer_deinit(&world.buffer, &world.budget);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_any_order)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
