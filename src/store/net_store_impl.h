/* What net_store.c and the stores of single protocols share. */
#ifndef DMC_NET_STORE_IMPL_H
#define DMC_NET_STORE_IMPL_H

#include "store/net_options.h"

/* What a status means by itself. `says`: the server's own words, "" none. */
enum dmc_net_advice dmc_http_advise(const struct dmc_net_settings *settings, uint32_t status, const char *says,
                                    struct damacy_error *error);

/* --- s3_store.c --- */

/* What all buckets of a family share: credentials, region, endpoint, the server's clock. */
struct dmc_s3;
enum damacy_status dmc_s3_create(const struct dmc_net_options *options, enum dmc_net_family family,
                                 const struct dmc_net_engines *engines, struct dmc_s3 **s3, struct damacy_error *error);
void dmc_s3_stop(struct dmc_s3 *s3);    /* no more fetching of credentials */
void dmc_s3_destroy(struct dmc_s3 *s3); /* after its stores; NULL allowed */

/* Where a bucket is: what tells it from others, and its origin. INVAL for what is no bucket's name. */
enum damacy_status dmc_s3_place(struct dmc_s3 *s3, const char *bucket, size_t bytes, struct dmc_text *identity,
                                struct dmc_text *origin, struct damacy_error *error);
/* For one of the engines. NULL: no memory. */
struct dmc_net_store *dmc_s3_store(struct dmc_s3 *s3, uint32_t engine, const char *bucket, size_t bytes);

#endif
