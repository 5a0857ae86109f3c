// The kernels of the GPU decoders. Each takes a struct dmc_gd_job by value and works through one list of the wave's table; a
// chunk that has a status already is left alone. How they are ordered and launched: decode_wave.c.
#include "gd_foreign.cuh"
#include "gd_streams.cuh"

using namespace dmc_gd;

#ifdef __CUDACC__
#define DMC_DYNAMIC_SHARED(name) extern __shared__ __align__(1024) u32 name[]
#else
#define DMC_DYNAMIC_SHARED(name) u32 *name = dmc_twin_dynamic_shared()
#endif

// `group` blocks a warp; of each one's lanes the first four build the tree's table and decode a stream each.
extern "C" __global__ void __launch_bounds__(32) dmc_gd_huffman(dmc_gd_job job)
{
    DMC_DYNAMIC_SHARED(shared);
    const u32 lanes = 32 / job.group, lane = threadIdx.x, part = lane % lanes, index = blockIdx.x * job.group + lane / lanes;
    const bool on = index < job.count;
    u32 *table = shared + lane / lanes * DMC_GD_HUFFMAN_WORDS; // 1024 words; behind it what makes it, later four rings
    u8 *weights = (u8 *)(table + 1024);
    u32 *stored = table + 1096, *found = table + 1168; // before `stored`, norm
    u16 *counts = (u16 *)(table + 1088), *places = counts + TREE_LANES * TREE_WEIGHTS;
    const dmc_gd_block *b = on ? entry<const dmc_gd_block>(job, index) : nullptr;
    const dmc_gd_block *tree = on ? block_at(job, b->tree) : nullptr;
    if (on) { // one lane reads it bit by bit: from near by
        const u8 *source = at<const u8>(tree->source) + tree->literal_at;
        for (u32 i = part; i < TREE_STORED_WORDS && 4 * i < tree->literal_stored; i += lanes)
            stored[i] = load4(source + 4 * i);
    }
    __syncwarp();
    if (on && part == 0) {
        u32 symbols = 0, longest = 0;
        u32 used = read_weights((const u8 *)stored, minu(tree->literal_stored, 4 * TREE_STORED_WORDS), weights, table,
                                (int16_t *)(table + 1088), &symbols, &longest);
        found[0] = symbols, found[1] = longest, found[2] = b->literals_type == DMC_GD_LITERALS_CODED ? used : 0, found[3] = used != 0;
    }
    __syncwarp();
    const bool ok = on && found[3], fills = ok && part < TREE_LANES;
    const u32 longest = ok ? found[1] : 1;
    if (fills)
        tree_count(counts, weights, found[0], part);
    __syncwarp();
    if (fills)
        tree_begin(places, counts, longest, part);
    __syncwarp();
    if (fills)
        tree_fill((u16 *)table, places, weights, found[0], longest, part);
    __syncwarp();
    if (on && !ok && part == 0)
        status_set(job, b->chunk, DMC_CUDA_STATUS_TREE);
    if (!ok || part >= b->stream_count)
        return;
    const u8 *s = at<const u8>(b->source) + b->literal_at + found[2];
    u32 bytes = b->literal_stored - found[2], n = b->literal_bytes, to = 0;
    if (found[2] >= b->literal_stored || (b->stream_count == 4 && bytes < 10)) {
        status_set(job, b->chunk, DMC_CUDA_STATUS_LITERALS);
        return;
    }
    if (b->stream_count == 4) { // three sizes of two bytes, then the streams
        u32 a0 = s[0] | s[1] << 8, a1 = s[2] | s[3] << 8, a2 = s[4] | s[5] << 8, quarter = (n + 3) / 4;
        if (a0 + a1 + a2 + 6 >= bytes || 3 * quarter > n) {
            status_set(job, b->chunk, DMC_CUDA_STATUS_LITERALS);
            return;
        }
        s += 6 + (part > 0 ? a0 : 0) + (part > 1 ? a1 : 0) + (part > 2 ? a2 : 0);
        bytes = part == 0 ? a0 : part == 1 ? a1 : part == 2 ? a2 : bytes - 6 - a0 - a1 - a2;
        to = part * quarter, n = part == 3 ? n - 3 * quarter : quarter;
    }
    Ring<128, true> ring; // 128 bytes, and 16 that repeat the first
    ring.words = table + 1024 + part * 36, ring.address = shared_address(ring.words);
    if (!huffman_stream(ring, s, bytes, (const u16 *)table, longest, target_of<u8>(job, b->literals, b->literals_in_scratch) + to, n))
        status_set(job, b->chunk, DMC_CUDA_STATUS_LITERALS);
}

