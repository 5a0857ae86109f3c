/* numcodecs.lzma, by liblzma: the formats .xz (the usual one), .lzma ("alone") and raw, as Python's lzma module writes them.
 * The only file that knows liblzma; without it the codec is not in the table.
 *
 * A decoder's dictionary is as large as the encoder's, up to 4 GiB, however small the chunk is. But no match reaches further
 * back than the chunk is long: so we read headers ourselves, lower the dictionary to that, and decode block by block with
 * memory from the context's arena. Several .xz or .lzma streams may follow one another, as they may for Python. */
#include "codec/codec_impl.h"

#ifdef DMC_HAVE_LZMA
#include "base/mem.h"
#include <lzma.h>

/* What decoders take beside the dictionary: their states, and the filters around them. */
#define LZMA_STATE_BYTES (512u << 10)
#define DICTIONARY_BYTES_MIN 4096u

enum lzma_format { FORMAT_AUTO = 0, FORMAT_XZ = 1, FORMAT_ALONE = 2, FORMAT_RAW = 3 };

struct raw_filter {
    uint64_t id;
    uint32_t dictionary_bytes, lc, lp, pb; /* lzma1, lzma2 */
    uint32_t distance;                     /* delta */
    uint32_t start_offset;                 /* those for machine code */
};

struct lzma_config {
    enum lzma_format format;
    uint32_t filter_count;
    struct raw_filter filters[LZMA_FILTERS_MAX];
};

/* Where one decode is. */
struct lzma_run {
    struct dmc_codec_job *job;
    lzma_allocator allocator;
    uint32_t dictionary_bytes; /* at most */
    size_t taken, decoded;
};

static void *lzma_arena_alloc(void *opaque, size_t count, size_t bytes)
{
    uint64_t all;
    return dmc_mul_u64(count, bytes, &all) ? dmc_codec_arena_alloc(opaque, all) : NULL;
}

static void lzma_arena_free(void *opaque, void *memory)
{
    (void)opaque; /* it goes with the arena */
    (void)memory;
}

static uint64_t dictionary_bytes_for(uint64_t decoded_bytes)
{
    return dmc_min_u64(dmc_max_u64(decoded_bytes, DICTIONARY_BYTES_MIN), UINT32_MAX);
}

static uint64_t lzma_arena_bytes(const void *data, uint64_t decoded_bytes)
{
    const struct lzma_config *config = data;
    bool rounds = config->format == FORMAT_ALONE || config->format == FORMAT_AUTO; /* see alone_stream() */
    return (rounds ? 2 : 1) * dictionary_bytes_for(decoded_bytes) + LZMA_STATE_BYTES;
}

static enum damacy_status library_error(struct damacy_error *error, const struct lzma_run *run, lzma_ret code)
{
    const char *what = "corrupt";
    switch (code) {
    case LZMA_OK:
    case LZMA_BUF_ERROR:
        if (run->decoded == run->job->target_bytes && run->taken < run->job->source_bytes)
            return dmc_codec_size_error(error, "lzma", "wrong decoded size", "", run->job->target_bytes, UINT64_MAX);
        what = "truncated";
        break;
    case LZMA_FORMAT_ERROR:
        what = "not of the format that the metadata say";
        break;
    case LZMA_OPTIONS_ERROR:
        return dmc_error_set(error, DAMACY_UNSUPPORTED, "decode", "lzma: the header asks for something that liblzma cannot do");
    case LZMA_MEM_ERROR:
    case LZMA_MEMLIMIT_ERROR:
        return dmc_error_set(error, DAMACY_DECODE, "decode", "lzma: the data want more memory than their chunk has bytes");
    default:
        break;
    }
    return dmc_error_set(error, DAMACY_DECODE, "decode", "lzma: the data are %s at byte %zu of %llu (liblzma answers %d)", what,
                         run->taken, (unsigned long long)run->job->source_bytes, (int)code);
}

static void dictionary_lower(lzma_filter *filters, uint32_t bytes)
{
    for (size_t i = 0; i < LZMA_FILTERS_MAX && filters[i].id != LZMA_VLI_UNKNOWN; i++) {
        lzma_options_lzma *options = filters[i].options;
        if ((filters[i].id == LZMA_FILTER_LZMA1 || filters[i].id == LZMA_FILTER_LZMA2) && options->dict_size > bytes)
            options->dict_size = bytes;
    }
}

