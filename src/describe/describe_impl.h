/* The tree while it is made. Private to src/describe.
 *
 *     NEW --its turn--> READING (some of its metadata objects) --all answers--> settled: an array, a group, or nothing
 *                           ^------------- other objects, or another place (a uri's fragment) ----------/
 *
 * A settled group makes its children NEW; those known from consolidated metadata are settled at once. */
#ifndef DMC_DESCRIBE_IMPL_H
#define DMC_DESCRIBE_IMPL_H

#include "base/arena.h"
#include "base/json.h"
#include "base/selection.h"
#include "describe/describe.h"
#include "describe/meta_reader.h"
#include "zarr/json_skim.h"
#include "zarr/ome.h"
#include "zarr/zarr_array.h"

/* The objects that may describe a node. */
enum dmc_meta_object { DMC_ZARR_JSON, DMC_ZARRAY, DMC_ZATTRS, DMC_ZGROUP, DMC_ZMETADATA, DMC_META_OBJECTS };

enum dmc_format { DMC_FORMAT_UNKNOWN, DMC_FORMAT_V2, DMC_FORMAT_V3 };

/* Levels of nodes inside one another; also bounds recursion. */
#define DMC_DESCRIBE_DEPTH_MAX 64u

/* Answers, as they come in. */
struct dmc_answers {
    enum dmc_meta_answer answer[DMC_META_OBJECTS];
    char *text[DMC_META_OBJECTS]; /* dmc_malloc'd */
    size_t bytes[DMC_META_OBJECTS];
    struct damacy_error *error; /* of the first read that failed */
    enum dmc_meta_object error_object;
};

struct dmc_tree;

struct dmc_work {
    struct damacy_node node; /* what the caller will see */
    struct dmc_tree *tree;
    struct dmc_work *queue_next;
    struct dmc_work *first_child, *last_child, *sibling;
    struct dmc_answers *answers; /* while READING */
    uint32_t outstanding;
    uint32_t asked; /* bit set of enum dmc_meta_object */
    uint8_t depth;
    uint8_t format; /* enum dmc_format: what its neighbours are */
    bool expected;  /* metadata name it, so that it must be there */
    bool optional;  /* usual there, but nothing is missing without it */
    bool known;     /* settled from consolidated metadata: nothing below is to be read */
    bool under_labels;
    bool dropped;
    /* what the image says about its level's axes; NULL: nothing */
    const struct damacy_axis *axes;
    const double *scale, *translation;
    uint32_t axis_count;
};

/* One root. Lives until damacy_node_free(). */
struct dmc_tree {
    struct dmc_work *root;
    struct dmc_budget budget;
    struct dmc_arena arena;
    /* while it is made */
    struct dmc_walk *walk;
    struct dmc_store *store;
    char *prefix;                   /* key of the root in its store */
    char *place;                    /* uri of the root without fragment, which children's uris begin with */
    struct dmc_selection selection; /* what is left of the fragment */
    bool percent;                   /* uris of this scheme are percent-encoded */
    uint32_t steps;                 /* that the fragment has led so far */
    uint64_t node_count;
    enum damacy_status status; /* of the root; not OK: there is no tree */
    struct damacy_error *error;
    const char *cut; /* why there may be more */
};

/* One call. */
struct dmc_walk {
    struct dmc_stores *stores;
    struct damacy_open_options options; /* complete */
    struct dmc_meta_reader *reader;
    struct dmc_work *first, *last; /* NEW */
    bool v2_seen;                  /* the last node found was of Zarr v2: ask for its objects at once */
    enum damacy_status status;     /* OOM, TIMEOUT, ...: ends the call */
    struct damacy_error error;
};

/* --- describe_walk.c --- */

void dmc_walk_queue(struct dmc_walk *walk, struct dmc_work *work);
bool dmc_walk_more(void *walk);
void dmc_walk_done(void *walk, struct dmc_meta_read *read, enum dmc_meta_answer answer, const char *text, size_t bytes,
                   const struct damacy_error *error);
/* A new child at `path` below the node, appended. NULL: a limit (noted in the tree) or no memory (noted in the walk). */
struct dmc_work *dmc_walk_child(struct dmc_work *parent, const char *path, size_t path_bytes);
/* The node at a path below `work`, if it is there already. */
struct dmc_work *dmc_walk_find(struct dmc_work *work, const char *path);
void dmc_walk_settle_v3(struct dmc_work *work, const char *text, size_t bytes);
/* `array` NULL text: a group. */
void dmc_walk_settle_v2(struct dmc_work *work, struct dmc_text array, struct dmc_text attributes, struct dmc_text consolidated);
/* The root is elsewhere: `path` below where it was thought to be. Begins again. */
void dmc_walk_move(struct dmc_work *root, const char *path);
/* The uri of what is at a path below the node; "" if it is too long. */
const char *dmc_walk_uri(struct dmc_work *work, const char *path);
/* Order of names: numbers by value, the rest by bytes: "2" comes before "10", and a path before what is below it. 0: the same.
 */
int dmc_compare_names(const char *a, const char *b);
/* The node cannot be read; a root takes its tree with it. */
void dmc_walk_fail(struct dmc_work *work, const char *key, const struct damacy_error *error);
void dmc_walk_cut(struct dmc_tree *tree, const char *why);
/* No memory: ends the call, or, if the tree's own bound was reached, the tree. */
void dmc_walk_fail_memory(struct dmc_tree *tree);
/* List the store below a node and make a child of each name. */
void dmc_walk_list(struct dmc_work *work);
/* After everything was read: lists instead of links, nothing that is not there. */
bool dmc_walk_finish(struct dmc_tree *tree);
void dmc_answers_free(struct dmc_answers *answers);

/* --- describe_array.c --- */

/* Fill node->array from the document of a zarr.json or .zarray; `attributes` NULL: none. */
void dmc_describe_array(struct dmc_work *work, dmc_json *document, const char *text, size_t bytes, dmc_json *attributes);

/* --- describe_group.c --- */

/* A group, whose attributes are set; `consolidated`: the document that may hold metadata of what is below it. */
void dmc_describe_group(struct dmc_work *work, struct dmc_text consolidated);

/* --- texts --- */

/* Into the tree's arena; NULL, and noted, without memory. */
const char *dmc_tree_text(struct dmc_tree *tree, const char *text, size_t bytes);
const char *dmc_tree_dump(struct dmc_tree *tree, dmc_json *value);

#endif