// `group` blocks a warp; of each one's lanes three build the tables, a fourth finds where the bits begin, the first follows them.
extern "C" __global__ void __launch_bounds__(32) dmc_gd_sequences(dmc_gd_job job)
{
    DMC_DYNAMIC_SHARED(shared);
    const u32 lanes = 32 / job.group, lane = threadIdx.x, part = lane % lanes, index = blockIdx.x * job.group + lane / lanes;
    const bool on = index < job.count;
    u32 *tables = shared + lane / lanes * DMC_GD_SEQUENCE_WORDS; // LL 0, OF 1024, ML 1536; the ring, before that norms, 2560
    u32 *found = tables + 2700;
    const u32 address = shared_address(tables);
    dmc_gd_block *b = on ? entry<dmc_gd_block>(job, index) : nullptr;
    if (on && part < 3) {
        u32 place = part == 0 ? 0 : part == 1 ? 1024 : 1536;
        found[part] = make_table(*block_at(job, b->tables[part]), (int)part, (uint2 *)(tables + place),
                                 (int16_t *)(tables + 2560) + part * 64, address + 4 * place);
    } else if (on && part == 3) {
        const u8 *bits = table_place(*b, 3);
        found[3] = bits ? (u32)(bits - at<const u8>(b->source)) : ~0u;
    }
    __syncwarp();
    if (!on || part != 0)
        return;
    const u32 accuracy[3] = {found[0], found[1], found[2]}, begin = found[3];
    if (accuracy[0] == ACCURACY_BAD || accuracy[1] == ACCURACY_BAD || accuracy[2] == ACCURACY_BAD || begin == ~0u) {
        status_set(job, b->chunk, DMC_CUDA_STATUS_TABLE);
        return;
    }
    Ring<512, true> ring;
    ring.words = tables + 2560, ring.address = address + 10240;
    int first_bit = 0;
    if (!sequence_states(ring, at<const u8>(b->source), b->source_bytes, begin, b->sequence_count, address, address + 4096,
                         address + 6144, accuracy, at<u8>(job.scratch + b->kept), &first_bit))
        status_set(job, b->chunk, DMC_CUDA_STATUS_SEQUENCES);
    b->first_bit = first_bit;
}

extern "C" __global__ void __launch_bounds__(DMC_GD_EXECUTE_THREADS, 1) dmc_gd_execute_block(dmc_gd_job job)
{
    DMC_DYNAMIC_SHARED(shared);
    const u32 t = threadIdx.x, window = DMC_GD_WINDOW(job.window_bytes);
    const dmc_gd_unit &unit = *entry<const dmc_gd_unit>(job, blockIdx.x);
    WideShared w;
    w.bytes = (u8 *)shared;
    w.map = shared + (window + 64) / 4;
    w.baselines = w.map + (window / 8 + 64) / 4;
    w.offsets = w.baselines + 96, w.resolved = w.offsets + WIDE, w.history = w.resolved + WIDE, w.sums = w.history + 3 * WIDE;
    // All threads must see the same: another block of the same chunk may fail meanwhile.
    if (__syncthreads_or((int)status_get(job, unit.chunk)))
        return;
    fill_baselines(w.baselines, t, WIDE);
    __syncthreads();
    u32 status = execute_unit_block(job, unit, w, t);
    if (t == 0 && status)
        status_set(job, unit.chunk, status);
}

// 16 blocks a multiprocessor: 64 registers, with which the loop hardly spills.
extern "C" __global__ void __launch_bounds__(64, 16) dmc_gd_execute_warp(dmc_gd_job job)
{
    __shared__ u32 baselines[BASELINES];
    const u32 index = blockIdx.x * 2 + threadIdx.x / 32, lane = threadIdx.x & 31;
    fill_baselines(baselines, threadIdx.x, 64);
    __syncthreads();
    if (index >= job.count)
        return;
    const dmc_gd_unit &unit = *entry<const dmc_gd_unit>(job, index);
    if (__any_sync(ALL, status_get(job, unit.chunk) != 0))
        return;
    u32 status = execute_unit_warp(job, unit, baselines, lane);
    if (lane == 0 && status)
        status_set(job, unit.chunk, status);
}

extern "C" __global__ void __launch_bounds__(64) dmc_gd_lz4(dmc_gd_job job)
{
    const u32 index = blockIdx.x * 2 + threadIdx.x / 32, lane = threadIdx.x & 31;
    if (index >= job.count)
        return;
    const dmc_gd_stream &stream = *entry<const dmc_gd_stream>(job, index);
    u32 status = lz4_decode(job, stream, lane);
    if (lane == 0 && status)
        status_set(job, stream.chunk, status);
}

extern "C" __global__ void __launch_bounds__(128) dmc_gd_copy(dmc_gd_job job)
{
    const u32 index = blockIdx.x * 4 + threadIdx.x / 32, lane = threadIdx.x & 31;
    if (index >= job.count)
        return;
    const dmc_gd_stream &stream = *entry<const dmc_gd_stream>(job, index);
    warp_copy(target_of<u8>(job, stream.target, stream.in_scratch), at<const u8>(stream.source), stream.source_bytes, lane);
}

