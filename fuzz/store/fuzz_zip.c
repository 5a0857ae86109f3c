/* Any bytes as a zip file give a table or an error, in bounded memory; every entry that claims to be readable can be read
 * through the store without a step outside, whatever its local header says. */
#include "base/budget.h"
#include "base/clock.h"
#include "base/mem.h"
#include "store/containers.h"
#include "store/inflated.h"
#include "store/zip_directory.h"

#include <assert.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

struct bytes_reader {
    const uint8_t *data;
    size_t bytes;
};

static enum damacy_status read_bytes(void *user, uint64_t offset, void *to, size_t bytes, struct damacy_error *error)
{
    (void)error;
    const struct bytes_reader *reader = user;
    assert(offset <= reader->bytes && bytes <= reader->bytes - offset);
    memcpy(to, reader->data + offset, bytes);
    return DAMACY_OK;
}

static bool stop(const char *name, bool is_prefix, void *user)
{
    (void)is_prefix;
    assert(name[0] && !strchr(name, '/'));
    return --*(int *)user > 0;
}

/* Read it as the pipeline would, from memory. */
static void read_entries(const uint8_t *data, size_t bytes)
{
    static struct dmc_io *io;
    if (!io && dmc_io_create(&(struct dmc_io_options){.depth = 4}, &io, NULL))
        return;
    struct dmc_store *memory = NULL, *store = NULL;
    struct dmc_inflated *inflated = NULL;
    struct dmc_budget budget;
    dmc_budget_init(&budget, 8 << 20);
    if (!dmc_store_memory_create(&memory, NULL) && !dmc_store_memory_put(memory, "zip", data, bytes, NULL) &&
        !dmc_inflated_create(1 << 20, &inflated, NULL)) {
        struct bytes_reader reader = {data, bytes};
        struct dmc_container_source source = {.path = "zip",
                                              .read = read_bytes,
                                              .read_user = &reader,
                                              .bytes = bytes,
                                              .file = memory,
                                              .budget = &budget,
                                              .inflated = inflated};
        struct dmc_object_map map;
        dmc_object_map_init(&map, sizeof(struct dmc_zip_entry), &budget);
        if (!dmc_zip_directory_read(read_bytes, &reader, bytes, &map, NULL) && !dmc_store_zip_open(&source, &store, NULL)) {
            static unsigned char out[4096];
            int most = 100;
            dmc_store_list(store, "", stop, &most, NULL);
            for (uint32_t i = 0; i < map.count && i < 50; i++)
                for (uint32_t kind = 0; kind < 3; kind++) {
                    struct iovec part = {out, kind == DMC_RANGE_WHOLE ? sizeof out : 5};
                    struct dmc_request request = {.store = store,
                                                  .key = dmc_object_map_name(&map, dmc_object_map_at(&map, i)),
                                                  .kind = (enum dmc_range_kind)kind,
                                                  .offset = 3,
                                                  .parts = &part,
                                                  .part_count = 1};
                    enum dmc_start start = dmc_store_start(io, &request);
                    assert(start == DMC_START_DONE && request.outcome != DMC_OUTCOME_ABSENT);
                    (void)start;
                }
        }
        dmc_object_map_deinit(&map);
    }
    dmc_inflated_destroy(inflated);
    if (store)
        dmc_store_destroy(store);
    dmc_store_destroy(memory);
    assert(dmc_budget_used(&budget) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct bytes_reader reader = {data, bytes};
    struct dmc_budget budget;
    struct dmc_object_map map;
    dmc_budget_init(&budget, 4 << 20);
    dmc_object_map_init(&map, sizeof(struct dmc_zip_entry), &budget);
    struct damacy_error error = {0};
    enum damacy_status status = dmc_zip_directory_read(read_bytes, &reader, bytes, &map, &error);
    assert(status == DAMACY_OK || (error.status == status && error.message[0]));
    for (uint32_t i = 0; status == DAMACY_OK && i < map.count; i++) {
        const struct dmc_zip_entry *entry = dmc_object_map_at(&map, i);
        uint64_t offset;
        if (entry->refusal != DMC_ZIP_READABLE)
            continue;
        assert(entry->header_offset + DMC_ZIP_LOCAL_BYTES + entry->stored_bytes <= bytes);
        if (dmc_zip_local_header(data + entry->header_offset, entry, bytes, &offset))
            assert(offset + entry->stored_bytes <= bytes);
    }
    bool any = status == DAMACY_OK && map.count > 0;
    dmc_object_map_deinit(&map);
    assert(dmc_budget_used(&budget) == 0);
    if (any)
        read_entries(data, bytes);
    return 0;
}
