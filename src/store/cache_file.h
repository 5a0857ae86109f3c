/* The cache's files: one a version of an object, sparse, with every byte at its own place.
 *
 *     0     "DMCCACH1"
 *     8     u32 crc32c of [12, 4088)
 *     12    u32 bytes of the name
 *     16    u64 version tag
 *     24    u64 bytes of the object
 *     32    the name: identity, '\n', key
 *     4088  u64 when the inner store last confirmed the tag, seconds since 1970; not under the checksum, as it changes
 *     4096  a table, 8 bytes for each block of 4096 bytes of the object: u16 begin, u16 end, u32 check
 *     ...   from the next multiple of 4096 on: the object's bytes
 *
 * A block's bytes [begin, end) are there if their crc32c, mixed with the tag and the number of the block, equals `check`. Bytes
 * are written before their entry is. Nothing else orders the writers of several processes, and nothing has to: under one tag
 * all of them write the same bytes, and an entry that lost a race or met a power cut either still matches what is there, or
 * does not and counts as absent. Files are made under another name and renamed, so the header is always whole; they are removed
 * by cutting them to no length first, which frees the space even while others have them open. Numbers are little-endian.
 *
 * Folder: FOLDER/ab/HEX (the hash of the name, the first byte as a folder), FOLDER/tmp/ (files being made), FOLDER/usage (bytes
 * in use, under flock), FOLDER/evict.lock (who makes room holds it), CACHEDIR.TAG. */
#ifndef DMC_CACHE_FILE_H
#define DMC_CACHE_FILE_H

#include "base/thread.h"
#include "store/cache_store.h"

#define DMC_CACHE_BLOCK 4096u
#define DMC_CACHE_NAME_MAX (4088u - 32u)
#define DMC_CACHE_OBJECT_MAX (1ull << 43)

/* A file that is open, shared by all threads of this process. */
struct dmc_cache_file {
    /* constant while there are references */
    uint64_t hash[2];
    int fd;
    bool writable;
    uint64_t tag;
    uint64_t object_bytes;
    uint64_t data_begin;
    /* any thread */
    _Atomic uint64_t validated_s;
    _Atomic uint64_t looked_s; /* when we last looked whether the file is still the one of its name */
    _Atomic bool served;       /* bytes of it have been delivered by this cache */
    _Atomic bool stale;        /* removed, or of a tag that is no more: not to be used again */
    /* shared, under the lock of the table */
    uint32_t references;
    bool listed;
    struct dmc_cache_file *chain, *newer, *older;
};

struct dmc_cache_files;

enum damacy_status dmc_cache_files_create(int folder_fd, uint32_t open_files_max, struct dmc_cache_files **files,
                                          struct damacy_error *error);
/* Closes all that is not in use. false: something is; all was left behind. */
bool dmc_cache_files_destroy(struct dmc_cache_files *files);

/* The name of an object, and its hash. false: it is too long to be kept. */
struct dmc_cache_name {
    const char *identity, *key;
    uint64_t hash[2];
    uint32_t bytes;
};
bool dmc_cache_name_make(const char *identity, const char *key, struct dmc_cache_name *name);

/* The file of an object, or NULL if there is none (any more), it is damaged, or too many are in use. */
struct dmc_cache_file *dmc_cache_file_acquire(struct dmc_cache_files *files, const struct dmc_cache_name *name);
void dmc_cache_file_release(struct dmc_cache_files *files, struct dmc_cache_file *file);
/* It is of no use any more: remove its name if that is still its own. The caller keeps its reference. */
void dmc_cache_file_discard(struct dmc_cache_files *files, struct dmc_cache_file *file);
/* Make the file of an object, and put it in place of what has its name. NULL with errno set. `write` is dmc_cache_write. */
struct dmc_cache_file *dmc_cache_file_make(struct dmc_cache_files *files, const struct dmc_cache_name *name, uint64_t tag,
                                           uint64_t object_bytes, uint64_t now_s);
/* The inner store has confirmed the tag. */
void dmc_cache_file_confirm(struct dmc_cache_file *file, uint64_t now_s);
/* Is it still the file of its name? One fstat. */
bool dmc_cache_file_alive(struct dmc_cache_file *file);

/* Which part of [begin, end) of the object, begin < end, is not there as the table says: the bytes from the first missing one
 * to the last, none when all is there. One pread for every 2 MiB. */
void dmc_cache_file_missing(struct dmc_cache_file *file, uint64_t begin, uint64_t end, uint64_t *missing_begin,
                            uint64_t *missing_end);

/* What a check of bytes against the table found. */
enum dmc_cache_check { DMC_CACHE_GOOD, DMC_CACHE_GONE, DMC_CACHE_DAMAGED };
/* `parts` hold the object's bytes from the beginning of the block of `begin` to the end of the block of `end` (or of the
 * object), read from the file. Are those of [begin, end) what was written? Entries that do not match are taken out of the
 * table. GONE: they are not there any more, or the block was written to since the bytes were read. */
enum dmc_cache_check dmc_cache_file_check(struct dmc_cache_file *file, uint64_t begin, uint64_t end, const struct iovec *parts,
                                          uint32_t part_count);

/* Before each write of the cache; tests let it fail. */
struct dmc_cache_writer {
    int (*write_fault)(void *user, uint64_t n);
    void *user;
    uint64_t count;
    /* Set aside so many bytes of the folder's cap; false: there is no room. */
    bool (*reserve)(void *user, uint64_t bytes);
    void *reserve_user;
};
enum dmc_cache_wrote { DMC_CACHE_WROTE, DMC_CACHE_NO_ROOM, DMC_CACHE_WRITE_FAILED };
/* Keep [begin, begin + bytes) of the object. Adds what was new to *stored. WRITE_FAILED sets errno. One thread at a time. */
enum dmc_cache_wrote dmc_cache_file_write(struct dmc_cache_file *file, struct dmc_cache_writer *writer, uint64_t begin,
                                          const unsigned char *data, uint64_t bytes, uint64_t *stored);

/* All of it, or -1 with errno set. */
int dmc_cache_write(int fd, const void *data, uint64_t bytes, uint64_t offset);
/* Bytes read before the end of the file, or -1. */
int64_t dmc_cache_read(int fd, void *data, uint64_t bytes, uint64_t offset);

#endif
