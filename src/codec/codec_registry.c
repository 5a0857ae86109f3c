/* Codecs that users registered (damacy_codec_register).
 *
 * One list for the process behind one lock, which is held for looking up and counting only. Each step of a chain holds a
 * reference, so unregistering takes a name away at once and the codec when the last array that uses it is gone. */
#include "base/mem.h"
#include "base/thread.h"
#include "codec/codec_impl.h"
#include <stdio.h>

#define USER_NAME_BYTES_MAX 255
#define MESSAGE_BYTES 512

struct dmc_codec_user {
    struct dmc_codec_user *next; /* in the list; behind the lock */
    uint64_t references;         /* behind the lock: one for the list, one for each step, and who looks it up */
    struct damacy_codec codec;   /* constant */
    char name[USER_NAME_BYTES_MAX + 1];
};

struct user_config {
    struct dmc_codec_user *user;
    bool has_text;
    char text[]; /* the configuration */
};

static struct dmc_mutex lock = {PTHREAD_MUTEX_INITIALIZER};
static struct dmc_codec_user *list;

/* A child made by fork() may register and look up codecs of its own: so the lock is not held by somebody else there. */
static void before_fork(void) DMC_NO_TSA
{
    dmc_mutex_lock(&lock);
}

static void after_fork(void) DMC_NO_TSA
{
    dmc_mutex_unlock(&lock);
}

static void install_fork_handlers(void)
{
    pthread_atfork(before_fork, after_fork, after_fork);
}

/* The link that leads to the codec, or to the end of the list. */
static struct dmc_codec_user **link_of_locked(const char *name) DMC_REQUIRES(lock)
{
    struct dmc_codec_user **link = &list;
    while (*link && strcmp((*link)->name, name) != 0)
        link = &(*link)->next;
    return link;
}

struct dmc_codec_user *dmc_codec_user_acquire(const char *name)
{
    dmc_mutex_lock(&lock);
    struct dmc_codec_user *user = *link_of_locked(name);
    if (user)
        user->references++;
    dmc_mutex_unlock(&lock);
    return user;
}

static void user_reference(struct dmc_codec_user *user)
{
    dmc_mutex_lock(&lock);
    user->references++;
    dmc_mutex_unlock(&lock);
}

void dmc_codec_user_release(struct dmc_codec_user *user)
{
    dmc_mutex_lock(&lock);
    bool last = --user->references == 0;
    dmc_mutex_unlock(&lock);
    if (!last)
        return;
    if (user->codec.release)
        user->codec.release(user->codec.user);
    dmc_free(user);
}

uint32_t dmc_codec_user_kinds(const struct dmc_codec_user *user)
{
    return user->codec.array_to_bytes ? DMC_CODEC_ARRAY_BYTES : DMC_CODEC_BYTES_BYTES;
}

static const char *text_of(const struct user_config *config)
{
    return config->has_text ? config->text : NULL;
}

/* What the user's function answered: statuses that it may give, and its message behind the codec's name. */
static enum damacy_status user_error(struct damacy_error *error, const struct dmc_codec_user *user, enum damacy_status status,
                                     const char *stage, char *message)
{
    if (status != DAMACY_UNSUPPORTED && status != DAMACY_OOM && status != DAMACY_BUDGET)
        status = DAMACY_DECODE;
    message[MESSAGE_BYTES - 1] = 0;
    return dmc_error_set(error, status, stage, "codec '%s': %s", user->name,
                         *message ? message : "it failed and does not say why");
}

