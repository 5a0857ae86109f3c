/* Counters of a backend's threads: each written by one thread with relaxed stores, and read by anybody. */
#ifndef DMC_COUNTER_H
#define DMC_COUNTER_H

#include "damacy/damacy.h"
#include <stdatomic.h>

struct dmc_counter {
    _Atomic uint64_t count, bytes, time_ns;
};

/* Its own thread only. */
static inline void dmc_counter_add(struct dmc_counter *counter, uint64_t count, uint64_t bytes, uint64_t time_ns)
{
    atomic_store_explicit(&counter->count, atomic_load_explicit(&counter->count, memory_order_relaxed) + count,
                          memory_order_relaxed);
    atomic_store_explicit(&counter->bytes, atomic_load_explicit(&counter->bytes, memory_order_relaxed) + bytes,
                          memory_order_relaxed);
    atomic_store_explicit(&counter->time_ns, atomic_load_explicit(&counter->time_ns, memory_order_relaxed) + time_ns,
                          memory_order_relaxed);
}

/* Sum up in `metric`. */
static inline void dmc_counter_sum(struct damacy_metric *metric, const struct dmc_counter *counter)
{
    metric->count += atomic_load_explicit(&counter->count, memory_order_relaxed);
    metric->bytes += atomic_load_explicit(&counter->bytes, memory_order_relaxed);
    metric->time_ns += atomic_load_explicit(&counter->time_ns, memory_order_relaxed);
}

#endif
