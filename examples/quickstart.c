/* The shortest whole program: stream 32 crops of an array with three axes, in batches of 8.
 *
 *     cc examples/quickstart.c -Iinclude -Lbuild/release -ldamacy -Wl,-rpath,build/release -o quickstart
 *     ./quickstart data/demo/nuclei.zarr/0/0
 *
 * The last crop ends at 16 x 126 x 157, so the array has to be that large.
 */
#include <damacy/damacy.h>
#include <stdio.h>

int main(int argc, char **argv)
{
    const int64_t shape[] = {16, 64, 64};
    const struct damacy_field field = {.rank = 3, .sample_shape = shape, .dtype = DAMACY_F32};
    struct damacy_config config = DAMACY_CONFIG_INIT;
    config.samples_per_batch = 8;
    config.field_count = 1;
    config.fields = &field;

    struct damacy *pipeline;
    struct damacy_error error;
    struct damacy_batch *batch;
    enum damacy_status status = damacy_create(&config, &pipeline, &error);
    if (argc != 2 || status != DAMACY_OK)
        return fprintf(stderr, "usage: quickstart ARRAY\n%s", status == DAMACY_OK ? "" : error.message), 2;
    for (int64_t i = 0; i < 32 && status == DAMACY_OK; i++) { /* 32 fit the lookahead; push says AGAIN when it is full */
        const struct damacy_interval box[] = {{0, 16}, {2 * i, 2 * i + 64}, {3 * i, 3 * i + 64}};
        const struct damacy_region region = {argv[1], 3, box};
        const struct damacy_sample sample = {&region, (uint64_t)i};
        status = damacy_push(pipeline, (struct damacy_samples){&sample, 1}, NULL, &error);
    }
    damacy_flush(pipeline, NULL);
    while (status == DAMACY_OK && (status = damacy_pop(pipeline, DAMACY_FOREVER, &batch, &error)) == DAMACY_OK) {
        struct damacy_batch_info info;
        damacy_batch_info(batch, &info, NULL);
        const float *data = info.tensors[0].data;
        printf("batch %llu: %u crops, the first begins with %g\n", (unsigned long long)info.batch_id, info.row_count, data[0]);
        damacy_release(batch);
    }
    if (status != DAMACY_END)
        fprintf(stderr, "%s\n", error.message);
    damacy_destroy(pipeline);
    return status != DAMACY_END;
}