extern "C" __global__ void __launch_bounds__(32) dmc_gd_checksum_kernel(dmc_gd_job job)
{
    const dmc_gd_checksum &checksum = *entry<const dmc_gd_checksum>(job, blockIdx.x);
    if (__any_sync(ALL, status_get(job, checksum.chunk) != 0))
        return;
    u64 sum = xxh64(target_of<const u8>(job, checksum.target, checksum.in_scratch), checksum.target_bytes, threadIdx.x);
    if (threadIdx.x == 0 && (u32)sum != checksum.expected)
        status_set(job, checksum.chunk, DMC_CUDA_STATUS_CHECKSUM);
}

extern "C" __global__ void __launch_bounds__(256) dmc_gd_unfilter_kernel(dmc_gd_job job)
{
    const dmc_gd_unfilter &f = *entry<const dmc_gd_unfilter>(job, blockIdx.x);
    const u8 *source = at<const u8>(job.scratch + f.source);
    u8 *target = at<u8>(f.target);
    if (f.bits)
        unfilter_bits(f, source, target, threadIdx.x, 256);
    else
        unfilter_bytes(f, source, target, threadIdx.x, 256);
    const u64 tail = (u64)f.elements * f.typesize;
    for (u32 i = threadIdx.x; i < f.tail_bytes; i += 256)
        target[tail + i] = source[tail + i];
}

extern "C" __global__ void __launch_bounds__(128) dmc_gd_foreign_tell(dmc_gd_job job)
{
    const u32 index = blockIdx.x * 128 + threadIdx.x;
    if (index >= job.count)
        return;
    const dmc_gd_foreign &foreign = *entry<const dmc_gd_foreign>(job, index);
    const ForeignArrays arrays = foreign_arrays(job);
    arrays.sources[index] = foreign.source_in_scratch ? job.scratch + foreign.source : foreign.source;
    arrays.source_bytes[index] = foreign.source_bytes;
    arrays.capacities[index] = foreign.target_bytes;
    arrays.decoded[index] = 0;
    arrays.targets[index] = foreign.target_in_scratch ? job.scratch + foreign.target : foreign.target;
    arrays.statuses[index] = ~0u;
}

// Each thread sums a part, as if zeros followed up to the end; the parts are then added.
extern "C" __global__ void __launch_bounds__(DMC_GD_FOREIGN_THREADS) dmc_gd_foreign_check(dmc_gd_job job)
{
    DMC_DYNAMIC_SHARED(shared);
    u32 *table = shared, *powers = shared + 1024, *sums = shared + 1056; // two a warp
    const u32 t = threadIdx.x, lane = t & 31, warps = DMC_GD_FOREIGN_THREADS / 32;
    const dmc_gd_foreign &foreign = *entry<const dmc_gd_foreign>(job, blockIdx.x);
    const ForeignArrays arrays = foreign_arrays(job);
    const u32 bytes = foreign.target_bytes;
    const bool crc = foreign.sum == DMC_GD_SUM_CRC32;
    u32 failed = arrays.statuses[blockIdx.x] != 0            ? DMC_CUDA_STATUS_FOREIGN
                 : arrays.decoded[blockIdx.x] != (u64)bytes ? DMC_CUDA_STATUS_LENGTH
                                                            : DMC_CUDA_STATUS_OK;
    if (failed) {
        if (t == 0)
            status_set(job, foreign.chunk, failed);
        return;
    }
    if (foreign.sum == DMC_GD_SUM_NONE)
        return;
    // Multiples of 16, so that all threads load aligned words.
    const u32 part = (u32)(((u64)bytes + DMC_GD_FOREIGN_THREADS * 16 - 1) / (DMC_GD_FOREIGN_THREADS * 16) * 16);
    const u32 begin = (u32)(((u64)part * t < bytes) ? part * t : bytes), end = bytes - begin < part ? bytes : begin + part;
    const u8 *target = target_of<const u8>(job, foreign.target, foreign.target_in_scratch);
    u32 first = 0, second = 0;
    if (crc) {
        crc_tables(table, powers, t);
        first = crc_bytes(table, t == 0 ? ~0u : 0, target + begin, end - begin);
        first = crc_shift(powers, first, bytes - end);
    } else {
        AdlerSums sum = adler_bytes(target + begin, end - begin, bytes - end);
        first = sum.first, second = sum.second;
    }
    for (u32 d = 16; d > 0; d /= 2) { // adding CRCs is xor
        u32 other = __shfl_sync(ALL, first, (int)((lane + d) & 31)), other_second = __shfl_sync(ALL, second, (int)((lane + d) & 31));
        first = crc ? first ^ other : first + other, second += other_second;
    }
    if (lane == 0)
        sums[2 * (t / 32)] = first, sums[2 * (t / 32) + 1] = second;
    __syncthreads();
    if (t != 0)
        return;
    u32 found = crc ? ~0u : 0;
    u64 all_first = 1, all_second = bytes;
    for (u32 i = 0; i < warps; ++i) {
        found ^= sums[2 * i];
        all_first += sums[2 * i], all_second += sums[2 * i + 1];
    }
    if (!crc)
        found = (u32)(all_first % ADLER_BASE) | (u32)(all_second % ADLER_BASE) << 16;
    if (found != foreign.expected)
        status_set(job, foreign.chunk, DMC_CUDA_STATUS_CHECKSUM);
}
