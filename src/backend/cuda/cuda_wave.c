/* See cuda_wave.h. */
#include "backend/cuda/cuda_wave.h"
#include "backend/piece_fill.h"
#include "base/bytes.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/mem.h"

#define STORED_ALIGN 64u
#define DECODED_ALIGN 256u
#define PAD DMC_CUDA_STORED_PAD_BYTES

/* --- layout --- */

struct layout {
    uint64_t stored, index, records, table, statuses,
        pinned_end; /* offsets in pinned memory, and in device memory up to the table */
    uint64_t decoded, scratch, device_end;
};

static struct layout lay_out(const struct dmc_wave_limits *limits)
{
    struct layout layout;
    layout.stored = dmc_round_up(PAD, DECODED_ALIGN);
    layout.index = dmc_round_up(layout.stored + limits->stored_bytes + PAD, DECODED_ALIGN);
    layout.records = dmc_round_up(layout.index + (uint64_t)limits->piece_max * sizeof(struct dmc_tile_index), DECODED_ALIGN);
    layout.table = dmc_round_up(layout.records + limits->records_bytes, DECODED_ALIGN);
    layout.statuses = dmc_round_up(layout.table + limits->table_bytes, DECODED_ALIGN);
    layout.pinned_end = layout.statuses + (uint64_t)limits->chunk_max * sizeof(uint32_t);
    layout.decoded = layout.statuses; /* on the device */
    layout.scratch = dmc_round_up(layout.decoded + limits->decoded_bytes + 16, DECODED_ALIGN);
    layout.device_end = layout.scratch + limits->scratch_bytes;
    return layout;
}

uint64_t dmc_wave_device_bytes(const struct dmc_wave_limits *limits)
{
    return lay_out(limits).device_end;
}
uint64_t dmc_wave_pinned_bytes(const struct dmc_wave_limits *limits)
{
    return lay_out(limits).pinned_end;
}

/* --- making --- */

static dmc_cu_result make_streams(struct dmc_wave *wave)
{
    const struct dmc_cuda_driver *driver = wave->device->driver;
    dmc_cu_result result = driver->stream_create(&wave->stream, DMC_CU_STREAM_NON_BLOCKING);
    if (result == DMC_CU_SUCCESS)
        result = driver->stream_create(&wave->side, DMC_CU_STREAM_NON_BLOCKING);
    dmc_cu_event *timed[] = {&wave->begun, &wave->copied, &wave->decoded_event, &wave->done};
    for (size_t i = 0; result == DMC_CU_SUCCESS && i < sizeof timed / sizeof timed[0]; i++)
        result = driver->event_create(timed[i], 0);
    if (result == DMC_CU_SUCCESS)
        result = driver->event_create(&wave->order, DMC_CU_EVENT_DISABLE_TIMING);
    return result;
}

enum damacy_status dmc_wave_init(struct dmc_wave *wave, struct dmc_cuda_device *device, struct dmc_budget *host_budget,
                                 const struct dmc_wave_limits *limits, struct damacy_error *error)
{
    struct layout layout = lay_out(limits);
    wave->device = device;
    wave->host_budget = host_budget;
    wave->limits = *limits;
    wave->stored_at = layout.stored;
    wave->index_at = layout.index;
    wave->records_at = layout.records;
    wave->table_at = layout.table;
    wave->host_statuses_at = layout.statuses;
    wave->entries = dmc_calloc(limits->piece_max, sizeof *wave->entries);
    if (!wave->entries)
        return dmc_error_set(error, DAMACY_OOM, "config", "no memory for a wave");
    enum damacy_status status = dmc_cuda_wave_create(limits->chunk_max, &wave->decode, error);
    if (status == DAMACY_OK) {
        void *pinned = NULL;
        status = dmc_cuda_pinned_alloc(device, host_budget, layout.pinned_end, "a wave", &pinned, error);
        wave->pinned = pinned;
        wave->pinned_bytes = layout.pinned_end;
    }
    if (status == DAMACY_OK) {
        status = dmc_cuda_memory_alloc(device, layout.device_end, "a wave", &wave->memory, error);
        wave->device_bytes = layout.device_end;
        wave->decoded = wave->memory + layout.decoded;
        wave->scratch = wave->memory + layout.scratch;
    }
    if (status == DAMACY_OK && wave->cufile)
        wave->registered = dmc_cufile_memory_register(
            wave->cufile, wave->memory, dmc_round_up(layout.stored + limits->stored_bytes, DMC_WAVE_DIRECT_ALIGN));
    if (status != DAMACY_OK)
        return status;
    dmc_cu_result result = make_streams(wave);
    return result == DMC_CU_SUCCESS ? DAMACY_OK : dmc_cuda_error(device->driver, result, "cuStreamCreate", error);
}

