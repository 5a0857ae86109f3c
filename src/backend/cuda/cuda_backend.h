/* The CUDA backend: reader threads bring stored bytes into the pinned memory of wave slots; one submitter thread copies,
 * decodes and assembles wave after wave on the device.
 *
 *     submit --> ring of batches --claim--> readers: start read --> done --> reserve room in the filling wave --> copy bytes in
 *                                              ^                              \-> what no GPU decoder takes: decode on this
 * core | again, on the CPU                                               | close
 *                                              +--- status is bad --- submitter <-- event --- assemble <- decode <- copy
 *
 * A wave is closed when it is full, or when the device would otherwise idle (see close_wanted in cuda_backend.c). A task is
 * finished when its waves are; a batch when its tasks are. A chunk that the device cannot decode is read again and decoded by a
 * reader, with the same result, or the same error, as on the CPU backend. An error of the driver ends the backend:
 * hooks->broken. */
#ifndef DMC_CUDA_BACKEND_H
#define DMC_CUDA_BACKEND_H

#include "backend/backend.h"
#include "backend/cuda/cuda_cufile.h"
#include "backend/cuda/cuda_device.h"
#include "backend/cuda/cuda_wave.h"

enum dmc_cuda_placement { DMC_CUDA_AUTO, DMC_CUDA_GPU, DMC_CUDA_CPU };

struct dmc_cuda_options {
    uint32_t reader_count;
    uint32_t batches_max;            /* most batches submitted and not done */
    uint32_t reads_in_flight;        /* per reader */
    uint32_t remote_reads_in_flight; /* the same while it reads over a network, as on the CPU; less: reads_in_flight */
    uint64_t reader_bytes;           /* of reads in flight per reader; one read may be longer while the budget allows */
    uint32_t wave_count;
    struct dmc_wave_limits wave;
    enum dmc_cuda_placement decode;
    bool nvcomp; /* it decodes zstd and lz4, in place of our own decoder */
    bool verify_full;
    bool bypass_decode; /* chunks that were read are copied to the device, and their pieces get the fill value */
    bool io_uring_never;
    struct dmc_cufile
        *cufile; /* gpu_direct_storage; the backend's from dmc_cuda_create() on, whatever that returns; NULL: off */
};

/* Who decodes zstd and lz4 on the device: DAMACY_GPU_DECODER. *nvcomp is NULL where our own does. INVAL for another word,
 * UNSUPPORTED with what to do if nvcomp is asked for and is not here. */
enum damacy_status dmc_cuda_choose_decoder(struct dmc_cuda_device *device, const struct dmc_cuda_nvcomp **nvcomp,
                                           struct damacy_error *error);

/* How large waves should be within these bounds: as many and as large as gains anything, fewer and smaller where memory is
 * short. `nvcomp`: sized as it wants them; NULL: as our own decoder does. false: not even the smallest fit. */
bool dmc_cuda_choose_waves(uint64_t device_bytes, uint64_t pinned_bytes, const struct dmc_cuda_nvcomp *nvcomp,
                           uint32_t *wave_count, struct dmc_wave_limits *limits);

/* OK if this build and this machine could run it; else UNSUPPORTED with the reason. */
enum damacy_status dmc_cuda_available(struct damacy_error *error);

/* Open the device; a reference is the caller's. `driver`, `image`, `sysfs`: NULL takes the machine's, the embedded one, /sys.
 */
enum damacy_status dmc_cuda_open(const struct dmc_cuda_driver *driver, const void *image, const char *sysfs, int32_t ordinal,
                                 uint64_t limit_bytes, struct dmc_cuda_device **device, struct damacy_error *error);

/* Start threads and allocate waves. `budget` is borrowed: pinned memory and readers' buffers are drawn from it. The device is
 * retained. */
enum damacy_status dmc_cuda_create(const struct dmc_cuda_options *options, const struct dmc_backend_hooks *hooks,
                                   struct dmc_budget *budget, struct dmc_cuda_device *device, struct dmc_backend **backend,
                                   struct damacy_error *error);

#endif
