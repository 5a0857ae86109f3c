/* A hard bound in bytes that several owners draw from. Lock-free; any thread. */
#ifndef DMC_BASE_BUDGET_H
#define DMC_BASE_BUDGET_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct dmc_budget {
    uint64_t limit_bytes;        /* constant after init */
    _Atomic uint64_t used_bytes; /* never above the limit */
};

void dmc_budget_init(struct dmc_budget *budget, uint64_t limit_bytes);

/* Take `bytes`, or take nothing and return false. */
bool dmc_budget_reserve(struct dmc_budget *budget, uint64_t bytes);

/* Give back what was reserved. */
void dmc_budget_unreserve(struct dmc_budget *budget, uint64_t bytes);

uint64_t dmc_budget_used(const struct dmc_budget *budget);

#endif
