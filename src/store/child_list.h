/* The children of a prefix, gathered from a table of whole keys: each once, however many keys lie below it. */
#ifndef DMC_CHILD_LIST_H
#define DMC_CHILD_LIST_H

#include "store/object_map.h"
#include "store/store.h"

struct dmc_child {
    const char *name; /* borrowed from the table of keys; not zero-terminated */
    uint32_t bytes;
    bool is_prefix;
};

struct dmc_child_list {
    struct dmc_child *children;
    size_t count, capacity; /* at most 2 * DMC_STORE_LIST_MAX */
    bool failed_memory, failed_bound;
};

/* `key` is one of the table's; what does not lie below `prefix` is passed over. A slash in front of either, and one at the end
 * of the prefix, mean nothing. false: give up, dmc_child_list_end tells why. */
bool dmc_child_list_add(struct dmc_child_list *list, const char *prefix, const char *key, size_t key_bytes);

/* Hand out what was gathered, and free the list. */
enum damacy_status dmc_child_list_end(struct dmc_child_list *list, dmc_store_child_fn child, void *user,
                                      struct damacy_error *error);

/* Both, for all names of a map. */
enum damacy_status dmc_child_list_map(const struct dmc_object_map *map, const char *prefix, dmc_store_child_fn child,
                                      void *user, struct damacy_error *error);

#endif
