/* Counts over a logarithmic scale, four buckets an octave, from a microsecond to eighteen minutes. Percentiles are taken to lie
 * as far inside their bucket as its counts say: within a few hundredths where many values are, within a fifth where few are.
 * One writer; anyone may read at any time and sees some recent state. */
#ifndef DMC_NET_HISTOGRAM_H
#define DMC_NET_HISTOGRAM_H

#include <stdatomic.h>
#include <stdint.h>

#define DMC_HISTOGRAM_BUCKETS 124u

struct dmc_histogram {
    _Atomic uint64_t count;
    _Atomic uint32_t buckets[DMC_HISTOGRAM_BUCKETS];
};

static inline uint32_t dmc_histogram_bucket(uint64_t value)
{
    if (value < 1024)
        return 0;
    uint32_t octave = 63 - (uint32_t)__builtin_clzll(value);
    uint32_t bucket = (octave - 10) * 4 + (uint32_t)(value >> (octave - 2) & 3);
    return bucket < DMC_HISTOGRAM_BUCKETS ? bucket : DMC_HISTOGRAM_BUCKETS - 1;
}

/* The upper end of a bucket. */
static inline uint64_t dmc_histogram_value(uint32_t bucket)
{
    uint32_t octave = bucket / 4 + 10;
    return (UINT64_C(1) << octave) + (bucket % 4 + 1) * (UINT64_C(1) << (octave - 2));
}

static inline void dmc_histogram_add(struct dmc_histogram *histogram, uint64_t value)
{
    _Atomic uint32_t *bucket = &histogram->buckets[dmc_histogram_bucket(value)];
    atomic_store_explicit(bucket, atomic_load_explicit(bucket, memory_order_relaxed) + 1, memory_order_relaxed);
    atomic_store_explicit(&histogram->count, atomic_load_explicit(&histogram->count, memory_order_relaxed) + 1,
                          memory_order_relaxed);
}

/* Half of everything: the past counts less and less. */
static inline void dmc_histogram_fade(struct dmc_histogram *histogram)
{
    uint64_t count = 0;
    for (uint32_t i = 0; i < DMC_HISTOGRAM_BUCKETS; i++) {
        uint32_t half = atomic_load_explicit(&histogram->buckets[i], memory_order_relaxed) / 2;
        atomic_store_explicit(&histogram->buckets[i], half, memory_order_relaxed);
        count += half;
    }
    atomic_store_explicit(&histogram->count, count, memory_order_relaxed);
}

/* Add what another one counted. */
static inline void dmc_histogram_merge(struct dmc_histogram *histogram, const struct dmc_histogram *other)
{
    for (uint32_t i = 0; i < DMC_HISTOGRAM_BUCKETS; i++) {
        uint32_t both = atomic_load_explicit(&histogram->buckets[i], memory_order_relaxed) +
                        atomic_load_explicit(&other->buckets[i], memory_order_relaxed);
        atomic_store_explicit(&histogram->buckets[i], both, memory_order_relaxed);
    }
    atomic_store_explicit(&histogram->count,
                          atomic_load_explicit(&histogram->count, memory_order_relaxed) +
                              atomic_load_explicit(&other->count, memory_order_relaxed),
                          memory_order_relaxed);
}

/* The value that a share of `part` (0 to 1) of all is not above; 0 if there are none. */
static inline uint64_t dmc_histogram_quantile(const struct dmc_histogram *histogram, double part)
{
    uint64_t total = 0, seen = 0;
    for (uint32_t i = 0; i < DMC_HISTOGRAM_BUCKETS; i++)
        total += atomic_load_explicit(&histogram->buckets[i], memory_order_relaxed);
    if (total == 0)
        return 0;
    for (uint32_t i = 0; i < DMC_HISTOGRAM_BUCKETS; i++) {
        uint64_t count = atomic_load_explicit(&histogram->buckets[i], memory_order_relaxed);
        double wanted = part * (double)total - (double)seen;
        seen += count;
        if (count == 0 || (double)count < wanted)
            continue;
        uint64_t begin = i ? dmc_histogram_value(i - 1) : 0;
        return begin + (uint64_t)((double)(dmc_histogram_value(i) - begin) * (wanted > 0 ? wanted : 0) / (double)count);
    }
    return dmc_histogram_value(DMC_HISTOGRAM_BUCKETS - 1);
}

#endif