/* ---- .xz ---- */

static lzma_ret xz_block(struct lzma_run *run, const lzma_stream_flags *flags, lzma_index_hash *hash)
{
    const uint8_t *source = run->job->source;
    size_t source_bytes = run->job->source_bytes;
    lzma_filter filters[LZMA_FILTERS_MAX + 1];
    lzma_block block = {.version = 1, .check = flags->check, .filters = filters};
    block.header_size = lzma_block_header_size_decode(source[run->taken]);
    if (block.header_size > source_bytes - run->taken)
        return LZMA_BUF_ERROR;
    lzma_ret code = lzma_block_header_decode(&block, &run->allocator, source + run->taken);
    if (code != LZMA_OK)
        return code;
    run->taken += block.header_size;
    dictionary_lower(filters, run->dictionary_bytes);
    code = lzma_block_buffer_decode(&block, &run->allocator, source, &run->taken, source_bytes, run->job->target, &run->decoded,
                                    run->job->target_bytes);
    if (code == LZMA_OK)
        code = lzma_index_hash_append(hash, lzma_block_unpadded_size(&block), block.uncompressed_size);
    return code;
}

/* The index behind the blocks, and the footer, which repeats the header. */
static lzma_ret xz_end(struct lzma_run *run, const lzma_stream_flags *flags, lzma_index_hash *hash)
{
    const uint8_t *source = run->job->source;
    lzma_stream_flags footer;
    lzma_ret code = lzma_index_hash_decode(hash, source, &run->taken, run->job->source_bytes);
    if (code != LZMA_STREAM_END)
        return code == LZMA_OK ? LZMA_BUF_ERROR : code;
    if (run->job->source_bytes - run->taken < LZMA_STREAM_HEADER_SIZE)
        return LZMA_BUF_ERROR;
    code = lzma_stream_footer_decode(&footer, source + run->taken);
    if (code != LZMA_OK)
        return code == LZMA_FORMAT_ERROR ? LZMA_DATA_ERROR : code;
    run->taken += LZMA_STREAM_HEADER_SIZE;
    if (lzma_index_hash_size(hash) != footer.backward_size)
        return LZMA_DATA_ERROR;
    return lzma_stream_flags_compare(flags, &footer);
}

static lzma_ret xz_stream(struct dmc_codec_context *context, struct lzma_run *run)
{
    lzma_stream_flags flags;
    if (run->job->source_bytes - run->taken < LZMA_STREAM_HEADER_SIZE)
        return LZMA_BUF_ERROR;
    lzma_ret code = lzma_stream_header_decode(&flags, run->job->source + run->taken);
    if (code != LZMA_OK)
        return code;
    run->taken += LZMA_STREAM_HEADER_SIZE;
    lzma_index_hash *hash = lzma_index_hash_init(NULL, &run->allocator);
    if (!hash)
        return LZMA_MEM_ERROR;
    uint64_t used = context->arena_used;
    for (;;) {
        if (run->taken == run->job->source_bytes)
            return LZMA_BUF_ERROR;
        if (run->job->source[run->taken] == 0) /* the index begins */
            return xz_end(run, &flags, hash);
        code = xz_block(run, &flags, hash);
        if (code != LZMA_OK)
            return code;
        context->arena_used = used; /* the next block's decoder takes the place of this one's */
    }
}

/* ---- .lzma and raw ---- */

static lzma_ret stream_run(struct lzma_run *run, lzma_stream *stream, bool ends_itself)
{
    stream->next_out = run->job->target + run->decoded;
    stream->avail_out = run->job->target_bytes - run->decoded;
    size_t in = stream->avail_in, out = stream->avail_out;
    lzma_ret code = lzma_code(stream, LZMA_RUN);
    if (code == LZMA_OK && !ends_itself && stream->avail_in == 0)
        code = LZMA_STREAM_END; /* raw LZMA1 has no mark at its end, only the end of the chunk */
    run->taken += in - stream->avail_in;
    run->decoded += out - stream->avail_out;
    return code;
}

