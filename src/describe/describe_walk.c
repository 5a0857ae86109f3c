/* From answers to nodes. What to ask for depends on what the neighbours were: a v3 node is one request; where v2 was seen, its
 * objects are asked for together, and zarr.json with them, because that one counts where both are there. */
#include "describe/describe_impl.h"

#include "base/bytes.h"
#include "base/error.h"
#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define URI_BYTES (DAMACY_URI_BYTES_MAX + 1)

static const char *const names[] = {"zarr.json", ".zarray", ".zattrs", ".zgroup", ".zmetadata"};

#define BIT(object) (1u << (object))

/* --- memory, limits, failures --- */

void dmc_walk_fail_memory(struct dmc_tree *tree)
{
    if (dmc_budget_used(&tree->budget) + (UINT64_C(2) << 20) < tree->budget.limit_bytes) {
        tree->walk->status = dmc_error_set(&tree->walk->error, DAMACY_OOM, "metadata", "no memory for the description");
        return;
    }
    struct damacy_error error;
    dmc_error_set(&error, DAMACY_BUDGET, "metadata", "the description of the hierarchy exceeds memory_max (%llu bytes)",
                  (unsigned long long)tree->budget.limit_bytes);
    dmc_error_hint(&error, "open a smaller part of it, or raise memory_max");
    dmc_walk_fail(tree->root, NULL, &error);
}

const char *dmc_tree_text(struct dmc_tree *tree, const char *text, size_t bytes)
{
    char *copy = dmc_arena_alloc(&tree->arena, bytes + 1, 1);
    if (!copy) {
        dmc_walk_fail_memory(tree);
        return "";
    }
    memcpy(copy, text, bytes);
    copy[bytes] = 0;
    return copy;
}

const char *dmc_tree_dump(struct dmc_tree *tree, dmc_json *value)
{
    char *text = dmc_json_dump(value);
    if (!text) {
        dmc_walk_fail_memory(tree);
        return "";
    }
    const char *copy = dmc_tree_text(tree, text, strlen(text));
    dmc_free(text);
    return copy;
}

void dmc_walk_cut(struct dmc_tree *tree, const char *why)
{
    if (!tree->cut)
        tree->cut = why;
}

void dmc_walk_fail(struct dmc_work *work, const char *key, const struct damacy_error *error)
{
    struct dmc_tree *tree = work->tree;
    if (work != tree->root) {
        char message[sizeof error->message + sizeof error->key];
        snprintf(message, sizeof message, "%s%s%s", key ? key : "", key ? ": " : "", error->message);
        work->node.status = error->status;
        work->node.message = dmc_tree_text(tree, message, strlen(message));
        return;
    }
    if (tree->status)
        return;
    tree->status = error->status;
    tree->error = dmc_malloc(sizeof *tree->error);
    if (!tree->error)
        return; /* the status remains */
    *tree->error = *error;
    dmc_error_where(tree->error, work->node.uri, key, 0, 0);
}

void dmc_answers_free(struct dmc_answers *answers)
{
    if (!answers)
        return;
    for (int i = 0; i < DMC_META_OBJECTS; i++)
        dmc_free(answers->text[i]);
    dmc_free(answers->error);
    dmc_free(answers);
}

/* --- making nodes --- */

void dmc_walk_queue(struct dmc_walk *walk, struct dmc_work *work)
{
    work->queue_next = NULL;
    if (walk->last)
        walk->last->queue_next = work;
    else
        walk->first = work;
    walk->last = work;
}