static void free_on_device(struct dmc_wave *wave)
{
    const struct dmc_cuda_driver *driver = wave->device->driver;
    dmc_cu_stream streams[] = {wave->stream, wave->side};
    for (int i = 0; i < 2; i++)
        if (streams[i]) {
            driver->stream_synchronize(streams[i]); /* what is under way still uses the memory */
            driver->stream_destroy(streams[i]);
        }
    dmc_cu_event events[] = {wave->begun, wave->copied, wave->decoded_event, wave->done, wave->order};
    for (int i = 0; i < 5; i++)
        if (events[i])
            driver->event_destroy(events[i]);
    if (wave->registered)
        dmc_cufile_memory_deregister(wave->cufile, wave->memory);
    dmc_cuda_memory_free(wave->device, wave->memory, wave->device_bytes);
    dmc_cuda_pinned_free(wave->device, wave->host_budget, wave->pinned, wave->pinned_bytes);
}

void dmc_wave_deinit(struct dmc_wave *wave, bool entered)
{
    if (!wave->device)
        return;
    if (entered)
        free_on_device(wave);
    dmc_cuda_wave_destroy(wave->decode);
    dmc_free(wave->entries);
    *wave = (struct dmc_wave){0};
}

/* --- filling --- */

void dmc_wave_open_locked(struct dmc_wave *wave)
{
    wave->state = DMC_WAVE_FILLING;
    wave->writers = wave->written = 0;
    wave->full = false;
    wave->stored_used = wave->decoded_used = wave->records_used = wave->tile_count = wave->target_bytes = 0;
    wave->piece_count = wave->entry_count = 0;
    wave->direct_begin = wave->limits.stored_bytes;
    dmc_cuda_wave_begin(wave->decode, wave->pinned + wave->table_at, wave->limits.table_bytes, wave->limits.scratch_bytes);
}

bool dmc_wave_fits(const struct dmc_wave_limits *limits, const struct dmc_wave_room *room)
{
    return room->stored_bytes <= limits->stored_bytes && room->decoded_bytes <= limits->decoded_bytes &&
           room->records_bytes <= limits->records_bytes && room->pieces <= limits->piece_max;
}

bool dmc_wave_reserve_locked(struct dmc_wave *wave, const struct dmc_wave_room *room, struct dmc_wave_place *place)
{
    const struct dmc_wave_limits *limits = &wave->limits;
    if (wave->full || room->stored_bytes > wave->direct_begin - wave->stored_used ||
        room->decoded_bytes > limits->decoded_bytes - wave->decoded_used ||
        room->records_bytes > limits->records_bytes - wave->records_used ||
        room->pieces > limits->piece_max - wave->piece_count) {
        wave->full = true;
        return false;
    }
    *place = (struct dmc_wave_place){wave,
                                     wave->stored_used,
                                     wave->decoded_used,
                                     wave->records_used,
                                     wave->tile_count,
                                     wave->piece_count,
                                     wave->entry_count};
    if (room->direct) {
        const uint64_t base = wave->memory + wave->stored_at;
        place->stored = dmc_round_up(base + wave->direct_begin - room->stored_bytes, DMC_WAVE_DIRECT_ALIGN) - base;
        wave->direct_begin = place->stored;
    } else {
        wave->stored_used = dmc_min_u64(dmc_round_up(wave->stored_used + room->stored_bytes, STORED_ALIGN), wave->direct_begin);
    }
    wave->decoded_used =
        dmc_min_u64(dmc_round_up(wave->decoded_used + room->decoded_bytes, DECODED_ALIGN), limits->decoded_bytes);
    wave->records_used += room->records_bytes;
    wave->tile_count += room->tiles;
    wave->target_bytes += room->target_bytes;
    wave->piece_count += room->pieces;
    for (uint32_t i = 0; i < room->entries; i++) /* no more than pieces */
        wave->entries[wave->entry_count++] = (struct dmc_wave_entry){NULL, DMC_WAVE_READ_NONE, 0, DMC_PIECE_STATUS_NONE};
    wave->writers++;
    return true;
}

