// The GPU decoders on a GPU: first checked, then measured. Built by decode_bench.sh; needs nothing but the driver.
//
//     decode_bench check         every kind of content, size, level and codec against what was compressed; then damaged chunks
//     decode_bench bench         the table: GB/s by content, chunk size and chunks in one launch, next to nvcomp (if libnvcomp.so.6
//                                lies beside the program) and libzstd on all cores
//     decode_bench quick         the rows of bench that matter most
//     decode_bench tune          the same chunks with other choices of launching
//     decode_bench RAW...        with `raw=FILE` instead of generated images: 16-bit elements
//
// GB = 1e9 decoded bytes. Times are medians of five after a first run, from the first launch to the end of the last kernel.
#include "backend/cuda/decode/decode_kernels.cu"
extern "C" {
#include "backend/cuda/cuda_decoder.h"
#include "backend/cuda/decode/decode_tuning.h"
}
#include <algorithm>
#include <blosc.h>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <cuda_runtime.h>
#include <dlfcn.h>
#include <functional>
#include <lz4.h>
#include <string>
#include <thread>
#include <unistd.h>
#include <vector>
#include <zstd.h>

#define CK(call)                                                                                                                   \
    do {                                                                                                                           \
        cudaError_t error_ = (call);                                                                                               \
        if (error_ != cudaSuccess) {                                                                                               \
            printf("CUDA: %s at line %d\n", cudaGetErrorString(error_), __LINE__);                                                 \
            fflush(stdout);                                                                                                        \
            exit(1);                                                                                                               \
        }                                                                                                                          \
    } while (0)

typedef std::vector<uint8_t> bytes_t;

static double now()
{
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}
static unsigned cores()
{
    return std::max(1u, std::thread::hardware_concurrency());
}
static void parallel(size_t n, const std::function<void(size_t)> &work)
{
    std::vector<std::thread> threads;
    unsigned count = cores();
    for (unsigned t = 0; t < count; t++)
        threads.emplace_back([&, t] {
            for (size_t i = t; i < n; i += count)
                work(i);
        });
    for (auto &thread : threads)
        thread.join();
}

struct Random {
    uint64_t state;
    explicit Random(uint64_t seed) : state(seed * 0x9E3779B97F4A7C15ull + 88172645463325252ull) { next(), next(); }
    uint32_t next()
    {
        state ^= state << 13, state ^= state >> 7, state ^= state << 17;
        return (uint32_t)(state >> 32);
    }
    uint32_t below(uint32_t n) { return (uint32_t)((uint64_t)next() * n >> 32); }
    double normal()
    {
        double sum = 0;
        for (int i = 0; i < 6; i++)
            sum += next() / 4294967296.0;
        return (sum - 3) * 1.41421;
    }
};

// ---- contents ----

enum content { PLAIN, SHUFFLED, FLOATS, LABELS, TEXT, NOISE, CONSTANT, HALF_NOISE, COPIES, RAMP, RUNS, FAR, CONTENTS };
static const char *const content_names[] = {"plain", "shuffled", "float32", "labels", "text", "noise", "constant", "half noise", "copies", "ramp", "runs", "far"};

static std::vector<uint16_t> raw; // instead of generated images

static void image(uint16_t *v, size_t n, uint64_t seed)
{
    Random r(seed);
    for (size_t i = 0; i < n; i++) {
        if (!raw.empty()) {
            v[i] = raw[(seed * n + i) % raw.size()];
            continue;
        }
        double light = 30 * (1 + sin((double)(i % 64) * .05 + (double)seed) * cos((double)(i / 64 % 64) * .04 + (double)(i / 4096) * .1));
        v[i] = (uint16_t)(100 + light + sqrt(light) * r.normal() + .5 * r.normal());
    }
}

