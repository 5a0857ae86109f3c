#include "store/zip_directory.h"

#include "base/bytes.h"
#include "base/error.h"
#include "base/mem.h"

#define WINDOW_BYTES (200u << 10) /* more than one header with the longest name, extra and comment */
#define END_BYTES 22u
#define LOCATOR_BYTES 20u
#define END64_BYTES 56u
#define CENTRAL_BYTES 46u
#define DEFLATE_RATIO_MAX 1032u

#define SIGNATURE_CENTRAL 0x02014b50u
#define SIGNATURE_LOCAL 0x04034b50u
#define SIGNATURE_END 0x06054b50u
#define SIGNATURE_END64 0x06064b50u
#define SIGNATURE_LOCATOR 0x07064b50u

struct reader {
    dmc_zip_read_fn read;
    void *user;
    uint64_t file_bytes;
    unsigned char *window;
    struct damacy_error *error;
    /* of the directory */
    uint64_t begin, bytes; /* where it lies in the file */
    uint64_t shift;        /* bytes in front of the zip file proper */
};

static enum damacy_status damaged(const struct reader *reader, const char *what)
{
    return dmc_error_set(reader->error, DAMACY_DECODE, "metadata", "it is no intact zip file: %s", what);
}

static enum damacy_status read_at(struct reader *reader, uint64_t offset, void *to, size_t bytes)
{
    if (offset > reader->file_bytes || bytes > reader->file_bytes - offset)
        return damaged(reader, "its directory lies beyond its end");
    return reader->read(reader->user, offset, to, bytes, reader->error);
}

/* Where in the tail the end of the directory is, UINT64_MAX: nowhere. The last whose comment ends with the file; else the last
 * whose comment fits, as something may have been appended. */
static uint64_t find_end(const unsigned char *tail, uint64_t bytes)
{
    uint64_t fits = UINT64_MAX;
    for (uint64_t at = bytes - END_BYTES + 1; at-- > 0;) {
        if (dmc_load_u32le(tail + at) != SIGNATURE_END)
            continue;
        uint64_t end = at + END_BYTES + dmc_load_u16le(tail + at + 20);
        if (end == bytes)
            return at;
        if (end < bytes && fits == UINT64_MAX)
            fits = at;
    }
    return fits;
}

struct end {
    uint64_t disk, directory_disk, bytes, offset;
    uint64_t position; /* where the directory should end */
};

/* The zip64 end, if there is one in front of the locator that ends at `position`. */
static enum damacy_status read_end64(struct reader *reader, uint64_t position, struct end *end)
{
    unsigned char locator[LOCATOR_BYTES], bytes[END64_BYTES];
    if (position < LOCATOR_BYTES)
        return DAMACY_OK;
    enum damacy_status status = read_at(reader, position - LOCATOR_BYTES, locator, sizeof locator);
    if (status || dmc_load_u32le(locator) != SIGNATURE_LOCATOR)
        return status;
    if (dmc_load_u32le(locator + 16) > 1)
        return dmc_error_set(reader->error, DAMACY_UNSUPPORTED, "metadata", "zip files split over several disks are not read");
    /* Mostly right before the locator, also when bytes in front of the zip file have shifted everything. */
    uint64_t at =
        position - LOCATOR_BYTES >= END64_BYTES ? position - LOCATOR_BYTES - END64_BYTES : dmc_load_u64le(locator + 8);
    status = read_at(reader, at, bytes, sizeof bytes);
    if (!status && dmc_load_u32le(bytes) != SIGNATURE_END64) {
        at = dmc_load_u64le(locator + 8);
        status = read_at(reader, at, bytes, sizeof bytes);
    }
    if (status)
        return status;
    if (dmc_load_u32le(bytes) != SIGNATURE_END64)
        return damaged(reader, "there is no zip64 end of the directory where its locator points");
    *end = (struct end){dmc_load_u32le(bytes + 16), dmc_load_u32le(bytes + 20), dmc_load_u64le(bytes + 40),
                        dmc_load_u64le(bytes + 48), at};
    return DAMACY_OK;
}

