/* Goal: the share of chunks that the cores decode comes within a few per cent of the best there is, whatever the rates are and
 * wherever it begins; it follows rates that change; it spares the cores when nothing limits; long waits do not count as work;
 * both sides stay measured. Method: the formula against a search over all shares; then a pipeline made of numbers, whose cores
 * and device take what a table says, observed window by window. */
#include "backend/cuda/cuda_placement.h"
#include "support/test_seed.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <cmocka.h>

#define CHUNK (128u << 10)

static uint64_t state;
static double uniform(double low, double high)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return low + (high - low) * (double)(state >> 11) / 9007199254740992.0;
}

static double time_of(const struct dmc_placement_rates *r, double cores, double share)
{
    double times[] = {(r->read + share * r->decode) / cores, (1 - share) * r->device,
                      (1 - share) * r->copy_stored + share * r->copy_decoded};
    double longest = times[0];
    for (int i = 1; i < 3; i++)
        longest = times[i] > longest ? times[i] : longest;
    return longest;
}

static struct dmc_placement_rates rates_draw(void)
{
    struct dmc_placement_rates rates = {.read = uniform(0.02, 0.6),
                                        .decode = uniform(0.05, 5),
                                        .device = uniform(0.003, 0.2),
                                        .copy_stored = 0.0185 * uniform(0.1, 1),
                                        .copy_decoded = 0.0185};
    return rates;
}

static double least_time(const struct dmc_placement_rates *rates, double cores)
{
    double least = time_of(rates, cores, 0);
    for (int i = 1; i <= 1000; i++) {
        double time = time_of(rates, cores, i / 1000.0);
        least = time < least ? time : least;
    }
    return least;
}

static double lesser(double a, double b)
{
    return a < b ? a : b;
}

static void test_share(void **unused)
{
    (void)unused;
    for (int i = 0; i < 3000; i++) {
        uint32_t cores = 1 + (uint32_t)uniform(0, 64);
        struct dmc_placement_rates rates = rates_draw();
        double share = dmc_placement_share(&rates, cores, false);
        assert_true(share >= 0 && share <= 1);
        assert_true(time_of(&rates, cores, share) <= 1.055 * least_time(&rates, cores));
        share = dmc_placement_share(&rates, cores, true);
        assert_true(share == 0 || share == 1);
        assert_true(time_of(&rates, cores, share) <= 1.055 * lesser(time_of(&rates, cores, 0), time_of(&rates, cores, 1)));
    }
    struct dmc_placement_rates slow_cores = {
        .read = 0.1, .decode = 5, .device = 0.001, .copy_stored = 0.01, .copy_decoded = 0.02};
    assert_true(dmc_placement_share(&slow_cores, 4, false) == 0);
    struct dmc_placement_rates slow_device = {
        .read = 0.1, .decode = 0.01, .device = 3, .copy_stored = 0.01, .copy_decoded = 0.02};
    assert_true(dmc_placement_share(&slow_device, 4, false) == 1);
    assert_true(dmc_placement_share(&slow_device, 0, false) <= 1);
}

/* A pipeline of numbers: in each window so many bytes as the slower side manages, or as the consumer wants. */
struct world {
    struct dmc_placement_rates rates;
    uint32_t cores;
    double consumer_ns; /* a byte; 0: takes all */
    struct dmc_placement_sums sums;
};

/* Returns bytes a nanosecond. */
static double run_window(struct dmc_placement *placement, struct world *world, uint32_t kind)
{
    const uint32_t reads = 4096;
    uint32_t on_cores = 0;
    for (uint32_t i = 0; i < reads; i++)
        on_cores += dmc_placement_on_cores(placement, kind);
    double share = (double)on_cores / reads, ns = 1.5 * DMC_PLACEMENT_WINDOW_NS;
    double each = time_of(&world->rates, world->cores, share);
    each = each > world->consumer_ns ? each : world->consumer_ns;
    double bytes = ns / each;
    double decode_ns = bytes * share * world->rates.decode * uniform(0.95, 1.05);
    double busy_ns = bytes * world->rates.read + decode_ns;
    dmc_placement_count_cores(placement, kind, (uint64_t)(bytes * share), (uint64_t)decode_ns);
    dmc_placement_count_device(placement, kind, (uint64_t)(bytes * (1 - share)));
    world->sums.now_ns += (uint64_t)ns;
    if (ns * world->cores > busy_ns)
        world->sums.waited_ns += (uint64_t)(ns * world->cores - busy_ns);
    world->sums.device_busy_ns += (uint64_t)(bytes * (1 - share) * world->rates.device);
    dmc_placement_observe(placement, &world->sums);
    return 1 / each;
}