/* The part of a record that the cut depends on. */
static void shape_of(const struct dmc_piece *piece, const struct dmc_piece_dim *dims, struct dmc_tile_piece *record)
{
    *record = (struct dmc_tile_piece){0};
    record->columns = dims[piece->dim_count - 1].extent;
    record->rows = 1;
    for (uint32_t d = 0; d + 1 < piece->dim_count; d++)
        record->rows *= dims[d].extent;
}

static uint64_t record_bytes(const struct dmc_piece *piece)
{
    return sizeof(struct dmc_tile_piece) + (uint64_t)(piece->dim_count - 1) * sizeof(struct dmc_tile_dim);
}

uint32_t dmc_wave_measure(const struct dmc_wave_limits *limits, const struct dmc_backend_batch *batch, uint32_t begin,
                          uint32_t end, struct dmc_wave_room *room)
{
    uint32_t i = begin;
    for (; i < end; i++) {
        const struct dmc_piece *piece = &batch->plan.pieces[i];
        uint64_t bytes = record_bytes(piece);
        if (i > begin && (room->pieces + 1 > limits->piece_max || room->records_bytes + bytes > limits->records_bytes))
            break;
        struct dmc_tile_piece shape;
        shape_of(piece, &batch->plan.dims[piece->dim_begin], &shape);
        room->tiles += dmc_tile_cut(&shape);
        room->records_bytes += bytes;
        room->target_bytes += piece->elements * damacy_dtype_bytes(batch->tensors[piece->field].dtype);
        room->pieces++;
    }
    return i;
}

void dmc_wave_write_pieces(struct dmc_wave_place *place, const struct dmc_backend_batch *batch,
                           const struct dmc_backend_array *array, uint32_t begin, uint32_t end,
                           const struct dmc_wave_source *source)
{
    struct dmc_wave *wave = place->wave;
    const bool fill = source->fill || wave->fills_only, planes = !fill && source->planes.block_bytes != 0;
    struct dmc_tile_index *index = (struct dmc_tile_index *)(wave->pinned + wave->index_at) + place->piece;
    uint64_t record_at = place->record, tile = place->tile_begin;
    uint64_t item_bytes = damacy_dtype_bytes(array->zarr->dtype);
    /* It has been there since submit. */
    const uint64_t memory = (uint64_t)(uintptr_t)atomic_load_explicit(&batch->memory, memory_order_relaxed);
    for (uint32_t i = begin; i < end; i++) {
        const struct dmc_piece *piece = &batch->plan.pieces[i];
        const struct dmc_piece_dim *dims = &batch->plan.dims[piece->dim_begin];
        const struct dmc_backend_tensor *tensor = &batch->tensors[piece->field];
        struct dmc_tile_piece *record = (struct dmc_tile_piece *)(wave->pinned + wave->records_at + record_at);
        struct dmc_tile_dim *outer = (struct dmc_tile_dim *)(record + 1);
        shape_of(piece, dims, record);
        *index++ = (struct dmc_tile_index){tile, record_at};
        tile += dmc_tile_cut(record);
        record->target = memory + tensor->offset + piece->target_offset;
        record->source_step = dims[piece->dim_count - 1].source_stride;
        record->status = source->status;
        record->source_dtype = (uint8_t)array->zarr->dtype;
        record->output_dtype = (uint8_t)tensor->dtype;
        record->dim_count = (uint8_t)(piece->dim_count - 1);
        record->source = source->chunk_device + piece->source_offset;
        if (planes) {
            record->source = source->chunk_device;
            record->source_at = (uint32_t)piece->source_offset;
            record->block_bytes = source->planes.block_bytes;
            record->chunk_bytes = (uint32_t)source->chunk_bytes;
            record->flags = (uint8_t)(DMC_PIECE_PLANES | (source->planes.bits ? DMC_PIECE_BIT_PLANES : 0));
        }
        if (fill) {
            uint64_t bits[2];
            dmc_scatter_fill_bits(tensor->dtype, dmc_piece_fill(array, piece, batch->plan.dims), bits);
            record->source = bits[0];
            record->source_step = (int64_t)bits[1];
        }
        record->flags |= (uint8_t)((fill ? DMC_PIECE_FILL : 0) | (array->chain->swap ? DMC_PIECE_SWAP : 0));
        uint64_t odd = record->source | (uint64_t)record->source_step;
        for (uint32_t d = 0; d < record->dim_count; d++) {
            outer[d] = (struct dmc_tile_dim){dims[d].extent, dims[d].source_stride, dims[d].target_stride};
            odd |= (uint64_t)dims[d].source_stride;
        }
        if (!fill && (odd & (item_bytes - 1)) != 0)
            record->flags |= DMC_PIECE_UNALIGNED;
        record_at += record_bytes(piece);
    }
    place->record = record_at;
    place->tile_begin = tile;
    place->piece += end - begin;
}

