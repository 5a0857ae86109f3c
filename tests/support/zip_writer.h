/* Zip files made by hand, in memory, with whatever a test wants to be odd about them. */
#ifndef ZIP_WRITER_H
#define ZIP_WRITER_H

#include <assert.h>
#include <libdeflate.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct zip_buffer {
    unsigned char *data;
    size_t bytes, capacity;
};

struct zip_writer {
    struct zip_buffer file, directory;
    uint64_t count;
    uint64_t front_bytes; /* in front of the zip file proper; offsets do not count them */
    bool zip64;           /* write a zip64 end of the directory */
};

struct zip_odd {
    bool deflate;
    bool zip64;      /* sizes and offset in the wide field */
    bool descriptor; /* sizes zero in the local header, behind the data instead */
    uint16_t extra;  /* bytes of an unknown extra field in the local header */
    uint16_t flags;  /* more of them */
    uint16_t method; /* claimed in the directory and the local header, if not 0 */
    uint16_t disk;
    uint16_t comment; /* bytes of it */
    uint32_t crc_flip;
    int64_t size_more;   /* the directory's size of the object is off by this */
    int64_t stored_more; /* and this that of the stored bytes */
    int64_t offset_more;
    bool local_broken; /* no signature */
};

static inline unsigned char *zip_room(struct zip_buffer *buffer, size_t bytes)
{
    if (buffer->capacity - buffer->bytes < bytes) {
        buffer->capacity = (buffer->bytes + bytes) * 2;
        buffer->data = realloc(buffer->data, buffer->capacity);
        assert(buffer->data);
    }
    unsigned char *at = buffer->data + buffer->bytes;
    memset(at, 0, bytes);
    buffer->bytes += bytes;
    return at;
}

static inline void zip_bytes(struct zip_buffer *buffer, const void *data, size_t bytes)
{
    if (bytes)
        memcpy(zip_room(buffer, bytes), data, bytes);
}

static inline void zip_number(struct zip_buffer *buffer, uint64_t value, int bytes)
{
    unsigned char *at = zip_room(buffer, (size_t)bytes);
    for (int i = 0; i < bytes; i++)
        at[i] = (unsigned char)(value >> (8 * i));
}

