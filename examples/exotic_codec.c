/* A codec of one's own: damacy reads arrays of a codec that it has never heard of, here a run-length code.
 *
 *     cc examples/exotic_codec.c -Iinclude -Lbuild/release -ldamacy -Wl,-rpath,build/release -o exotic_codec
 *     ./exotic_codec FOLDER        # writes FOLDER/runs.zarr and reads it back
 *
 * What it takes: a decode function that trusts nothing it is given, and damacy_codec_register(). The codec's configuration,
 * here how long a run may be, comes as JSON text; an array whose configuration makes no sense is refused when it is opened
 * (check). */
#include <damacy/damacy.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define EXTENT 64
#define TILE 32

/* ---- the codec: pairs of a length (1 to longest) and a byte ---- */

static int longest_run(const char *configuration)
{
    int longest = 255;
    const char *at = configuration ? strstr(configuration, "\"longest\":") : NULL;
    if (at && sscanf(at, "\"longest\":%d", &longest) != 1)
        return 0;
    return longest;
}

static enum damacy_status runs_check(void *user, const char *configuration, char *message, size_t message_bytes)
{
    (void)user;
    int longest = longest_run(configuration);
    if (longest >= 1 && longest <= 255)
        return DAMACY_OK;
    snprintf(message, message_bytes, "'longest' is %d, expected 1 to 255", longest);
    return DAMACY_DECODE;
}

static enum damacy_status runs_decode(void *user, const char *configuration, const void *source, size_t source_bytes,
                                      void *target, size_t target_bytes, size_t *decoded_bytes, char *message,
                                      size_t message_bytes)
{
    const unsigned char *pairs = source;
    size_t decoded = 0;
    (void)user;
    for (size_t i = 0; i + 1 < source_bytes; i += 2) {
        if (pairs[i] == 0 || pairs[i] > longest_run(configuration) || pairs[i] > target_bytes - decoded) {
            snprintf(message, message_bytes, "a run of %d at byte %zu", pairs[i], i);
            return DAMACY_DECODE;
        }
        memset((unsigned char *)target + decoded, pairs[i + 1], pairs[i]);
        decoded += pairs[i];
    }
    *decoded_bytes = decoded; /* damacy compares it with what the chunk must have */
    return DAMACY_OK;
}

/* ---- an array that uses it: 64 x 64 bytes in four chunks, element (y, x) is y / 8 ---- */

static int write_file(const char *folder, const char *name, const void *data, size_t bytes)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "wb");
    return !file || fwrite(data, 1, bytes, file) != bytes || fclose(file) != 0;
}

static int write_array(const char *folder)
{
    static const char metadata[] =
        "{\"zarr_format\":3,\"node_type\":\"array\",\"shape\":[64,64],\"data_type\":\"uint8\",\"fill_value\":0,"
        "\"chunk_grid\":{\"name\":\"regular\",\"configuration\":{\"chunk_shape\":[32,32]}},"
        "\"chunk_key_encoding\":{\"name\":\"v2\",\"configuration\":{\"separator\":\".\"}},"
        "\"codecs\":[{\"name\":\"bytes\"},{\"name\":\"example.runs\",\"configuration\":{\"longest\":200}}]}";
    mkdir(folder, 0777); /* it may be there; if it cannot be made, the next line says so */
    int failed = write_file(folder, "zarr.json", metadata, strlen(metadata));
    for (int tile = 0; tile < 4; tile++) {
        unsigned char pairs[2 * TILE];
        char name[16];
        for (int y = 0; y < TILE; y++) { /* a run a row */
            pairs[2 * y] = TILE;
            pairs[2 * y + 1] = (unsigned char)((tile / 2 * TILE + y) / 8);
        }
        snprintf(name, sizeof name, "%d.%d", tile / 2, tile % 2);
        failed |= write_file(folder, name, pairs, sizeof pairs);
    }
    return failed;
}

/* ---- reading it ---- */

static enum damacy_status read_crop(struct damacy *pipeline, const char *uri, struct damacy_error *error)
{
    const struct damacy_interval box[] = {{10, 42}, {20, 52}};
    const struct damacy_region region = {uri, 2, box};
    const struct damacy_sample sample = {&region, 0};
    struct damacy_batch *batch;
    struct damacy_batch_info info;
    enum damacy_status status = damacy_push(pipeline, (struct damacy_samples){&sample, 1}, NULL, error);
    if (status == DAMACY_OK)
        status = damacy_pop(pipeline, DAMACY_FOREVER, &batch, error);
    if (status != DAMACY_OK)
        return status;
    damacy_batch_info(batch, &info, NULL);
    const unsigned char *data = info.tensors[0].data;
    for (int i = 0; i < 32 * 32 && status == DAMACY_OK; i++) {
        if (data[i] != (10 + i / 32) / 8)
            status = DAMACY_INTERNAL;
    }
    damacy_release(batch);
    return status;
}

int main(int argc, char **argv)
{
    const int64_t shape[] = {32, 32};
    const struct damacy_field field = {.rank = 2, .sample_shape = shape, .dtype = DAMACY_U8};
    struct damacy_codec codec = DAMACY_CODEC_INIT;
    struct damacy_config config = DAMACY_CONFIG_INIT;
    struct damacy *pipeline = NULL;
    struct damacy_error error = {0};
    char folder[4000];
    if (argc != 2)
        return fprintf(stderr, "usage: exotic_codec FOLDER\n"), 2;
    snprintf(folder, sizeof folder, "%s/runs.zarr", argv[1]);
    if (write_array(folder))
        return fprintf(stderr, "%s cannot be written\n", folder), 2;

    codec.decode = runs_decode;
    codec.check = runs_check;
    enum damacy_status status = damacy_codec_register("example.runs", &codec, &error);

    config.samples_per_batch = 1;
    config.field_count = 1;
    config.fields = &field;
    if (status == DAMACY_OK)
        status = damacy_create(&config, &pipeline, &error);
    if (status == DAMACY_OK)
        status = read_crop(pipeline, folder, &error);
    damacy_destroy(pipeline);
    damacy_codec_unregister("example.runs", NULL);
    printf("%s\n", status == DAMACY_OK ? "read as written" : error.message);
    return status != DAMACY_OK;
}