enum damacy_status dmc_codec_user_add(struct dmc_codec_build *build, struct dmc_codec_user *user, const char *configuration,
                                      struct damacy_error *error)
{
    char message[MESSAGE_BYTES] = "";
    if (user->codec.check) {
        enum damacy_status status = user->codec.check(user->codec.user, configuration, message, sizeof message);
        if (status)
            return user_error(error, user, status, "metadata", message);
    }
    size_t text_bytes = configuration ? strlen(configuration) + 1 : 0;
    struct user_config *config = dmc_calloc(1, sizeof *config + text_bytes);
    if (!config)
        return dmc_error_set(error, DAMACY_OOM, "metadata", "no memory for the configuration of codec '%s'", build->name);
    config->user = user;
    config->has_text = configuration != NULL;
    if (configuration)
        memcpy(config->text, configuration, text_bytes);
    user_reference(user);
    enum damacy_status status = dmc_codec_step_add(build, &dmc_codec_user_ops, config, sizeof *config + text_bytes, error);
    if (status)
        dmc_codec_user_release(user);
    dmc_free(config);
    return status;
}

static uint64_t user_encoded_bytes(const void *data, uint64_t decoded_bytes)
{
    const struct user_config *config = data;
    const struct damacy_codec *codec = &config->user->codec;
    if (!codec->encoded_bytes_max)
        return dmc_codec_compressed_bytes_max(NULL, decoded_bytes);
    return codec->encoded_bytes_max(codec->user, text_of(config), decoded_bytes);
}

static enum damacy_status user_decode(struct dmc_codec_context *context, struct dmc_codec_job *job, struct damacy_error *error)
{
    const struct user_config *config = job->config;
    const struct damacy_codec *codec = &config->user->codec;
    char message[MESSAGE_BYTES] = "";
    size_t decoded = 0;
    (void)context;
    enum damacy_status status = codec->decode(codec->user, text_of(config), job->source, job->source_bytes, job->target,
                                              job->target_bytes, &decoded, message, sizeof message);
    if (status)
        return user_error(error, config->user, status, "decode", message);
    return dmc_codec_job_done(job, config->user->name, decoded, error);
}

static void user_config_release(void *data)
{
    dmc_codec_user_release(((struct user_config *)data)->user);
}

const struct dmc_codec_ops dmc_codec_user_ops = {
    .name = "(registered)",
    .configures_steps = true,
    .encoded_bytes = user_encoded_bytes,
    .decode = user_decode,
    .config_release = user_config_release,
};

/* ---- the public side ---- */

enum damacy_status damacy_codec_register(const char *name, const struct damacy_codec *codec, struct damacy_error *error)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    if (!name || !*name || strlen(name) > USER_NAME_BYTES_MAX)
        return dmc_error_set(error, DAMACY_INVAL, "config", "a codec's name has 1 to %d bytes", USER_NAME_BYTES_MAX);
    if (!codec || codec->struct_size < sizeof *codec || !codec->decode)
        return dmc_error_set(error, DAMACY_INVAL, "config",
                             "codec '%s': struct_size must be set (DAMACY_CODEC_INIT), and decode", name);
    if (dmc_codec_find(name))
        return dmc_error_set(error, DAMACY_INVAL, "config", "codec '%s' is built in and cannot be replaced", name);
    struct dmc_codec_user *user = dmc_calloc(1, sizeof *user);
    if (!user)
        return dmc_error_set(error, DAMACY_OOM, "config", "no memory for codec '%s'", name);
    user->codec = *codec;
    user->references = 1;
    memcpy(user->name, name, strlen(name));
    pthread_once(&once, install_fork_handlers);
    dmc_mutex_lock(&lock);
    struct dmc_codec_user **link = link_of_locked(name);
    bool taken = *link != NULL;
    if (!taken)
        *link = user;
    dmc_mutex_unlock(&lock);
    if (!taken)
        return DAMACY_OK;
    dmc_free(user);
    return dmc_error_set(error, DAMACY_INVAL, "config", "codec '%s' is registered already", name);
}

enum damacy_status damacy_codec_unregister(const char *name, struct damacy_error *error)
{
    dmc_mutex_lock(&lock);
    struct dmc_codec_user **link = name ? link_of_locked(name) : &list, *user = name ? *link : NULL;
    if (user)
        *link = user->next;
    dmc_mutex_unlock(&lock);
    if (!user)
        return dmc_error_set(error, DAMACY_NOTFOUND, "config", "no codec '%s' is registered", name ? name : "");
    dmc_codec_user_release(user);
    return DAMACY_OK;
}
