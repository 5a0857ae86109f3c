/* Writes docs/formats.md from the tables that the code itself goes by, so that the page cannot promise what the code does not
 * do.
 *
 *     generate_formats           write the page to stdout (make formats)
 *     generate_formats --check FILE   exit 1 if FILE is not that page (a test)
 *
 * Stores are asked, not listed: whether a scheme is read is what dmc_stores_resolve() says. */
#include "backend/cuda/cuda_decoder.h"
#include "codec/codec_tables.h"
#include "store/store.h"
#include "zarr/zarr_tables.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The page under way. */
static char *page;
static size_t page_bytes;
static FILE *out;

static void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void say(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vfprintf(out, format, arguments);
    va_end(arguments);
}

/* Text of a cell: a bar would end it. */
static void say_cell(const char *text)
{
    for (; *text; text++)
        say(*text == '|' ? "\\%c" : "%c", *text);
}

static void say_row(const char *first, const char *second, const char *third, const char *fourth)
{
    const char *cells[] = {first, second, third, fourth};
    for (size_t i = 0; i < 4 && cells[i]; i++) {
        say("| ");
        say_cell(cells[i]);
        say(" ");
    }
    say("|\n");
}

static void say_heading(const char *title, const char *first, const char *second, const char *third, const char *fourth)
{
    say("\n## %s\n\n", title);
    say_row(first, second, third, fourth);
    say_row("---", "---", third ? "---" : NULL, fourth ? "---" : NULL);
}

/* "A, B and C" of what is there. */
static void join(char *text, size_t capacity, const char *first, const char *const *more, size_t count)
{
    snprintf(text, capacity, "`%s`", first);
    for (size_t i = 0; i < count && more[i]; i++) {
        size_t used = strlen(text);
        snprintf(text + used, capacity - used, ", `%s`", more[i]);
    }
}

/* --- codecs --- */

static bool is_internal(const struct dmc_codec_info *info)
{
    return strncmp(info->name, "damacy.", 7) == 0;
}

/* Where a chunk with this codec is decoded when batches are on a CUDA device. */
static void say_cuda(const struct dmc_codec_info *info, char *text, size_t capacity)
{
    const struct dmc_cuda_codec *codec = dmc_cuda_codec_find(info->name);
    if (codec)
        snprintf(text, capacity, "GPU: %s", codec->note);
    else if (strcmp(info->name, "crc32c") == 0)
        snprintf(text, capacity, "checked on the cores, wherever the rest is decoded");
    else if (strcmp(info->name, "bytes") == 0 || strcmp(info->name, "transpose") == 0 ||
             strcmp(info->name, "sharding_indexed") == 0)
        snprintf(text, capacity, "GPU, as part of assembling");
    else
        snprintf(text, capacity, "cores");
}

static void codecs(void)
{
    say_heading("Codecs", "name", "what it turns", "CPU", "CUDA");
    for (uint32_t i = 0; dmc_codec_info_at(i); i++) {
        const struct dmc_codec_info *info = dmc_codec_info_at(i);
        if (info->state >= DMC_CODEC_REFUSED || is_internal(info))
            continue;
        char names[512], cpu[512], cuda[256];
        join(names, sizeof names, info->name, info->aliases, DMC_CODEC_ALIASES_MAX);
        /* A build without a library is no other format: the page says what decodes it where the library is there. */
        bool lacking = info->state == DMC_CODEC_LACKING;
        snprintf(cpu, sizeof cpu, "%s%s%s", info->library, !lacking && info->note[0] ? ": " : "", lacking ? "" : info->note);
        say_cuda(info, cuda, sizeof cuda);
        say_row(names, info->kind, cpu, cuda);
    }
    say("\nThe names that begin with `numcodecs.` are those of zarr-python 3; a v2 compressor or filter `{\"id\": \"x\"}` is "
        "`numcodecs.x`. "
        "\"cores\": decoded on the\ncores, then copied and assembled on the GPU.\n");
    say_heading("Codecs that are refused by name", "name", "what it turns", "why", NULL);
    for (uint32_t i = 0; dmc_codec_info_at(i); i++) {
        const struct dmc_codec_info *info = dmc_codec_info_at(i);
        if (info->state < DMC_CODEC_REFUSED)
            continue;
        char names[512];
        join(names, sizeof names, info->name, info->aliases, DMC_CODEC_ALIASES_MAX);
        say_row(names, info->kind, info->note, NULL);
    }
    say("\nAny other name is refused, too. `damacy_codec_register()` in C and `damacy.register_codec()` in Python teach damacy "
        "a codec that it "
        "does not\nknow, or refuses.\n");
}

/* --- data types, grids, keys --- */

static const char *how_text(const struct dmc_zarr_dtype *row)
{
    switch ((enum dmc_zarr_how)row->how) {
    case DMC_ZARR_AS_IS:
    case DMC_ZARR_TIME:
    case DMC_ZARR_RECORD:
        return row->delivered;
    case DMC_ZARR_WIDEN:
        return row->delivered;
    case DMC_ZARR_REFUSED:
        break;
    }
    return "";
}

