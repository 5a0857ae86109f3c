/* What the files of src/codec share: the table's entry for a codec, the building of a chain, and the decoder state of a thread.
 *
 * A chain is built in the order of encoding. Each codec's `configure` reads its configuration and changes the build: it states
 * a fact (transpose, the byte order of `bytes`) or appends a step, which is what decode will run. Decoding runs the steps
 * backwards:
 *
 *     source -> [step 0] -> between[0] -> [step 1] -> between[1] -> [step 2] -> between[0] ... [last step] -> target
 *
 * Sizes are followed while building: what a step decodes to is known exactly as long as all codecs before it (in the order of
 * encoding) have encodings of a fixed size, which is the case for all but compressors. Where it is known, the step must give
 * just that, and the needed range is handed down to it; where it is not, there is an upper bound and the step decodes
 * everything. A step that only strips bytes (a checksum) answers with a view of its input instead of a copy. */
#ifndef DMC_CODEC_IMPL_H
#define DMC_CODEC_IMPL_H

#include "base/bytes.h"
#include "base/error.h"
#include "base/json.h"
#include "codec/codec.h"
#include "codec/codec_tables.h"

/* More steps in one chain make no sense, and each compressor doubles the bound of what is stored. */
#define DMC_CODEC_STEPS_MAX 16

/* Where a codec may stand; some of numcodecs' filters stand before `bytes` in v3 and behind it in v2. */
enum dmc_codec_kind { DMC_CODEC_ARRAY_ARRAY = 1, DMC_CODEC_ARRAY_BYTES = 2, DMC_CODEC_BYTES_BYTES = 4 };

/* An element between two codecs. */
struct dmc_codec_type {
    enum damacy_dtype dtype; /* NATIVE: only its bytes count (records; the raw bytes of types that no damacy_dtype has) */
    uint32_t bytes;
    uint32_t bits;  /* of these that mean something: 4 of a uint4 */
    bool is_signed; /* packed values are extended by their sign */
};

struct dmc_codec_ops;

struct dmc_codec_step {
    const struct dmc_codec_ops *ops;
    void *config;           /* in the chain's memory; NULL: the codec has none */
    uint64_t decoded_bytes; /* what it gives: exactly, or at most */
    bool exact;
};

/* A chain being built. */
struct dmc_codec_build {
    const char *name; /* of the codec that is being read, as in the metadata */
    struct dmc_codec_type type;
    uint32_t rank;
    uint64_t shape[DAMACY_RANK_MAX + 2]; /* of the chunk as the next codec of arrays meets it */
    uint8_t axes[DAMACY_RANK_MAX + 1];   /* axes[i]: which of the array's axes is axis i of the encoded chunk */
    bool swap;
    bool arranged;          /* a step above sees elements in their order: transposes are executed from here on */
    bool native;            /* a step above computes with elements: so they must be in this machine's byte order */
    bool shaped;            /* some step depends on the chunk's shape */
    uint32_t trail;         /* axes behind these that lie inside an element: of a member that has axes of its own */
    const char *serializer; /* the codec that made bytes; NULL before */
    uint64_t bytes;         /* of the chunk as encoded so far */
    bool exact;             /* just that many */
    uint64_t array_bytes;   /* what the first codec of bytes is given */
    uint32_t level;         /* of nesting: 0 for the array's own chain */
    struct dmc_codec_step steps[DMC_CODEC_STEPS_MAX]; /* in the order of encoding */
    uint32_t step_count;
    uint64_t extra_bytes; /* of memory that configurations own elsewhere */
};

/* One step's work. */
struct dmc_codec_job {
    const void *config;
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
    bool partial;     /* need_begin and need_end save work */
    bool picks;       /* ... need_begin does: what lies before it is not decoded */
    bool is_view;     /* decode never writes to the target */
    bool needs_block; /* decode uses context->block, up to the decoded size */
    bool needs_zstd;
    bool needs_deflate;
    bool fixed_size; /* encoded_bytes() is no bound but the size */
    bool shaped;     /* depends on the shape of the chunk */
    /* Read the configuration (NULL: there is none) and change the build. `configures_steps`: it appends its steps itself;
     * otherwise one step without config is appended for it. */
    enum damacy_status (*configure)(struct dmc_codec_build *build, dmc_json *configuration, struct damacy_error *error);
    bool configures_steps;
    /* Size, or upper bound of the size, of what `decoded_bytes` are encoded to; saturates. */
    uint64_t (*encoded_bytes)(const void *config, uint64_t decoded_bytes);
    /* Narrow [*begin, *end) of the decoded bytes to that of the encoded ones that decode must have; NULL: all. */
    void (*need)(const void *config, uint64_t *begin, uint64_t *end);
    /* Of context->arena, for so many decoded bytes; NULL: none. */
    uint64_t (*arena_bytes)(const void *config, uint64_t decoded_bytes);
    /* Add what else decode takes of the context; NULL: nothing. */
    void (*scratch)(const void *config, struct dmc_codec_scratch *scratch);
    enum damacy_status (*decode)(struct dmc_codec_context *context, struct dmc_codec_job *job, struct damacy_error *error);
    void (*config_release)(void *config); /* what it owns elsewhere; NULL: nothing */
};

/* Append a step. `config` is copied (and released with the build). Updates the sizes. OK, OOM or UNSUPPORTED. */
enum damacy_status dmc_codec_step_add(struct dmc_codec_build *build, const struct dmc_codec_ops *ops, const void *config,
                                      size_t config_bytes, struct damacy_error *error);