static void fill(uint8_t *v, size_t size, int content, uint64_t seed)
{
    static const char text[] = "the quick brown fox jumps over the lazy dog, again and again; {\"zarr_format\": 3, \"shape\": [64]} ";
    Random r(seed);
    size_t n = size / 2;
    std::vector<uint16_t> s(n + 1);
    switch (content) {
    case PLAIN:
    case SHUFFLED:
        image(s.data(), n + 1, seed);
        memcpy(v, s.data(), size);
        for (size_t i = 0; content == SHUFFLED && i < n; i++)
            v[i] = (uint8_t)s[i], v[n + i] = (uint8_t)(s[i] >> 8);
        break;
    case FLOATS:
        for (size_t i = 0; i < size; i += 4) {
            float f = (float)(sin((double)i * 1e-4 + (double)seed) * 3 + 0.01 * r.normal());
            memcpy(v + i, &f, std::min<size_t>(4, size - i));
        }
        break;
    case LABELS:
        for (size_t i = 0; i < size; i++) {
            size_t x = i / 4 % 64, y = i / 256 % 64, z = i / 16384;
            uint32_t label = (uint32_t)((x + y / 7) / 23 + 8 * ((y + z) / 19) + 64 * (z / 5) + seed % 50 * 100);
            v[i] = (uint8_t)(label >> 8 * (i % 4));
        }
        break;
    case TEXT:
        for (size_t i = 0, k = r.below(90); i < size; i++, k += r.below(40) ? 1 : 1 + r.below(30))
            v[i] = r.below(60) ? (uint8_t)text[k % (sizeof text - 1)] : (uint8_t)('0' + r.below(10));
        break;
    case NOISE:
        for (size_t i = 0; i < size; i++)
            v[i] = (uint8_t)r.next();
        break;
    case CONSTANT:
        memset(v, (int)r.below(256), size);
        break;
    case HALF_NOISE:
        for (size_t i = 0; i < size; i++)
            v[i] = r.next() & 1 ? 0 : (uint8_t)r.next();
        break;
    case COPIES:
        for (size_t i = 0; i < size; i++)
            v[i] = i > 1000 && r.below(20) ? v[i - 1 - (r.below(3) ? 7 : r.below(900))] : (uint8_t)r.below(30);
        break;
    case RAMP:
        for (size_t i = 0; i < n + 1; i++)
            s[i] = (uint16_t)(1000 + i % 512 + (r.next() & 3));
        memcpy(v, s.data(), size);
        break;
    case RUNS:
        for (size_t i = 0; i < size;) {
            size_t length = 1 + r.below(r.below(8) ? 20 : 3000);
            uint8_t value = (uint8_t)r.below(5);
            for (; length > 0 && i < size; length--)
                v[i++] = value;
        }
        break;
    case FAR:
        for (size_t i = 0; i < size; i++)
            v[i] = i < 5000 || r.below(3000) == 0 ? (uint8_t)r.next() : v[i - 4999];
        break;
    }
}

// ---- the launcher, over the runtime ----

static const void *const kernels[DMC_CUDA_KERNEL_COUNT] = {
    (const void *)dmc_gd_huffman, (const void *)dmc_gd_sequences, (const void *)dmc_gd_execute_block,   (const void *)dmc_gd_execute_warp,
    (const void *)dmc_gd_lz4,     (const void *)dmc_gd_copy,      (const void *)dmc_gd_checksum_kernel, (const void *)dmc_gd_unfilter_kernel,
};
struct Device {
    cudaStream_t stream, side;
    cudaEvent_t begin, end, order;
    bool timed = false; // a time for each kernel: everything one after another
    float ms[DMC_CUDA_KERNEL_COUNT] = {0};
    dmc_cuda_launcher launcher;
};
static int bench_launch(void *context, enum dmc_cuda_kernel kernel, uint32_t grid, uint32_t block, uint32_t shared_bytes, void *stream, void **args)
{
    Device *d = (Device *)context;
    if (d->timed)
        CK(cudaEventRecord(d->begin, (cudaStream_t)stream));
    cudaError_t error = cudaLaunchKernel(kernels[kernel], dim3(grid), dim3(block), args, shared_bytes, (cudaStream_t)stream);
    if (d->timed) {
        float ms;
        CK(cudaEventRecord(d->end, (cudaStream_t)stream));
        CK(cudaEventSynchronize(d->end));
        CK(cudaEventElapsedTime(&ms, d->begin, d->end));
        d->ms[kernel] += ms;
    }
    return error;
}
static int bench_order(void *context, void *earlier, void *later)
{
    Device *d = (Device *)context;
    CK(cudaEventRecord(d->order, (cudaStream_t)earlier));
    CK(cudaStreamWaitEvent((cudaStream_t)later, d->order, 0));
    return 0;
}
static Device device;
static void device_open()
{
    cudaDeviceProp properties;
    CK(cudaSetDevice(0));
    CK(cudaGetDeviceProperties(&properties, 0));
    CK(cudaStreamCreateWithFlags(&device.stream, cudaStreamNonBlocking));
    CK(cudaStreamCreateWithFlags(&device.side, cudaStreamNonBlocking));
    CK(cudaEventCreate(&device.begin));
    CK(cudaEventCreate(&device.end));
    CK(cudaEventCreateWithFlags(&device.order, cudaEventDisableTiming));
    device.launcher = {&device, bench_launch, bench_order, nullptr, (uint32_t)properties.multiProcessorCount, (uint32_t)properties.sharedMemPerBlockOptin};
    for (int k = 0; k < DMC_CUDA_KERNEL_COUNT; k++) {
        uint32_t most = std::min(dmc_cuda_kernels[k].shared_bytes_max, device.launcher.shared_bytes_block);
        if (most > 48 << 10)
            CK(cudaFuncSetAttribute(kernels[k], cudaFuncAttributeMaxDynamicSharedMemorySize, (int)most));
        if (dmc_cuda_kernels[k].carveout >= 0)
            CK(cudaFuncSetAttribute(kernels[k], cudaFuncAttributePreferredSharedMemoryCarveout, dmc_cuda_kernels[k].carveout));
    }
    printf("# %s, %d multiprocessors, %zu KiB shared a block, %u cores\n", properties.name, properties.multiProcessorCount, properties.sharedMemPerBlockOptin >> 10, cores());
}
template <class T> static T *device_alloc(size_t n)
{
    void *p;
    CK(cudaMalloc(&p, n * sizeof(T) + 256));
    return (T *)p;
}