static void data_types(void)
{
    say_heading("Data types", "v3", "v2", "delivered as", NULL);
    for (const struct dmc_zarr_dtype *row = dmc_zarr_dtypes; row->name; row++) {
        if (row->how == DMC_ZARR_REFUSED)
            continue;
        char name[64], v2[64];
        snprintf(name, sizeof name, "`%s`", row->name);
        snprintf(v2, sizeof v2, row->v2 ? "`%s`" : "-", row->v2 ? row->v2 : "");
        say_row(name, v2, how_text(row), NULL);
    }
    say("\nv2 names come behind a byte order, `<u2` or `>u2`. On CUDA all of them are the same. What a field of another dtype "
        "makes of them: "
        "[conversions.md](conversions.md).\n");
    say_heading("Data types that are refused by name", "v3", "v2", "what it is", NULL);
    for (const struct dmc_zarr_dtype *row = dmc_zarr_dtypes; row->name; row++) {
        if (row->how != DMC_ZARR_REFUSED)
            continue;
        char name[64], v2[64];
        snprintf(name, sizeof name, "`%s`", row->name);
        snprintf(v2, sizeof v2, row->v2 ? "`%s`" : "-", row->v2 ? row->v2 : "");
        say_row(name, v2, row->delivered, NULL);
    }
}

static void names(const char *title, const struct dmc_zarr_name *rows)
{
    say_heading(title, "name", "state", "what of it", NULL);
    for (; rows->name; rows++) {
        char name[64];
        snprintf(name, sizeof name, rows->name[0] == '(' ? "%s" : "`%s`", rows->name);
        say_row(name, rows->supported ? "read" : "refused", rows->note, NULL);
    }
}

/* --- stores --- */

/* Is there a store for uris of this kind? */
static bool resolves(struct dmc_stores *stores, const char *uri)
{
    struct dmc_store *store;
    char prefix[DAMACY_URI_BYTES_MAX + 1];
    struct damacy_error error = {0};
    return dmc_stores_resolve(stores, uri, &store, prefix, sizeof prefix, &error) != DAMACY_UNSUPPORTED;
}

static void places(void)
{
    static const struct {
        const char *form, *uri, *note;
    } schemes[] = {
        {"PATH", "/x", "files, through io_uring where the kernel allows it"},
        {"file://PATH", "file:///x", "the same; absolute, percent-decoded"},
        {"http://HOST/PATH, https://HOST/PATH", "http://localhost/x", "ranges of objects, through libcurl (docs/remote.md)"},
        {"s3://BUCKET/KEY", "s3://bucket/x", "S3 and compatible servers"},
        {"gs://BUCKET/KEY", "gs://bucket/x", "Google Cloud Storage"},
        {"az://CONTAINER/KEY", "az://container/x", "Azure: through an https:// uri of the container"},
    };
    struct dmc_stores *stores;
    struct damacy_error error;
    if (dmc_stores_create(NULL, &stores, &error) != DAMACY_OK) {
        fprintf(stderr, "generate_formats: %s\n", error.message);
        exit(2);
    }
    say_heading("Stores", "uri", "state", "what of it", NULL);
    for (size_t i = 0; i < sizeof schemes / sizeof *schemes; i++)
        say_row(schemes[i].form, resolves(stores, schemes[i].uri) ? "read" : "refused", schemes[i].note, NULL);
    say_row("memory://NAME", "tests", "where a test gave the pipeline one", NULL);
    dmc_stores_destroy(stores);
    say_heading("Containers", "in a path", "state", "what of it", NULL);
    say_row("FILE.zip/PATH, FILE.ozx/PATH", "read", "zip files: stored and deflated entries, zip64", NULL);
    say_row("FILE.json/PATH", "read", "kerchunk references, where the bytes that they name can be read", NULL);
    say_row("FILE.parq/PATH", "refused", "kerchunk references as Parquet", NULL);
}

static void compose(void)
{
    say("# What damacy reads\n\n<!-- Written by docs/generate_formats.c from the tables of the code: make formats. -->\n\n"
        "Zarr v2 and v3, and OME-Zarr 0.1 to 0.6, the last as drafted. Everything that is not in these tables is refused with "
        "its name in the "
        "message, when\nthe sample that needs it comes out. Parameters that matter only to an encoder, such as compression "
        "levels, are not looked "
        "at.\n");
    codecs();
    data_types();
    names("Chunk grids", dmc_zarr_grids);
    names("Chunk key encodings", dmc_zarr_key_encodings);
    names("Storage transformers", dmc_zarr_storage_transformers);
    places();
    say("\n## What a uri picks\n\n"
        "| behind the path | what it picks |\n| --- | --- |\n"
        "| `#level=2` | a level of an OME-Zarr image, 0 being the finest, which is also what a uri without it names |\n"
        "| `#scale=0.5`, `#scale=2,0.5,0.5` | the coarsest level that is still at least that fine in every spatial axis, in "
        "the image's own units |\n"
        "| `#label=nuclei` | a label image; also with level= or scale= |\n"
        "| `#well=B/03&field=0` | a field of a well of a plate; also with level=, scale= or label= |\n"
        "| `#member=x` | one member of a structured data type |\n");
}

static int check(const char *path)
{
    FILE *file = fopen(path, "re");
    char *found = malloc(page_bytes + 2);
    size_t bytes = file && found ? fread(found, 1, page_bytes + 1, file) : 0;
    bool same = file && found && bytes == page_bytes && memcmp(found, page, bytes) == 0;
    if (file)
        fclose(file);
    free(found);
    if (!same)
        fprintf(stderr, "%s is not what the code's tables say: run `make formats`\n", path);
    return same ? 0 : 1;
}

int main(int argc, char **argv)
{
    if (!(out = open_memstream(&page, &page_bytes)))
        return 2;
    compose();
    if (fclose(out) != 0)
        return 2;
    int status =
        argc == 3 && strcmp(argv[1], "--check") == 0 ? check(argv[2]) : fwrite(page, 1, page_bytes, stdout) != page_bytes;
    free(page);
    return status;
}