/* `place`, a slash and `path`, escaped where uris of this scheme are. URI_BYTES: too long. */
static size_t write_uri(const struct dmc_tree *tree, const char *path, char uri[URI_BYTES])
{
    static const char digits[] = "0123456789ABCDEF";
    size_t at = strlen(tree->place);
    if (at + 1 >= URI_BYTES)
        return URI_BYTES;
    memcpy(uri, tree->place, at);
    uri[at++] = '/';
    for (; *path; path++) {
        unsigned char c = (unsigned char)*path;
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || strchr("-._~/+@=,:", c);
        if (at + 4 > URI_BYTES)
            return URI_BYTES;
        if (plain || !tree->percent) {
            uri[at++] = (char)c;
        } else {
            uri[at++] = '%';
            uri[at++] = digits[c >> 4];
            uri[at++] = digits[c & 15];
        }
    }
    uri[at] = 0;
    return at;
}

/* The path from the root of what is at `path` below the node. false: too long. */
static bool write_path(const struct dmc_work *work, const char *path, size_t path_bytes, char whole[URI_BYTES])
{
    size_t above = strlen(work->node.path);
    if (above + 1 + path_bytes >= URI_BYTES)
        return false;
    memcpy(whole, work->node.path, above);
    if (above)
        whole[above++] = '/';
    memcpy(whole + above, path, path_bytes);
    whole[above + path_bytes] = 0;
    return true;
}

const char *dmc_walk_uri(struct dmc_work *work, const char *path)
{
    char whole[URI_BYTES], uri[URI_BYTES];
    size_t bytes = write_path(work, path, strlen(path), whole) ? write_uri(work->tree, whole, uri) : URI_BYTES;
    return bytes < URI_BYTES ? dmc_tree_text(work->tree, uri, bytes) : "";
}

static void node_init(struct damacy_node *node, const char *path, const char *uri)
{
    *node = (struct damacy_node){
        .kind = DAMACY_NODE_FOLDER, .message = "", .path = path, .uri = uri, .attributes = "{}", .ome_version = ""};
}

struct dmc_work *dmc_walk_child(struct dmc_work *parent, const char *path, size_t path_bytes)
{
    struct dmc_tree *tree = parent->tree;
    if (tree->status || tree->walk->status)
        return NULL;
    if (parent->depth >= tree->walk->options.depth_max) {
        dmc_walk_cut(tree, "the hierarchy is deeper than depth_max");
        return NULL;
    }
    if (tree->node_count >= tree->walk->options.nodes_max) {
        dmc_walk_cut(tree, "the hierarchy has more nodes than nodes_max");
        return NULL;
    }
    char whole[URI_BYTES], uri[URI_BYTES];
    size_t uri_bytes = write_path(parent, path, path_bytes, whole) ? write_uri(tree, whole, uri) : URI_BYTES;
    if (uri_bytes >= URI_BYTES) {
        dmc_walk_cut(tree, "the uri of a node would be too long");
        return NULL;
    }
    struct dmc_work *work = dmc_arena_alloc(&tree->arena, sizeof *work, _Alignof(struct dmc_work));
    if (!work) {
        dmc_walk_fail_memory(tree);
        return NULL;
    }
    *work = (struct dmc_work){.tree = tree, .depth = (uint8_t)(parent->depth + 1), .format = parent->format};
    node_init(&work->node, dmc_tree_text(tree, whole, strlen(whole)), dmc_tree_text(tree, uri, uri_bytes));
    if (parent->last_child)
        parent->last_child->sibling = work;
    else
        parent->first_child = work;
    parent->last_child = work;
    tree->node_count++;
    return work;
}

struct dmc_work *dmc_walk_find(struct dmc_work *work, const char *path)
{
    size_t above = strlen(work->node.path);
    above += above > 0;
    for (struct dmc_work *child = work->first_child; child; child = child->sibling) {
        const char *name = child->node.path + above;
        size_t bytes = strlen(name);
        if (strcmp(name, path) == 0)
            return child;
        if (strncmp(name, path, bytes) == 0 && path[bytes] == '/') {
            struct dmc_work *found = dmc_walk_find(child, path + bytes + 1);
            if (found)
                return found;
        }
    }
    return NULL;
}

/* --- asking --- */

