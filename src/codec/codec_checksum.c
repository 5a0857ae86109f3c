/* Checksums of 32 bits before or behind the bytes, little-endian: numcodecs' crc32, crc32c, adler32, fletcher32 and
 * jenkins_lookup3 (and v3's crc32c in a file of its own). Always checked; stripping them costs no copy.
 *
 * fletcher32 is that of HDF5: sums over big-endian words of 16 bits modulo 65535, an odd last byte being the high one. lookup3
 * is Bob Jenkins' hashlittle(). */
#include "base/crc32c.h"
#include "codec/codec_impl.h"
#include <stdio.h>

#define CHECKSUM_BYTES 4

struct checksum_config {
    const char *name;
    bool at_start;
    uint32_t seed;
    uint32_t (*compute)(const uint8_t *data, uint64_t bytes, uint32_t seed);
};

static uint32_t crc32_compute(const uint8_t *data, uint64_t bytes, uint32_t seed)
{
    (void)seed;
    return dmc_deflate_crc32(data, bytes);
}

static uint32_t crc32c_compute(const uint8_t *data, uint64_t bytes, uint32_t seed)
{
    (void)seed;
    return dmc_crc32c(data, bytes);
}

static uint32_t adler32_compute(const uint8_t *data, uint64_t bytes, uint32_t seed)
{
    (void)seed;
    return dmc_deflate_adler32(data, bytes);
}

static inline uint64_t fold16(uint64_t sum)
{
    return (sum & 0xffff) + (sum >> 16);
}

static uint32_t fletcher32_compute(const uint8_t *data, uint64_t bytes, uint32_t seed)
{
    uint64_t first = 0, second = 0, words = bytes / 2;
    (void)seed;
    while (words > 0) { /* so many at a time that neither sum leaves its 32 bits */
        uint64_t some = dmc_min_u64(words, 360);
        words -= some;
        for (; some > 0; some--, data += 2) {
            first += (uint64_t)data[0] << 8 | data[1];
            second += first;
        }
        first = fold16(first);
        second = fold16(second);
    }
    if (bytes % 2) {
        first += (uint64_t)data[0] << 8;
        second += first;
        first = fold16(first);
        second = fold16(second);
    }
    first = fold16(first);
    second = fold16(second);
    return (uint32_t)(second << 16 | first);
}

static inline uint32_t rotate(uint32_t x, int by)
{
    return x << by | x >> (32 - by);
}

/* Up to 12 bytes as three words; what is missing is 0. */
static inline void words_add(const uint8_t *data, uint64_t bytes, uint32_t *a, uint32_t *b, uint32_t *c)
{
    uint8_t block[12] = {0};
    memcpy(block, data, bytes);
    *a += dmc_load_u32le(block);
    *b += dmc_load_u32le(block + 4);
    *c += dmc_load_u32le(block + 8);
}

static uint32_t lookup3_compute(const uint8_t *data, uint64_t bytes, uint32_t seed)
{
    static const uint8_t mixes[6] = {4, 6, 8, 16, 19, 4}, ends[7] = {14, 11, 25, 16, 4, 14, 24};
    uint32_t a = 0xdeadbeef + (uint32_t)bytes + seed, b = a, c = a;
    if (bytes == 0)
        return c;
    for (; bytes > 12; bytes -= 12, data += 12) {
        words_add(data, 12, &a, &b, &c);
        for (int i = 0; i < 6; i++) { /* the three words take turns */
            a -= c;
            a ^= rotate(c, mixes[i]);
            c += b;
            uint32_t turn = a;
            a = b;
            b = c;
            c = turn;
        }
    }
    words_add(data, bytes, &a, &b, &c);
    for (int i = 0; i < 7; i++) {
        c ^= b;
        c -= rotate(b, ends[i]);
        uint32_t turn = a;
        a = b;
        b = c;
        c = turn;
    }
    return b; /* the last that was changed */
}

static enum damacy_status checksum_decode(struct dmc_codec_context *context, struct dmc_codec_job *job,
                                          struct damacy_error *error)
{
    const struct checksum_config *config = job->config;
    char expected[48], found[48];
    (void)context;
    if (job->source_bytes < CHECKSUM_BYTES)
        return dmc_error_set(error, DAMACY_DECODE, "decode", "%s: %llu bytes are too few to hold a checksum of 4", config->name,
                             (unsigned long long)job->source_bytes);
    uint64_t bytes = job->source_bytes - CHECKSUM_BYTES;
    const uint8_t *data = job->source + (config->at_start ? CHECKSUM_BYTES : 0);
    uint32_t stored = dmc_load_u32le(job->source + (config->at_start ? 0 : bytes));
    uint32_t computed = config->compute(data, bytes, config->seed);
    if (stored != computed) {
        snprintf(expected, sizeof expected, "%s 0x%08x (stored)", config->name, stored);
        snprintf(found, sizeof found, "0x%08x", computed);
        dmc_error_set(error, DAMACY_DECODE, "decode", "%s: checksum mismatch over %llu bytes", config->name,
                      (unsigned long long)bytes);
        dmc_error_expected(error, expected, found);
        return DAMACY_DECODE;
    }
    job->view = data;
    job->decoded_bytes = bytes;
    return DAMACY_OK;
}

