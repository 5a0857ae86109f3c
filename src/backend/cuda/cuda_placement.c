/* See cuda_placement.h. */
#include "backend/cuda/cuda_placement.h"
#include "base/bytes.h"

#define SHARE_ONE 65536u
#define GAIN_WORTH 0.95   /* of the device's time alone: less is not worth the cores' time */
#define CORES_ALONE 1.02  /* cores may lose so much before waves of few chunks are launched beside them */
#define LIMITING 0.6      /* a side that is busy for so much of the window may be what limits */
#define EXPLORE_TURNS 64u /* one read in so many goes to the other side while its rate is a guess */
#define EXPLORE_MEASURED_TURNS 2048u
#define EXPLORE_WHOLE_TURNS 128u /* a second has few large chunks; only where the cores may come to win: it costs */
#define EXPLORE_WHOLE_WORTH 4.0
#define MEASURED_BYTES (4u << 20)
#define PROBE_WINDOWS 32u /* the cores do nearly all: one window in so many, the device gets a quarter */
#define PROBE_SHARE 0.75
#define SURPRISE 0.8  /* the device took so much of what was expected */
#define RATE_STEP 0.5 /* of what a window says */
#define RATE_FACTOR_MAX 4.0

/* Measured on an H100 with 16 cores of a Xeon (bench/RESULTS-gpu.md): device waves of 4,096 chunks, libraries per core. */
static const struct dmc_placement_rates priors[DMC_PLACEMENT_FORMATS] = {
    [DMC_CUDA_ZSTD] = {.read = 0.15, .decode = 2.2, .device = 0.010},
    [DMC_CUDA_BLOSC] = {.read = 0.15, .decode = 0.9, .device = 0.006},
    [DMC_CUDA_LZ4] = {.read = 0.2, .decode = 0.5, .device = 0.0145},
    [DMC_CUDA_COPY] = {.read = 0.3, .decode = 0.1, .device = 0.002},
    [DMC_CUDA_LZ4_SIZED] = {.read = 0.2, .decode = 0.5, .device = 0.0145},
    [DMC_CUDA_GZIP] = {.read = 0.15, .decode = 2.0, .device = 0.045},
    [DMC_CUDA_ZLIB] = {.read = 0.15, .decode = 2.0, .device = 0.045},
};
/* Of larger chunks fewer are in a wave, and each is a chain: device time for 1, 2 and 4 MiB in terms of that above (`run_gpu.py
 * placement`). */
#define LARGE_SIZE 7u /* 8 KiB << 7 is 1 MiB */
static const double device_large[DMC_PLACEMENT_FORMATS][DMC_PLACEMENT_SIZES - LARGE_SIZE] = {
    [DMC_CUDA_ZSTD] = {1.6, 1.7, 1.9}, [DMC_CUDA_BLOSC] = {1, 1, 1.1},     [DMC_CUDA_LZ4] = {3, 5.5, 9},
    [DMC_CUDA_COPY] = {1, 1, 1},       [DMC_CUDA_LZ4_SIZED] = {3, 5.5, 9}, [DMC_CUDA_GZIP] = {1.1, 1.8, 2.8},
    [DMC_CUDA_ZLIB] = {1.1, 1.8, 2.8},
};
/* Of these formats a chunk is one chain on the device: 5 ms for 128 KiB of lz4, so some 170 for 4 MiB. Shared, every
 * batch waits for one, and less comes out than of either side alone: lz4, 4 MiB: 5.5 GB/s, the device 7.4, 16 cores 19.6. */
static const bool serial[DMC_PLACEMENT_FORMATS] = {
    [DMC_CUDA_LZ4] = true, [DMC_CUDA_LZ4_SIZED] = true, [DMC_CUDA_GZIP] = true, [DMC_CUDA_ZLIB] = true};
#define COPY_NS 0.0185 /* 54 GB/s */
#define STORED_RATIO 0.5

/* --- the decision --- */

static double time_of(const struct dmc_placement_rates *rates, double cores, double share)
{
    double core = (rates->read + share * rates->decode) / cores, device = (1 - share) * rates->device;
    double copy = (1 - share) * rates->copy_stored + share * rates->copy_decoded, longest = core > device ? core : device;
    return longest > copy ? longest : copy;
}

/* Where a0 + a1 s = b0 + b1 s; outside of [0, 1]: 0. */
static double meet(double a0, double a1, double b0, double b1)
{
    double share = a1 != b1 ? (b0 - a0) / (a1 - b1) : 0;
    return share > 0 && share < 1 ? share : 0;
}

double dmc_placement_share(const struct dmc_placement_rates *rates, uint32_t core_count, bool whole)
{
    const double cores = core_count > 0 ? core_count : 1;
    const double core0 = rates->read / cores, core1 = rates->decode / cores;
    const double copy0 = rates->copy_stored, copy1 = rates->copy_decoded - rates->copy_stored;
    const double shares[] = {
        1,
        meet(core0, core1, rates->device, -rates->device),
        meet(core0, core1, copy0, copy1),
        meet(copy0, copy1, rates->device, -rates->device),
    };
    double best = 0, least = time_of(rates, cores, 0), device_alone = least;
    for (size_t i = 0; i < (whole ? 1 : sizeof shares / sizeof shares[0]); i++) {
        double time = time_of(rates, cores, shares[i]);
        if (time < least) {
            least = time;
            best = shares[i];
        }
    }
    if (least > GAIN_WORTH * device_alone)
        return 0;
    return time_of(rates, cores, 1) <= CORES_ALONE * least ? 1 : best;
}