static enum damacy_status find_directory(struct reader *reader)
{
    uint64_t tail_bytes = dmc_min_u64(reader->file_bytes, END_BYTES + UINT16_MAX);
    if (tail_bytes < END_BYTES)
        return damaged(reader, "it is too short");
    uint64_t tail_begin = reader->file_bytes - tail_bytes;
    enum damacy_status status = read_at(reader, tail_begin, reader->window, tail_bytes);
    if (status)
        return status;
    uint64_t at = find_end(reader->window, tail_bytes);
    if (at == UINT64_MAX)
        return damaged(reader, "it has no end of the directory");
    const unsigned char *bytes = reader->window + at;
    struct end end = {dmc_load_u16le(bytes + 4), dmc_load_u16le(bytes + 6), dmc_load_u32le(bytes + 12),
                      dmc_load_u32le(bytes + 16), tail_begin + at};
    bool saturated = end.bytes == UINT32_MAX || end.offset == UINT32_MAX || end.disk == UINT16_MAX ||
                     end.directory_disk == UINT16_MAX || dmc_load_u16le(bytes + 10) == UINT16_MAX;
    if (saturated) {
        status = read_end64(reader, end.position, &end);
        if (status)
            return status;
    }
    if (end.disk != 0 || end.directory_disk != 0)
        return dmc_error_set(reader->error, DAMACY_UNSUPPORTED, "metadata", "zip files split over several disks are not read");
    if (end.bytes > end.position || end.offset > end.position - end.bytes)
        return damaged(reader, "its directory lies beyond its end");
    reader->begin = end.position - end.bytes;
    reader->bytes = end.bytes;
    reader->shift = reader->begin - end.offset;
    return DAMACY_OK;
}

/* Can a key mean this? Keys are relative, without empty parts, '.' and '..'. */
static bool name_is_plain(const char *name, size_t bytes)
{
    for (size_t begin = 0; begin <= bytes;) {
        const char *slash = memchr(name + begin, '/', bytes - begin);
        size_t part = slash ? (size_t)(slash - name) - begin : bytes - begin;
        if (part == 0 || (part <= 2 && memcmp(name + begin, "..", part) == 0))
            return false;
        begin += part + 1;
    }
    return true;
}

/* Take the wide values from the zip64 field, in their order. false: one is missing. */
static bool widen(const unsigned char *extra, uint64_t bytes, uint64_t *const values[3], const bool wanted[3])
{
    while (bytes >= 4) {
        uint64_t id = dmc_load_u16le(extra), field_bytes = dmc_load_u16le(extra + 2);
        if (field_bytes > bytes - 4)
            break;
        if (id == 1) {
            const unsigned char *at = extra + 4;
            for (int i = 0; i < 3; i++) {
                if (!wanted[i])
                    continue;
                if (field_bytes < 8)
                    return false;
                *values[i] = dmc_load_u64le(at);
                at += 8;
                field_bytes -= 8;
            }
            return true;
        }
        extra += 4 + field_bytes;
        bytes -= 4 + field_bytes;
    }
    return !wanted[0] && !wanted[1] && !wanted[2];
}

static enum dmc_zip_refusal refusal_of(const struct reader *reader, const struct dmc_zip_entry *entry, uint32_t flags)
{
    if (flags & 1)
        return DMC_ZIP_ENCRYPTED;
    if (entry->method != 0 && entry->method != 8)
        return DMC_ZIP_METHOD;
    if (entry->header_offset > reader->begin || entry->stored_bytes > reader->begin - entry->header_offset ||
        reader->begin - entry->header_offset - entry->stored_bytes < DMC_ZIP_LOCAL_BYTES)
        return DMC_ZIP_RANGE;
    if (entry->method == 0 ? entry->stored_bytes != entry->object_bytes
                           : entry->object_bytes / DEFLATE_RATIO_MAX > entry->stored_bytes)
        return DMC_ZIP_SIZES;
    return DMC_ZIP_READABLE;
}

