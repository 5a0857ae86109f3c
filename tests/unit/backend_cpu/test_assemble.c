/* Goal: a piece lands in the tensor element by element where its axes say, for any number of axes, any strides of the source
 * (contiguous, transposed, negative) and any offset, and nothing else is touched; fills likewise, also those of complex
 * numbers, whichever parts of them a piece has. Method: random boxes out of random chunks, compared with a loop that computes
 * each element's place from its coordinates. The source holds its own element numbers, so that a wrong place is a wrong number.
 * DAMACY_TEST_SEED repeats a run. */
#include "backend/cpu/assemble.h"
#include "backend/piece_fill.h"
#include "plan/pieces.h"
#include "support/test_seed.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static uint64_t random_state;
static uint64_t random_below(uint64_t limit) /* xorshift64* */
{
    random_state ^= random_state >> 12;
    random_state ^= random_state << 25;
    random_state ^= random_state >> 27;
    return (random_state * UINT64_C(2685821657736338717) >> 11) % limit;
}

enum { BEFORE = 3 /* other axes' dims in front of the piece's */ };

struct scene {
    uint32_t rank;
    uint64_t extent[DAMACY_RANK_MAX];
    struct dmc_piece piece;
    struct dmc_piece_dim dims[BEFORE + DAMACY_RANK_MAX];
    uint64_t chunk_elements, tensor_elements;
};

/* A box in a chunk with its axes in random order of memory, some walked backwards, and a box of the same size in a tensor. */
static void make_scene(struct scene *scene, uint32_t rank, size_t in, size_t out)
{
    memset(scene, 0, sizeof *scene);
    scene->rank = rank;
    uint64_t chunk[DAMACY_RANK_MAX], tensor[DAMACY_RANK_MAX], begin[DAMACY_RANK_MAX], target_begin[DAMACY_RANK_MAX];
    uint32_t order[DAMACY_RANK_MAX];
    scene->chunk_elements = scene->tensor_elements = 1;
    uint64_t extent_max = rank <= 2 ? 90 : rank == 3 ? 24 : rank == 4 ? 9 : rank <= 8 ? 3 : 1;
    for (uint32_t d = 0; d < rank; d++) {
        bool small = rank > 8 && random_below(4) == 0 && scene->chunk_elements < 512;
        scene->extent[d] = small ? 2 : 1 + random_below(extent_max);
        chunk[d] = scene->extent[d] + (rank <= 8 ? random_below(3) : 0);
        tensor[d] = scene->extent[d] + (rank <= 8 ? random_below(3) : 0);
        begin[d] = random_below(chunk[d] - scene->extent[d] + 1);
        target_begin[d] = random_below(tensor[d] - scene->extent[d] + 1);
        scene->chunk_elements *= chunk[d];
        scene->tensor_elements *= tensor[d];
        order[d] = d;
    }
    if (random_below(2))
        for (uint32_t d = rank; d-- > 1;) {
            uint32_t other = (uint32_t)random_below(d + 1), keep = order[d];
            order[d] = order[other];
            order[other] = keep;
        }
    int64_t stride = (int64_t)in;
    struct dmc_piece_dim *dims = scene->dims + BEFORE;
    for (uint32_t k = rank; k-- > 0;) { /* order[rank - 1] is the axis that is contiguous in the chunk */
        uint32_t d = order[k];
        bool backwards = random_below(5) == 0;
        dims[d].source_stride = backwards ? -stride : stride;
        scene->piece.source_offset += (uint64_t)stride * (backwards ? begin[d] + scene->extent[d] - 1 : begin[d]);
        stride *= (int64_t)chunk[d];
    }
    stride = (int64_t)out;
    for (uint32_t d = rank; d-- > 0;) {
        dims[d].extent = scene->extent[d];
        dims[d].target_stride = stride;
        scene->piece.target_offset += (uint64_t)stride * target_begin[d];
        stride *= (int64_t)tensor[d];
    }
    scene->piece.dim_begin = BEFORE;
    scene->piece.dim_count = rank;
}

