/* See s3_sign.h. */
#include "store/s3_sign.h"
#include "base/hash.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

void dmc_sign_time(uint64_t time_s, char text[DMC_SIGN_TIME_BYTES])
{
    time_t time = (time_t)time_s;
    struct tm parts;
    if (!gmtime_r(&time, &parts) || strftime(text, DMC_SIGN_TIME_BYTES, "%Y%m%dT%H%M%SZ", &parts) == 0)
        memcpy(text, "19700101T000000Z", DMC_SIGN_TIME_BYTES);
}

/* Blanks around a value go, runs of them inside become one: what a proxy might do on the way must not matter. */
static void add_trimmed(struct dmc_text *text, const char *value)
{
    bool blank = false, any = false;
    for (; *value; value++) {
        if (*value == ' ' || *value == '\t') {
            blank = any;
            continue;
        }
        if (blank)
            dmc_text_bytes(text, " ", 1);
        blank = false;
        any = true;
        dmc_text_bytes(text, value, 1);
    }
}

static void add_names(struct dmc_text *text, const struct dmc_sign_request *request)
{
    for (uint32_t i = 0; i < request->header_count; i++)
        dmc_text_format(text, "%s%s", i ? ";" : "", request->headers[i].name);
}

static void derive(struct dmc_sign_key *key, const char *scope, const char *date, const struct dmc_sign_request *request,
                   const char *secret)
{
    size_t secret_bytes = strlen(secret);
    uint64_t secret_hash = dmc_hash_bytes(secret, secret_bytes, 0);
    if (strcmp(key->scope, scope) == 0 && key->secret_hash == secret_hash)
        return;
    /* HMAC takes a key of any length; a secret that does not fit here is hashed like any long key, after its prefix. */
    struct dmc_text start = {0};
    dmc_text_add(&start, "AWS4");
    dmc_text_bytes(&start, secret, secret_bytes);
    key->scope[0] = 0;
    if (start.failed)
        return;
    uint8_t mac[DMC_SHA256_BYTES];
    dmc_hmac_sha256(start.data, start.length, date, 8, mac);
    dmc_text_free(&start);
    dmc_hmac_sha256(mac, sizeof mac, request->region, strlen(request->region), mac);
    dmc_hmac_sha256(mac, sizeof mac, request->service, strlen(request->service), mac);
    dmc_hmac_sha256(mac, sizeof mac, "aws4_request", 12, key->key);
    explicit_bzero(mac, sizeof mac);
    key->secret_hash = secret_hash;
    memcpy(key->scope, scope, strlen(scope) + 1);
}

bool dmc_sign(const struct dmc_sign_request *request, const char *access_key, const char *secret, struct dmc_sign_key *key,
              struct dmc_text *scratch, struct dmc_text *authorization)
{
    char time[DMC_SIGN_TIME_BYTES], scope[sizeof key->scope], hex[DMC_SHA256_HEX];
    uint8_t digest[DMC_SHA256_BYTES];
    struct dmc_sha256 hash;
    dmc_sign_time(request->time_s, time);
    int bytes = snprintf(scope, sizeof scope, "%.8s/%s/%s", time, request->region, request->service);
    if (bytes < 0 || (size_t)bytes >= sizeof scope)
        return false;

    dmc_text_clear(scratch);
    dmc_text_format(scratch, "%s\n", request->method);
    dmc_text_add(scratch, request->path);
    dmc_text_add(scratch, "\n");
    dmc_text_add(scratch, request->query);
    dmc_text_add(scratch, "\n");
    for (uint32_t i = 0; i < request->header_count; i++) {
        dmc_text_format(scratch, "%s:", request->headers[i].name);
        add_trimmed(scratch, request->headers[i].value);
        dmc_text_add(scratch, "\n");
    }
    dmc_text_add(scratch, "\n");
    add_names(scratch, request);
    dmc_text_format(scratch, "\n%s", request->payload);
    if (scratch->failed)
        return false;
    dmc_sha256_begin(&hash);
    dmc_sha256_add(&hash, scratch->data, scratch->length);
    dmc_sha256_end(&hash, digest);
    dmc_sha256_hex(digest, hex);

    dmc_text_clear(scratch);
    dmc_text_format(scratch, "AWS4-HMAC-SHA256\n%s\n%s/aws4_request\n%s", time, scope, hex);
    derive(key, scope, time, request, secret);
    if (scratch->failed || !key->scope[0])
        return false;
    dmc_hmac_sha256(key->key, sizeof key->key, scratch->data, scratch->length, digest);
    dmc_sha256_hex(digest, hex);
    dmc_text_format(authorization, "AWS4-HMAC-SHA256 Credential=%s/%s/aws4_request, SignedHeaders=", access_key, scope);
    add_names(authorization, request);
    dmc_text_format(authorization, ", Signature=%s", hex);
    return !authorization->failed;
}
