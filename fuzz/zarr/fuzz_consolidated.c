/* Any bytes as consolidated metadata: views lie inside the text, paths inside the group. */
#include <stdlib.h>
#include <string.h>

#include "zarr/consolidated.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void require(bool truth)
{
    if (!truth)
        abort();
}

static void check_view(struct dmc_text view, struct dmc_text all)
{
    require(!view.text || (view.text >= all.text && view.bytes <= all.bytes && view.text + view.bytes <= all.text + all.bytes));
}

static bool visit(void *user, const struct dmc_consolidated_entry *entry)
{
    check_view(entry->text, *(struct dmc_text *)user);
    require(strlen(entry->path) == entry->path_bytes);
    require(!entry->path_bytes || dmc_path_is_inside(entry->path, entry->path_bytes));
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct dmc_text all = {(const char *)data, bytes};
    struct damacy_error error = {0};
    enum damacy_status status = dmc_consolidated_each(all.text, all.bytes, visit, &all, &error);
    require(status == DAMACY_OK || error.message[0]);
    return 0;
}
