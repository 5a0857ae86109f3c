/* The directory of a zip file. Pure: bytes come from a callback.
 *
 *     [local header, name, extra][data][data descriptor]?   one an entry, anywhere in the file
 *     ...
 *     [central header, name, extra, comment] ...            the directory: what counts
 *     [zip64 end of directory][its locator]                 where 16 or 32 bits are too few
 *     [end of directory][comment]                           found from the end of the file
 *
 *     central header   0 "PK\1\2"  8 flags  10 method  16 crc  20 stored  24 size  28 name  30 extra  32 comment  34 disk  42
 * offset  46 local header     0 "PK\3\4"  6 flags  8 method  26 name  28 extra  30 end              0 "PK\5\6"  4 disk  6 disk
 * of the directory  8 entries  10 entries  12 bytes  16 offset  20 comment  22 zip64 locator    0 "PK\6\7"  4 disk  8 offset of
 * the zip64 end  16 disks  20 zip64 end        0 "PK\6\6"  16 disk  20 disk of the directory  24 entries  32 entries  40 bytes
 * 48 offset  56
 *
 * As Python's zipfile does it: of entries of the same name the last one counts (a Zarr array to which was appended has them),
 * sizes come from the directory and not from local headers or data descriptors, bytes in front of the first entry are allowed,
 * and how many entries the end claims does not matter. Names are taken byte by byte; what no key can mean (folders, absolute
 * names, '.', '..' or nothing between slashes) is left out. */
#ifndef DMC_ZIP_DIRECTORY_H
#define DMC_ZIP_DIRECTORY_H

#include "store/object_map.h"
#include <stdatomic.h>
#include <stdbool.h>

enum dmc_zip_refusal {
    DMC_ZIP_READABLE,
    DMC_ZIP_ENCRYPTED,
    DMC_ZIP_METHOD, /* neither stored nor deflated */
    DMC_ZIP_RANGE,  /* lies outside the file, or in the directory */
    DMC_ZIP_SIZES   /* its two sizes cannot both be true */
};

struct dmc_inflated_cell;

struct dmc_zip_entry {
    struct dmc_object_name name;
    uint64_t header_offset;
    uint64_t stored_bytes, object_bytes;
    uint32_t crc;
    uint16_t method;                /* 0: stored, 8: deflated */
    uint8_t refusal;                /* enum dmc_zip_refusal */
    _Atomic uint64_t data_offset;   /* 0: the local header was not looked at yet. Any thread: all find the same */
    struct dmc_inflated_cell *cell; /* under the lock of inflated.h */
};

/* All of [offset, offset + bytes), or an error. */
typedef enum damacy_status (*dmc_zip_read_fn)(void *user, uint64_t offset, void *to, size_t bytes, struct damacy_error *error);

/* Into a map of struct dmc_zip_entry. Takes 200 KiB beside it while it reads. DECODE: no zip file, or a damaged one;
 * UNSUPPORTED: split over several files, or an encrypted directory. */
enum damacy_status dmc_zip_directory_read(dmc_zip_read_fn read, void *user, uint64_t file_bytes, struct dmc_object_map *map,
                                          struct damacy_error *error);

#define DMC_ZIP_LOCAL_BYTES 30
/* Where the entry's data begin, by its local header. false: that is none, or the data would not fit. */
bool dmc_zip_local_header(const unsigned char header[DMC_ZIP_LOCAL_BYTES], const struct dmc_zip_entry *entry,
                          uint64_t file_bytes, uint64_t *data_offset);

#endif
