/* What is at a uri: the tree that damacy_open() returns. Shared inside: tests bring stores of their own.
 *
 *     describe_open.c   public functions, options, one call from start to end
 *     describe_walk.c   nodes: which objects to ask for, what the answers make of them, children, limits
 *     describe_array.c  an array's metadata as facts for people and programs
 *     describe_group.c  what kind of group it is, and what that says about what is below
 *     meta_reader.c     many small reads at once
 *
 * One thread does it all: the caller's. */
#ifndef DMC_DESCRIBE_H
#define DMC_DESCRIBE_H

#include "damacy/damacy.h"
#include "store/store.h"

/* As damacy_open_many(), over stores of the caller's. *stuck: a read is stuck in the kernel, so the stores must be left behind.
 */
enum damacy_status dmc_describe(struct dmc_stores *stores, const char *const *uris, size_t count,
                                const struct damacy_open_options *options, struct damacy_node **nodes,
                                struct damacy_error *errors, bool *stuck, struct damacy_error *error);

#endif