/* --- the pipeline's rates --- */

static void set_share(struct dmc_placement_kind *kind, double share)
{
    atomic_store_explicit(&kind->share, (uint32_t)(share * SHARE_ONE), memory_order_relaxed);
}

static uint32_t explore_turns(const struct dmc_placement_kind *kind, uint32_t cores)
{
    bool near = time_of(&kind->rates, cores, 1) < EXPLORE_WHOLE_WORTH * time_of(&kind->rates, cores, 0);
    return kind->whole && near ? EXPLORE_WHOLE_TURNS : EXPLORE_MEASURED_TURNS;
}

void dmc_placement_init(struct dmc_placement *placement, uint32_t cores, uint64_t now_ns)
{
    *placement = (struct dmc_placement){.cores = cores > 0 ? cores : 1, .seen = {.now_ns = now_ns}};
    for (uint32_t i = 0; i < DMC_PLACEMENT_KINDS; i++) {
        struct dmc_placement_kind *kind = &placement->kinds[i];
        kind->rates = priors[i / DMC_PLACEMENT_SIZES];
        if (i % DMC_PLACEMENT_SIZES >= LARGE_SIZE)
            kind->rates.device *= device_large[i / DMC_PLACEMENT_SIZES][i % DMC_PLACEMENT_SIZES - LARGE_SIZE];
        kind->rates.copy_decoded = COPY_NS;
        kind->rates.copy_stored = COPY_NS * STORED_RATIO;
        kind->whole = serial[i / DMC_PLACEMENT_SIZES] && i % DMC_PLACEMENT_SIZES >= LARGE_SIZE;
        kind->wanted = dmc_placement_share(&kind->rates, placement->cores, kind->whole);
        set_share(kind, kind->wanted);
        atomic_store_explicit(&kind->explore, explore_turns(kind, placement->cores), memory_order_relaxed);
    }
}

uint32_t dmc_placement_kind_of(enum dmc_cuda_format format, uint64_t chunk_bytes)
{
    uint32_t size = 0;
    while (size + 1 < DMC_PLACEMENT_SIZES && chunk_bytes > (8192ull << size))
        size++;
    return (uint32_t)format * DMC_PLACEMENT_SIZES + size;
}

bool dmc_placement_on_cores(struct dmc_placement *placement, uint32_t index)
{
    struct dmc_placement_kind *kind = &placement->kinds[index];
    uint64_t turn = atomic_fetch_add_explicit(&kind->turns, 1, memory_order_relaxed);
    uint64_t share = atomic_load_explicit(&kind->share, memory_order_relaxed);
    bool on_cores = ((turn + 1) * share) / SHARE_ONE != turn * share / SHARE_ONE;
    bool measured = atomic_load_explicit(&kind->cores_bytes, memory_order_relaxed) >= MEASURED_BYTES;
    uint32_t explore = measured ? atomic_load_explicit(&kind->explore, memory_order_relaxed) : EXPLORE_TURNS;
    return on_cores || turn % explore == explore - 1;
}

void dmc_placement_count_cores(struct dmc_placement *placement, uint32_t kind, uint64_t bytes, uint64_t ns)
{
    atomic_fetch_add_explicit(&placement->kinds[kind].cores_bytes, bytes, memory_order_relaxed);
    atomic_fetch_add_explicit(&placement->kinds[kind].cores_ns, ns, memory_order_relaxed);
}

void dmc_placement_count_device(struct dmc_placement *placement, uint32_t kind, uint64_t bytes)
{
    atomic_fetch_add_explicit(&placement->kinds[kind].device_bytes, bytes, memory_order_relaxed);
}

void dmc_placement_wait_begin(struct dmc_placement_waits *waits, uint64_t now_ns)
{
    atomic_store_explicit(&waits->since_ns, now_ns, memory_order_relaxed);
}

void dmc_placement_wait_end(struct dmc_placement_waits *waits, uint64_t now_ns)
{
    uint64_t since_ns = atomic_load_explicit(&waits->since_ns, memory_order_relaxed);
    uint64_t ended_ns = atomic_load_explicit(&waits->ended_ns, memory_order_relaxed);
    atomic_store_explicit(&waits->since_ns, 0, memory_order_relaxed);
    atomic_store_explicit(&waits->ended_ns, ended_ns + (now_ns - since_ns), memory_order_relaxed);
}

uint64_t dmc_placement_waited_ns(const struct dmc_placement_waits *waits, uint64_t now_ns)
{
    uint64_t ended_ns = atomic_load_explicit(&waits->ended_ns, memory_order_relaxed);
    uint64_t since_ns = atomic_load_explicit(&waits->since_ns, memory_order_relaxed);
    return ended_ns + (since_ns != 0 && since_ns < now_ns ? now_ns - since_ns : 0);
}

