/* The shared files of AWS's tools: ~/.aws/credentials and ~/.aws/config. Pure, fuzzed.
 *
 *     [default]               in the credentials file, and [profile NAME] in the config file
 *     aws_access_key_id = AKIA...
 *     s3 =
 *         addressing_style = path      nested: belongs to s3, and is passed over */
#ifndef DMC_S3_PROFILE_H
#define DMC_S3_PROFILE_H

#include <stdbool.h>
#include <stddef.h>

#define DMC_S3_KEY_BYTES 256
#define DMC_S3_TOKEN_BYTES 16384

struct dmc_s3_profile {
    bool found;
    bool needs_other; /* it gets its credentials by assuming a role, single sign-on or a program: none of which is done here */
    char key[DMC_S3_KEY_BYTES];
    char secret[DMC_S3_KEY_BYTES];
    char token[DMC_S3_TOKEN_BYTES];
    char region[64];
    char endpoint_url[512];
};

/* Add what the file says of the profile `name` to `profile`; members that are set already stay. `config`: sections other than
 * [default] begin with "profile ". Lines that make no sense are passed over; values that do not fit are as if they were not
 * there. */
void dmc_s3_profile_read(const char *text, size_t bytes, const char *name, bool config, struct dmc_s3_profile *profile);

#endif
