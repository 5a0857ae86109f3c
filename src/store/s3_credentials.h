/* Where S3's keys come from, in this order:
 *
 *     storage_options (key, secret, token)
 *     environment     AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN
 *     files           ~/.aws/credentials and ~/.aws/config, the profile of storage_options, AWS_PROFILE or "default"
 *     web identity    AWS_WEB_IDENTITY_TOKEN_FILE and AWS_ROLE_ARN (Kubernetes on EKS), asked of STS
 *     container       AWS_CONTAINER_CREDENTIALS_RELATIVE_URI or _FULL_URI (ECS, EKS pod identity)
 *     instance        the metadata service of EC2, version 2
 *
 * A profile that was named comes before the environment. What expires is fetched anew five minutes before it does, by a thread
 * of its own, while requests go on with what there is; a server that says "expired" is believed, too.
 *
 * Threads: get and renew are for the event threads of all engines; the fetching thread is started by them, at most one at a
 * time. */
#ifndef DMC_S3_CREDENTIALS_H
#define DMC_S3_CREDENTIALS_H

#include "store/net_options.h"
#include "store/s3_profile.h"

struct dmc_s3_keys {
    char key[DMC_S3_KEY_BYTES];
    char secret[DMC_S3_KEY_BYTES];
    char token[DMC_S3_TOKEN_BYTES]; /* "" none */
    uint64_t expires_s;             /* UINT64_MAX: never */
};

struct dmc_s3_credentials;

/* Each of `engines` is told when keys have come; NULL: nobody. */
enum damacy_status dmc_s3_credentials_create(const struct dmc_net_options *options, const char *region,
                                             const struct dmc_net_engines *engines, struct dmc_s3_credentials **credentials,
                                             struct damacy_error *error);
void dmc_s3_credentials_stop(struct dmc_s3_credentials *credentials);    /* ends a fetch; NULL allowed */
void dmc_s3_credentials_destroy(struct dmc_s3_credentials *credentials); /* after stop; NULL allowed */

/* READY: `keys` is filled. WAIT: they are being fetched. FAILED: error says what was tried. */
enum dmc_net_prepared dmc_s3_credentials_get(struct dmc_s3_credentials *credentials, struct dmc_s3_keys *keys,
                                             struct damacy_error *error);

/* The server calls these keys expired. true: others are being fetched. false: there are no others to be had. */
bool dmc_s3_credentials_renew(struct dmc_s3_credentials *credentials, const char *key);

/* The profile's region and endpoint, where neither options nor environment tell. Reads the files. */
void dmc_s3_profile_load(const struct dmc_net_options *options, struct dmc_s3_profile *profile);

/* The answer of a metadata service: JSON with AccessKeyId, SecretAccessKey, Token and Expiration. Pure, for tests. */
enum damacy_status dmc_s3_credentials_parse(const char *text, size_t bytes, struct dmc_s3_keys *keys,
                                            struct damacy_error *error);

#endif
