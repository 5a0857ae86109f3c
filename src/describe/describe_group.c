/* What kind of group it is, and what that makes of its children: those of an image, a plate or a well are named by its
 * metadata, those of other groups come from consolidated metadata or from listing the store. */
#include "describe/describe_impl.h"

#include "base/bytes.h"
#include "base/error.h"
#include "base/mem.h"
#include "zarr/consolidated.h"
#include "zarr/group_select.h"

#include <stdlib.h>
#include <string.h>

static const char *copy_text(struct dmc_tree *tree, const char *text)
{
    return text[0] ? dmc_tree_text(tree, text, strlen(text)) : "";
}

/* What is wrong with a group's own metadata; what is below it may be well. */
static void note_problem(struct dmc_work *work, const struct damacy_error *error)
{
    if (work->node.status)
        return;
    work->node.status = error->status;
    work->node.message = dmc_tree_text(work->tree, error->message, strlen(error->message));
}

/* --- consolidated metadata --- */

struct entry {
    char *path;
    enum dmc_metadata_kind kind;
    struct dmc_text text;
    struct dmc_work *work;
};

struct entries {
    struct entry *list;
    size_t count, capacity;
    bool failed_memory;
};

static bool add_entry(void *user, const struct dmc_consolidated_entry *from)
{
    struct entries *entries = user;
    if (entries->count == entries->capacity) {
        size_t capacity = entries->capacity ? entries->capacity * 2 : 64;
        struct entry *list = dmc_realloc(entries->list, capacity * sizeof *list);
        if (!list) {
            entries->failed_memory = true;
            return false;
        }
        entries->list = list;
        entries->capacity = capacity;
    }
    char *path = dmc_strdup(from->path);
    if (!path) {
        entries->failed_memory = true;
        return false;
    }
    entries->list[entries->count++] = (struct entry){.path = path, .kind = from->kind, .text = from->text};
    return true;
}

static int compare_paths(const void *a, const void *b)
{
    const struct entry *left = a, *right = b;
    return dmc_compare_names(left->path, right->path);
}

/* By path, a node before what is below it; of one node the object that tells what it is comes first, attributes last. */
static int compare_entries(const void *a, const void *b)
{
    const struct entry *left = a, *right = b;
    int order = compare_paths(a, b);
    return order ? order : (int)left->kind - (int)right->kind;
}

/* The nearest node above a path that the metadata tell of. */
static struct dmc_work *find_parent(const struct entries *entries, struct dmc_work *group, const char *path)
{
    char above[DMC_CONSOLIDATED_PATH_BYTES_MAX + 1];
    size_t bytes = strlen(path);
    memcpy(above, path, bytes + 1);
    for (;;) {
        while (bytes > 0 && above[bytes - 1] != '/')
            bytes--;
        if (bytes == 0)
            return group;
        above[--bytes] = 0;
        struct entry key = {.path = above};
        const struct entry *found = bsearch(&key, entries->list, entries->count, sizeof key, compare_paths);
        /* The first of that path has the node. */
        while (found && found > entries->list && strcmp(found[-1].path, above) == 0)
            found--;
        if (found && found->work)
            return found->work;
    }
}

static void make_known(struct dmc_work *group, struct entries *entries)
{
    size_t above = strlen(group->node.path);
    above += above > 0;
    for (size_t i = 0; i < entries->count; i++) {
        struct entry *entry = &entries->list[i];
        bool again = i > 0 && strcmp(entry->path, entry[-1].path) == 0;
        if (!entry->path[0] || again || entry->kind == DMC_METADATA_V2_ATTRIBUTES)
            continue;
        struct dmc_work *parent = find_parent(entries, group, entry->path);
        const char *below = entry->path;
        if (parent != group)
            below += strlen(parent->node.path) - above + 1;
        entry->work = dmc_walk_child(parent, below, strlen(below));
        if (!entry->work)
            continue; /* a limit: noted */
        entry->work->known = true;
    }
}

/* Its attributes are among the next entries of the same path. */
static struct dmc_text attributes_of(const struct entries *entries, size_t at)
{
    for (size_t i = at + 1; i < entries->count && strcmp(entries->list[i].path, entries->list[at].path) == 0; i++)
        if (entries->list[i].kind == DMC_METADATA_V2_ATTRIBUTES)
            return entries->list[i].text;
    return (struct dmc_text){0};
}