void dmc_wave_write_nothing(struct dmc_wave_place *place, const struct dmc_wave_room *room)
{
    if (room->pieces == 0)
        return;
    struct dmc_wave *wave = place->wave;
    struct dmc_tile_index *index = (struct dmc_tile_index *)(wave->pinned + wave->index_at) + place->piece;
    struct dmc_tile_piece *record = (struct dmc_tile_piece *)(wave->pinned + wave->records_at + place->record);
    *record = (struct dmc_tile_piece){.rows_per_tile = 1,
                                      .tiles_per_row = 1,
                                      .flags = DMC_PIECE_FILL,
                                      .status = DMC_PIECE_STATUS_NONE,
                                      .output_dtype = DAMACY_U8};
    for (uint32_t i = 0; i < room->pieces; i++) /* the last one gets all the tiles, and has nothing for them to do */
        index[i] = (struct dmc_tile_index){place->tile_begin, place->record};
    place->record += room->records_bytes;
    place->tile_begin += room->tiles;
    place->piece += room->pieces;
}

/* --- flying --- */

static int launch_kernel(void *context, enum dmc_cuda_kernel kernel, uint32_t grid, uint32_t block, uint32_t shared_bytes,
                         void *stream, void **arguments)
{
    struct dmc_wave *wave = context;
    return wave->device->driver->launch(wave->device->kernels[kernel], grid, 1, 1, block, 1, 1, shared_bytes, stream, arguments,
                                        NULL);
}

/* An event may be recorded anew as soon as the wait on it was enqueued: a wait refers to the record before it. */
static int order_streams(void *context, void *earlier, void *later)
{
    struct dmc_wave *wave = context;
    dmc_cu_result result = wave->device->driver->event_record(wave->order, earlier);
    return result == DMC_CU_SUCCESS ? wave->device->driver->stream_wait(later, wave->order, 0) : result;
}

/* What the library refuses goes to the CPU, chunk by chunk; an error of the driver shows at the next call. */
static int foreign(void *context, const struct dmc_cuda_foreign *streams, void *stream)
{
    struct dmc_cuda_device *device = ((struct dmc_wave *)context)->device;
    const struct dmc_cuda_nvcomp *nvcomp = dmc_cuda_device_nvcomp(device, NULL);
    if (nvcomp && !dmc_cuda_nvcomp_decode(nvcomp, streams, stream))
        atomic_store_explicit(&device->nvcomp_failed, true, memory_order_relaxed);
    return DMC_CU_SUCCESS;
}

static dmc_cu_result copy_in(struct dmc_wave *wave)
{
    const struct dmc_cuda_driver *driver = wave->device->driver;
    const struct {
        uint64_t at, bytes;
    } parts[] = {
        {wave->stored_at, wave->stored_used},
        {wave->index_at, wave->piece_count * sizeof(struct dmc_tile_index)},
        {wave->records_at, wave->records_used},
        {wave->table_at, wave->info.table_bytes},
    };
    dmc_cu_result result = DMC_CU_SUCCESS;
    for (size_t i = 0; result == DMC_CU_SUCCESS && i < sizeof parts / sizeof parts[0]; i++)
        if (parts[i].bytes)
            result =
                driver->copy_to_device(wave->memory + parts[i].at, wave->pinned + parts[i].at, parts[i].bytes, wave->stream);
    return result;
}

static dmc_cu_result assemble(struct dmc_wave *wave)
{
    if (wave->tile_count == 0)
        return DMC_CU_SUCCESS;
    uint64_t index = wave->memory + wave->index_at, records = wave->memory + wave->records_at,
             statuses = wave->memory + wave->table_at;
    uint32_t piece_count = wave->piece_count;
    uint64_t tile_count = wave->tile_count;
    void *arguments[] = {&index, &piece_count, &records, &statuses, &tile_count};
    uint32_t grid = (uint32_t)dmc_min_u64(tile_count, (uint64_t)wave->device->multiprocessors * 16);
    return wave->device->driver->launch(wave->device->assemble, grid, 1, 1, DMC_TILE_THREADS, 1, 1, 0, wave->stream, arguments,
                                        NULL);
}

