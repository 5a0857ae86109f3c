/* What the files of src/codec share: the table's entry for a codec, the steps of a chain, and the decoder state of a thread.
 *
 * A codec of kind ARRAY_ARRAY or ARRAY_BYTES only has `configure`, which changes the draft of the chain. A codec of kind
 * BYTES_BYTES also has `decode`. In a chain of several bytes->bytes codecs the output of one step is the input of the next:
 *
 *     source -> [step 0] -> between[0] -> [step 1] -> between[1] -> [step 2] -> between[0] ... [last step] -> target
 *
 * Only the last step knows its decoded size (chunk_bytes) and may save work outside [need_begin, need_end); the others decode
 * everything and have an upper bound. A step that only strips bytes (crc32c) answers with a view of its input instead of a copy. */
#ifndef DMC_CODEC_IMPL_H
#define DMC_CODEC_IMPL_H

#include "base/bytes.h"
#include "base/error.h"
#include "base/json.h"
#include "codec/codec.h"

/* More bytes->bytes codecs in one chain make no sense, and each doubles the bound of what is stored. */
#define DMC_CODEC_STEPS_MAX 8

enum dmc_codec_kind { DMC_CODEC_ARRAY_ARRAY, DMC_CODEC_ARRAY_BYTES, DMC_CODEC_BYTES_BYTES };

/* What the array->array and array->bytes codecs decide. */
struct dmc_codec_draft {
    enum damacy_dtype dtype;
    uint32_t rank;
    uint8_t axes[DAMACY_RANK_MAX + 1]; /* axes[i]: which of the array's axes is axis i of the encoded chunk */
    bool swap;
};

/* One step's work. */
struct dmc_codec_job {
    const uint8_t *source;
    uint64_t source_bytes;
    uint8_t *target;
    uint64_t target_bytes; /* the decoded size if `exact`, else what fits */
    bool exact;
    bool verify_full;
    uint64_t need_begin; /* of the decoded bytes, where `exact`; otherwise all are needed */
    uint64_t need_end;
    const uint8_t *view;    /* out: where the decoded bytes are, if not at `target` (NULL before) */
    uint64_t decoded_bytes; /* out */
};

struct dmc_codec_ops {
    const char *name;
    enum dmc_codec_kind kind;
    bool partial;     /* as the last step: need_begin and need_end save work */
    bool is_view;     /* decode never writes to the target */
    bool needs_block; /* decode uses context->block, up to the decoded size */
    bool needs_zstd;
    bool needs_deflate;
    /* Check the configuration (NULL: there is none) and change the draft. */
    enum damacy_status (*configure)(struct dmc_codec_draft *draft, dmc_json *configuration, struct damacy_error *error);
    /* Upper bound of the stored bytes of `decoded_bytes`; saturates. */
    uint64_t (*stored_bytes_max)(uint64_t decoded_bytes);
    enum damacy_status (*decode)(struct dmc_codec_context *context, struct dmc_codec_job *job, struct damacy_error *error);
};

struct dmc_codec_step {
    const struct dmc_codec_ops *ops;
    uint64_t decoded_bytes_max; /* of the last step: exactly chunk_bytes */
};

extern const struct dmc_codec_ops dmc_codec_bytes_ops;
extern const struct dmc_codec_ops dmc_codec_transpose_ops;
extern const struct dmc_codec_ops dmc_codec_zstd_ops;
extern const struct dmc_codec_ops dmc_codec_gzip_ops;
extern const struct dmc_codec_ops dmc_codec_blosc_ops;
extern const struct dmc_codec_ops dmc_codec_crc32c_ops;

/* NULL: no such codec. */
const struct dmc_codec_ops *dmc_codec_find(const char *name);

/* "codec 'NAME': configuration member 'MEMBER' is ...": DECODE with what was expected and found. `value` NULL: it is missing. */
enum damacy_status dmc_codec_config_error(struct damacy_error *error, const char *codec, const char *member, const char *expected,
                                          dmc_json *value);
/* A member that, if there, must be an integer. Nothing that we decode depends on it, but a wrong type tells of damage. */
enum damacy_status dmc_codec_config_integer(struct damacy_error *error, const char *codec, dmc_json *configuration,
                                            const char *member);

/* The bound of compressors: twice the input and something for headers. Real formats stay within a few per cent. */
uint64_t dmc_codec_compressed_bytes_max(uint64_t decoded_bytes);

/* Memory that grows to the largest size ever asked for, in steps of 64 KiB. */
struct dmc_codec_buffer {
    uint8_t *memory;
    uint64_t bytes;
};

struct dmc_codec_context {
    struct dmc_budget *budget;
    struct dmc_codec_buffer between[2]; /* outputs of all steps but the last, in turn */
    struct dmc_codec_buffer block;      /* a blosc block before its filter is undone */
    struct ZSTD_DCtx_s *zstd;           /* made by dmc_zstd_prepare() */
    struct libdeflate_decompressor *deflate; /* made by dmc_deflate_prepare() */
    uint64_t zstd_bytes;                /* what was reserved for each */
    uint64_t deflate_bytes;
};

/* What dmc_codec_buffer_reserve() takes for `bytes`; saturates. */
uint64_t dmc_codec_buffer_bytes(uint64_t bytes);
/* At least `bytes` in the buffer; its content is lost when it grows. OK, OOM or BUDGET. */
enum damacy_status dmc_codec_buffer_reserve(struct dmc_codec_context *context, struct dmc_codec_buffer *buffer, uint64_t bytes,
                                            struct damacy_error *error);
/* Draw on the context's budget. OK or BUDGET. */
enum damacy_status dmc_codec_budget_reserve(struct dmc_codec_context *context, uint64_t bytes, struct damacy_error *error);
void dmc_codec_budget_unreserve(struct dmc_codec_context *context, uint64_t bytes);

/* libzstd (codec_zstd.c). */
uint64_t dmc_zstd_context_bytes(void);
void dmc_zstd_deinit(struct dmc_codec_context *context);
/* Decode frames to exactly `target_bytes`. Only the first `need_bytes` need be right; when that is less than all, and the
 * frame says its size and has no checksum, decoding stops at the end of the block that has the last of them. */
enum damacy_status dmc_zstd_decode(struct dmc_codec_context *context, const uint8_t *source, uint64_t source_bytes,
                                   uint8_t *target, uint64_t target_bytes, uint64_t need_bytes, struct damacy_error *error);

/* libdeflate (codec_gzip.c). */
uint64_t dmc_deflate_context_bytes(void);
void dmc_deflate_deinit(struct dmc_codec_context *context);
/* Decode one zlib stream to exactly `target_bytes`. */
enum damacy_status dmc_zlib_decode(struct dmc_codec_context *context, const uint8_t *source, uint64_t source_bytes,
                                   uint8_t *target, uint64_t target_bytes, struct damacy_error *error);

#endif
