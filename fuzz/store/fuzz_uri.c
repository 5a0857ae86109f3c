/* Any text as a uri gives a store and a key that fits, or an error; never both, never a crash. */
#include "base/mem.h"
#include "store/store.h"

#include <assert.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static struct dmc_stores *stores;
    static struct dmc_store *memory;
    if (!stores) {
        if (dmc_stores_create(NULL, &stores, NULL) != DAMACY_OK || dmc_store_memory_create(&memory, NULL) != DAMACY_OK)
            return 0;
        dmc_stores_set(stores, "memory", memory);
    }
    if (bytes < 1)
        return 0;
    char *uri = dmc_malloc(bytes), *prefix = dmc_malloc((size_t)data[0] + 1);
    if (uri && prefix) {
        memcpy(uri, data + 1, bytes - 1);
        uri[bytes - 1] = 0;
        struct dmc_store *store = NULL;
        struct damacy_error error = {0};
        enum damacy_status status = dmc_stores_resolve(stores, uri, &store, prefix, (size_t)data[0] + 1, &error);
        if (status == DAMACY_OK) {
            size_t length = strnlen(prefix, (size_t)data[0] + 1);
            assert(store && length <= data[0]);
            assert(length == 0 || prefix[length - 1] != '/');
        } else {
            assert(status == DAMACY_INVAL || status == DAMACY_UNSUPPORTED || status == DAMACY_BUDGET); /* so many servers */
            assert(error.status == status && error.message[0]);
        }
    }
    dmc_free(uri);
    dmc_free(prefix);
    return 0;
}