static void settle_known(struct dmc_work *group, const struct entries *entries)
{
    const struct dmc_tree *tree = group->tree;
    for (size_t i = 0; i < entries->count && !tree->status && !tree->walk->status; i++) {
        const struct entry *entry = &entries->list[i];
        if (!entry->work)
            continue;
        if (entry->kind == DMC_METADATA_ARRAY || entry->kind == DMC_METADATA_GROUP)
            dmc_walk_settle_v3(entry->work, entry->text.text, entry->text.bytes);
        else
            dmc_walk_settle_v2(entry->work, entry->kind == DMC_METADATA_V2_ARRAY ? entry->text : (struct dmc_text){0},
                               attributes_of(entries, i), (struct dmc_text){0});
    }
}

static void entries_free(struct entries *entries)
{
    for (size_t i = 0; i < entries->count; i++)
        dmc_free(entries->list[i].path);
    dmc_free(entries->list);
}

/* Read what is consolidated; false: nothing is. */
static bool read_consolidated(struct dmc_work *work, struct dmc_text text, struct entries *entries)
{
    struct damacy_error error;
    if (!text.text || work->known || work->tree->walk->options.shallow)
        return false;
    enum damacy_status status = dmc_consolidated_each(text.text, text.bytes, add_entry, entries, &error);
    if (entries->failed_memory || status == DAMACY_OOM) {
        dmc_walk_fail_memory(work->tree);
        return false;
    }
    if (status && status != DAMACY_NOTFOUND)
        note_problem(work, &error); /* and what is below is looked for */
    if (status)
        return false;
    if (entries->count > 1)
        qsort(entries->list, entries->count, sizeof *entries->list, compare_entries);
    work->node.consolidated = true;
    return true;
}

/* --- OME-Zarr --- */

/* A child that the metadata name: there already, or to be read. */
static struct dmc_work *named_child(struct dmc_work *work, const char *path)
{
    struct dmc_work *child = dmc_walk_find(work, path);
    if (child)
        return child;
    child = dmc_walk_child(work, path, strlen(path));
    if (!child)
        return NULL;
    child->expected = true;
    dmc_walk_queue(work->tree->walk, child);
    return child;
}

static const double *copy_numbers(struct dmc_tree *tree, const double *numbers, uint32_t count)
{
    double *copy = numbers ? dmc_arena_array(&tree->arena, double, count) : NULL;
    if (copy && count)
        memcpy(copy, numbers, count * sizeof *copy);
    else if (numbers && !copy)
        dmc_walk_fail_memory(tree);
    return copy;
}

static const struct damacy_axis *copy_axes(struct dmc_tree *tree, const struct dmc_ome_multiscale *image)
{
    struct damacy_axis *axes = dmc_arena_array(&tree->arena, struct damacy_axis, image->axis_count);
    if (!axes) {
        dmc_walk_fail_memory(tree);
        return NULL;
    }
    for (uint32_t i = 0; i < image->axis_count; i++)
        axes[i] = (struct damacy_axis){copy_text(tree, image->axes[i].name), copy_text(tree, image->axes[i].type),
                                       copy_text(tree, image->axes[i].unit)};
    return axes;
}

/* The level says about its array what the array does not know. */
static void inherit(struct dmc_work *array, const struct damacy_axis *axes, const struct dmc_ome_multiscale *image,
                    const struct dmc_ome_level *level)
{
    if (!axes)
        return;
    array->axes = axes;
    array->axis_count = image->axis_count;
    array->scale = copy_numbers(array->tree, level->scale, image->axis_count);
    array->translation = copy_numbers(array->tree, level->translation, image->axis_count);
}

static void describe_image(struct dmc_work *work, const struct dmc_ome *ome)
{
    struct dmc_tree *tree = work->tree;
    const struct dmc_ome_multiscale *image = &ome->multiscales[0];
    work->node.kind = ome->is_label ? DAMACY_NODE_LABEL : DAMACY_NODE_IMAGE;
    work->node.axes = copy_axes(tree, image);
    work->node.axis_count = work->node.axes ? image->axis_count : 0;
    const struct damacy_node **levels = dmc_arena_array(&tree->arena, const struct damacy_node *, image->level_count);
    if (!levels) {
        dmc_walk_fail_memory(tree);
        return;
    }
    uint32_t count = 0;
    for (uint32_t i = 0; i < image->level_count; i++) {
        struct dmc_work *level = named_child(work, image->levels[i].path);
        if (!level)
            break; /* a limit, noted */
        inherit(level, work->node.axes, image, &image->levels[i]);
        levels[count++] = &level->node;
    }
    work->node.levels = levels;
    work->node.level_count = count;
    if (work->known || work->under_labels || tree->status || tree->walk->status || dmc_walk_find(work, "labels"))
        return;
    struct dmc_work *labels = dmc_walk_child(work, "labels", strlen("labels"));
    if (labels) {
        labels->optional = true;
        dmc_walk_queue(tree->walk, labels);
    }
}

