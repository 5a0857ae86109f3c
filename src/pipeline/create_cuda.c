/* The CUDA backend of a pipeline: which device, how its memory is shared out between batches and waves, and what that leaves.
 */
#include "backend/cuda/cuda_backend.h"
#include "base/bytes.h"
#include "base/error.h"
#include "base/log.h"
#include "base/numa.h"
#include "pipeline/pipeline.h"

#include <stdio.h>

#define MIB (1024ull * 1024)

static enum damacy_status too_small(const struct damacy *pipeline, const struct dmc_cuda_nvcomp *nvcomp, uint64_t device_limit,
                                    uint64_t batches, uint64_t pinned, struct damacy_error *error)
{
    struct dmc_wave_limits limits = {0};
    uint32_t count = 0;
    dmc_cuda_choose_waves(UINT64_MAX, UINT64_MAX, nvcomp, &count, &limits);
    uint64_t best_device = batches + count * dmc_wave_device_bytes(&limits),
             best_pinned = count * dmc_wave_pinned_bytes(&limits);
    dmc_error_set(error, DAMACY_BUDGET, "config",
                  "the configuration needs more memory:\n"
                  "  on the device   batch buffers %.1f MiB (batch_slots %u x %.1f MiB) and waves, limit %.1f MiB "
                  "(max_gpu_memory_bytes)\n"
                  "  pinned          waves, %.1f MiB are left of max_host_memory_bytes\n"
                  "  full speed needs %.1f MiB on the device and %.1f MiB pinned",
                  (double)batches / (double)MIB, pipeline->config.tuning.batch_slots,
                  (double)pipeline->layout.batch_bytes / (double)MIB, (double)device_limit / (double)MIB,
                  (double)pinned / (double)MIB, (double)best_device / (double)MIB, (double)best_pinned / (double)MIB);
    return DAMACY_BUDGET;
}

/* Where the caller left it open: a quarter of the device memory for batches, the rest is better used by waves. */
static void lower_slots(struct damacy *pipeline, uint64_t device_limit)
{
    struct damacy_tuning *tuning = &pipeline->config.tuning;
    const uint64_t least = pipeline->layout.batch_slots_least, fit = device_limit / 4 / pipeline->layout.batch_bytes;
    if (least)
        tuning->batch_slots = (uint32_t)dmc_min_u64(tuning->batch_slots, dmc_max_u64(least, fit));
}

/* Files kept open for GPUDirect Storage; the file store has open_files_max of its own. */
#define DIRECT_FILES_MAX 256u

static enum damacy_status create_cufile(const struct damacy *pipeline, const struct dmc_pipeline_extras *extras,
                                        struct dmc_cuda_device *device, uint32_t reader_count, struct dmc_cufile **cufile,
                                        struct damacy_error *error)
{
    const struct dmc_cufile_library *library = extras->cuda_cufile;
    const uint32_t open_files_max = pipeline->config.tuning.open_files_max;
    uint64_t files_max = open_files_max ? open_files_max / 4 : DIRECT_FILES_MAX;
    enum damacy_status status = DAMACY_OK;
    if (!pipeline->config.gpu_direct_storage)
        return DAMACY_OK;
    if (!library)
        status = dmc_cufile_load(&library, error);
    if (status == DAMACY_OK)
        status = dmc_cufile_create(
            library, device, (uint32_t)dmc_max_u64(reader_count, dmc_min_u64(files_max, DIRECT_FILES_MAX)), cufile, error);
    return status;
}

static enum damacy_status create_on(struct damacy *pipeline, const struct dmc_pipeline_extras *extras,
                                    struct dmc_cuda_device *device, uint32_t reader_count, struct damacy_error *error)
{
    lower_slots(pipeline, device->budget.limit_bytes);
    const struct damacy_tuning *tuning = &pipeline->config.tuning;
    struct dmc_cuda_options options = {
        .reader_count = reader_count,
        .batches_max = tuning->batch_slots,
        .reads_in_flight = tuning->reads_in_flight,
        .remote_reads_in_flight = dmc_config_remote_reads(&pipeline->config),
        .reader_bytes = tuning->worker_bytes,
        .decode = (enum dmc_cuda_placement)pipeline->config.decode,
        .verify_full = pipeline->config.verify == DAMACY_VERIFY_FULL,
        .bypass_decode = tuning->bypass_decode == 1,
        .io_uring_never = tuning->io_uring == 2,
    };
    const struct dmc_cuda_nvcomp *nvcomp;
    enum damacy_status status = dmc_cuda_choose_decoder(device, &nvcomp, error);
    options.nvcomp = nvcomp;
    if (status == DAMACY_OK)
        status = create_cufile(pipeline, extras, device, reader_count, &options.cufile, error);
    if (status != DAMACY_OK)
        return status;
    uint64_t limit = device->budget.limit_bytes - dmc_budget_used(&device->budget); /* libcufile's part is set aside */
    uint64_t batches = tuning->batch_slots * pipeline->layout.batch_bytes;
    uint64_t pinned = pipeline->layout.pinned_bytes;
    if (batches > limit || !dmc_cuda_choose_waves(limit - batches, pinned, nvcomp, &options.wave_count, &options.wave)) {
        dmc_cufile_destroy(options.cufile);
        return too_small(pipeline, nvcomp, limit, batches, pinned, error);
    }
    dmc_log(DMC_PIPELINE, DAMACY_LOG_INFO,
            "CUDA device %d: %u waves of %llu decoded bytes, %llu bytes each on the device, %llu pinned%s", device->ordinal,
            options.wave_count, (unsigned long long)options.wave.decoded_bytes,
            (unsigned long long)dmc_wave_device_bytes(&options.wave), (unsigned long long)dmc_wave_pinned_bytes(&options.wave),
            options.nvcomp ? "; zstd and lz4 by nvcomp" : "");
    struct dmc_backend_hooks hooks = {
        .user = pipeline,
        .fail = dmc_scheduler_fail,
        .bind = dmc_scheduler_bind,
        .done = dmc_scheduler_done,
        .broken = dmc_scheduler_broken,
        .unfenced = dmc_scheduler_unfenced,
    };
    return dmc_cuda_create(&options, &hooks, &pipeline->budget, device, &pipeline->backend, error);
}

enum damacy_status dmc_pipeline_create_cuda(struct damacy *pipeline, const struct dmc_pipeline_extras *extras,
                                            struct damacy_error *error)
{
    struct dmc_cuda_device *device = NULL;
    enum damacy_status status =
        dmc_cuda_open(extras->cuda_driver, extras->cuda_image, extras->sysfs, pipeline->config.device_ordinal,
                      pipeline->config.max_gpu_memory_bytes, &device, error);
    if (status != DAMACY_OK)
        return status;
    device->nvcomp = extras->cuda_nvcomp;
    device->nvcomp_never = extras->cuda_driver != NULL;
    /* Threads and pinned memory are made from here on: on the device's node. */
    struct dmc_numa_place place;
    uint32_t reader_count = dmc_pipeline_numa_enter(pipeline, extras, device->numa_node, &place);
    status = create_on(pipeline, extras, device, reader_count, error);
    dmc_numa_leave(&place);
    dmc_cuda_device_release(device); /* the backend has its own reference */
    return status;
}

enum damacy_device_type dmc_config_device(enum damacy_device_type wanted)
{
    if (wanted != DAMACY_AUTO_DEVICE)
        return wanted;
    return dmc_cuda_available(NULL) == DAMACY_OK ? DAMACY_CUDA_DEVICE : DAMACY_CPU;
}
