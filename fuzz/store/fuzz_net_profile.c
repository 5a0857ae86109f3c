/* The shared files of AWS's tools, answers of metadata services, and storage_options: the first byte chooses. */
#include "store/net_options.h"
#include "store/s3_credentials.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void check_plain(const char *text, size_t capacity)
{
    size_t length = strnlen(text, capacity);
    if (length == capacity)
        abort();
    for (size_t i = 0; i < length; i++)
        if ((unsigned char)text[i] < ' ')
            abort(); /* it becomes part of a header line */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static struct dmc_s3_profile profile;
    static struct dmc_s3_keys keys;
    if (bytes == 0)
        return 0;
    uint8_t kind = data[0] % 4;
    bytes--;
    char *text = malloc(bytes + 1);
    if (!text)
        abort();
    memcpy(text, data + 1, bytes);
    if (kind < 2) {
        char *exact = malloc(bytes ? bytes : 1);
        if (!exact)
            abort();
        memcpy(exact, text, bytes);
        memset(&profile, 0, sizeof profile);
        dmc_s3_profile_read(exact, bytes, "work", kind, &profile);
        free(exact);
        check_plain(profile.key, sizeof profile.key);
        check_plain(profile.secret, sizeof profile.secret);
        check_plain(profile.token, sizeof profile.token);
        check_plain(profile.region, sizeof profile.region);
        check_plain(profile.endpoint_url, sizeof profile.endpoint_url);
    } else if (kind == 2) {
        if (dmc_s3_credentials_parse(text, bytes, &keys, NULL) == DAMACY_OK) {
            check_plain(keys.key, sizeof keys.key);
            check_plain(keys.secret, sizeof keys.secret);
            check_plain(keys.token, sizeof keys.token);
        }
    } else {
        struct dmc_net_option_set set;
        text[bytes] = 0;
        if (dmc_net_options_parse(text, &set, NULL) == DAMACY_OK) {
            for (int i = 0; i < DMC_NET_FAMILIES; i++)
                if (set.families[i].key)
                    check_plain(set.families[i].key, 1u << 20);
            dmc_net_options_deinit(&set);
        }
    }
    free(text);
    return 0;
}