static void describe_labels(struct dmc_work *work, const struct dmc_ome *ome)
{
    work->node.kind = DAMACY_NODE_LABELS;
    for (uint32_t i = 0; i < ome->label_count; i++) {
        struct dmc_work *label = named_child(work, ome->labels[i]);
        if (!label)
            return;
        label->under_labels = true;
    }
}

static void describe_plate(struct dmc_work *work, const struct dmc_ome *ome)
{
    struct dmc_tree *tree = work->tree;
    work->node.kind = DAMACY_NODE_PLATE;
    struct damacy_well *wells = dmc_arena_array(&tree->arena, struct damacy_well, ome->well_count);
    if (!wells) {
        dmc_walk_fail_memory(tree);
        return;
    }
    for (uint32_t i = 0; i < ome->well_count; i++) {
        wells[i] = (struct damacy_well){copy_text(tree, ome->wells[i].path), dmc_walk_uri(work, ome->wells[i].path)};
        if (tree->walk->options.wells && !tree->walk->options.shallow)
            named_child(work, ome->wells[i].path);
    }
    work->node.wells = wells;
    work->node.well_count = ome->well_count;
}

static void describe_well(struct dmc_work *work, const struct dmc_ome *ome)
{
    struct dmc_tree *tree = work->tree;
    work->node.kind = DAMACY_NODE_WELL;
    const char **fields = dmc_arena_array(&tree->arena, const char *, ome->field_count);
    if (!fields) {
        dmc_walk_fail_memory(tree);
        return;
    }
    for (uint32_t i = 0; i < ome->field_count; i++) {
        fields[i] = copy_text(tree, ome->fields[i].path);
        if ((work == tree->root || tree->walk->options.wells) && !tree->walk->options.shallow)
            named_child(work, ome->fields[i].path);
    }
    work->node.fields = fields;
    work->node.field_count = ome->field_count;
}

/* --- a uri's fragment --- */

/* The root's fragment leads further; false: it does not, or cannot. */
static void follow(struct dmc_work *work, const struct dmc_ome *ome)
{
    struct dmc_tree *tree = work->tree;
    struct damacy_error error;
    char path[DMC_GROUP_PATH_BYTES];
    enum damacy_status status = dmc_group_step_ome(ome, &tree->selection, path, &error);
    if (status == DAMACY_OK && ++tree->steps > DMC_GROUP_STEPS_MAX)
        status = dmc_error_set(&error, DAMACY_DECODE, "metadata", "groups lead to groups and never to an array");
    if (status) {
        dmc_walk_fail(work, NULL, &error);
        return;
    }
    const struct dmc_ome_multiscale *image = ome && ome->multiscale_count ? &ome->multiscales[0] : NULL;
    for (uint32_t i = 0; image && i < image->level_count; i++)
        if (strcmp(image->levels[i].path, path) == 0)
            inherit(work, copy_axes(tree, image), image, &image->levels[i]);
    dmc_walk_move(work, path);
}

void dmc_describe_group(struct dmc_work *work, struct dmc_text consolidated)
{
    struct dmc_tree *tree = work->tree;
    struct damacy_error error;
    struct dmc_ome *ome = NULL;
    work->node.kind = DAMACY_NODE_GROUP;
    enum damacy_status status = dmc_ome_parse(work->node.attributes, strlen(work->node.attributes), &ome, &error);
    bool selects = work == tree->root && dmc_selection_needs_group(&tree->selection);
    if (status && status != DAMACY_NOTFOUND) {
        ome = NULL;
        if (selects) {
            dmc_walk_fail(work, NULL, &error);
            return;
        }
        note_problem(work, &error);
    }
    if (selects) {
        follow(work, ome);
        dmc_ome_free(ome);
        return;
    }
    struct entries entries = {0};
    bool known = read_consolidated(work, consolidated, &entries);
    if (known)
        make_known(work, &entries);
    if (ome)
        work->node.ome_version = copy_text(tree, ome->version);
    bool named = true;
    if (ome && ome->is_plate)
        describe_plate(work, ome);
    else if (ome && ome->is_well)
        describe_well(work, ome);
    else if (ome && ome->is_labels)
        describe_labels(work, ome);
    else if (ome && ome->multiscale_count > 0)
        describe_image(work, ome);
    else
        named = false;
    if (ome && ome->is_series && !named)
        work->node.kind = DAMACY_NODE_COLLECTION;
    dmc_ome_free(ome);
    if (known)
        settle_known(work, &entries);
    entries_free(&entries);
    if (!known && !work->known && !named && !tree->walk->options.shallow && !tree->status && !tree->walk->status)
        dmc_walk_list(work);
}