/* Header: one byte of properties, the dictionary's size, the decoded size or all ones. */
static lzma_ret alone_stream(struct lzma_run *run)
{
    enum { HEADER_BYTES = 13 };
    uint8_t header[HEADER_BYTES];
    lzma_stream stream = LZMA_STREAM_INIT;
    if (run->job->source_bytes - run->taken < HEADER_BYTES)
        return LZMA_BUF_ERROR;
    memcpy(header, run->job->source + run->taken, HEADER_BYTES);
    if (dmc_load_u32le(header + 1) > run->dictionary_bytes) {
        /* A power of two, or one and a half: other sizes are taken for another format. */
        uint64_t bytes = DICTIONARY_BYTES_MIN;
        while (bytes < run->dictionary_bytes)
            bytes *= 2;
        if (dmc_load_u32le(header + 1) > bytes) {
            const uint32_t lowered = (uint32_t)bytes;
            for (int i = 0; i < 4; i++)
                header[1 + i] = (uint8_t)(lowered >> 8 * i);
        }
    }
    stream.allocator = &run->allocator;
    lzma_ret code = lzma_alone_decoder(&stream, UINT64_MAX);
    if (code != LZMA_OK)
        return code;
    stream.next_in = header;
    stream.avail_in = HEADER_BYTES;
    code = stream_run(run, &stream, true);
    if (code == LZMA_OK) {
        stream.next_in = run->job->source + run->taken;
        stream.avail_in = run->job->source_bytes - run->taken;
        code = stream_run(run, &stream, true);
    }
    lzma_end(&stream);
    return code;
}

static lzma_ret raw_stream(struct lzma_run *run, const struct lzma_config *config)
{
    lzma_filter filters[LZMA_FILTERS_MAX + 1];
    lzma_options_lzma lzma[LZMA_FILTERS_MAX];
    lzma_options_delta delta[LZMA_FILTERS_MAX];
    lzma_options_bcj bcj[LZMA_FILTERS_MAX];
    lzma_stream stream = LZMA_STREAM_INIT;
    bool ends_itself = true;
    for (uint32_t i = 0; i < config->filter_count; i++) {
        const struct raw_filter *filter = &config->filters[i];
        filters[i].id = filter->id;
        switch (filter->id) {
        case LZMA_FILTER_LZMA1:
            ends_itself = false;
            /* fall through */
        case LZMA_FILTER_LZMA2:
            lzma[i] = (lzma_options_lzma){
                .dict_size = filter->dictionary_bytes, .lc = filter->lc, .lp = filter->lp, .pb = filter->pb};
            filters[i].options = &lzma[i];
            break;
        case LZMA_FILTER_DELTA:
            delta[i] = (lzma_options_delta){.type = LZMA_DELTA_TYPE_BYTE, .dist = filter->distance};
            filters[i].options = &delta[i];
            break;
        default:
            bcj[i] = (lzma_options_bcj){.start_offset = filter->start_offset};
            filters[i].options = &bcj[i];
        }
    }
    filters[config->filter_count] = (lzma_filter){LZMA_VLI_UNKNOWN, NULL};
    dictionary_lower(filters, run->dictionary_bytes);
    stream.allocator = &run->allocator;
    lzma_ret code = lzma_raw_decoder(&stream, filters);
    if (code != LZMA_OK)
        return code;
    stream.next_in = run->job->source + run->taken;
    stream.avail_in = run->job->source_bytes - run->taken;
    code = stream_run(run, &stream, ends_itself);
    lzma_end(&stream);
    return code;
}

static enum damacy_status lzma_decode(struct dmc_codec_context *context, struct dmc_codec_job *job, struct damacy_error *error)
{
    const struct lzma_config *config = job->config;
    struct lzma_run run = {.job = job,
                           .allocator = {lzma_arena_alloc, lzma_arena_free, context},
                           .dictionary_bytes = (uint32_t)dictionary_bytes_for(job->target_bytes)};
    do {
        enum damacy_status status = dmc_codec_arena_begin(context, lzma_arena_bytes(config, job->target_bytes), error);
        if (status)
            return status;
        enum lzma_format format = config->format;
        if (format == FORMAT_AUTO)
            format = job->source_bytes > run.taken && job->source[run.taken] == 0xfd ? FORMAT_XZ : FORMAT_ALONE;
        lzma_ret code = format == FORMAT_XZ      ? xz_stream(context, &run)
                        : format == FORMAT_ALONE ? alone_stream(&run)
                                                 : raw_stream(&run, config);
        if (code != LZMA_OK && code != LZMA_STREAM_END)
            return library_error(error, &run, code);
        if (code == LZMA_OK && format != FORMAT_XZ)
            return library_error(error, &run, LZMA_BUF_ERROR);
    } while (run.taken < job->source_bytes && config->format != FORMAT_RAW);
    return dmc_codec_job_done(job, "lzma", run.decoded, error);
}

