/* storage_options: a JSON object whose keys are those that users of s3fs, fsspec and obstore know, and some of our own.
 * docs/remote.md lists them; the table is in net_options.c. Keys for one scheme only may stand in an object of that name ("s3",
 * "gs", "http"). */
#ifndef DMC_NET_OPTIONS_H
#define DMC_NET_OPTIONS_H

#include "base/json.h"
#include "store/net_engine.h"

enum dmc_net_family { DMC_NET_HTTP, DMC_NET_S3, DMC_NET_GS, DMC_NET_FAMILIES };

enum dmc_s3_addressing { DMC_S3_ADDRESS_AUTO, DMC_S3_ADDRESS_PATH, DMC_S3_ADDRESS_VIRTUAL };

#define DMC_NET_USER_HEADERS_MAX 16

/* Texts are borrowed from the document, or from the environment. */
struct dmc_net_options {
    struct dmc_net_settings settings;
    const char *key, *secret, *token, *endpoint_url, *region, *profile;
    bool anon;
    bool anon_set; /* it was said, not only assumed */
    bool requester_pays;
    bool plain_http; /* http:// is allowed; default */
    enum dmc_s3_addressing addressing;
    uint32_t header_count;
    struct {
        const char *name, *value;
    } headers[DMC_NET_USER_HEADERS_MAX];
    uint32_t network_threads; /* engines; 0: as many as the cores ask for. The largest of all families counts */
    const char *cache_dir;    /* NULL: no cache on disk */
    uint64_t cache_bytes_max;
    uint64_t cache_max_age_s;
};

struct dmc_net_option_set {
    struct dmc_json_doc *document;
    struct dmc_net_options families[DMC_NET_FAMILIES];
};

/* `text` NULL: defaults. INVAL for what is wrong, by name, without ever quoting a value that may be secret. */
enum damacy_status dmc_net_options_parse(const char *text, struct dmc_net_option_set *set, struct damacy_error *error);
void dmc_net_options_deinit(struct dmc_net_option_set *set);

#endif