/* The codec computes with elements: where it stands before `bytes`, these must be in this machine's byte order. */
void dmc_codec_build_computes(struct dmc_codec_build *build);

/* The one codec of a name as in metadata, or an alias of it; NULL: no such codec. */
const struct dmc_codec_ops *dmc_codec_find(const char *name);
/* Where the codec of that name may stand: a set of enum dmc_codec_kind; 0: no such codec. */
uint32_t dmc_codec_kinds(const char *name);

/* A chain inside a chain (shards as a codec). */
struct dmc_codec_inner {
    struct dmc_codec_type type;
    uint32_t rank;
    const uint64_t *shape;
    uint32_t level;
};
enum damacy_status dmc_codec_chain_build(const struct dmc_codec_desc *descs, uint32_t count,
                                         const struct dmc_codec_inner *inner, struct dmc_codec_chain **chain,
                                         struct damacy_error *error);
/* The least of a chain's memory that its configurations may take in all. */
#define DMC_CODEC_CHAIN_BYTES_MAX (UINT64_C(64) << 10)

/* "codec 'NAME': member 'MEMBER' of its configuration is ...": DECODE with what was expected and found. `value` NULL: it is
 * missing. */
enum damacy_status dmc_codec_config_error(struct damacy_error *error, const char *codec, const char *member,
                                          const char *expected, dmc_json *value);
/* The `configure` of codecs whose members matter to an encoder only. They are not looked at, whatever their type: numcodecs
 * takes and writes "level": null, and others find a use for them that we need not know. */
enum damacy_status dmc_codec_configure_nothing(struct dmc_codec_build *build, dmc_json *configuration,
                                               struct damacy_error *error);

/* "CODEC: WHAT": DECODE with sizes in bytes; `found_bytes` UINT64_MAX: more. */
enum damacy_status dmc_codec_size_error(struct damacy_error *error, const char *codec, const char *what, const char *bound,
                                        uint64_t expected_bytes, uint64_t found_bytes);
/* Check what came out against the job's target; sets decoded_bytes. */
enum damacy_status dmc_codec_job_done(struct dmc_codec_job *job, const char *codec, uint64_t decoded_bytes,
                                      struct damacy_error *error);

/* The bound of compressors: twice the input and something for headers. Real formats stay within a few per cent. */
uint64_t dmc_codec_compressed_bytes_max(const void *config, uint64_t decoded_bytes);
/* For codecs that leave the number of bytes, and each byte's place, alone. */
uint64_t dmc_codec_same_bytes(const void *config, uint64_t decoded_bytes);

/* Copy a box of elements. Strides are in bytes; `swap` turns the bytes of each element around. */
void dmc_codec_box_copy(uint32_t rank, const uint64_t *extents, uint32_t item_bytes, bool swap, uint8_t *target,
                        const int64_t *target_strides, const uint8_t *source, const int64_t *source_strides);

/* Memory that grows to the largest size ever asked for, in steps of 64 KiB. */
struct dmc_codec_buffer {
    uint8_t *memory;
    uint64_t bytes;
};

struct dmc_codec_context {
    struct dmc_budget *budget;
    struct {
        struct dmc_codec_buffer between[2]; /* outputs of all steps but the last, in turn */
        struct dmc_codec_buffer inner;      /* a decoded chunk of a shard that is a codec */
    } levels[DMC_CODEC_LEVELS];
    uint32_t level;                /* of the chain that runs */
    struct dmc_codec_buffer block; /* a blosc block before its filter is undone */
    struct dmc_codec_buffer arena; /* what a library that allocates for each chunk is given */
    uint64_t arena_used;
    struct ZSTD_DCtx_s *zstd;                /* made when first needed */
    struct libdeflate_decompressor *deflate; /* made when first needed */
    uint64_t zstd_bytes;                     /* what was reserved for each */
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

/* An arena for one decode: what is allocated goes when the next begins. OK, OOM or BUDGET. */
enum damacy_status dmc_codec_arena_begin(struct dmc_codec_context *context, uint64_t bytes, struct damacy_error *error);
/* 16-byte aligned; NULL: it is used up. */
void *dmc_codec_arena_alloc(struct dmc_codec_context *context, uint64_t bytes);

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
uint32_t dmc_deflate_crc32(const void *data, size_t bytes);
uint32_t dmc_deflate_adler32(const void *data, size_t bytes);

/* liblz4 (codec_lz4.c): a block that decodes to exactly `target_bytes`. */
enum damacy_status dmc_lz4_decode(const uint8_t *source, uint64_t source_bytes, uint8_t *target, uint64_t target_bytes,
                                  struct damacy_error *error);

/* codec_registry.c: what users registered. The step's `ops`, and an extra reference that the config of a step holds. */
extern const struct dmc_codec_ops dmc_codec_user_ops;
struct dmc_codec_user;
/* NULL: no such codec. A reference for the caller. */
struct dmc_codec_user *dmc_codec_user_acquire(const char *name);
void dmc_codec_user_release(struct dmc_codec_user *user);
uint32_t dmc_codec_user_kinds(const struct dmc_codec_user *user);
/* Append its step. Takes over nothing: it makes references of its own. */
enum damacy_status dmc_codec_user_add(struct dmc_codec_build *build, struct dmc_codec_user *user, const char *configuration,
                                      struct damacy_error *error);

#endif
