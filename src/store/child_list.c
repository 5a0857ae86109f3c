#include "store/child_list.h"

#include "base/bytes.h"
#include "base/error.h"
#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

static int compare(const void *left, const void *right)
{
    const struct dmc_child *a = left, *b = right;
    int order = memcmp(a->name, b->name, dmc_min_u64(a->bytes, b->bytes));
    if (order)
        return order;
    if (a->bytes != b->bytes)
        return a->bytes < b->bytes ? -1 : 1;
    return (int)a->is_prefix - (int)b->is_prefix;
}

static void make_unique(struct dmc_child_list *list)
{
    if (list->count == 0)
        return;
    qsort(list->children, list->count, sizeof *list->children, compare);
    size_t kept = 1;
    for (size_t i = 1; i < list->count; i++)
        if (compare(&list->children[kept - 1], &list->children[i]) != 0)
            list->children[kept++] = list->children[i];
    list->count = kept;
}

/* Room for one more: what came twice goes first, so that the list stays as short as its bound allows. */
static bool make_room(struct dmc_child_list *list)
{
    make_unique(list);
    if (list->count > DMC_STORE_LIST_MAX) {
        list->failed_bound = true;
        return false;
    }
    if (list->count < list->capacity / 2) /* so much went that the next time is far away */
        return true;
    size_t capacity = dmc_min_u64(list->capacity ? 2 * list->capacity : 64, 2 * (uint64_t)DMC_STORE_LIST_MAX);
    struct dmc_child *children = dmc_realloc(list->children, capacity * sizeof *children);
    if (!children) {
        list->failed_memory = true;
        return false;
    }
    list->children = children;
    list->capacity = capacity;
    return true;
}

bool dmc_child_list_add(struct dmc_child_list *list, const char *prefix, const char *key, size_t key_bytes)
{
    while (*prefix == '/')
        prefix++;
    while (key_bytes > 0 && *key == '/') {
        key++;
        key_bytes--;
    }
    size_t prefix_bytes = strlen(prefix);
    while (prefix_bytes > 0 && prefix[prefix_bytes - 1] == '/')
        prefix_bytes--;
    if (prefix_bytes > 0) {
        if (key_bytes <= prefix_bytes + 1 || memcmp(key, prefix, prefix_bytes) != 0 || key[prefix_bytes] != '/')
            return true;
        key += prefix_bytes + 1;
        key_bytes -= prefix_bytes + 1;
    }
    const char *slash = memchr(key, '/', key_bytes);
    struct dmc_child child = {key, (uint32_t)(slash ? (size_t)(slash - key) : key_bytes), slash != NULL};
    if (child.bytes == 0 || (child.bytes <= 2 && memcmp(key, "..", child.bytes) == 0)) /* no key can mean these */
        return true;
    /* Keys of one folder mostly follow one another. */
    if (list->count > 0 && compare(&list->children[list->count - 1], &child) == 0)
        return true;
    if (list->count == list->capacity && !make_room(list))
        return false;
    list->children[list->count++] = child;
    return true;
}

enum damacy_status dmc_child_list_end(struct dmc_child_list *list, dmc_store_child_fn child, void *user,
                                      struct damacy_error *error)
{
    enum damacy_status status = DAMACY_OK;
    make_unique(list);
    char *name = NULL;
    size_t name_bytes = 0;
    if (list->failed_memory) {
        status = dmc_error_set(error, DAMACY_OOM, "list", "no memory for the names of %zu objects", list->count);
    } else if (list->failed_bound || list->count > DMC_STORE_LIST_MAX) {
        status = dmc_error_set(error, DAMACY_BUDGET, "list", "the folder has more than %u children", DMC_STORE_LIST_MAX);
    } else {
        for (size_t i = 0; i < list->count; i++)
            name_bytes = dmc_max_u64(name_bytes, list->children[i].bytes + 1);
        name = dmc_malloc(name_bytes ? name_bytes : 1);
        if (!name)
            status = dmc_error_set(error, DAMACY_OOM, "list", "no memory for a name of %zu bytes", name_bytes);
        for (size_t i = 0; name && i < list->count; i++) {
            memcpy(name, list->children[i].name, list->children[i].bytes);
            name[list->children[i].bytes] = 0;
            if (!child(name, list->children[i].is_prefix, user))
                break;
        }
    }
    dmc_free(name);
    dmc_free(list->children);
    *list = (struct dmc_child_list){0};
    return status;
}

enum damacy_status dmc_child_list_map(const struct dmc_object_map *map, const char *prefix, dmc_store_child_fn child,
                                      void *user, struct damacy_error *error)
{
    struct dmc_child_list list = {0};
    for (uint32_t i = 0; i < map->count; i++) {
        const struct dmc_object_name *name = dmc_object_map_at(map, i);
        if (!dmc_child_list_add(&list, prefix, dmc_object_map_name(map, name), name->bytes))
            break;
    }
    return dmc_child_list_end(&list, child, user, error);
}
