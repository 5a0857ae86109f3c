/* Any text as a uri: what is not a fragment stays part of it. */
#include <stdlib.h>
#include <string.h>

#include "base/selection.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void require(bool truth)
{
    if (!truth)
        abort();
}

/* Is nothing picked at all? */
static bool is_empty(const struct dmc_selection *selection)
{
    return !dmc_selection_needs_group(selection) && !selection->member[0];
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    char *uri = malloc(bytes + 1);
    require(uri);
    memcpy(uri, data, bytes);
    uri[bytes] = 0;
    struct dmc_selection selection;
    struct damacy_error error = {0};
    size_t uri_bytes = SIZE_MAX;
    enum damacy_status status = dmc_selection_parse(uri, &selection, &uri_bytes, &error);
    if (status == DAMACY_OK) {
        require(uri_bytes == strlen(uri) ? is_empty(&selection) : uri[uri_bytes] == '#' && !is_empty(&selection));
        require(strlen(selection.member) < sizeof selection.member && strlen(selection.label) < sizeof selection.label);
        for (uint32_t i = 0; i < selection.scale_count; i++)
            require(selection.scale[i] > 0 && selection.scale[i] - selection.scale[i] == 0);
    } else {
        require(status == DAMACY_INVAL && error.message[0]);
    }
    free(uri);
    return 0;
}