static inline void zip_put(struct zip_writer *zip, const char *name, size_t name_bytes, const void *data, size_t bytes,
                           struct zip_odd odd)
{
    struct zip_buffer *file = &zip->file, *directory = &zip->directory;
    uint64_t offset = file->bytes - zip->front_bytes;
    unsigned char *packed = NULL;
    size_t stored_bytes = bytes;
    if (odd.deflate) {
        struct libdeflate_compressor *compressor = libdeflate_alloc_compressor(3);
        size_t bound = libdeflate_deflate_compress_bound(compressor, bytes);
        packed = malloc(bound + 1);
        assert(packed);
        stored_bytes = libdeflate_deflate_compress(compressor, data, bytes, packed, bound);
        libdeflate_free_compressor(compressor);
    }
    uint32_t crc = libdeflate_crc32(0, data, bytes) ^ odd.crc_flip;
    uint16_t flags = (uint16_t)(odd.flags | (odd.descriptor ? 8 : 0)), method = odd.method ? odd.method : odd.deflate ? 8 : 0;
    zip_number(file, odd.local_broken ? 0 : 0x04034b50, 4);
    zip_number(file, 20, 2);
    zip_number(file, flags, 2);
    zip_number(file, method, 2);
    zip_number(file, 0, 4);
    zip_number(file, odd.descriptor ? 0 : crc, 4);
    zip_number(file, odd.descriptor ? 0 : stored_bytes, 4);
    zip_number(file, odd.descriptor ? 0 : bytes, 4);
    zip_number(file, name_bytes, 2);
    zip_number(file, odd.extra ? odd.extra + 4u : 0, 2);
    zip_bytes(file, name, name_bytes);
    if (odd.extra) {
        zip_number(file, 0xcafe, 2);
        zip_number(file, odd.extra, 2);
        zip_room(file, odd.extra);
    }
    zip_bytes(file, packed ? packed : data, stored_bytes);
    free(packed);
    if (odd.descriptor) {
        zip_number(file, 0x08074b50, 4);
        zip_number(file, crc, 4);
        zip_number(file, stored_bytes, 4);
        zip_number(file, bytes, 4);
    }
    uint64_t claimed_stored = stored_bytes + (uint64_t)odd.stored_more, claimed_bytes = bytes + (uint64_t)odd.size_more;
    uint64_t claimed_offset = offset + (uint64_t)odd.offset_more;
    zip_number(directory, 0x02014b50, 4);
    zip_number(directory, 20, 2);
    zip_number(directory, 20, 2);
    zip_number(directory, flags, 2);
    zip_number(directory, method, 2);
    zip_number(directory, 0, 4);
    zip_number(directory, crc, 4);
    zip_number(directory, odd.zip64 ? UINT32_MAX : claimed_stored, 4);
    zip_number(directory, odd.zip64 ? UINT32_MAX : claimed_bytes, 4);
    zip_number(directory, name_bytes, 2);
    zip_number(directory, odd.zip64 ? 6 + 28 : 0, 2);
    zip_number(directory, odd.comment, 2);
    zip_number(directory, odd.disk, 2);
    zip_number(directory, 0, 2);
    zip_number(directory, 0, 4);
    zip_number(directory, odd.zip64 ? UINT32_MAX : claimed_offset, 4);
    zip_bytes(directory, name, name_bytes);
    if (odd.zip64) {
        zip_number(directory, 0xbeef, 2); /* another field in front */
        zip_number(directory, 2, 2);
        zip_number(directory, 0, 2);
        zip_number(directory, 1, 2);
        zip_number(directory, 24, 2);
        zip_number(directory, claimed_bytes, 8);
        zip_number(directory, claimed_stored, 8);
        zip_number(directory, claimed_offset, 8);
    }
    zip_room(directory, odd.comment);
    zip->count++;
}

static inline void zip_put_plain(struct zip_writer *zip, const char *name, const void *data, size_t bytes)
{
    zip_put(zip, name, strlen(name), data, bytes, (struct zip_odd){0});
}

static inline void zip_front(struct zip_writer *zip, size_t bytes)
{
    zip_room(&zip->file, bytes);
    zip->front_bytes = bytes;
}

/* Write the directory and its end. */
static inline void zip_finish(struct zip_writer *zip, const char *comment)
{
    struct zip_buffer *file = &zip->file;
    uint64_t offset = file->bytes - zip->front_bytes, bytes = zip->directory.bytes;
    zip_bytes(file, zip->directory.data, bytes);
    if (zip->zip64) {
        uint64_t at = file->bytes - zip->front_bytes;
        zip_number(file, 0x06064b50, 4);
        zip_number(file, 44, 8);
        zip_number(file, 45, 2);
        zip_number(file, 45, 2);
        zip_number(file, 0, 8);
        zip_number(file, zip->count, 8);
        zip_number(file, zip->count, 8);
        zip_number(file, bytes, 8);
        zip_number(file, offset, 8);
        zip_number(file, 0x07064b50, 4);
        zip_number(file, 0, 4);
        zip_number(file, at, 8);
        zip_number(file, 1, 4);
    }
    zip_number(file, 0x06054b50, 4);
    zip_number(file, 0, 4);
    zip_number(file, zip->zip64 ? UINT16_MAX : zip->count, 2);
    zip_number(file, zip->zip64 ? UINT16_MAX : zip->count, 2);
    zip_number(file, zip->zip64 ? UINT32_MAX : bytes, 4);
    zip_number(file, zip->zip64 ? UINT32_MAX : offset, 4);
    zip_number(file, strlen(comment), 2);
    zip_bytes(file, comment, strlen(comment));
}

static inline void zip_free(struct zip_writer *zip)
{
    free(zip->file.data);
    free(zip->directory.data);
    memset(zip, 0, sizeof *zip);
}

#endif
