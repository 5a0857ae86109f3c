/* Any text as references gives a table or an error, in bounded memory, and every reference in the table lies where it says. */
#include "store/kerchunk_refs.h"

#include <assert.h>
#include <stdbool.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct dmc_budget budget;
    struct dmc_references references;
    struct damacy_error error = {0};
    dmc_budget_init(&budget, 4 << 20);
    enum damacy_status status = dmc_references_parse((const char *)data, bytes, &budget, &references, &error);
    assert(status == DAMACY_OK || (error.status == status && error.message[0]));
    for (uint32_t i = 0; status == DAMACY_OK && i < references.refs.count; i++) {
        const struct dmc_reference *reference = dmc_object_map_at(&references.refs, i);
        const char *name = dmc_object_map_name(&references.refs, reference);
        assert(dmc_object_map_get(&references.refs, name, reference->name.bytes) == (void *)reference);
        if (reference->target == 0) {
            assert(reference->begin + reference->bytes <= references.refs.text_bytes);
        } else {
            assert(reference->target <= references.targets.count);
            const void *target = dmc_object_map_at(&references.targets, reference->target - 1);
            assert(strlen(dmc_object_map_name(&references.targets, target)) > 0);
            assert(reference->bytes == UINT64_MAX || reference->begin + reference->bytes <= INT64_MAX);
        }
    }
    dmc_references_deinit(&references);
    assert(dmc_budget_used(&budget) == 0);
    return 0;
}