// ---- a wave of chunks ----

struct Item {
    dmc_cuda_format format;
    bytes_t stored, expected; // expected empty: damaged
    size_t bytes = 0, need_begin = 0, need_end = 0;
    dmc_cuda_verdict verdict = DMC_CUDA_OK;
    uint32_t status = 0;
};
struct Wave {
    dmc_cuda_wave *wave = nullptr;
    uint8_t *table = nullptr, *table_device = nullptr, *scratch = nullptr;
    uint64_t table_bytes, scratch_bytes;
    Wave(uint32_t chunks, uint64_t table_room, uint64_t scratch_room) : table_bytes(table_room), scratch_bytes(scratch_room)
    {
        if (dmc_cuda_wave_create(chunks, &wave, nullptr))
            exit(1);
        CK(cudaMallocHost((void **)&table, table_bytes));
        table_device = device_alloc<uint8_t>(table_bytes);
        scratch = device_alloc<uint8_t>(scratch_bytes);
    }
    ~Wave()
    {
        dmc_cuda_wave_destroy(wave);
        cudaFreeHost(table), cudaFree(table_device), cudaFree(scratch);
    }
};

// ---- check ----

static size_t wrong;

static void check_items(std::vector<Item> &items, const char *what)
{
    size_t stored = 64, decoded = 0;
    std::vector<size_t> at, to;
    for (auto &item : items) {
        at.push_back(stored), to.push_back(decoded);
        stored += item.stored.size() + 1 + at.size() % 7;
        decoded += (item.bytes + 15) / 16 * 16 + 16; // 16 bytes between, to see writes outside
    }
    bytes_t slab(stored + 64), out(decoded);
    for (size_t i = 0; i < items.size(); i++)
        memcpy(&slab[at[i]], items[i].stored.data(), items[i].stored.size());
    uint8_t *slab_device = device_alloc<uint8_t>(slab.size()), *out_device = device_alloc<uint8_t>(decoded);
    CK(cudaMemcpy(slab_device, slab.data(), slab.size(), cudaMemcpyHostToDevice));
    Wave w((uint32_t)items.size(), 64 << 20, 2 * decoded + (16 << 20));
    for (int way = 0; way < 4; way++) { // a thread block or a warp a unit; groups of different sizes
        dmc_gd_tuning = {way & 1 ? 4u : 1u << way, way & 2 ? 4u : 1u, way & 1 ? DMC_GD_NEVER_WIDE : 100000u};
        CK(cudaMemset(out_device, 0xCD, decoded));
        dmc_cuda_wave_begin(w.wave, w.table, w.table_bytes, w.scratch_bytes);
        std::vector<uint32_t> index(items.size());
        for (size_t i = 0; i < items.size(); i++) {
            Item &item = items[i];
            dmc_cuda_chunk chunk = {item.format, &slab[at[i]], item.stored.size(), (uint64_t)(uintptr_t)(slab_device + at[i]),
                                    (uint64_t)(uintptr_t)(out_device + to[i]), item.bytes, item.need_begin, item.need_end};
            item.verdict = dmc_cuda_wave_add(w.wave, &chunk, &index[i]);
        }
        dmc_cuda_wave_info info;
        dmc_cuda_wave_close(w.wave, &info);
        CK(cudaMemset(w.scratch, 0x5A, w.scratch_bytes));
        CK(cudaDeviceSynchronize()); // setting memory and copying pageable memory return before they are done, and our streams wait for no other
        CK(cudaMemcpyAsync(w.table_device, w.table, info.table_bytes, cudaMemcpyHostToDevice, device.stream));
        CK((cudaError_t)dmc_cuda_wave_enqueue(w.wave, &device.launcher, (uintptr_t)w.table_device, (uintptr_t)w.scratch, device.stream, device.side));
        std::vector<uint32_t> statuses(items.size() + 1);
        CK(cudaMemcpyAsync(statuses.data(), w.table_device, info.status_bytes, cudaMemcpyDeviceToHost, device.stream));
        CK(cudaStreamSynchronize(device.stream));
        CK(cudaMemcpy(out.data(), out_device, decoded, cudaMemcpyDeviceToHost));
        size_t bad = 0, refused = 0, failed = 0;
        for (size_t i = 0; i < items.size(); i++) {
            Item &item = items[i];
            const uint8_t *got = &out[to[i]];
            bool outside = false;
            for (size_t k = item.bytes; k < (item.bytes + 15) / 16 * 16 + 16; k++)
                outside |= got[k] != 0xCD;
            item.status = item.verdict ? 0 : statuses[index[i]];
            refused += item.verdict != DMC_CUDA_OK, failed += item.status != 0;
            bool same = true;
            if (!item.expected.empty()) {
                same = item.verdict == DMC_CUDA_OK && item.status == 0 &&
                       memcmp(got + item.need_begin, &item.expected[item.need_begin], item.need_end - item.need_begin) == 0;
            } else if (item.verdict == DMC_CUDA_OK && item.status == 0 && item.format == DMC_CUDA_ZSTD) {
                bytes_t reference(item.bytes);
                if (ZSTD_decompress(reference.data(), item.bytes, item.stored.data(), item.stored.size()) == item.bytes)
                    same = memcmp(reference.data(), got, item.bytes) == 0;
            }
            if (!same || outside) {
                if (bad++ < 5)
                    printf("WRONG %s way %d item %zu: %zu bytes, %s, %s%s\n", what, way, i, item.bytes, dmc_cuda_verdict_name(item.verdict),
                           dmc_cuda_status_name(item.status), outside ? ", wrote outside" : "");
            }
        }
        wrong += bad;
        if (bad || way == 3)
            printf("%s: %zu chunks, %zu wrong (way %d); %zu for the CPU, %zu with a status\n", what, items.size(), bad, way, refused, failed);
        fflush(stdout);
    }
    dmc_gd_tuning = {};
    cudaFree(slab_device), cudaFree(out_device);
}

