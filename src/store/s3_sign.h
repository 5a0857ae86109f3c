/* Signature version 4 of AWS, as S3 and servers like it want it. Pure, but for the cached key.
 *
 *     canonical request = METHOD \n path \n query \n "name:value\n"... \n names \n payload hash
 *     string to sign    = "AWS4-HMAC-SHA256" \n time \n DATE/REGION/SERVICE/aws4_request \n sha256(canonical request)
 *     key               = hmac(hmac(hmac(hmac("AWS4" secret, DATE), REGION), SERVICE), "aws4_request")
 *     signature         = hmac(key, string to sign) */
#ifndef DMC_S3_SIGN_H
#define DMC_S3_SIGN_H

#include "store/net_text.h"
#include "store/s3_sha256.h"

#define DMC_S3_UNSIGNED "UNSIGNED-PAYLOAD"

struct dmc_sign_header {
    const char *name; /* lower case */
    const char *value;
};

struct dmc_sign_request {
    const char *method;
    const char *path;                      /* percent-encoded once, as sent */
    const char *query;                     /* percent-encoded, sorted by name, every name with '='; "" none */
    const struct dmc_sign_header *headers; /* sorted by name; host and x-amz-date among them */
    uint32_t header_count;
    const char *payload; /* hash of the body in hex, or DMC_S3_UNSIGNED */
    uint64_t time_s;
    const char *region, *service;
};

/* The key of a day, region and secret: four HMACs that need not be done for each request. Zeroed: empty. */
struct dmc_sign_key {
    char scope[160]; /* what it is for: DATE/REGION/SERVICE */
    uint64_t secret_hash;
    uint8_t key[DMC_SHA256_BYTES];
};

/* "20130524T000000Z" */
#define DMC_SIGN_TIME_BYTES 17
void dmc_sign_time(uint64_t time_s, char text[DMC_SIGN_TIME_BYTES]);

/* The value of the Authorization header, added to `authorization`. `scratch` keeps its memory for the next time. false: no
 * memory, or a region or access key too long to be one. */
bool dmc_sign(const struct dmc_sign_request *request, const char *access_key, const char *secret, struct dmc_sign_key *key,
              struct dmc_text *scratch, struct dmc_text *authorization);

#endif