/* Call `put` for each element of the box with its places; coordinates are counted out one by one. */
static void each_element(const struct scene *scene, void (*put)(void *user, uint64_t source, uint64_t target), void *user)
{
    uint64_t total = 1;
    for (uint32_t d = 0; d < scene->rank; d++)
        total *= scene->extent[d];
    for (uint64_t i = 0; i < total; i++) {
        uint64_t rest = i, source = scene->piece.source_offset, target = scene->piece.target_offset;
        for (uint32_t d = scene->rank; d-- > 0; rest /= scene->extent[d]) {
            source += rest % scene->extent[d] * (uint64_t)scene->dims[BEFORE + d].source_stride;
            target += rest % scene->extent[d] * (uint64_t)scene->dims[BEFORE + d].target_stride;
        }
        put(user, source, target);
    }
}

struct copy {
    const uint8_t *chunk;
    uint8_t *tensor;
    bool fill;
};

static void put_u16_as_f32(void *user, uint64_t source, uint64_t target)
{
    struct copy *copy = user;
    uint16_t element = 777;
    if (!copy->fill)
        memcpy(&element, copy->chunk + source, sizeof element);
    float value = element;
    memcpy(copy->tensor + target, &value, sizeof value);
}

static void put_u16(void *user, uint64_t source, uint64_t target)
{
    struct copy *copy = user;
    uint16_t element = 777;
    if (!copy->fill)
        memcpy(&element, copy->chunk + source, sizeof element);
    memcpy(copy->tensor + target, &element, sizeof element);
}

static void check_scene(uint32_t rank, enum damacy_dtype output)
{
    struct scene scene;
    size_t out = damacy_dtype_bytes(output);
    make_scene(&scene, rank, sizeof(uint16_t), out);
    uint16_t *chunk = malloc(scene.chunk_elements * sizeof *chunk);
    uint8_t *tensor = malloc(scene.tensor_elements * out), *expected = malloc(scene.tensor_elements * out);
    assert_non_null(chunk);
    assert_non_null(tensor);
    assert_non_null(expected);
    for (uint64_t i = 0; i < scene.chunk_elements; i++)
        chunk[i] = (uint16_t)(i * 40503u);
    for (int fill = 0; fill < 2; fill++) {
        memset(tensor, 0xa5, scene.tensor_elements * out);
        memset(expected, 0xa5, scene.tensor_elements * out);
        struct copy copy = {(const uint8_t *)chunk, expected, fill};
        each_element(&scene, output == DAMACY_F32 ? put_u16_as_f32 : put_u16, &copy);
        uint16_t fill_element = 777;
        struct dmc_scatter_element element = {DAMACY_U16, 1, 0, &fill_element};
        if (fill)
            dmc_assemble_fill(&scene.piece, scene.dims, output, element, tensor);
        else
            dmc_assemble_piece(&scene.piece, scene.dims, dmc_scatter_select(DAMACY_U16, false, output), chunk, tensor);
        if (memcmp(tensor, expected, scene.tensor_elements * out) != 0) {
            for (uint32_t d = 0; d < rank; d++)
                print_message("axis %u: extent %" PRIu64 ", strides %" PRId64 " and %" PRId64 "\n", d, scene.extent[d],
                              scene.dims[BEFORE + d].source_stride, scene.dims[BEFORE + d].target_stride);
            fail_msg("%s into %s", fill ? "fill" : "piece", damacy_dtype_str(output));
        }
    }
    free(chunk);
    free(tensor);
    free(expected);
}

static void test_random_pieces_against_a_naive_loop(void **state)
{
    (void)state;
    for (int round = 0; round < 3000; round++)
        check_scene(1 + (uint32_t)random_below(6), round % 2 ? DAMACY_F32 : DAMACY_U16);
}

static void test_many_axes(void **state)
{
    (void)state;
    for (uint32_t rank = 7; rank <= DAMACY_RANK_MAX; rank++)
        for (int round = 0; round < 10; round++)
            check_scene(rank, round % 2 ? DAMACY_F32 : DAMACY_U16);
}