static void ask(struct dmc_work *work, uint32_t objects)
{
    struct dmc_tree *tree = work->tree;
    char prefix[2 * URI_BYTES + 2];
    snprintf(prefix, sizeof prefix, "%s%s%s", tree->prefix, work->node.path[0] ? "/" : "", work->node.path);
    objects &= ~work->asked;
    for (uint32_t i = 0; i < DMC_META_OBJECTS; i++) {
        if (!(objects & BIT(i)))
            continue;
        if (!dmc_meta_reader_ask(tree->walk->reader, tree->store, prefix, names[i], i, work)) {
            dmc_walk_fail_memory(tree);
            return;
        }
        work->asked |= BIT(i);
        work->outstanding++;
    }
}

static uint32_t group_objects(const struct dmc_work *work)
{
    /* Consolidated metadata lie in the group that everything was consolidated for: nobody looks for them further down. */
    bool consolidated = work == work->tree->root && !work->tree->walk->options.shallow;
    return BIT(DMC_ZGROUP) | BIT(DMC_ZATTRS) | (consolidated ? BIT(DMC_ZMETADATA) : 0);
}

static void begin(struct dmc_work *work)
{
    const struct dmc_walk *walk = work->tree->walk;
    work->answers = dmc_calloc(1, sizeof *work->answers);
    if (!work->answers) {
        dmc_walk_fail_memory(work->tree);
        return;
    }
    work->asked = 0;
    uint32_t objects = BIT(DMC_ZARR_JSON);
    if (work->format == DMC_FORMAT_V2 || (work->format == DMC_FORMAT_UNKNOWN && walk->v2_seen))
        objects |= BIT(DMC_ZARRAY) | (walk->options.attributes_never && !work->optional ? 0 : BIT(DMC_ZATTRS));
    ask(work, objects);
}

void dmc_walk_move(struct dmc_work *root, const char *path)
{
    struct dmc_tree *tree = root->tree;
    char uri[URI_BYTES];
    size_t uri_bytes = write_uri(tree, path, uri), prefix_bytes = strlen(tree->prefix), path_bytes = strlen(path);
    char *place = dmc_malloc(URI_BYTES), *prefix = dmc_malloc(prefix_bytes + 1 + path_bytes + 1);
    struct damacy_error error;
    if (uri_bytes >= URI_BYTES || prefix_bytes + 1 + path_bytes >= URI_BYTES) {
        dmc_error_set(&error, DAMACY_INVAL, "metadata", "the path of the array is longer than %d bytes", DAMACY_URI_BYTES_MAX);
        dmc_walk_fail(root, NULL, &error);
    } else if (!place || !prefix) {
        dmc_walk_fail_memory(tree);
    } else {
        memcpy(place, uri, uri_bytes + 1);
        memcpy(prefix, tree->prefix, prefix_bytes);
        prefix[prefix_bytes] = '/';
        memcpy(prefix + prefix_bytes + 1, path, path_bytes + 1);
        dmc_free(tree->place);
        dmc_free(tree->prefix);
        tree->place = place;
        tree->prefix = prefix;
        root->expected = true;
        root->node.kind = DAMACY_NODE_FOLDER;
        root->node.zarr_format = 0;
        root->node.attributes = "{}";
        dmc_walk_queue(tree->walk, root);
        return;
    }
    dmc_free(place);
    dmc_free(prefix);
}

/* true: something was begun. */
bool dmc_walk_more(void *user)
{
    struct dmc_walk *walk = user;
    struct dmc_work *work = walk->first;
    if (!work || walk->status)
        return false;
    walk->first = work->queue_next;
    if (!walk->first)
        walk->last = NULL;
    if (!work->tree->status)
        begin(work);
    return true;
}

/* --- listing --- */

struct listing {
    struct dmc_tree *tree;
    char **list;
    size_t count, capacity;
    bool any, failed_memory;
};