/* One header with all that belongs to it. */
static enum damacy_status take(struct reader *reader, const unsigned char *header, struct dmc_object_map *map)
{
    uint32_t flags = dmc_load_u16le(header + 8);
    uint64_t stored_bytes = dmc_load_u32le(header + 20), object_bytes = dmc_load_u32le(header + 24);
    uint64_t name_bytes = dmc_load_u16le(header + 28), extra_bytes = dmc_load_u16le(header + 30);
    uint64_t offset = dmc_load_u32le(header + 42);
    const char *name = (const char *)header + CENTRAL_BYTES;
    if (flags & 1u << 13)
        return dmc_error_set(reader->error, DAMACY_UNSUPPORTED, "metadata",
                             "zip files with an encrypted directory are not read");
    uint32_t disk = dmc_load_u16le(header + 34);
    if (disk != 0 && disk != UINT16_MAX)
        return dmc_error_set(reader->error, DAMACY_UNSUPPORTED, "metadata", "zip files split over several disks are not read");
    uint64_t *const values[3] = {&object_bytes, &stored_bytes, &offset};
    bool wanted[3] = {object_bytes == UINT32_MAX, stored_bytes == UINT32_MAX, offset == UINT32_MAX};
    if (!widen(header + CENTRAL_BYTES + name_bytes, extra_bytes, values, wanted))
        return damaged(reader, "an entry of its directory lacks its zip64 sizes");
    name_bytes = strnlen(name, name_bytes);
    if (!name_is_plain(name, name_bytes))
        return DAMACY_OK;
    struct dmc_zip_entry *entry = dmc_object_map_put(map, name, name_bytes, reader->error);
    if (!entry)
        return reader->error->status;
    if (!dmc_add_u64(offset, reader->shift, &entry->header_offset))
        entry->header_offset = UINT64_MAX;
    entry->stored_bytes = stored_bytes;
    entry->object_bytes = object_bytes;
    entry->crc = dmc_load_u32le(header + 16);
    entry->method = dmc_load_u16le(header + 10);
    entry->refusal = (uint8_t)refusal_of(reader, entry, flags);
    return DAMACY_OK;
}

static enum damacy_status read_entries(struct reader *reader, struct dmc_object_map *map)
{
    uint64_t filled = 0, used = 0, next = 0; /* of the window; of the directory */
    for (;;) {
        uint64_t left = filled - used;
        const unsigned char *header = reader->window + used;
        uint64_t need = left < CENTRAL_BYTES ? CENTRAL_BYTES
                                             : CENTRAL_BYTES + (uint64_t)dmc_load_u16le(header + 28) +
                                                   dmc_load_u16le(header + 30) + dmc_load_u16le(header + 32);
        if (left < need) {
            uint64_t more = dmc_min_u64(reader->bytes - next, WINDOW_BYTES - left);
            if (more == 0)
                return left == 0 ? DAMACY_OK : damaged(reader, "its directory ends within an entry");
            memmove(reader->window, header, left);
            enum damacy_status status = read_at(reader, reader->begin + next, reader->window + left, more);
            if (status)
                return status;
            next += more;
            filled = left + more;
            used = 0;
            continue;
        }
        if (dmc_load_u32le(header) != SIGNATURE_CENTRAL)
            return damaged(reader, "its directory has something that is no entry");
        enum damacy_status status = take(reader, header, map);
        if (status)
            return status;
        used += need;
    }
}

enum damacy_status dmc_zip_directory_read(dmc_zip_read_fn read, void *user, uint64_t file_bytes, struct dmc_object_map *map,
                                          struct damacy_error *error)
{
    struct damacy_error own = {0}; /* the status of a failed put is read from it */
    struct reader reader = {.read = read, .user = user, .file_bytes = file_bytes, .error = error ? error : &own};
    if (!dmc_budget_reserve(map->budget, WINDOW_BYTES))
        return dmc_error_set(error, DAMACY_BUDGET, "metadata", "its directory needs more than is left for containers");
    reader.window = dmc_malloc(WINDOW_BYTES);
    enum damacy_status status = DAMACY_OOM;
    if (!reader.window)
        dmc_error_set(error, DAMACY_OOM, "metadata", "no memory to read the directory");
    else if (!(status = find_directory(&reader)) && !(status = read_entries(&reader, map)))
        dmc_object_map_trim(map);
    dmc_free(reader.window);
    dmc_budget_unreserve(map->budget, WINDOW_BYTES);
    return status;
}

bool dmc_zip_local_header(const unsigned char header[DMC_ZIP_LOCAL_BYTES], const struct dmc_zip_entry *entry,
                          uint64_t file_bytes, uint64_t *data_offset)
{
    if (dmc_load_u32le(header) != SIGNATURE_LOCAL || dmc_load_u16le(header + 8) != entry->method)
        return false;
    uint64_t offset = entry->header_offset + DMC_ZIP_LOCAL_BYTES + dmc_load_u16le(header + 26) + dmc_load_u16le(header + 28);
    if (offset > file_bytes || entry->stored_bytes > file_bytes - offset)
        return false;
    *data_offset = offset;
    return true;
}