/* A step towards `measured`, which one strange window does not make absurd. */
static void follow(double *rate, double measured)
{
    double most = *rate * RATE_FACTOR_MAX, least = *rate / RATE_FACTOR_MAX;
    measured = measured > most ? most : measured < least ? least : measured;
    *rate += RATE_STEP * (measured - *rate);
}

struct window {
    double ns, waited_ns, device_ns;
    double cores_decode_ns, bytes;  /* of all kinds */
    double device_expected_ns;      /* for what the device did, by the rates so far */
    double cores_busy, device_busy; /* 0 to 1 */
};

static void follow_kind(const struct dmc_placement *placement, struct dmc_placement_kind *kind, const struct window *window,
                        double cores_bytes, double cores_ns, double device_bytes)
{
    if (cores_bytes > 0 && cores_ns > 0)
        follow(&kind->rates.decode, cores_ns / cores_bytes);
    double reading_ns = window->ns * placement->cores - window->waited_ns - window->cores_decode_ns;
    if (reading_ns > 0)
        follow(&kind->rates.read, reading_ns / window->bytes);
    /* Waves that are small because little was asked for are slower than the device is: they only tell if it is faster yet. Of
     * chunks that take the device longer than a window, a window tells nothing. */
    double slower = window->device_expected_ns > 0 ? window->device_ns / window->device_expected_ns : 0;
    if (!kind->whole && device_bytes > 0 && slower > 0 && (slower < 1 || window->device_busy > LIMITING))
        follow(&kind->rates.device, kind->rates.device * slower);
    double wanted = dmc_placement_share(&kind->rates, placement->cores, kind->whole);
    if (!kind->whole && window->cores_busy < LIMITING && window->device_busy < LIMITING)
        wanted = kind->wanted * 0.75; /* neither limits: spare the cores */
    kind->wanted += RATE_STEP * (wanted - kind->wanted);
    if (kind->wanted < 1.0 / 128)
        kind->wanted = 0;
    atomic_store_explicit(&kind->explore, explore_turns(kind, placement->cores), memory_order_relaxed);
    kind->one_sided = kind->wanted > 0.98 ? kind->one_sided + 1 : 0;
    set_share(kind, kind->whole                                            ? kind->wanted > 0.5
                    : kind->one_sided % PROBE_WINDOWS == PROBE_WINDOWS - 1 ? PROBE_SHARE
                    : kind->wanted > 0.98                                  ? 1
                                                                           : kind->wanted);
}

void dmc_placement_observe(struct dmc_placement *placement, const struct dmc_placement_sums *now)
{
    const struct dmc_placement_sums *seen = &placement->seen;
    double cores_bytes[DMC_PLACEMENT_KINDS], cores_ns[DMC_PLACEMENT_KINDS], device_bytes[DMC_PLACEMENT_KINDS];
    if (now->now_ns < seen->now_ns + DMC_PLACEMENT_WINDOW_NS)
        return;
    struct window window = {.ns = (double)(now->now_ns - seen->now_ns)};
    for (uint32_t i = 0; i < DMC_PLACEMENT_KINDS; i++) {
        struct dmc_placement_kind *kind = &placement->kinds[i];
        uint64_t bytes = atomic_load_explicit(&kind->cores_bytes, memory_order_relaxed);
        uint64_t ns = atomic_load_explicit(&kind->cores_ns, memory_order_relaxed);
        uint64_t given = atomic_load_explicit(&kind->device_bytes, memory_order_relaxed);
        cores_bytes[i] = (double)(bytes - kind->cores_bytes_seen);
        cores_ns[i] = (double)(ns - kind->cores_ns_seen);
        device_bytes[i] = (double)(given - kind->device_bytes_seen);
        kind->cores_bytes_seen = bytes;
        kind->cores_ns_seen = ns;
        kind->device_bytes_seen = given;
        window.cores_decode_ns += cores_ns[i];
        window.bytes += cores_bytes[i] + device_bytes[i];
        window.device_expected_ns += device_bytes[i] * kind->rates.device;
    }
    /* A wait that ended while the sums were taken may be missing from them, and is in the next ones. */
    double all_ns = window.ns * placement->cores;
    window.waited_ns = now->waited_ns > seen->waited_ns ? (double)(now->waited_ns - seen->waited_ns) : 0;
    window.waited_ns = window.waited_ns < all_ns ? window.waited_ns : all_ns;
    window.device_ns = (double)(now->device_busy_ns - seen->device_busy_ns);
    window.cores_busy = 1 - window.waited_ns / all_ns;
    window.device_busy = window.device_ns / window.ns;
    placement->seen = *now;
    for (uint32_t i = 0; window.bytes > 0 && i < DMC_PLACEMENT_KINDS; i++)
        if (cores_bytes[i] + device_bytes[i] > 0)
            follow_kind(placement, &placement->kinds[i], &window, cores_bytes[i], cores_ns[i], device_bytes[i]);
}
