/* Listings and errors of any server that says it is S3: nothing crashes, names are plain, and the memory behind the text stays
 * untouched. */
#include "store/s3_list.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static bool child(const char *name, bool is_prefix, void *user)
{
    (void)is_prefix;
    (void)user;
    if (!name[0] || strchr(name, '/'))
        abort();
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static struct dmc_s3_page page;
    char *text = malloc(bytes ? bytes : 1);
    if (!text)
        abort();
    memcpy(text, data, bytes);
    page = (struct dmc_s3_page){.prefix = "p/", .child = child};
    dmc_s3_page_read(text, bytes, &page, NULL);
    free(text);
    return 0;
}
