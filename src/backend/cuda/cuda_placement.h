/* Who decodes a chunk, with decode="auto": the device or the cores? From rates measured in this pipeline.
 *
 * Chunks are of kinds: codec and size. Of each kind a share goes to the cores, read by read, evenly spread. With a share s,
 * N cores and nanoseconds a decoded byte, the pipeline takes the longest of
 *
 *     cores    (read + s * decode) / N          reading, and decoding the share
 *     device   (1 - s) * device                 decoding the rest
 *     copy     (1 - s) * stored + s * decoded   over the bus, taken to move 54 GB/s
 *
 * and of the shares where two of them meet, 0 and 1, the one with the least of that is taken; the device alone, or the cores
 * alone, if that loses little. Kinds whose chunks the device decodes one serial step after the other for tens of milliseconds
 * are not shared: every batch would wait for such a chunk; of them the device's rate stays as it begins. Rates begin as
 * measured once on an H100 with 16 cores, and follow what the pipeline's own counters tell, a window at a time. Sparse
 * exploration keeps those of the side that is not used. Where a chunk is decoded changes no bit of it. */
#ifndef DMC_CUDA_PLACEMENT_H
#define DMC_CUDA_PLACEMENT_H

#include "backend/cuda/cuda_decoder.h"

#include <stdatomic.h>

#define DMC_PLACEMENT_FORMATS 7u
#define DMC_PLACEMENT_SIZES 10u /* up to 8 KiB, 16 KiB, ... 4 MiB and above */
#define DMC_PLACEMENT_KINDS (DMC_PLACEMENT_FORMATS * DMC_PLACEMENT_SIZES)
#define DMC_PLACEMENT_WINDOW_NS 20000000u

/* Nanoseconds a decoded byte. */
struct dmc_placement_rates {
    double read;         /* a core's time for reading, and all else but decoding */
    double decode;       /* a core's */
    double device;       /* the device's, all of it at work */
    double copy_stored;  /* of a chunk that the device decodes */
    double copy_decoded; /* of one that comes decoded */
};

/* The share of the cores, 0 to 1; `whole`: 0 or 1. Pure. */
double dmc_placement_share(const struct dmc_placement_rates *rates, uint32_t cores, bool whole);

struct dmc_placement_kind {
    /* any thread, relaxed */
    _Atomic uint32_t share;                               /* of the cores, in 65536ths */
    _Atomic uint64_t turns;                               /* reads decided */
    _Atomic uint32_t explore;                             /* once measured, one in so many goes to the cores */
    _Atomic uint64_t cores_bytes, cores_ns, device_bytes; /* decoded so far */
    /* the observer's */
    struct dmc_placement_rates rates;
    uint64_t cores_bytes_seen, cores_ns_seen, device_bytes_seen;
    bool whole;         /* constant: not to be shared */
    double wanted;      /* the share before damping and exploration */
    uint32_t one_sided; /* windows since both sides were measured */
};

struct dmc_placement {
    uint32_t cores;
    struct dmc_placement_kind kinds[DMC_PLACEMENT_KINDS];
    /* the observer's: the sums at the end of the window before */
    struct dmc_placement_sums {
        uint64_t now_ns;
        uint64_t waited_ns;      /* of all cores: idle, waiting for storage, waiting for room */
        uint64_t device_busy_ns; /* the union of all decodes */
    } seen;
};

/* How long one core has waited. A wait may take many windows: one that is going on counts, too, or it would be taken for
 * reading until it ends. Its own thread writes, any reads. */
struct dmc_placement_waits {
    _Atomic uint64_t ended_ns;
    _Atomic uint64_t since_ns; /* a wait began then; 0: none */
};

void dmc_placement_wait_begin(struct dmc_placement_waits *waits, uint64_t now_ns);
void dmc_placement_wait_end(struct dmc_placement_waits *waits, uint64_t now_ns);
/* A wait that ends meanwhile may be missing, until the next time. */
uint64_t dmc_placement_waited_ns(const struct dmc_placement_waits *waits, uint64_t now_ns);

void dmc_placement_init(struct dmc_placement *placement, uint32_t cores, uint64_t now_ns);

uint32_t dmc_placement_kind_of(enum dmc_cuda_format format, uint64_t chunk_bytes);

/* Does this read's chunks' decoding go to the cores? Threads: any. */
bool dmc_placement_on_cores(struct dmc_placement *placement, uint32_t kind);

/* So much was decoded by a core, or given to the device. Threads: any. */
void dmc_placement_count_cores(struct dmc_placement *placement, uint32_t kind, uint64_t bytes, uint64_t ns);
void dmc_placement_count_device(struct dmc_placement *placement, uint32_t kind, uint64_t bytes);

/* Look at the sums now, and once a window has passed draw conclusions. One thread. */
void dmc_placement_observe(struct dmc_placement *placement, const struct dmc_placement_sums *now);

#endif
