/* Wave slots: bounded groups of chunks that are copied, decoded and assembled together, oldest first and across batch
 * boundaries. Each has its own pinned, device and scratch memory, its own streams and events.
 *
 *     FREE --open--> FILLING --close--> CLOSED --last writer gone, enqueue--> FLYING --event--> FREE
 *                    readers reserve    readers finish writing                 the device's
 *
 * Readers reserve room under the backend's lock and write without it; `writers` counts those that have not finished. Everything
 * from CLOSED without writers to FREE belongs to the submitter.
 *
 * What follows what, on the wave's stream (producer -> consumer: what it protects):
 *     readers -> copies            writers == 0 under the lock: the pinned memory is complete
 *     copies -> decode -> assemble order of the stream: device copies of stored bytes, table, records; decoded chunks; statuses
 *     decode's side stream         joined by the decoder before its work on `stream` ends (launcher.order): scratch memory
 *     assemble -> whoever pops     event `done`, seen by the submitter before it counts a task as finished: the batch buffer
 *     done -> readers              the same: pinned and device memory of the slot may be written again
 *     consumer -> assemble         the batch's slot is planned again only when its fences have passed (struct
 * dmc_backend_memory)
 *
 * Layout, the same in pinned and in device memory so that offsets are shared; one copy of the stored bytes, and one of each of
 * the three descriptions as far as they are used: | pad | stored, packed | pad | index | records | table |     on the host also
 * | statuses |, on the device | decoded | scratch |
 *
 * With gpu_direct_storage the device reads some of the stored bytes itself, to where they belong there. They fill the same
 * space from its end downwards, so that what is to be copied stays one piece:   | copied --> | free | <-- read by the device |
 */
#ifndef DMC_CUDA_WAVE_H
#define DMC_CUDA_WAVE_H

#include "backend/cuda/assemble_tile.h"
#include "backend/cuda/cuda_cufile.h"
#include "backend/cuda/cuda_device.h"

/* Sizes of a slot. */
struct dmc_wave_limits {
    uint64_t stored_bytes;
    uint64_t decoded_bytes;
    uint64_t scratch_bytes;
    uint64_t table_bytes;
    uint64_t records_bytes;
    uint32_t piece_max;
    uint32_t chunk_max; /* that the decoder takes */
};

/* What goes into a wave: one chunk's bytes, or some of its pieces, or both; or a whole read with all its chunks. */
struct dmc_wave_room {
    uint64_t stored_bytes;
    uint64_t decoded_bytes;
    uint64_t records_bytes;
    uint64_t tiles;
    uint64_t target_bytes; /* that its pieces will write */
    uint32_t pieces;
    uint32_t entries; /* chunks; each has at least one piece */
    bool direct;      /* the device reads the stored bytes itself (gpu_direct_storage): nothing is to be copied */
};

/* Stored bytes that the device reads begin at an address that is a multiple of this; for so many bytes less one more is to be
 * asked. */
#define DMC_WAVE_DIRECT_ALIGN DMC_CUFILE_ALIGN

/* Where it goes. Offsets are multiples of 64 (stored) and 256 (decoded). Whoever fills a place with several chunks moves it on
 * from chunk to chunk. */
struct dmc_wave_place {
    struct dmc_wave *wave;
    uint64_t stored, decoded, record, tile_begin;
    uint32_t piece, entry;
};

#define DMC_WAVE_READ_NONE UINT32_MAX

/* A task, or part of one, that is finished when the wave is. */
struct dmc_wave_entry {
    struct dmc_backend_batch *batch;
    uint32_t read; /* to be read again for the CPU when the status is bad; NONE: nothing to go wrong */
    uint32_t chunk;
    uint32_t status; /* its chunk's place among the statuses, or DMC_PIECE_STATUS_NONE */
};

enum dmc_wave_state { DMC_WAVE_FREE, DMC_WAVE_FILLING, DMC_WAVE_CLOSED, DMC_WAVE_FLYING };

struct dmc_wave {
    /* constant */
    uint32_t number;
    struct dmc_cuda_device *device;
    struct dmc_budget *host_budget;
    struct dmc_wave_limits limits;
    uint64_t pinned_bytes, device_bytes;
    uint8_t *pinned;
    dmc_cu_address memory;
    uint64_t stored_at, index_at, records_at, table_at, host_statuses_at; /* offsets, see above */
    dmc_cu_address decoded, scratch;
    struct dmc_cuda_wave *decode;
    bool fills_only;           /* bypass_decode: pieces get the fill value, whatever was read */
    struct dmc_cufile *cufile; /* set before init; NULL: the device reads nothing itself */
    bool registered;           /* the device's stored bytes, with cufile */
    dmc_cu_stream stream, side;
    dmc_cu_event begun, copied, decoded_event, done, order;
    /* shared_ : the backend's lock */
    enum dmc_wave_state state;
    uint32_t writers;
    uint32_t written; /* reservations whose writers have finished */
    bool full;        /* somebody found no room: close it */
    uint64_t stored_used, decoded_used, records_used, tile_count, target_bytes;
    uint64_t direct_begin; /* of what the device reads itself, up to limits.stored_bytes */
    uint32_t piece_count, entry_count;
    /* entries[i] is written by the reader that reserved it; read by the submitter once writers == 0 */
    struct dmc_wave_entry *entries; /* piece_max of them */
    /* the submitter's while FLYING */
    struct dmc_cuda_wave_info info;
    uint64_t closed_ns;
    uint64_t enqueued_ns;
    uint64_t flight; /* of the decode gap */
    uint64_t range;  /* of NVTX */
    bool copying;
};