static bytes_t zstd_make(const bytes_t &data, Random &r, int level, bool several_blocks)
{
    ZSTD_CCtx *context = ZSTD_createCCtx();
    bytes_t out(ZSTD_compressBound(data.size()) * 2 + 4096);
    ZSTD_CCtx_setParameter(context, ZSTD_c_compressionLevel, level);
    ZSTD_CCtx_setParameter(context, ZSTD_c_checksumFlag, (int)r.below(2));
    bool sized = r.below(3) > 0;
    ZSTD_CCtx_setParameter(context, ZSTD_c_contentSizeFlag, sized);
    if (r.below(3) == 0)
        ZSTD_CCtx_setParameter(context, ZSTD_c_windowLog, 10 + (int)r.below(14));
    ZSTD_CCtx_setParameter(context, ZSTD_c_enableLongDistanceMatching, r.below(5) == 0);
    if (sized)
        ZSTD_CCtx_setPledgedSrcSize(context, data.size());
    ZSTD_outBuffer output = {out.data(), out.size(), 0};
    size_t step = several_blocks ? 100 + r.below(30000) : data.size();
    for (size_t at = 0;;) {
        size_t n = std::min(step, data.size() - at);
        ZSTD_inBuffer input = {data.data() + at, n, 0};
        at += n;
        ZSTD_EndDirective directive = at == data.size() ? ZSTD_e_end : ZSTD_e_flush;
        while (ZSTD_compressStream2(context, &output, &input, directive))
            ;
        if (directive == ZSTD_e_end)
            break;
    }
    ZSTD_freeCCtx(context);
    out.resize(output.pos);
    return out;
}

