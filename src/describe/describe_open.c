#include "describe/describe.h"

#include "base/bytes.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "describe/describe_impl.h"

#include <stddef.h>
#include <string.h>
#include <strings.h>

#define TIMEOUT_NS UINT64_C(60000000000)
#define DEPTH_MAX 16u
#define NODES_MAX UINT64_C(200000)
#define MEMORY_MAX (UINT64_C(1) << 30)
#define MEMORY_MIN (UINT64_C(1) << 20)
#define READS_IN_FLIGHT 64u
#define READS_IN_FLIGHT_MAX 1024u

const char *damacy_node_kind_str(enum damacy_node_kind kind)
{
    static const char *const texts[] = {"folder", "array", "group", "image", "label", "labels", "plate", "well", "collection"};
    return (uint32_t)kind < sizeof texts / sizeof *texts ? texts[kind] : "?";
}

/* --- roots --- */

static void tree_free(struct dmc_tree *tree)
{
    if (!tree)
        return;
    dmc_arena_deinit(&tree->arena);
    dmc_free(tree->prefix);
    dmc_free(tree->place);
    dmc_free(tree->error);
    dmc_free(tree);
}

static void free_answers(struct dmc_work *work)
{
    dmc_answers_free(work->answers);
    work->answers = NULL;
    for (struct dmc_work *child = work->first_child; child; child = child->sibling)
        free_answers(child);
}

/* What only the making needs. */
static void tree_trim(struct dmc_tree *tree)
{
    dmc_free(tree->prefix);
    dmc_free(tree->place);
    tree->prefix = tree->place = NULL;
    tree->walk = NULL;
    tree->store = NULL;
}

void damacy_node_free(struct damacy_node *node)
{
    if (node)
        tree_free(((struct dmc_work *)((char *)node - offsetof(struct dmc_work, node)))->tree);
}

static bool is_percent_encoded(const char *uri)
{
    return strncasecmp(uri, "file:/", 6) == 0 || strncasecmp(uri, "http://", 7) == 0 || strncasecmp(uri, "https://", 8) == 0;
}

/* The uri's store and place. A failure stays in the tree. */
static void tree_locate(struct dmc_tree *tree, const char *uri)
{
    struct damacy_error error;
    char prefix[DAMACY_URI_BYTES_MAX + 1];
    size_t bytes;
    enum damacy_status status = dmc_selection_parse(uri, &tree->selection, &bytes, &error);
    if (status == DAMACY_OK) {
        memcpy(tree->place, uri, bytes);
        tree->place[bytes] = 0;
        status = dmc_stores_resolve(tree->walk->stores, tree->place, &tree->store, prefix, sizeof prefix, &error);
    }
    if (status) {
        dmc_walk_fail(tree->root, NULL, &error);
        return;
    }
    while (bytes > 0 && tree->place[bytes - 1] == '/')
        tree->place[--bytes] = 0;
    tree->percent = is_percent_encoded(uri);
    tree->prefix = dmc_strdup(prefix);
    if (!tree->prefix)
        dmc_walk_fail_memory(tree);
}

static struct dmc_tree *tree_make(struct dmc_walk *walk, const char *uri)
{
    struct dmc_tree *tree = dmc_calloc(1, sizeof *tree);
    if (!tree)
        return NULL;
    tree->walk = walk;
    dmc_budget_init(&tree->budget, walk->options.memory_max);
    dmc_arena_init(&tree->arena, &tree->budget);
    tree->root = dmc_arena_alloc(&tree->arena, sizeof *tree->root, _Alignof(struct dmc_work));
    tree->place = dmc_malloc(strlen(uri) + 1);
    char *copy = tree->root ? dmc_arena_strdup(&tree->arena, uri) : NULL;
    if (!tree->place || !copy) {
        tree_free(tree);
        return NULL;
    }
    *tree->root = (struct dmc_work){.tree = tree,
                                    .node = {.message = "", .path = "", .uri = copy, .attributes = "{}", .ome_version = ""}};
    tree->node_count = 1;
    tree_locate(tree, uri);
    return tree;
}

/* --- one call --- */

static enum damacy_status complete_options(const struct damacy_open_options *options, struct damacy_open_options *complete,
                                           struct damacy_error *error)
{
    *complete = (struct damacy_open_options)DAMACY_OPEN_OPTIONS_INIT;
    if (options) {
        if (options->struct_size == 0 || options->struct_size > sizeof *options)
            return dmc_error_set(error, DAMACY_INVAL, "config",
                                 "options.struct_size is %zu, expected %zu: begin with DAMACY_OPEN_OPTIONS_INIT",
                                 options->struct_size, sizeof *options);
        memcpy(complete, options, options->struct_size);
    }
    if (complete->timeout_ns == 0)
        complete->timeout_ns = TIMEOUT_NS;
    if (complete->depth_max == 0)
        complete->depth_max = DEPTH_MAX;
    complete->depth_max = (uint32_t)dmc_min_u64(complete->depth_max, DMC_DESCRIBE_DEPTH_MAX);
    if (complete->nodes_max == 0)
        complete->nodes_max = NODES_MAX;
    if (complete->memory_max == 0)
        complete->memory_max = MEMORY_MAX;
    complete->memory_max = dmc_max_u64(complete->memory_max, MEMORY_MIN);
    if (complete->reads_in_flight == 0)
        complete->reads_in_flight = READS_IN_FLIGHT;
    complete->reads_in_flight = (uint32_t)dmc_min_u64(complete->reads_in_flight, READS_IN_FLIGHT_MAX);
    return DAMACY_OK;
}