static void test_pipelines(void **unused)
{
    (void)unused;
    static struct dmc_placement placement;
    for (int i = 0; i < 300; i++) {
        enum dmc_cuda_format format = (enum dmc_cuda_format)(i % (int)DMC_PLACEMENT_FORMATS);
        uint32_t kind = dmc_placement_kind_of(format, CHUNK);
        struct world world = {.cores = 1 + (uint32_t)uniform(0, 32)};
        dmc_placement_init(&placement, world.cores, 0);
        for (int phase = 0; phase < 2; phase++) { /* the second: everything has become different */
            world.rates = rates_draw();
            world.rates.copy_stored = 0.0185 * 0.5; /* that is taken as known */
            double sum = 0;
            for (int w = 0; w < 40; w++)
                run_window(&placement, &world, kind);
            for (int w = 0; w < 64; w++)
                sum += run_window(&placement, &world, kind);
            double best = 1 / least_time(&world.rates, world.cores);
            if (sum / 64 < 0.9 * best)
                print_error("world %d.%d: %u cores, read %g decode %g device %g: %g of the best, share %g\n", i, phase,
                            world.cores, world.rates.read, world.rates.decode, world.rates.device, sum / 64 / best,
                            atomic_load(&placement.kinds[kind].share) / 65536.0);
            assert_true(sum / 64 >= 0.9 * best);
        }
    }
}

/* Large chunks of a serial codec are all given to one side: to the better one, if the device is what it is taken for. */
static void test_not_shared(void **unused)
{
    (void)unused;
    static struct dmc_placement placement;
    for (int i = 0; i < 200; i++) {
        uint32_t kind = dmc_placement_kind_of(i & 1 ? DMC_CUDA_LZ4_SIZED : DMC_CUDA_GZIP, i & 2 ? 1 << 20 : 4 << 20);
        struct world world = {.cores = 1 + (uint32_t)uniform(0, 32), .rates = rates_draw()};
        dmc_placement_init(&placement, world.cores, 0);
        const struct dmc_placement_rates *known = &placement.kinds[kind].rates;
        world.rates.device = known->device;
        world.rates.copy_stored = known->copy_stored;
        world.rates.copy_decoded = known->copy_decoded;
        double sum = 0;
        for (int w = 0; w < 40 + 64; w++) {
            uint32_t share = atomic_load(&placement.kinds[kind].share);
            assert_true(share == 0 || share == 65536);
            double rate = run_window(&placement, &world, kind);
            sum += w < 40 ? 0 : rate;
        }
        double alone = lesser(time_of(&world.rates, world.cores, 0), time_of(&world.rates, world.cores, 1));
        if (sum / 64 < 0.9 / alone)
            print_error("world %d: %u cores, read %g decode %g device %g: %g of the better side\n", i, world.cores,
                        world.rates.read, world.rates.decode, world.rates.device, sum / 64 * alone);
        assert_true(sum / 64 >= 0.9 / alone);
    }
}

static void test_spares_cores(void **unused)
{
    (void)unused;
    static struct dmc_placement placement;
    struct world world = {.cores = 8,
                          .rates = {.read = 0.1, .decode = 0.5, .device = 0.1, .copy_stored = 0.009, .copy_decoded = 0.0185}};
    uint32_t kind = dmc_placement_kind_of(DMC_CUDA_GZIP, CHUNK);
    dmc_placement_init(&placement, world.cores, 0);
    for (int w = 0; w < 40; w++)
        run_window(&placement, &world, kind);
    assert_true(atomic_load(&placement.kinds[kind].share) > 20000);
    world.consumer_ns = 0.5; /* wants little */
    for (int w = 0; w < 60; w++)
        run_window(&placement, &world, kind);
    assert_int_equal(atomic_load(&placement.kinds[kind].share), 0);
    uint32_t other = dmc_placement_kind_of(DMC_CUDA_GZIP, 4 << 20); /* kinds are apart */
    assert_true(other != kind && atomic_load(&placement.kinds[other].turns) == 0);
    world.consumer_ns = 0;
    for (int w = 0; w < 60; w++)
        run_window(&placement, &world, kind);
    assert_true(atomic_load(&placement.kinds[kind].share) > 20000);
}