static void check()
{
    static const size_t sizes[] = {1, 2, 7, 33, 100, 257, 1000, 4096, 10001, 65536, 131072, 131073, 300000, 1048576, 4194304};
    static const int levels[] = {-7, -1, 1, 3, 5, 9, 13, 19};
    for (int content = 0; content < CONTENTS; content++) {
        std::vector<Item> items(15 * 8 + 200);
        parallel(items.size(), [&](size_t i) {
            Random r(content * 1000 + i);
            Item &item = items[i];
            item.bytes = i < 15 * 8 ? sizes[i % 15] : 1 + r.below(r.below(8) ? 20000 : 400000);
            if (i < 15 * 8 && item.bytes > 1 << 20 && i / 15 > 3)
                item.bytes = 1 << 20;
            item.expected.resize(item.bytes);
            fill(item.expected.data(), item.bytes, content, i);
            uint32_t kind = i < 15 * 8 ? 0 : r.below(6);
            item.format = DMC_CUDA_ZSTD;
            if (kind < 3) {
                int level = levels[i < 15 * 8 ? i / 15 : r.below(8)];
                item.stored = zstd_make(item.expected, r, item.bytes > 300000 ? std::min(level, 9) : level, r.below(3) == 0);
            } else if (kind < 5) {
                item.format = DMC_CUDA_BLOSC;
                item.stored.resize(item.bytes + BLOSC_MAX_OVERHEAD);
                item.stored.resize((size_t)blosc_compress_ctx(1 + (int)r.below(6), (int)r.below(3), 1 + r.below(17), item.bytes, item.expected.data(), item.stored.data(),
                                                              item.stored.size(), kind == 3 ? "zstd" : "lz4", r.below(2) ? 0 : 1000 + r.below(60000), 1));
            } else {
                item.format = DMC_CUDA_LZ4;
                item.stored.resize((size_t)LZ4_compressBound((int)item.bytes));
                item.stored.resize((size_t)LZ4_compress_default((const char *)item.expected.data(), (char *)item.stored.data(), (int)item.bytes, (int)item.stored.size()));
            }
            item.need_end = item.bytes;
            if (r.below(4) == 0) {
                item.need_begin = r.below((uint32_t)item.bytes);
                item.need_end = item.need_begin + 1 + r.below((uint32_t)(item.bytes - item.need_begin));
            }
        });
        check_items(items, content_names[content]);
    }
    for (int round = 0; round < 4; round++) {
        std::vector<Item> items(2000);
        parallel(items.size(), [&](size_t i) {
            Random r(100000 + round * 10000 + i);
            Item &item = items[i];
            item.bytes = item.need_end = 1 + r.below(30000);
            bytes_t data(item.bytes);
            fill(data.data(), item.bytes, (int)r.below(CONTENTS), i);
            uint32_t kind = r.below(4);
            item.format = kind < 2 ? DMC_CUDA_ZSTD : DMC_CUDA_BLOSC;
            if (kind < 2) {
                item.stored = zstd_make(data, r, (int)r.below(9), r.below(3) == 0);
            } else {
                item.stored.resize(item.bytes + BLOSC_MAX_OVERHEAD);
                item.stored.resize((size_t)blosc_compress_ctx(5, (int)r.below(3), 1 + r.below(9), item.bytes, data.data(), item.stored.data(), item.stored.size(), kind == 2 ? "zstd" : "lz4", 0, 1));
            }
            for (uint32_t f = 1 + r.below(4); f > 0; f--)
                item.stored[r.below(2) ? r.below((uint32_t)item.stored.size()) : r.below((uint32_t)std::min<size_t>(40, item.stored.size()))] ^= (uint8_t)(1 << r.below(8));
        });
        check_items(items, "damaged");
    }
    printf("check: %zu wrong\n", wrong);
}

// ---- bench ----

typedef int (*nvcomp_temp_t)(size_t, size_t, struct nvcomp_options, size_t *, size_t, cudaStream_t);
struct nvcomp_options {
    int backend;
    char reserved[60];
};
typedef int (*nvcomp_zstd_t)(const void *const *, const size_t *, const size_t *, size_t *, size_t, void *, size_t, void *const *, struct nvcomp_options, int *, cudaStream_t);
static nvcomp_temp_t nvcomp_temp;
static nvcomp_zstd_t nvcomp_zstd;

static void nvcomp_open()
{
    char self[4096];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    std::string path = n > 0 ? std::string(self, (size_t)n) : "";
    path = path.substr(0, path.rfind('/')) + "/libnvcomp.so.6";
    void *library = dlopen(path.c_str(), RTLD_NOW);
    if (!library)
        library = dlopen("libnvcomp.so.6", RTLD_NOW);
    if (library) {
        nvcomp_temp = (nvcomp_temp_t)dlsym(library, "nvcompBatchedZstdDecompressGetTempSize");
        nvcomp_zstd = (nvcomp_zstd_t)dlsym(library, "nvcompBatchedZstdDecompressAsync");
    }
    printf("# nvcomp: %s\n", nvcomp_zstd && nvcomp_temp ? "there" : "not there");
}

__global__ void count_differences(const uint8_t *a, const uint8_t *b, size_t n, unsigned long long *bad)
{
    size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x, step = (size_t)gridDim.x * blockDim.x;
    unsigned long long count = 0;
    for (size_t k = i; k < n / 16; k += step) {
        uint4 x = ((const uint4 *)a)[k], y = ((const uint4 *)b)[k];
        count += x.x != y.x || x.y != y.y || x.z != y.z || x.w != y.w;
    }
    if (count)
        atomicAdd(bad, count);
}