static bool ends_in(const char *name, const char *end)
{
    size_t bytes = strlen(name), end_bytes = strlen(end);
    return bytes > end_bytes && strcmp(name + bytes - end_bytes, end) == 0;
}

static bool hear(const char *name, bool is_prefix, void *user)
{
    struct listing *listing = user;
    const struct dmc_walk *walk = listing->tree->walk;
    listing->any = true;
    if (walk->options.shallow)
        return false;
    if (name[0] == '.' || !name[0] || (!is_prefix && !ends_in(name, ".zarr.zip") && !ends_in(name, ".ozx")))
        return true;
    if (listing->tree->node_count + listing->count >= walk->options.nodes_max) {
        dmc_walk_cut(listing->tree, "the hierarchy has more nodes than nodes_max");
        return false;
    }
    if (listing->count == listing->capacity) {
        size_t capacity = listing->capacity ? listing->capacity * 2 : 64;
        char **list = dmc_realloc(listing->list, capacity * sizeof *list);
        if (!list) {
            listing->failed_memory = true;
            return false;
        }
        listing->list = list;
        listing->capacity = capacity;
    }
    char *copy = dmc_strdup(name);
    if (!copy) {
        listing->failed_memory = true;
        return false;
    }
    listing->list[listing->count++] = copy;
    return true;
}

int dmc_compare_names(const char *left, const char *right)
{
    const char *a = left, *b = right;
    while (*a && *b) {
        if (*a >= '0' && *a <= '9' && *b >= '0' && *b <= '9') {
            while (*a == '0' && a[1] >= '0' && a[1] <= '9')
                a++;
            while (*b == '0' && b[1] >= '0' && b[1] <= '9')
                b++;
            size_t a_digits = strspn(a, "0123456789"), b_digits = strspn(b, "0123456789");
            int order = a_digits != b_digits ? (a_digits < b_digits ? -1 : 1) : strncmp(a, b, a_digits);
            if (order)
                return order;
            a += a_digits;
            b += b_digits;
        } else if (*a != *b) {
            return (unsigned char)*a < (unsigned char)*b ? -1 : 1;
        } else {
            a++;
            b++;
        }
    }
    if (*a || *b)
        return *a ? 1 : -1;
    return strcmp(left, right); /* "01" is not "1" */
}

static int compare_listed(const void *a, const void *b)
{
    return dmc_compare_names(*(char *const *)a, *(char *const *)b);
}

void dmc_walk_list(struct dmc_work *work)
{
    struct dmc_tree *tree = work->tree;
    struct dmc_walk *walk = tree->walk;
    char prefix[2 * URI_BYTES + 2];
    snprintf(prefix, sizeof prefix, "%s%s%s", tree->prefix, work->node.path[0] ? "/" : "", work->node.path);
    struct damacy_error error;
    struct listing listing = {.tree = tree};
    enum damacy_status status = dmc_meta_reader_check(walk->reader, &walk->error);
    if (status) {
        walk->status = status;
        return;
    }
    status = dmc_store_list(tree->store, prefix, hear, &listing, &error);
    bool root = work == tree->root, folder = work->node.kind == DAMACY_NODE_FOLDER;
    if (listing.failed_memory) {
        dmc_walk_fail_memory(tree);
    } else if (status == DAMACY_UNSUPPORTED) {
        if (!folder)
            dmc_walk_cut(
                tree,
                "this store cannot list, and there are no consolidated metadata that tell what is below: name the arrays, or "
                "write consolidated metadata");
        status = DAMACY_OK;
    } else if (status && !folder) {
        dmc_walk_cut(tree, "what is below could not be listed");
        status = DAMACY_OK;
        work->node.status = error.status;
        work->node.message = dmc_tree_text(tree, error.message, strlen(error.message));
    }
    if (status) {
        dmc_walk_fail(work, NULL, &error);
    } else if (folder && !listing.any && root) {
        dmc_error_set(&error, DAMACY_NOTFOUND, "metadata", "there is no zarr.json, .zarray or .zgroup");
        dmc_error_hint(&error, "the uri must name an array, a group, or a folder that holds some%s",
                       dmc_selection_doubt(tree->place));
        dmc_walk_fail(work, NULL, &error);
    }
    if (listing.count > 1)
        qsort(listing.list, listing.count, sizeof *listing.list, compare_listed);
    for (size_t i = 0; i < listing.count; i++) {
        bool again = i > 0 && strcmp(listing.list[i], listing.list[i - 1]) == 0;
        struct dmc_work *child =
            again || tree->status || walk->status ? NULL : dmc_walk_child(work, listing.list[i], strlen(listing.list[i]));
        if (child)
            dmc_walk_queue(walk, child);
    }
    for (size_t i = 0; i < listing.count; i++)
        dmc_free(listing.list[i]);
    dmc_free(listing.list);
}

