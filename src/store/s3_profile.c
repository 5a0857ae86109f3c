/* See s3_profile.h. */
#include "store/s3_profile.h"

#include <string.h>

struct span {
    const char *begin, *end;
};

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

static struct span trim(const char *begin, const char *end)
{
    while (begin < end && is_blank(*begin))
        begin++;
    while (end > begin && is_blank(end[-1]))
        end--;
    return (struct span){begin, end};
}

static bool equals(struct span span, const char *text)
{
    size_t bytes = strlen(text);
    return (size_t)(span.end - span.begin) == bytes && memcmp(span.begin, text, bytes) == 0;
}

static bool is_section(struct span line, const char *name, bool config)
{
    struct span inside = trim(line.begin + 1, line.end);
    const char *close = inside.begin < inside.end ? memchr(inside.begin, ']', (size_t)(inside.end - inside.begin)) : NULL;
    if (!close)
        return false;
    inside = trim(inside.begin, close);
    if (equals(inside, name) && (!config || strcmp(name, "default") == 0))
        return true;
    if (!config || inside.end - inside.begin < 8 || memcmp(inside.begin, "profile", 7) != 0 || !is_blank(inside.begin[7]))
        return false;
    return equals(trim(inside.begin + 7, inside.end), name);
}

static void keep(struct span value, char *to, size_t capacity)
{
    size_t bytes = (size_t)(value.end - value.begin);
    if (to[0] || bytes == 0 || bytes >= capacity)
        return;
    for (size_t i = 0; i < bytes; i++)
        if ((unsigned char)value.begin[i] < ' ' || value.begin[i] == 0x7f)
            return;
    memcpy(to, value.begin, bytes);
    to[bytes] = 0;
}

static void setting(struct span name, struct span value, struct dmc_s3_profile *profile)
{
    if (equals(name, "aws_access_key_id"))
        keep(value, profile->key, sizeof profile->key);
    else if (equals(name, "aws_secret_access_key"))
        keep(value, profile->secret, sizeof profile->secret);
    else if (equals(name, "aws_session_token"))
        keep(value, profile->token, sizeof profile->token);
    else if (equals(name, "region"))
        keep(value, profile->region, sizeof profile->region);
    else if (equals(name, "endpoint_url"))
        keep(value, profile->endpoint_url, sizeof profile->endpoint_url);
    else if (equals(name, "role_arn") || equals(name, "credential_process") || equals(name, "sso_session") ||
             equals(name, "sso_account_id") || equals(name, "web_identity_token_file"))
        profile->needs_other = true;
}

void dmc_s3_profile_read(const char *text, size_t bytes, const char *name, bool config, struct dmc_s3_profile *profile)
{
    const char *end = text + bytes;
    bool inside = false;
    while (text < end) {
        const char *line_end = memchr(text, '\n', (size_t)(end - text));
        if (!line_end)
            line_end = end;
        bool nested = is_blank(*text);
        struct span line = trim(text, line_end);
        text = line_end + 1;
        if (line.begin == line.end || *line.begin == '#' || *line.begin == ';')
            continue;
        if (*line.begin == '[') {
            inside = is_section(line, name, config);
            profile->found = profile->found || inside;
            continue;
        }
        const char *equal = memchr(line.begin, '=', (size_t)(line.end - line.begin));
        if (inside && !nested && equal)
            setting(trim(line.begin, equal), trim(equal + 1, line.end), profile);
        if (line_end == end)
            break;
    }
}
