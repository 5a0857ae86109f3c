#include "store/object_map.h"

#include "base/bytes.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/mem.h"

#include <string.h>

static uint64_t hash_seed(void)
{
    static const char here;
    return dmc_hash_u64((uint64_t)(uintptr_t)&here, (uint64_t)(uintptr_t)&hash_seed);
}

static uint32_t hash_of(const char *name, size_t bytes)
{
    return (uint32_t)dmc_hash_bytes(name, bytes, hash_seed());
}

void dmc_object_map_init(struct dmc_object_map *map, size_t entry_bytes, struct dmc_budget *budget)
{
    *map = (struct dmc_object_map){.budget = budget, .entry_bytes = entry_bytes};
}

void dmc_object_map_deinit(struct dmc_object_map *map)
{
    if (!map->budget)
        return;
    dmc_free(map->text);
    dmc_free(map->entries);
    dmc_free(map->slots);
    dmc_budget_unreserve(map->budget,
                         map->text_capacity + map->capacity * map->entry_bytes + map->slot_count * sizeof *map->slots);
    *map = (struct dmc_object_map){0};
}

/* Another size for one of the map's buffers; the budget holds both while the bytes move. */
static enum damacy_status resize(struct dmc_object_map *map, void *buffer, uint64_t old_bytes, uint64_t new_bytes,
                                 struct damacy_error *error)
{
    void *memory;
    memcpy(&memory, buffer, sizeof memory);
    if (!dmc_budget_reserve(map->budget, new_bytes)) {
        dmc_error_set(error, DAMACY_BUDGET, "metadata", "its table of %u objects needs more than the %llu bytes for containers",
                      map->count, (unsigned long long)map->budget->limit_bytes);
        dmc_error_hint(error, "raise max_host_memory_bytes");
        return DAMACY_BUDGET;
    }
    void *moved = dmc_realloc(memory, new_bytes ? new_bytes : 1);
    if (!moved) {
        dmc_budget_unreserve(map->budget, new_bytes);
        return dmc_error_set(error, DAMACY_OOM, "metadata", "no memory for a table of %u objects", map->count);
    }
    dmc_budget_unreserve(map->budget, old_bytes);
    memcpy(buffer, &moved, sizeof moved);
    return DAMACY_OK;
}

static enum damacy_status text_room(struct dmc_object_map *map, uint64_t bytes, struct damacy_error *error)
{
    if (map->text_capacity - map->text_bytes >= bytes)
        return DAMACY_OK;
    uint64_t capacity = dmc_max_u64(map->text_bytes + bytes, map->text_capacity + map->text_capacity / 2 + 1024);
    enum damacy_status status = resize(map, &map->text, map->text_capacity, capacity, error);
    if (!status)
        map->text_capacity = capacity;
    return status;
}

static uint32_t *find(const struct dmc_object_map *map, uint32_t hash, const char *name, size_t bytes)
{
    for (uint32_t at = hash;; at++) {
        uint32_t *slot = &map->slots[at & (map->slot_count - 1)];
        if (!*slot)
            return slot;
        const struct dmc_object_name *entry = dmc_object_map_at(map, *slot - 1);
        if (entry->hash == hash && entry->bytes == bytes && memcmp(map->text + entry->begin, name, bytes) == 0)
            return slot;
    }
}

/* At most half of the slots are used. */
static enum damacy_status slots_room(struct dmc_object_map *map, struct damacy_error *error)
{
    if (map->count < map->slot_count / 2)
        return DAMACY_OK;
    if (map->slot_count > UINT32_MAX / 4)
        return dmc_error_set(error, DAMACY_BUDGET, "metadata", "it has more than %u objects", map->count);
    uint32_t slot_count = map->slot_count ? 2 * map->slot_count : 64;
    enum damacy_status status =
        resize(map, &map->slots, map->slot_count * sizeof *map->slots, slot_count * sizeof *map->slots, error);
    if (status)
        return status;
    map->slot_count = slot_count;
    memset(map->slots, 0, slot_count * sizeof *map->slots);
    for (uint32_t i = 0; i < map->count; i++) {
        uint32_t at = ((const struct dmc_object_name *)dmc_object_map_at(map, i))->hash;
        while (map->slots[at & (slot_count - 1)])
            at++;
        map->slots[at & (slot_count - 1)] = i + 1;
    }
    return DAMACY_OK;
}

static enum damacy_status entry_room(struct dmc_object_map *map, struct damacy_error *error)
{
    if (map->count < map->capacity)
        return DAMACY_OK;
    uint32_t capacity = map->capacity + map->capacity / 2 + 16;
    enum damacy_status status =
        resize(map, &map->entries, map->capacity * map->entry_bytes, capacity * map->entry_bytes, error);
    if (!status)
        map->capacity = capacity;
    return status;
}

void *dmc_object_map_put(struct dmc_object_map *map, const char *name, size_t bytes, struct damacy_error *error)
{
    if (slots_room(map, error))
        return NULL;
    uint32_t hash = hash_of(name, bytes), *slot = find(map, hash, name, bytes);
    if (*slot)
        return dmc_object_map_at(map, *slot - 1);
    if (entry_room(map, error) || text_room(map, bytes + 1, error))
        return NULL;
    struct dmc_object_name *entry = dmc_object_map_at(map, map->count);
    memset(entry, 0, map->entry_bytes);
    *entry = (struct dmc_object_name){map->text_bytes, (uint32_t)bytes, hash};
    memcpy(map->text + map->text_bytes, name, bytes);
    map->text[map->text_bytes + bytes] = 0;
    map->text_bytes += bytes + 1;
    *slot = ++map->count;
    return entry;
}

enum damacy_status dmc_object_map_text(struct dmc_object_map *map, const void *data, size_t bytes, uint64_t *begin,
                                       struct damacy_error *error)
{
    enum damacy_status status = text_room(map, bytes, error);
    if (status)
        return status;
    *begin = map->text_bytes;
    if (bytes)
        memcpy(map->text + map->text_bytes, data, bytes);
    map->text_bytes += bytes;
    return DAMACY_OK;
}

void dmc_object_map_trim(struct dmc_object_map *map)
{
    if (!resize(map, &map->text, map->text_capacity, map->text_bytes, NULL))
        map->text_capacity = map->text_bytes;
    if (!resize(map, &map->entries, map->capacity * map->entry_bytes, map->count * map->entry_bytes, NULL))
        map->capacity = map->count;
}

void *dmc_object_map_get(const struct dmc_object_map *map, const char *name, size_t bytes)
{
    if (map->count == 0)
        return NULL;
    uint32_t slot = *find(map, hash_of(name, bytes), name, bytes);
    return slot ? dmc_object_map_at(map, slot - 1) : NULL;
}