static uint64_t checksum_encoded_bytes(const void *config, uint64_t decoded_bytes)
{
    (void)config;
    return decoded_bytes > UINT64_MAX - CHECKSUM_BYTES ? UINT64_MAX : decoded_bytes + CHECKSUM_BYTES;
}

static const struct dmc_codec_ops checksum_step_ops = {
    .name = "checksum",
    .partial = true,
    .is_view = true,
    .fixed_size = true,
    .encoded_bytes = checksum_encoded_bytes,
    .decode = checksum_decode,
};

/* `config` has what is usual for the codec. */
static enum damacy_status checksum_add(struct dmc_codec_build *build, dmc_json *configuration, struct checksum_config config,
                                       struct damacy_error *error)
{
    dmc_json *location = dmc_json_get(configuration, "location");
    const char *text = NULL;
    if (location) {
        if (!dmc_json_string(location, &text, NULL) || (strcmp(text, "start") != 0 && strcmp(text, "end") != 0))
            return dmc_codec_config_error(error, build->name, "location", "\"start\" or \"end\"", location);
        config.at_start = strcmp(text, "start") == 0;
    }
    return dmc_codec_step_add(build, &checksum_step_ops, &config, sizeof config, error);
}

static enum damacy_status crc32_configure(struct dmc_codec_build *build, dmc_json *configuration, struct damacy_error *error)
{
    return checksum_add(build, configuration, (struct checksum_config){"crc32", true, 0, crc32_compute}, error);
}

static enum damacy_status crc32c_configure(struct dmc_codec_build *build, dmc_json *configuration, struct damacy_error *error)
{
    return checksum_add(build, configuration, (struct checksum_config){"crc32c", false, 0, crc32c_compute}, error);
}

static enum damacy_status adler32_configure(struct dmc_codec_build *build, dmc_json *configuration, struct damacy_error *error)
{
    return checksum_add(build, configuration, (struct checksum_config){"adler32", true, 0, adler32_compute}, error);
}

static enum damacy_status fletcher32_configure(struct dmc_codec_build *build, dmc_json *configuration,
                                               struct damacy_error *error)
{
    (void)configuration;
    return checksum_add(build, NULL, (struct checksum_config){"fletcher32", false, 0, fletcher32_compute}, error);
}

static enum damacy_status lookup3_configure(struct dmc_codec_build *build, dmc_json *configuration, struct damacy_error *error)
{
    dmc_json *seed = dmc_json_get(configuration, "initval");
    uint64_t number = 0;
    if (dmc_json_type(dmc_json_get(configuration, "prefix")) != DMC_JSON_NULL)
        return dmc_error_set(error, DAMACY_UNSUPPORTED, "metadata", "codec '%s': its member 'prefix' is not read", build->name);
    if (seed && (!dmc_json_u64(seed, &number) || number > UINT32_MAX))
        return dmc_codec_config_error(error, build->name, "initval", "an integer of 32 bits", seed);
    return checksum_add(build, NULL, (struct checksum_config){"jenkins_lookup3", false, (uint32_t)number, lookup3_compute},
                        error);
}

const struct dmc_codec_ops dmc_codec_crc32_ops = {
    .name = "numcodecs.crc32", .configure = crc32_configure, .configures_steps = true};
const struct dmc_codec_ops dmc_codec_numcodecs_crc32c_ops = {
    .name = "numcodecs.crc32c", .configure = crc32c_configure, .configures_steps = true};
const struct dmc_codec_ops dmc_codec_adler32_ops = {
    .name = "numcodecs.adler32", .configure = adler32_configure, .configures_steps = true};
const struct dmc_codec_ops dmc_codec_fletcher32_ops = {
    .name = "numcodecs.fletcher32", .configure = fletcher32_configure, .configures_steps = true};
const struct dmc_codec_ops dmc_codec_lookup3_ops = {
    .name = "numcodecs.jenkins_lookup3", .configure = lookup3_configure, .configures_steps = true};
