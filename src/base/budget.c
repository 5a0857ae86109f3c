#include "base/budget.h"

#include <assert.h>

/* Only the sum matters and no data are handed over through it, so every access is relaxed. */

void dmc_budget_init(struct dmc_budget *budget, uint64_t limit_bytes)
{
    budget->limit_bytes = limit_bytes;
    atomic_init(&budget->used_bytes, 0);
}

bool dmc_budget_reserve(struct dmc_budget *budget, uint64_t bytes)
{
    uint64_t used = atomic_load_explicit(&budget->used_bytes, memory_order_relaxed);
    do {
        if (bytes > budget->limit_bytes - used)
            return false;
    } while (!atomic_compare_exchange_weak_explicit(&budget->used_bytes, &used, used + bytes, memory_order_relaxed,
                                                    memory_order_relaxed));
    return true;
}

void dmc_budget_unreserve(struct dmc_budget *budget, uint64_t bytes)
{
    uint64_t before = atomic_fetch_sub_explicit(&budget->used_bytes, bytes, memory_order_relaxed);
    assert(before >= bytes);
    (void)before;
}

uint64_t dmc_budget_used(const struct dmc_budget *budget)
{
    return atomic_load_explicit(&budget->used_bytes, memory_order_relaxed);
}
