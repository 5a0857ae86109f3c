/* The door to the network stores: what dmc_stores_resolve needs of them. */
#ifndef DMC_NET_STORE_H
#define DMC_NET_STORE_H

#include "store/store.h"
#include <string.h>
#include <strings.h>

struct dmc_net;

/* Read the options (NULL: none); nothing is loaded or started before the first resolve. INVAL for a wrong option.
 *
 * memory_bytes  what transfers under way, connections and the disk cache's queue may take together: with little of it fewer
 *               transfers run at once, and nothing fails. */
enum damacy_status dmc_net_create(const char *storage_options, uint64_t memory_bytes, struct dmc_net **net,
                                  struct damacy_error *error);
/* Nothing may be pending, except what a dmc_io_destroy() left behind. NULL allowed. */
void dmc_net_destroy(struct dmc_net *net);

/* Fill all but struct_size. Any thread. */
void dmc_net_stats(struct dmc_net *net, struct damacy_remote_stats *stats);

/* Is this a uri for dmc_net_resolve (http, https, s3, gs)? */
static inline bool dmc_net_scheme(const char *scheme, size_t bytes)
{
    static const char *const schemes[] = {"http", "https", "s3", "gs"};
    for (size_t i = 0; i < sizeof schemes / sizeof schemes[0]; i++)
        if (strlen(schemes[i]) == bytes && strncasecmp(scheme, schemes[i], bytes) == 0)
            return true;
    return false;
}

/* As dmc_stores_resolve, for network uris. The prefix alone is the key of the object that the uri itself names (references name
 * files that way). Any thread; the store belongs to `net` and stays as long as it. */
enum damacy_status dmc_net_resolve(struct dmc_net *net, const char *uri, struct dmc_store **store, char *prefix,
                                   size_t capacity, struct damacy_error *error);

#endif
