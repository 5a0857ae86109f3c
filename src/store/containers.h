/* Files that are stores: zip files and reference files, found in a path, opened once, shared.
 *
 * A component of a path that is a regular file, or an object behind a network, and whose name ends in .zip, .ozx or .json is a
 * container; the rest of the path lies inside. An ordinary path costs nothing but a look at its letters. A container stays open
 * (its table in memory, no descriptor) as long as its dmc_containers; when a file has changed since, the next resolve opens it
 * anew. An object is not asked again: reads of it notice that it changed. */
#ifndef DMC_CONTAINERS_H
#define DMC_CONTAINERS_H

#include "base/budget.h"
#include "store/store.h"

#define DMC_CONTAINERS_MAX 65536u /* files; more is BUDGET */

/* What one is made from. All but fd lives longer than the store. */
struct dmc_inflated;
struct dmc_container_source {
    const char *path;
    uint64_t path_hash;
    /* All of [offset, offset + bytes) of the file, or an error; while it is being opened, by whoever opens it. */
    enum damacy_status (*read)(void *user, uint64_t offset, void *to, size_t bytes, struct damacy_error *error);
    void *read_user;
    uint64_t bytes;
    uint64_t version_tag;          /* of the file, as the file store would tell it; 0: its store notices changes itself */
    bool remote;                   /* it came over a network: it must not lead to files of this machine */
    struct dmc_store *file;        /* reads the path */
    struct dmc_stores *stores;     /* resolves what references name */
    struct dmc_budget *budget;     /* of tables */
    struct dmc_inflated *inflated; /* of inflated entries */
};

/* store_zip.c: keys are the names of entries. OK, IO, DECODE, UNSUPPORTED, BUDGET or OOM. */
enum damacy_status dmc_store_zip_open(const struct dmc_container_source *source, struct dmc_store **store,
                                      struct damacy_error *error);
/* store_kerchunk.c: keys are those of the references. The same. */
enum damacy_status dmc_store_kerchunk_open(const struct dmc_container_source *source, struct dmc_store **store,
                                           struct damacy_error *error);

struct dmc_containers;

/* Tables take three quarters of `bytes_max`, inflated entries one quarter. */
enum damacy_status dmc_containers_create(struct dmc_stores *stores, uint64_t bytes_max, struct dmc_containers **containers,
                                         struct damacy_error *error);
void dmc_containers_destroy(struct dmc_containers *containers);
/* Whoever is reading a container over a network gives up soon, with SHUTDOWN. Any thread. */
void dmc_containers_stop(struct dmc_containers *containers);

/* Is there a container in `path`? *store stays NULL if not; else *inside is where in `path` the rest begins, without a slash.
 */
enum damacy_status dmc_containers_find(struct dmc_containers *containers, struct dmc_store *file, const char *path,
                                       struct dmc_store **store, const char **inside, struct damacy_error *error);
/* The same for a key of a store behind a network. Waits for the network where the key looks like a container's. */
enum damacy_status dmc_containers_find_remote(struct dmc_containers *containers, struct dmc_store *remote, const char *key,
                                              struct dmc_store **store, const char **inside, struct damacy_error *error);

/* uri.c: as dmc_stores_resolve, but containers are only files. */
enum damacy_status dmc_stores_resolve_plain(struct dmc_stores *stores, const char *uri, struct dmc_store **store, char *prefix,
                                            size_t capacity, struct damacy_error *error);

#endif