/* --- settling --- */

static void set_attributes(struct dmc_work *work, dmc_json *attributes)
{
    if (dmc_json_type(attributes) == DMC_JSON_OBJECT && dmc_json_count(attributes) > 0)
        work->node.attributes = dmc_tree_dump(work->tree, attributes);
}

/* A document of metadata, or the node has failed. */
static struct dmc_json_doc *read_document(struct dmc_work *work, const char *key, const char *text, size_t bytes)
{
    struct dmc_json_doc *document;
    struct damacy_error error;
    enum damacy_status status = dmc_json_parse(text, bytes, &document, &error);
    if (status == DAMACY_OK && dmc_json_type(dmc_json_root(document)) != DMC_JSON_OBJECT) {
        dmc_json_free(document);
        status = dmc_error_set(&error, DAMACY_DECODE, "metadata", "the metadata are no JSON object");
    }
    if (status == DAMACY_OK)
        return document;
    dmc_walk_fail(work, key, &error);
    return NULL;
}

void dmc_walk_settle_v3(struct dmc_work *work, const char *text, size_t bytes)
{
    struct dmc_json_doc *document = read_document(work, names[DMC_ZARR_JSON], text, bytes);
    if (!document)
        return;
    dmc_json *root = dmc_json_root(document), *attributes = dmc_json_get(root, "attributes");
    const char *type = "";
    dmc_json_string(dmc_json_get(root, "node_type"), &type, NULL);
    work->format = DMC_FORMAT_V3;
    work->node.zarr_format = 3;
    set_attributes(work, attributes);
    if (strcmp(type, "array") == 0) {
        dmc_describe_array(work, root, text, bytes, attributes);
    } else if (strcmp(type, "group") == 0) {
        bool consolidated = dmc_json_get(root, "consolidated_metadata") != NULL;
        dmc_describe_group(work, consolidated ? (struct dmc_text){text, bytes} : (struct dmc_text){0});
    } else {
        struct damacy_error error;
        dmc_error_set(&error, DAMACY_DECODE, "metadata", "node_type is neither \"array\" nor \"group\"");
        dmc_walk_fail(work, names[DMC_ZARR_JSON], &error);
    }
    dmc_json_free(document);
}

void dmc_walk_settle_v2(struct dmc_work *work, struct dmc_text array, struct dmc_text attributes, struct dmc_text consolidated)
{
    struct dmc_json_doc *document = NULL, *side = NULL;
    work->format = DMC_FORMAT_V2;
    work->node.zarr_format = 2;
    if (attributes.text && !(side = read_document(work, names[DMC_ZATTRS], attributes.text, attributes.bytes)))
        return;
    dmc_json *root = side ? dmc_json_root(side) : NULL;
    set_attributes(work, root);
    if (!array.text) {
        dmc_describe_group(work, consolidated);
    } else if ((document = read_document(work, names[DMC_ZARRAY], array.text, array.bytes))) {
        dmc_describe_array(work, dmc_json_root(document), array.text, array.bytes, root);
    }
    dmc_json_free(document);
    dmc_json_free(side);
}