struct Set {
    int content;
    size_t size, n, stored_sum;
    dmc_cuda_format format;
    const char *codec;
    bool planes = false; // shuffled chunks stay in planes, for assemble to put together
    bytes_t raw;
    std::vector<bytes_t> stored;
};
// codec: "zstd", "lz4", "blosc-zstd", "blosc-lz4"
static void set_make(Set &s, int content, size_t size, const char *codec, size_t total)
{
    s.content = content, s.size = size, s.codec = codec, s.n = std::max<size_t>(1, total / size);
    s.raw.resize(s.n * size), s.stored.assign(s.n, {});
    s.format = codec[0] == 'z' ? DMC_CUDA_ZSTD : codec[0] == 'l' ? DMC_CUDA_LZ4 : DMC_CUDA_BLOSC;
    parallel(s.n, [&](size_t i) {
        uint8_t *data = &s.raw[i * size];
        fill(data, size, content, i);
        bytes_t out(ZSTD_compressBound(size) + LZ4_compressBound((int)size) + 64);
        size_t bytes;
        if (s.format == DMC_CUDA_ZSTD)
            bytes = ZSTD_compress(out.data(), out.size(), data, size, 3);
        else if (s.format == DMC_CUDA_LZ4)
            bytes = (size_t)LZ4_compress_default((const char *)data, (char *)out.data(), (int)size, (int)out.size());
        else
            bytes = (size_t)blosc_compress_ctx(5, BLOSC_SHUFFLE, content == FLOATS || content == LABELS ? 4 : 2, size, data, out.data(), out.size(), codec + 6, 0, 1);
        s.stored[i].assign(out.begin(), out.begin() + (ptrdiff_t)bytes);
    });
    s.stored_sum = 0;
    for (auto &x : s.stored)
        s.stored_sum += x.size();
}

static float median(std::vector<float> v)
{
    std::sort(v.begin(), v.end());
    return v[v.size() / 2];
}

static double libzstd_rate(const Set &s)
{
    if (s.format != DMC_CUDA_ZSTD)
        return 0;
    double begin = now();
    size_t rounds = std::max<size_t>(1, (512u << 20) / s.raw.size());
    parallel(cores(), [&](size_t t) {
        ZSTD_DCtx *context = ZSTD_createDCtx();
        bytes_t out(s.size);
        for (size_t k = 0; k < rounds; k++)
            for (size_t i = t; i < s.n; i += cores())
                ZSTD_decompressDCtx(context, out.data(), s.size, s.stored[i].data(), s.stored[i].size());
        ZSTD_freeDCtx(context);
    });
    return (double)(rounds * s.raw.size()) / (now() - begin) / 1e9;
}

struct Tuning {
    const char *name;
    struct dmc_gd_tuning values;
};