enum damacy_status dmc_wave_enqueue(struct dmc_wave *wave, struct damacy_error *error)
{
    const struct dmc_cuda_driver *driver = wave->device->driver;
    const struct dmc_cuda_launcher launcher = {
        .context = wave,
        .launch = launch_kernel,
        .order = order_streams,
        .foreign = foreign,
        .multiprocessors = wave->device->multiprocessors,
        .shared_bytes_block = wave->device->shared_bytes_block,
    };
    const char *call = "cuEventRecord";
    dmc_cuda_wave_close(wave->decode, &wave->info);
    wave->enqueued_ns = dmc_clock_ns();
    wave->copying = true;
    dmc_cu_result result = driver->event_record(wave->begun, wave->stream);
    if (result == DMC_CU_SUCCESS) {
        call = "cuMemcpyHtoDAsync";
        result = copy_in(wave);
    }
    if (result == DMC_CU_SUCCESS) {
        call = "cuEventRecord";
        result = driver->event_record(wave->copied, wave->stream);
    }
    if (result == DMC_CU_SUCCESS && wave->info.chunk_count) {
        call = "cuLaunchKernel";
        result = dmc_cuda_wave_enqueue(wave->decode, &launcher, wave->memory + wave->table_at, wave->scratch, wave->stream,
                                       wave->side);
    }
    if (result == DMC_CU_SUCCESS) {
        call = "cuEventRecord";
        result = driver->event_record(wave->decoded_event, wave->stream);
    }
    if (result == DMC_CU_SUCCESS) {
        call = "cuLaunchKernel";
        result = assemble(wave);
    }
    if (result == DMC_CU_SUCCESS && wave->info.chunk_count) {
        call = "cuMemcpyDtoHAsync";
        result = driver->copy_to_host(wave->pinned + wave->host_statuses_at, wave->memory + wave->table_at,
                                      wave->info.chunk_count * sizeof(uint32_t), wave->stream);
    }
    if (result == DMC_CU_SUCCESS) {
        call = "cuEventRecord";
        result = driver->event_record(wave->done, wave->stream);
    }
    return result == DMC_CU_SUCCESS ? DAMACY_OK : dmc_cuda_error(driver, result, call, error);
}

enum damacy_status dmc_wave_poll(struct dmc_wave *wave, struct damacy_error *error)
{
    const struct dmc_cuda_driver *driver = wave->device->driver;
    if (wave->copying) {
        dmc_cu_result copied = driver->event_query(wave->copied);
        if (copied == DMC_CU_NOT_READY)
            return DAMACY_AGAIN;
        wave->copying = false;
        if (copied != DMC_CU_SUCCESS)
            return dmc_cuda_error(driver, copied, "cuEventQuery", error);
    }
    dmc_cu_result result = driver->event_query(wave->done);
    if (result == DMC_CU_NOT_READY)
        return DAMACY_AGAIN;
    return result == DMC_CU_SUCCESS ? DAMACY_OK : dmc_cuda_error(driver, result, "a wave of chunks", error);
}

uint32_t dmc_wave_status(const struct dmc_wave *wave, uint32_t index)
{
    return ((const uint32_t *)(const void *)(wave->pinned + wave->host_statuses_at))[index];
}

static uint64_t elapsed_ns(const struct dmc_wave *wave, dmc_cu_event begin, dmc_cu_event end)
{
    float milliseconds = 0;
    if (wave->device->driver->event_elapsed(&milliseconds, begin, end) != DMC_CU_SUCCESS || !(milliseconds > 0))
        return 0;
    return (uint64_t)((double)milliseconds * 1e6);
}

void dmc_wave_times(const struct dmc_wave *wave, uint64_t *copy_ns, uint64_t *decode_ns, uint64_t *assemble_ns)
{
    *copy_ns = elapsed_ns(wave, wave->begun, wave->copied);
    *decode_ns = elapsed_ns(wave, wave->copied, wave->decoded_event);
    *assemble_ns = elapsed_ns(wave, wave->decoded_event, wave->done);
}