/* All trees are made, or failed; `nodes` and `errors` get them. */
static enum damacy_status hand_out(struct dmc_tree **trees, size_t count, struct damacy_node **nodes,
                                   struct damacy_error *errors, struct damacy_error *error)
{
    enum damacy_status status = DAMACY_OK;
    for (size_t i = 0; i < count; i++) {
        struct dmc_tree *tree = trees[i];
        if (tree->status == DAMACY_OK && dmc_walk_finish(tree)) {
            tree_trim(tree);
            nodes[i] = &tree->root->node;
            trees[i] = NULL;
            continue;
        }
        struct damacy_error told;
        if (tree->error)
            told = *tree->error;
        else
            dmc_error_set(&told, tree->status ? tree->status : DAMACY_OOM, "metadata",
                          "out of memory while a failure was recorded");
        if (errors)
            errors[i] = told;
        if (status == DAMACY_OK && error)
            *error = told;
        if (status == DAMACY_OK)
            status = told.status;
    }
    return status;
}

static enum damacy_status run(struct dmc_walk *walk, struct dmc_tree **trees, const char *const *uris, size_t count,
                              struct damacy_error *error)
{
    for (size_t i = 0; i < count; i++) {
        trees[i] = tree_make(walk, uris[i] ? uris[i] : "");
        if (!trees[i])
            return dmc_error_set(error, DAMACY_OOM, "metadata", "no memory for a description");
        if (trees[i]->status == DAMACY_OK)
            dmc_walk_queue(walk, trees[i]->root);
    }
    enum damacy_status status = dmc_meta_reader_run(walk->reader, error);
    if (status == DAMACY_OK && walk->status) {
        status = walk->status;
        if (error)
            *error = walk->error;
    }
    return status;
}

enum damacy_status dmc_describe(struct dmc_stores *stores, const char *const *uris, size_t count,
                                const struct damacy_open_options *options, struct damacy_node **nodes,
                                struct damacy_error *errors, bool *stuck, struct damacy_error *error)
{
    *stuck = false;
    struct dmc_walk walk = {.stores = stores};
    enum damacy_status status = complete_options(options, &walk.options, error);
    if (status)
        return status;
    struct dmc_tree **trees = dmc_calloc(count + 1, sizeof *trees);
    if (!trees)
        return dmc_error_set(error, DAMACY_OOM, "metadata", "no memory for a description");
    struct dmc_meta_reader_options reader = {.reads_in_flight = walk.options.reads_in_flight,
                                             /* a parsed text takes a multiple of its length */
                                             .object_bytes_max = walk.options.memory_max / 8,
                                             .deadline_ns = dmc_clock_deadline(walk.options.timeout_ns),
                                             .poll = walk.options.poll,
                                             .poll_user = walk.options.poll_user,
                                             .done = dmc_walk_done,
                                             .more = dmc_walk_more,
                                             .user = &walk};
    for (size_t i = 0; i < count; i++)
        nodes[i] = NULL;
    status = dmc_meta_reader_create(&reader, &walk.reader, error);
    if (status == DAMACY_OK)
        status = run(&walk, trees, uris, count, error);
    if (!dmc_meta_reader_destroy(walk.reader)) {
        dmc_log(DMC_PREFETCH, DAMACY_LOG_WARN, "a metadata read is stuck in the kernel and was left behind");
        *stuck = true;
    }
    for (size_t i = 0; i < count && trees[i]; i++)
        free_answers(trees[i]->root);
    if (status == DAMACY_OK)
        status = hand_out(trees, count, nodes, errors, error);
    for (size_t i = 0; i < count; i++)
        tree_free(trees[i]);
    dmc_free(trees);
    return status;
}

/* --- public --- */

static enum damacy_status open_all(const char *const *uris, size_t count, const struct damacy_open_options *options,
                                   struct damacy_node **nodes, struct damacy_error *errors, struct damacy_error *error)
{
    struct damacy_open_options complete;
    for (size_t i = 0; i < count; i++)
        nodes[i] = NULL;
    enum damacy_status status = complete_options(options, &complete, error);
    if (status)
        return status;
    struct dmc_stores *stores;
    struct dmc_stores_options places = {.storage_options = complete.storage_options};
    status = dmc_stores_create(&places, &stores, error);
    if (status)
        return status;
    bool stuck;
    status = dmc_describe(stores, uris, count, options, nodes, errors, &stuck, error);
    if (!stuck)
        dmc_stores_destroy(stores);
    return status;
}

enum damacy_status damacy_open_many(const char *const *uris, size_t count, const struct damacy_open_options *options,
                                    struct damacy_node **nodes, struct damacy_error *errors, struct damacy_error *error)
{
    if (count > 0 && (!uris || !nodes))
        return dmc_error_set(error, DAMACY_INVAL, "config", "uris or nodes is NULL");
    return open_all(uris, count, options, nodes, errors, error);
}

enum damacy_status damacy_open(const char *uri, const struct damacy_open_options *options, struct damacy_node **node,
                               struct damacy_error *error)
{
    if (!node)
        return dmc_error_set(error, DAMACY_INVAL, "config", "node is NULL");
    struct damacy_node *made = NULL;
    enum damacy_status status = open_all(&uri, 1, options, &made, NULL, error);
    if (status == DAMACY_OK)
        *node = made;
    return status;
}