/* Of a raw span only the bytes from part_begin on are in memory; the caller passes where byte 0 would be. */
static void test_piece_of_a_raw_span(void **state)
{
    (void)state;
    const uint16_t span[4] = {10, 11, 12, 13}; /* elements 1000 to 1003 of the chunk */
    struct dmc_piece piece = {.source_offset = 2 * 1001, .dim_count = 1};
    struct dmc_piece_dim dim = {3, 2, 4};
    float tensor[3];
    const void *decoded = (const void *)((uintptr_t)span - 2000);
    dmc_assemble_piece(&piece, &dim, dmc_scatter_select(DAMACY_U16, false, DAMACY_F32), decoded, tensor);
    assert_true(tensor[0] == 11.0f && tensor[1] == 12.0f && tensor[2] == 13.0f);
}

/* Random boxes of absent chunks of complex arrays, as the planner makes pieces of them and as cutting takes pieces apart: each
 * element must be the part that its place in the tensor says. */
static void check_complex_fill(void)
{
    struct dmc_codec_chain chain = {0};
    struct dmc_zarr_array zarr = {.dtype = DAMACY_U16, .item_bytes = 2, .fill_count = 2};
    struct dmc_backend_array array = {.zarr = &zarr, .chain = &chain};
    const uint16_t parts[2] = {100, 200};
    memcpy(zarr.fill, parts, sizeof parts);
    uint32_t rank = zarr.rank = 2 + (uint32_t)random_below(3), order[5];
    uint64_t chunk[5], extent[5], begin[5], source_strides[5], target_strides[5], elements = 1;
    for (uint32_t a = 0; a < rank; a++) {
        chunk[a] = a + 1 < rank ? 1 + random_below(6) : 2;
        extent[a] = 1 + random_below(chunk[a]);
        begin[a] = random_below(chunk[a] - extent[a] + 1);
        elements *= extent[a];
        order[a] = a;
    }
    for (uint32_t a = rank - 1; random_below(2) && a-- > 1;) { /* the axis of parts stays the last */
        uint32_t other = (uint32_t)random_below(a + 1), keep = order[a];
        order[a] = order[other];
        order[other] = keep;
    }
    uint64_t stride = 1;
    for (uint32_t k = rank; k-- > 0; stride *= chunk[order[k]]) {
        chain.strides[order[k]] = (int64_t)stride;
        source_strides[order[k]] = 2 * stride;
    }
    stride = 2;
    for (uint32_t a = rank; a-- > 0; stride *= extent[a])
        target_strides[a] = stride;
    struct dmc_piece piece = {0};
    struct dmc_piece_dim dims[5];
    for (uint32_t a = 0; a < rank; a++)
        piece.source_offset += begin[a] * source_strides[a];
    piece.dim_count = dmc_piece_dims(rank, extent, source_strides, target_strides, 2, 2, dims);
    uint16_t tensor[432 * 2];
    memset(tensor, 0xee, sizeof tensor);
    struct dmc_piece_dim whole = dims[piece.dim_count - 1];
    uint64_t block = random_below(2) ? whole.extent : 1 + random_below(whole.extent); /* the last dim as it is, or in blocks */
    for (uint64_t at = 0; at < whole.extent; at += block) {
        struct dmc_piece part = piece;
        dims[piece.dim_count - 1].extent = whole.extent - at < block ? whole.extent - at : block;
        part.source_offset += at * (uint64_t)whole.source_stride;
        part.target_offset += at * (uint64_t)whole.target_stride;
        dmc_assemble_fill(&part, dims, DAMACY_U16, dmc_piece_fill(&array, &part, dims), tensor);
    }
    for (uint64_t i = 0; i < elements; i++)
        if (tensor[i] != parts[(begin[rank - 1] + i % extent[rank - 1]) % 2])
            fail_msg("element %" PRIu64 " of %" PRIu64 " is %u", i, elements, tensor[i]);
    assert_int_equal(tensor[elements], 0xeeee);
}

static void test_fill_of_complex_numbers(void **state)
{
    (void)state;
    for (int round = 0; round < 20000; round++)
        check_complex_fill();
}

int main(void)
{
    random_state = seed_of_test("test_assemble", 0) | 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_pieces_against_a_naive_loop),
        cmocka_unit_test(test_many_axes),
        cmocka_unit_test(test_piece_of_a_raw_span),
        cmocka_unit_test(test_fill_of_complex_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