static const struct dmc_codec_ops lzma_step_ops = {
    .name = "lzma",
    .encoded_bytes = dmc_codec_compressed_bytes_max,
    .arena_bytes = lzma_arena_bytes,
    .decode = lzma_decode,
};

/* ---- the configuration ---- */

static bool u32_member(dmc_json *object, const char *member, uint32_t *number)
{
    dmc_json *value = dmc_json_get(object, member);
    uint64_t read;
    if (!value)
        return true;
    if (!dmc_json_u64(value, &read) || read > UINT32_MAX)
        return false;
    *number = (uint32_t)read;
    return true;
}

/* One of Python's filter dictionaries, with what its preset says. false: it makes no sense. */
static bool filter_read(dmc_json *object, struct raw_filter *filter)
{
    uint32_t preset = LZMA_PRESET_DEFAULT;
    lzma_options_lzma options;
    if (!dmc_json_u64(dmc_json_get(object, "id"), &filter->id) || !lzma_filter_decoder_is_supported(filter->id))
        return false;
    switch (filter->id) {
    case LZMA_FILTER_LZMA1:
    case LZMA_FILTER_LZMA2:
        if (!u32_member(object, "preset", &preset) || lzma_lzma_preset(&options, preset))
            return false;
        filter->dictionary_bytes = options.dict_size;
        filter->lc = options.lc;
        filter->lp = options.lp;
        filter->pb = options.pb;
        return u32_member(object, "dict_size", &filter->dictionary_bytes) && u32_member(object, "lc", &filter->lc) &&
               u32_member(object, "lp", &filter->lp) && u32_member(object, "pb", &filter->pb) && filter->lc <= LZMA_LCLP_MAX &&
               filter->lp <= LZMA_LCLP_MAX && filter->lc + filter->lp <= LZMA_LCLP_MAX && filter->pb <= LZMA_PB_MAX;
    case LZMA_FILTER_DELTA:
        filter->distance = 1;
        return u32_member(object, "dist", &filter->distance) && filter->distance >= LZMA_DELTA_DIST_MIN &&
               filter->distance <= LZMA_DELTA_DIST_MAX;
    default:
        return u32_member(object, "start_offset", &filter->start_offset);
    }
}

static enum damacy_status lzma_configure(struct dmc_codec_build *build, dmc_json *configuration, struct damacy_error *error)
{
    struct lzma_config config = {.format = FORMAT_XZ};
    dmc_json *format = dmc_json_get(configuration, "format"), *filters = dmc_json_get(configuration, "filters");
    int64_t number = FORMAT_XZ;
    if (format && (!dmc_json_i64(format, &number) || number < FORMAT_AUTO || number > FORMAT_RAW))
        return dmc_codec_config_error(error, build->name, "format", "0 (auto), 1 (xz), 2 (alone) or 3 (raw)", format);
    config.format = (enum lzma_format)number;
    if (config.format == FORMAT_RAW) { /* the other formats say in their headers how they were made */
        size_t count = dmc_json_type(filters) == DMC_JSON_ARRAY ? dmc_json_count(filters) : 0;
        bool good = count > 0 && count <= LZMA_FILTERS_MAX;
        for (size_t i = 0; good && i < count; i++)
            good = filter_read(dmc_json_at(filters, i), &config.filters[i]);
        if (!good)
            return dmc_codec_config_error(error, build->name, "filters",
                                          "a list of one to four filters of lzma, as the format is raw", filters);
        config.filter_count = (uint32_t)count;
    } else if (dmc_json_type(filters) != DMC_JSON_NULL && dmc_json_type(filters) != DMC_JSON_ARRAY) {
        return dmc_codec_config_error(error, build->name, "filters", "a list of filters, or null", filters);
    }
    return dmc_codec_step_add(build, &lzma_step_ops, &config, sizeof config, error);
}

const struct dmc_codec_ops dmc_codec_lzma_ops = {
    .name = "lzma",
    .configure = lzma_configure,
    .configures_steps = true,
};
#endif
