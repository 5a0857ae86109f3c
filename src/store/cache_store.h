/* A cache on the local disk, as a decorator over any store: what was read once is read from here the next time.
 *
 * One folder serves any number of pipelines and processes of a machine at once, and several stores of one pipeline share a
 * struct dmc_cache. Byte ranges are kept as they were read, in one sparse file an object (cache_file.h draws it). Each block of
 * 4 KiB carries a checksum that is verified on every read, so whatever a killed process, a full disk or a bad sector left
 * behind is found and read again from the inner store, never delivered.
 *
 * What is consistent with what:
 *   - Bytes are kept under the version tag that the inner store gave with them (a hash of the ETag, say). A file of the cache
 *     belongs to one tag for all its life. What comes without a tag or a size is not kept.
 *   - An object is trusted for `max_age_s` after the inner store last confirmed its tag to any process. After that the next
 * read of it goes to the inner store as if nothing was cached, and the tag of the answer decides about all other bytes of it.
 * So no request is made for the sake of checking alone.
 *   - Metadata (zarr.json, .zarray, .zattrs, .zgroup, .zmetadata) always come from the inner store, and are not kept: a
 * pipeline keeps them in memory anyway, and with them it sees at once that an array was written anew. That an object is absent
 * is not kept.
 *   - When an answer of the inner store shows a new tag for an object of which this cache has already delivered bytes under the
 *     old one, that read fails and says so; the old bytes are dropped, and later reads see the new version only.
 *
 * A range of which only the beginning or the end is there is read from both: what is missing, from its first byte to its last,
 * with one request, if that saves a quarter of the range; else all of it.
 *
 * What the workers do: a hit is a look into a table, one small pread, and a read like that of the file store (at once where the
 * page cache has it, else through the ring). After a miss they copy the bytes into a bounded queue; a thread of the cache
 * writes them. When the queue is full bytes are not kept (`dropped_bytes`). The oldest objects make room: least recently used
 * by modification time, which a hit renews at most once a second. The cap is honoured by all processes together. When the
 * folder cannot be written (read-only, full) the cache says so once and goes on without keeping anything new. */
#ifndef DMC_CACHE_STORE_H
#define DMC_CACHE_STORE_H

#include "store/store.h"

struct dmc_cache;

struct dmc_cache_options {
    const char *folder;      /* made if it is not there, parents too; 0700, as what is in it may be private */
    uint64_t bytes_max;      /* of the whole folder; 0: a tenth of the file system */
    uint64_t max_age_s;      /* UINT64_MAX: for ever; 0: each cache asks once for each object */
    uint64_t queue_bytes;    /* memory for what waits to be written; 0: 16 MiB */
    uint32_t open_files_max; /* 0: 1024, or an eighth of RLIMIT_NOFILE if that is less */
    /* Tests: before the n-th write; an errno makes it fail. NULL: none. */
    int (*write_fault)(void *user, uint64_t n);
    void *write_fault_user;
};

struct dmc_cache_stats {
    uint64_t hits, hit_bytes;       /* reads answered from the disk */
    uint64_t misses, miss_bytes;    /* reads that went to the inner store, and what it delivered */
    uint64_t partial;               /* of the misses, those of which a part was here; its bytes count as hit_bytes */
    uint64_t bypassed;              /* reads that the cache does not serve: metadata, more parts than it handles */
    uint64_t revalidated;           /* objects whose tag the inner store confirmed after max_age_s */
    uint64_t changed;               /* objects that had another tag */
    uint64_t stored_bytes;          /* written to the disk */
    uint64_t dropped_bytes;         /* not written: queue full, no room, or writing is off */
    uint64_t damaged;               /* reads that met bytes which do not match their checksum */
    uint64_t evicted_bytes;         /* removed by this process to make room */
    uint64_t used_bytes, bytes_max; /* of the folder, all processes together; used includes room that was set aside */
    bool writes_off;
};

/* Starts the thread that writes. A folder that cannot be used is no error: the cache warns, and passes everything through.
 * INVAL for an empty folder or a cap below 1 MiB. */
enum damacy_status dmc_cache_create(const struct dmc_cache_options *options, struct dmc_cache **cache,
                                    struct damacy_error *error);
/* After its stores. What is still queued is written first, for two seconds at most. NULL allowed. */
void dmc_cache_destroy(struct dmc_cache *cache);
void dmc_cache_stats_get(struct dmc_cache *cache, struct dmc_cache_stats *stats);
/* Tests: wait until all that is queued has been written or dropped. */
void dmc_cache_flush(struct dmc_cache *cache);

/* A store whose reads go through the cache to `inner` (not owned). `identity` says where the keys live, the same for all
 * processes and different for different places: "s3://endpoint/bucket". At most one such store in a chain of decorators. */
enum damacy_status dmc_store_cache_create(struct dmc_cache *cache, struct dmc_store *inner, const char *identity,
                                          struct dmc_store **store, struct damacy_error *error);

#endif