static void bench_set(const Set &s, const std::vector<size_t> &counts, const std::vector<Tuning> &tunings, bool with_nvcomp)
{
    printf("# %s%s %s %zu KiB: ratio %.2f, %zu distinct; libzstd on %u cores %.1f GB/s\n", s.codec, s.planes ? " in planes" : "", content_names[s.content], s.size >> 10, (double)s.raw.size() / (double)s.stored_sum, s.n, cores(),
           libzstd_rate(s));
    std::vector<size_t> at;
    size_t end = 64;
    for (auto &x : s.stored)
        at.push_back(end), end += x.size() + 3; // odd addresses
    bytes_t slab(end + 64);
    for (size_t i = 0; i < s.n; i++)
        memcpy(&slab[at[i]], s.stored[i].data(), s.stored[i].size());
    uint8_t *slab_device = device_alloc<uint8_t>(slab.size()), *reference = device_alloc<uint8_t>(s.raw.size());
    unsigned long long *bad_device = device_alloc<unsigned long long>(1);
    CK(cudaMemcpy(slab_device, slab.data(), slab.size(), cudaMemcpyHostToDevice));
    CK(cudaMemcpy(reference, s.raw.data(), s.raw.size(), cudaMemcpyHostToDevice));
    for (size_t n : counts) {
        if (n * s.size > 4ull << 30)
            continue;
        uint8_t *out = device_alloc<uint8_t>(n * s.size);
        auto verify = [&] {
            if (s.planes)
                return true;
            unsigned long long bad;
            CK(cudaMemset(bad_device, 0, 8));
            for (size_t i = 0; i < n; i += s.n)
                count_differences<<<528, 512>>>(out + i * s.size, reference, std::min(n - i, s.n) * s.size, bad_device);
            CK(cudaMemcpy(&bad, bad_device, 8, cudaMemcpyDeviceToHost));
            return bad == 0;
        };
        dmc_cuda_advice advice;
        dmc_cuda_advise_count(s.format, s.size, s.stored_sum / s.n, (uint32_t)n, &advice);
        Wave w((uint32_t)n, 2 * advice.table_bytes + (1 << 20), 3 * advice.scratch_bytes + (1 << 20));
        dmc_cuda_wave_begin(w.wave, w.table, w.table_bytes, w.scratch_bytes);
        dmc_cuda_planes planes = {s.content == FLOATS || s.content == LABELS ? 4u : 2u, 0, false};
        double begin = now();
        for (size_t i = 0; i < n; i++) {
            size_t k = i % s.n;
            dmc_cuda_chunk chunk = {s.format, &slab[at[k]], s.stored[k].size(), (uint64_t)(uintptr_t)(slab_device + at[k]), (uint64_t)(uintptr_t)(out + i * s.size), s.size, 0, s.size, s.planes ? &planes : nullptr};
            uint32_t index;
            dmc_cuda_verdict verdict = dmc_cuda_wave_add(w.wave, &chunk, &index);
            if (verdict) {
                printf("WRONG verdict: %s\n", dmc_cuda_verdict_name(verdict));
                wrong++;
                break;
            }
        }
        double added = now();
        dmc_cuda_wave_info info;
        dmc_cuda_wave_close(w.wave, &info);
        double closed = now();
        CK(cudaMemcpy(w.table_device, w.table, info.table_bytes, cudaMemcpyHostToDevice));
        double gb = (double)(n * s.size) / 1e6;
        float nv_ms = 0;
        bool nv_ok = false;
        if (with_nvcomp && nvcomp_zstd && nvcomp_temp && s.format == DMC_CUDA_ZSTD) {
            std::vector<const void *> from(n);
            std::vector<void *> to(n);
            std::vector<size_t> bytes(n), sizes(n, s.size);
            for (size_t i = 0; i < n; i++)
                from[i] = slab_device + at[i % s.n], to[i] = out + i * s.size, bytes[i] = s.stored[i % s.n].size();
            auto up = [&](const void *p) {
                void *d = device_alloc<uint8_t>(n * 8);
                CK(cudaMemcpy(d, p, n * 8, cudaMemcpyHostToDevice));
                return d;
            };
            void *from_d = up(from.data()), *to_d = up(to.data()), *bytes_d = up(bytes.data()), *sizes_d = up(sizes.data());
            size_t *actual = device_alloc<size_t>(n), temp_bytes = 0;
            int *statuses = device_alloc<int>(n);
            nvcomp_options options = {};
            void *temp = nullptr;
            if (nvcomp_temp(n, s.size, options, &temp_bytes, n * s.size, 0) == 0 && cudaMalloc(&temp, temp_bytes + 256) == cudaSuccess) {
                std::vector<float> times;
                CK(cudaMemset(out, 0xAB, n * s.size));
                for (int round = 0; round <= 5; round++) {
                    CK(cudaEventRecord(device.begin, device.stream));
                    int error = nvcomp_zstd((const void *const *)from_d, (const size_t *)bytes_d, (const size_t *)sizes_d, actual, n, temp, temp_bytes, (void *const *)to_d, options, statuses, device.stream);
                    CK(cudaEventRecord(device.end, device.stream));
                    CK(cudaStreamSynchronize(device.stream));
                    float ms;
                    CK(cudaEventElapsedTime(&ms, device.begin, device.end));
                    if (error)
                        break;
                    if (round)
                        times.push_back(ms);
                }
                if (times.size() == 5)
                    nv_ms = median(times), nv_ok = verify();
                cudaFree(temp);
            }
            cudaGetLastError();
            cudaFree(from_d), cudaFree(to_d), cudaFree(bytes_d), cudaFree(sizes_d), cudaFree(actual), cudaFree(statuses);
        }
        for (const Tuning &tuning : tunings) {
            ::dmc_gd_tuning = tuning.values;
            std::vector<float> times;
            CK(cudaMemset(out, 0xCD, n * s.size));
            auto enqueue = [&] { CK((cudaError_t)dmc_cuda_wave_enqueue(w.wave, &device.launcher, (uintptr_t)w.table_device, (uintptr_t)w.scratch, device.stream, device.side)); };
            for (int round = 0; round <= 5; round++) {
                cudaEvent_t first, last;
                CK(cudaEventCreate(&first));
                CK(cudaEventCreate(&last));
                CK(cudaEventRecord(first, device.stream));
                enqueue();
                CK(cudaEventRecord(last, device.stream));
                CK(cudaStreamSynchronize(device.stream));
                float ms;
                CK(cudaEventElapsedTime(&ms, first, last));
                cudaEventDestroy(first), cudaEventDestroy(last);
                if (round)
                    times.push_back(ms);
            }
            bool ok = verify();
            std::vector<uint32_t> statuses(n);
            CK(cudaMemcpy(statuses.data(), w.table_device, 4 * n, cudaMemcpyDeviceToHost));
            for (uint32_t status : statuses)
                ok &= status == 0;
            wrong += !ok;
            memset(device.ms, 0, sizeof device.ms);
            device.timed = true;
            enqueue();
            CK(cudaStreamSynchronize(device.stream));
            device.timed = false;
            float ms = median(times);
            printf("%s\t%s\t%zu KiB\t%zu\t%s\t%.1f GB/s\t%.3f ms\tnvcomp %.1f%s\t%.2fx\t| huffman %.3f sequences %.3f block %.3f warp %.3f lz4 %.3f copy %.3f unfilter %.3f ms | scratch %.2f, table %.0f B, "
                   "host %.2f + %.2f us a chunk\t%s\n",
                   s.codec, content_names[s.content], s.size >> 10, n, tuning.name, gb / ms, ms, nv_ms > 0 ? gb / nv_ms : 0, nv_ms > 0 && !nv_ok ? " (WRONG)" : "", nv_ms / ms,
                   device.ms[DMC_CUDA_KERNEL_HUFFMAN], device.ms[DMC_CUDA_KERNEL_SEQUENCES], device.ms[DMC_CUDA_KERNEL_EXECUTE_BLOCK], device.ms[DMC_CUDA_KERNEL_EXECUTE_WARP],
                   device.ms[DMC_CUDA_KERNEL_LZ4], device.ms[DMC_CUDA_KERNEL_COPY], device.ms[DMC_CUDA_KERNEL_UNFILTER], (double)info.scratch_bytes / (double)(n * s.size),
                   (double)info.table_bytes / (double)n, (added - begin) * 1e6 / (double)n, (closed - added) * 1e6 / (double)n, ok ? "ok" : "WRONG");
            fflush(stdout);
        }
        cudaFree(out);
    }
    cudaFree(slab_device), cudaFree(reference), cudaFree(bad_device);
}