/* Most cores wait for several windows at a time, the others work: waiting is not taken for slow reading, which would take large
 * lz4 chunks from the cores. */
static void test_long_waits(void **unused)
{
    (void)unused;
    static struct dmc_placement placement;
    enum { CORES = 16, WORKING = 3, PERIOD = 6 };
    struct dmc_placement_waits waits[CORES] = {{0}};
    struct dmc_placement_sums sums = {.now_ns = 1};
    uint32_t kind = dmc_placement_kind_of(DMC_CUDA_LZ4, 4 << 20);
    dmc_placement_init(&placement, CORES, sums.now_ns);
    const double read = placement.kinds[kind].rates.read, decode = placement.kinds[kind].rates.decode;
    const uint64_t window_ns = DMC_PLACEMENT_WINDOW_NS + 1;
    uint64_t waited_ns = 0;
    for (int w = 0; w < 20 * PERIOD; w++) {
        bool all_work = w % PERIOD == 0;
        for (int i = WORKING; i < CORES && w % PERIOD < 2; i++) {
            if (!all_work)
                dmc_placement_wait_begin(&waits[i], sums.now_ns);
            else if (w > 0)
                dmc_placement_wait_end(&waits[i], sums.now_ns);
        }
        sums.now_ns += window_ns;
        uint32_t working = all_work ? CORES : WORKING;
        waited_ns += (CORES - working) * window_ns;
        sums.waited_ns = 0;
        for (int i = 0; i < CORES; i++)
            sums.waited_ns += dmc_placement_waited_ns(&waits[i], sums.now_ns);
        assert_int_equal(sums.waited_ns, waited_ns);
        double bytes = working * (double)window_ns / (read + decode);
        dmc_placement_count_cores(&placement, kind, (uint64_t)bytes, (uint64_t)(bytes * decode));
        dmc_placement_observe(&placement, &sums);
        assert_int_equal(atomic_load(&placement.kinds[kind].share), 65536);
    }
}

static void test_spread(void **unused)
{
    (void)unused;
    static struct dmc_placement placement;
    uint32_t kind = dmc_placement_kind_of(DMC_CUDA_ZSTD, CHUNK);
    dmc_placement_init(&placement, 16, 0);
    dmc_placement_count_cores(&placement, kind, 1u << 30, 1); /* measured: exploration is rare */
    atomic_store(&placement.kinds[kind].share, 65536 / 4);
    for (int block = 0; block < 100; block++) {
        int on_cores = 0;
        for (int i = 0; i < 8; i++)
            on_cores += dmc_placement_on_cores(&placement, kind);
        assert_in_range(on_cores, 2, 3);
    }
    dmc_placement_init(&placement, 2, 0); /* two cores: all zstd to the device, but for exploration */
    int on_cores = 0;
    for (int i = 0; i < 640; i++)
        on_cores += dmc_placement_on_cores(&placement, kind);
    assert_int_equal(on_cores, 10);
    dmc_placement_init(&placement, 4, 0); /* large chunks that the device has, but only just: the cores stay measured */
    kind = dmc_placement_kind_of(DMC_CUDA_LZ4, 4 << 20);
    assert_int_equal(atomic_load(&placement.kinds[kind].share), 0);
    dmc_placement_count_cores(&placement, kind, 1u << 30, 1);
    on_cores = 0;
    for (int i = 0; i < 640; i++)
        on_cores += dmc_placement_on_cores(&placement, kind);
    assert_int_equal(on_cores, 5);
    for (uint64_t bytes = 1; bytes < 1ull << 40; bytes *= 2)
        for (uint32_t format = 0; format < DMC_PLACEMENT_FORMATS; format++)
            assert_in_range(dmc_placement_kind_of((enum dmc_cuda_format)format, bytes), 0, DMC_PLACEMENT_KINDS - 1);
}

int main(void)
{
    state = seed_of_test("test_cuda_placement", 0);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_share),        cmocka_unit_test(test_pipelines),  cmocka_unit_test(test_not_shared),
        cmocka_unit_test(test_spares_cores), cmocka_unit_test(test_long_waits), cmocka_unit_test(test_spread),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
