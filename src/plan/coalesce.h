/* Sort what is needed by where it is, and join neighbours into reads. */
#ifndef DMC_COALESCE_H
#define DMC_COALESCE_H

#include "plan/plan_work.h"

/* 16 bytes, so that sorting moves little; the rest is behind `id`. */
struct dmc_plan_key {
    uint64_t offset;
    uint32_t object;
    uint32_t id;
};

/* Sort by (object, offset); equals keep their order. `scratch` has room for `count`. */
void dmc_plan_keys_sort(struct dmc_plan_key *keys, struct dmc_plan_key *scratch, uint32_t count);

/* The read of the unit at place `at` of the keys alone. */
struct dmc_read dmc_read_of(const struct dmc_plan_work *work, const struct dmc_plan_key *keys, uint32_t at);

/* Join sorted units into reads: neighbours in the same object whose gap is small (dmc_plan_gap_small) and which are together no
 * longer than a read may be, by the limits of their array, or which lie inside the read anyway.
 *
 * keys    sorted; ids are units.
 * reads   out: room for `count`. `object` is that of the keys; chunk ranges are positions in the keys.
 * Returns the number of reads. */
uint32_t dmc_coalesce(const struct dmc_plan_work *work, const struct dmc_plan_key *keys, uint32_t count,
                      struct dmc_read *reads);

#endif
