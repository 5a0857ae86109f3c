/* Any bytes as consolidated metadata and as one node: views lie inside the text, paths inside the group. */
#include <stdlib.h>
#include <string.h>

#include "zarr/zarr_node.h"

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

static void check_node(struct dmc_text all, const char *file)
{
    struct dmc_node *node = NULL;
    struct damacy_error error = {0};
    enum damacy_status status = dmc_node_parse(all.text, all.bytes, file, &node, &error);
    if (status) {
        require((status == DAMACY_DECODE || status == DAMACY_UNSUPPORTED) && error.message[0] && !node);
        return;
    }
    const struct dmc_text views[] = {node->attributes, node->data_type,  node->fill_value,
                                     node->codecs,     node->chunk_grid, node->chunk_key_encoding,
                                     node->order,      node->filters,    node->compressor};
    for (size_t i = 0; i < sizeof views / sizeof *views; i++)
        check_view(views[i], all);
    for (uint32_t i = 0; i < node->dimension_count; i++)
        require(!node->dimensions[i] || node->dimensions[i][0]);
    for (uint32_t i = 0; i < node->member_count; i++)
        require(node->members[i][0]);
    dmc_node_free(node);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct dmc_text all = {(const char *)data, bytes};
    struct damacy_error error = {0};
    enum damacy_status status = dmc_consolidated_each(all.text, all.bytes, visit, &all, &error);
    require(status == DAMACY_OK || error.message[0]);
    check_node(all, NULL);
    check_node(all, "zarr.json");
    check_node(all, ".zarray");
    return 0;
}