static bool there(const struct dmc_answers *answers, enum dmc_meta_object object)
{
    return answers->answer[object] == DMC_META_THERE;
}

static struct dmc_text text_of(const struct dmc_answers *answers, enum dmc_meta_object object)
{
    return there(answers, object) ? (struct dmc_text){answers->text[object], answers->bytes[object]} : (struct dmc_text){0};
}

static void settle_nothing(struct dmc_work *work)
{
    if (work->optional) {
        work->dropped = true;
    } else if (work->expected) {
        struct damacy_error error;
        if (work != work->tree->root) {
            dmc_error_set(&error, DAMACY_NOTFOUND, "metadata", "the group's metadata name %s, but nothing is there",
                          work->node.path);
        } else {
            dmc_error_set(&error, DAMACY_NOTFOUND, "metadata", "the uri leads to %s, but nothing is there", work->tree->place);
            dmc_error_hint(&error, "%s", dmc_selection_astray(&work->tree->selection));
        }
        dmc_walk_fail(work, NULL, &error);
    } else {
        dmc_walk_list(work);
    }
}

/* All that was asked for has come: what is it, or what else must be known? */
static void settle(struct dmc_work *work)
{
    struct dmc_answers *answers = work->answers;
    if (work->tree->status || work->tree->walk->status) {
        /* nobody wants to know any more */
    } else if (answers->error) {
        dmc_walk_fail(work, names[answers->error_object], answers->error);
    } else if (there(answers, DMC_ZARR_JSON)) {
        work->answers = NULL; /* it may go to another place */
        work->tree->walk->v2_seen = false;
        dmc_walk_settle_v3(work, answers->text[DMC_ZARR_JSON], answers->bytes[DMC_ZARR_JSON]);
    } else if (!(work->asked & BIT(DMC_ZARRAY))) {
        ask(work, BIT(DMC_ZARRAY) | group_objects(work));
        return;
    } else if (!there(answers, DMC_ZARRAY) && !there(answers, DMC_ZATTRS) && work->optional) {
        work->dropped = true;
    } else if (!there(answers, DMC_ZARRAY) && !(work->asked & BIT(DMC_ZGROUP))) {
        ask(work, group_objects(work));
        return;
    } else if (there(answers, DMC_ZARRAY) || there(answers, DMC_ZGROUP) || there(answers, DMC_ZATTRS) ||
               there(answers, DMC_ZMETADATA)) {
        work->answers = NULL;
        work->tree->walk->v2_seen = true;
        dmc_walk_settle_v2(work, text_of(answers, DMC_ZARRAY), text_of(answers, DMC_ZATTRS), text_of(answers, DMC_ZMETADATA));
    } else {
        settle_nothing(work);
    }
    if (work->answers == answers)
        work->answers = NULL;
    dmc_answers_free(answers);
}

void dmc_walk_done(void *user, struct dmc_meta_read *read, enum dmc_meta_answer answer, const char *text, size_t bytes,
                   const struct damacy_error *error)
{
    (void)user;
    struct dmc_work *work = read->user;
    struct dmc_answers *answers = work->answers;
    enum dmc_meta_object object = read->what;
    answers->answer[object] = answer;
    if (answer == DMC_META_THERE) {
        answers->text[object] = dmc_malloc(bytes + 1);
        if (answers->text[object])
            memcpy(answers->text[object], text, bytes);
        else
            dmc_walk_fail_memory(work->tree);
        answers->bytes[object] = bytes;
    } else if (answer == DMC_META_FAILED && !answers->error) {
        answers->error = dmc_malloc(sizeof *error);
        if (answers->error)
            *answers->error = *error;
        else
            dmc_walk_fail_memory(work->tree);
        answers->error_object = object;
    }
    if (--work->outstanding == 0)
        settle(work);
}