/* Device and pinned bytes of one slot. */
uint64_t dmc_wave_device_bytes(const struct dmc_wave_limits *limits);
uint64_t dmc_wave_pinned_bytes(const struct dmc_wave_limits *limits);

/* init: inside dmc_cuda_enter(). deinit takes zeroed and half-built ones; `entered` false: the context could not be entered, so
 * it is gone with all that was made there, and only memory of our own is freed. */
enum damacy_status dmc_wave_init(struct dmc_wave *wave, struct dmc_cuda_device *device, struct dmc_budget *host_budget,
                                 const struct dmc_wave_limits *limits, struct damacy_error *error);
void dmc_wave_deinit(struct dmc_wave *wave, bool entered);

/* Would an empty wave have room for this? */
bool dmc_wave_fits(const struct dmc_wave_limits *limits, const struct dmc_wave_room *room);

/* Decoded bytes that a chunk takes of a room. */
static inline uint64_t dmc_wave_decoded_bytes(uint64_t chunk_bytes)
{
    return (chunk_bytes + 255) & ~(uint64_t)255;
}

/* Under the backend's lock. reserve: false when there is no room, and then `full` is set. A reservation makes a writer, and
 * entries that finish nobody until they are set. */
void dmc_wave_open_locked(struct dmc_wave *wave);
bool dmc_wave_reserve_locked(struct dmc_wave *wave, const struct dmc_wave_room *room, struct dmc_wave_place *place);

/* How much of its space for stored bytes is taken. */
static inline uint64_t dmc_wave_stored_taken_locked(const struct dmc_wave *wave)
{
    return wave->stored_used + wave->limits.stored_bytes - wave->direct_begin;
}

static inline uint8_t *dmc_wave_stored(const struct dmc_wave_place *place)
{
    return place->wave->pinned + place->wave->stored_at + place->stored;
}
static inline uint64_t dmc_wave_stored_device(const struct dmc_wave_place *place)
{
    return place->wave->memory + place->wave->stored_at + place->stored;
}
static inline uint64_t dmc_wave_decoded_device(const struct dmc_wave_place *place)
{
    return place->wave->decoded + place->decoded;
}

/* What pieces [begin, end) of a chunk take: adds to room->records_bytes, tiles and pieces; stops before a piece that an empty
 * wave would not hold together with those before it. Returns where it stopped, at least begin + 1. */
uint32_t dmc_wave_measure(const struct dmc_wave_limits *limits, const struct dmc_backend_batch *batch, uint32_t begin,
                          uint32_t end, struct dmc_wave_room *room);
/* Where the elements of a chunk's pieces come from. */
struct dmc_wave_source {
    uint64_t chunk_device; /* address of the decoded chunk's byte 0 (or where it would be); ignored for fills */
    uint64_t chunk_bytes;  /* only of a chunk in planes */
    struct dmc_cuda_planes planes;
    uint32_t status; /* the chunk's place among the statuses, or DMC_PIECE_STATUS_NONE */
    bool fill;
};

/* Write the records, and move the place behind them. */
void dmc_wave_write_pieces(struct dmc_wave_place *place, const struct dmc_backend_batch *batch,
                           const struct dmc_backend_array *array, uint32_t begin, uint32_t end,
                           const struct dmc_wave_source *source);
/* The same for pieces that shall not be assembled, with all that was reserved for them: they become fills of no rows. */
void dmc_wave_write_nothing(struct dmc_wave_place *place, const struct dmc_wave_room *room);

/* The submitter's. Nothing is left to write: launch. */
enum damacy_status dmc_wave_enqueue(struct dmc_wave *wave, struct damacy_error *error);
/* OK: done; AGAIN: not yet; else the device failed. Keeps `copying` up to date. */
enum damacy_status dmc_wave_poll(struct dmc_wave *wave, struct damacy_error *error);
/* After done: the status of a chunk. */
uint32_t dmc_wave_status(const struct dmc_wave *wave, uint32_t index);
/* After done: nanoseconds of the stages on the device. */
void dmc_wave_times(const struct dmc_wave *wave, uint64_t *copy_ns, uint64_t *decode_ns, uint64_t *assemble_ns);

#endif