static void bench(const std::string &mode)
{
    const std::vector<Tuning> usual = {{"auto", {}}};
    const std::vector<Tuning> many = {{"auto", {}}, {"warp", {4, 4, DMC_GD_NEVER_WIDE}}, {"block", {4, 4, 100000}}};
    const std::vector<size_t> counts = {1, 64, 256, 1024, 4096, 8192}, few = {64, 256, 512, 1024, 2048, 8192};
    Set s;
    nvcomp_open();
    if (mode == "tune") {
        for (int content : {PLAIN, SHUFFLED, FLOATS, LABELS, TEXT})
            for (size_t size : {16u << 10, 128u << 10, 1u << 20}) {
                set_make(s, content, size, "zstd", 128u << 20);
                bench_set(s, {64, 256, 512, 1024, 2048, 8192}, many, false);
            }
        return;
    }
    for (int content : {PLAIN, SHUFFLED})
        for (size_t size : {64u << 10, 128u << 10, 1u << 20}) {
            set_make(s, content, size, "zstd", 128u << 20);
            bench_set(s, counts, usual, true);
        }
    for (const char *codec : {"blosc-zstd", "blosc-lz4", "lz4"}) {
        set_make(s, PLAIN, 128u << 10, codec, 64u << 20);
        for (bool planes : {false, true}) {
            s.planes = planes && s.format == DMC_CUDA_BLOSC;
            if (s.planes == planes)
                bench_set(s, mode == "quick" ? std::vector<size_t>{64, 1024, 8192} : few, usual, false);
        }
        s.planes = false;
    }
    if (mode == "quick")
        return;
    for (int content : {PLAIN, SHUFFLED, FLOATS, LABELS, TEXT})
        for (size_t size : {4u << 10, 16u << 10, 128u << 10, 4u << 20}) {
            if (content <= SHUFFLED && size == 128u << 10)
                continue;
            set_make(s, content, size, "zstd", 64u << 20);
            bench_set(s, size == 4u << 20 ? std::vector<size_t>{1, 64, 512} : size < 64u << 10 ? std::vector<size_t>{1, 256, 2048, 16384} : few, usual, true);
        }
    for (size_t size : {1u << 20})
        for (const char *codec : {"blosc-zstd", "blosc-lz4"}) {
            set_make(s, PLAIN, size, codec, 128u << 20);
            bench_set(s, {64, 256, 1024}, usual, false);
        }
}

int main(int argc, char **argv)
{
    std::string mode = "all";
    for (int i = 1; i < argc; i++) {
        std::string arg = argv[i];
        if (arg.rfind("raw=", 0) != 0) {
            mode = arg;
            continue;
        }
        FILE *file = fopen(arg.c_str() + 4, "rb");
        if (!file) {
            printf("cannot open %s\n", arg.c_str() + 4);
            return 1;
        }
        raw.resize(512u << 20);
        raw.resize(fread(raw.data(), 2, raw.size(), file));
        fclose(file);
    }
    double begin = now();
    device_open();
    if (mode == "check" || mode == "all")
        check();
    if (mode != "check")
        bench(mode);
    printf("# %zu wrong, %.0f s\n", wrong, now() - begin);
    return wrong != 0;
}