/* --- the end --- */

/* Take out what is not there, and count. */
static void prune(struct dmc_work *work, uint64_t *arrays)
{
    struct dmc_work **link = &work->first_child;
    while (*link) {
        struct dmc_work *child = *link;
        prune(child, arrays);
        bool empty = child->node.kind == DAMACY_NODE_FOLDER && !child->first_child && child->node.status == DAMACY_OK;
        if (child->dropped || empty)
            *link = child->sibling;
        else
            link = &child->sibling;
    }
    *arrays += work->node.kind == DAMACY_NODE_ARRAY;
}

static bool link_children(struct dmc_work *work, const struct damacy_node **arrays, uint64_t *at)
{
    uint64_t count = 0;
    if (work->node.kind == DAMACY_NODE_ARRAY)
        arrays[(*at)++] = &work->node;
    for (const struct dmc_work *child = work->first_child; child; child = child->sibling)
        count++;
    if (count == 0)
        return true;
    const struct damacy_node **children = dmc_arena_array(&work->tree->arena, const struct damacy_node *, count);
    if (!children)
        return false;
    count = 0;
    for (struct dmc_work *child = work->first_child; child; child = child->sibling) {
        children[count++] = &child->node;
        if (!link_children(child, arrays, at))
            return false;
    }
    work->node.children = children;
    work->node.child_count = count;
    return true;
}

/* The label images of a group of labels, and of the image that it belongs to. */
static bool link_labels(struct dmc_work *work)
{
    for (struct dmc_work *child = work->first_child; child; child = child->sibling) {
        if (!link_labels(child))
            return false;
        if (child->node.kind == DAMACY_NODE_LABELS &&
            (work->node.kind == DAMACY_NODE_IMAGE || work->node.kind == DAMACY_NODE_LABEL)) {
            work->node.labels = child->node.labels;
            work->node.label_count = child->node.label_count;
        }
    }
    if (work->node.kind != DAMACY_NODE_LABELS)
        return true;
    uint32_t count = 0;
    for (const struct dmc_work *child = work->first_child; child; child = child->sibling)
        count += child->node.kind == DAMACY_NODE_IMAGE || child->node.kind == DAMACY_NODE_LABEL;
    const struct damacy_node **labels = dmc_arena_array(&work->tree->arena, const struct damacy_node *, count);
    if (!labels)
        return false;
    count = 0;
    for (struct dmc_work *child = work->first_child; child; child = child->sibling)
        if (child->node.kind == DAMACY_NODE_IMAGE || child->node.kind == DAMACY_NODE_LABEL) {
            child->node.kind = DAMACY_NODE_LABEL; /* where it is says it, too */
            labels[count++] = &child->node;
        }
    work->node.labels = labels;
    work->node.label_count = count;
    return true;
}

bool dmc_walk_finish(struct dmc_tree *tree)
{
    struct dmc_work *root = tree->root;
    uint64_t count = 0, at = 0;
    prune(root, &count);
    const struct damacy_node **arrays = dmc_arena_array(&tree->arena, const struct damacy_node *, count);
    if (!arrays || !link_children(root, arrays, &at) || !link_labels(root)) {
        dmc_walk_fail_memory(tree);
        return false;
    }
    if (root->node.kind == DAMACY_NODE_FOLDER && !root->first_child && !tree->cut && !tree->walk->options.shallow) {
        struct damacy_error error;
        dmc_error_set(&error, DAMACY_NOTFOUND, "metadata", "there is a folder, but no Zarr array or group in it");
        dmc_walk_fail(root, NULL, &error);
        return false;
    }
    root->node.arrays = arrays;
    root->node.array_count = count;
    root->node.cut = tree->cut != NULL;
    if (tree->cut && !root->node.message[0])
        root->node.message = tree->cut;
    return true;
}
