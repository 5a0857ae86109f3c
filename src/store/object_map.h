/* Names of objects to what a container knows of them: a hash table that draws its memory from a budget. Names come from
 * outside, so the hash has a seed that they cannot know. Filled by one thread; then read by any number. */
#ifndef DMC_OBJECT_MAP_H
#define DMC_OBJECT_MAP_H

#include "base/budget.h"
#include "damacy/damacy.h"

/* What an entry begins with. */
struct dmc_object_name {
    uint64_t begin; /* in the map's text */
    uint32_t bytes;
    uint32_t hash;
};

struct dmc_object_map {
    /* constant after init */
    struct dmc_budget *budget;
    size_t entry_bytes;
    /* constant after the last put */
    char *text; /* all names, each with a zero behind it; then whatever dmc_object_map_text put there */
    uint64_t text_bytes, text_capacity;
    unsigned char *entries;
    uint32_t count, capacity;
    uint32_t *slots; /* entry + 1; 0: none */
    uint32_t slot_count;
};

void dmc_object_map_init(struct dmc_object_map *map, size_t entry_bytes, struct dmc_budget *budget);
void dmc_object_map_deinit(struct dmc_object_map *map);

/* The entry of that name, made (zeroed but for its name) if there is none. NULL: the error says why, OOM or BUDGET. A pointer
 * lasts until the next put. */
void *dmc_object_map_put(struct dmc_object_map *map, const char *name, size_t bytes, struct damacy_error *error);
/* Keep bytes beside the names; *begin is where. */
enum damacy_status dmc_object_map_text(struct dmc_object_map *map, const void *data, size_t bytes, uint64_t *begin,
                                       struct damacy_error *error);
/* Give back what growing has left over. */
void dmc_object_map_trim(struct dmc_object_map *map);

void *dmc_object_map_get(const struct dmc_object_map *map, const char *name, size_t bytes); /* NULL: none */

static inline void *dmc_object_map_at(const struct dmc_object_map *map, uint32_t index)
{
    return map->entries + index * map->entry_bytes;
}
static inline const char *dmc_object_map_name(const struct dmc_object_map *map, const void *entry)
{
    return map->text + ((const struct dmc_object_name *)entry)->begin;
}

#endif
