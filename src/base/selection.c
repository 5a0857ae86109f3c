#include "base/selection.h"

#include "base/error.h"

#include <stdlib.h>
#include <string.h>

enum key { LEVEL, SCALE, LABEL, WELL, FIELD, MEMBER, KEY_COUNT };
static const char *const key_names[KEY_COUNT] = {"level", "scale", "label", "well", "field", "member"};

/* "key=value" up to `end`: which key, and where its value begins; KEY_COUNT: none that is known. */
static enum key find_key(const char *part, const char *end, const char **value)
{
    const char *equals = memchr(part, '=', (size_t)(end - part));
    for (int i = 0; equals && i < KEY_COUNT; i++)
        if (strlen(key_names[i]) == (size_t)(equals - part) && memcmp(key_names[i], part, (size_t)(equals - part)) == 0) {
            *value = equals + 1;
            return (enum key)i;
        }
    return KEY_COUNT;
}

static const char *part_end(const char *part)
{
    return part + strcspn(part, "&");
}

/* Is this text behind a '#' a fragment of ours? */
static bool is_fragment(const char *text)
{
    for (;;) {
        const char *value, *end = part_end(text);
        if (find_key(text, end, &value) == KEY_COUNT)
            return false;
        if (!*end)
            return true;
        text = end + 1;
    }
}

/* Was this text behind a '#' meant as one? */
static bool is_like_fragment(const char *text)
{
    for (int i = 0; i < KEY_COUNT; i++)
        if (strcmp(text, key_names[i]) == 0)
            return true;
    return strchr(text, '=') != NULL;
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static enum damacy_status wrong(struct damacy_error *error, enum key key, const char *expected, const char *value,
                                const char *end)
{
    char found[DMC_SELECTION_TEXT_BYTES];
    size_t bytes = (size_t)(end - value) < sizeof found ? (size_t)(end - value) : sizeof found - 1;
    memcpy(found, value, bytes);
    found[bytes] = 0;
    dmc_error_set(error, DAMACY_INVAL, "config", "the uri's fragment: %s is wrong", key_names[key]);
    dmc_error_expected(error, expected, found);
    return DAMACY_INVAL;
}

/* A value with its %XX resolved. */
static enum damacy_status read_text(enum key key, const char *value, const char *end, char text[DMC_SELECTION_TEXT_BYTES],
                                    struct damacy_error *error)
{
    size_t length = 0;
    for (const char *p = value; p < end; p++) {
        char c = *p;
        if (c == '%') {
            int high = end - p > 2 ? hex_digit(p[1]) : -1, low = high < 0 ? -1 : hex_digit(p[2]);
            if (low < 0 || high * 16 + low == 0)
                return wrong(error, key, "every '%' followed by two hex digits of a character", value, end);
            c = (char)(high * 16 + low);
            p += 2;
        }
        if (length + 1 == DMC_SELECTION_TEXT_BYTES)
            return wrong(error, key, "at most 127 bytes", value, end);
        text[length++] = c;
    }
    text[length] = 0;
    return length ? DAMACY_OK : wrong(error, key, "a name", value, end);
}

static enum damacy_status read_index(enum key key, const char *value, const char *end, uint32_t *index,
                                     struct damacy_error *error)
{
    uint32_t number = 0;
    const char *p = value;
    for (; p < end && *p >= '0' && *p <= '9' && number <= DMC_SELECTION_INDEX_MAX; p++)
        number = number * 10 + (uint32_t)(*p - '0');
    if (p < end || p == value || number > DMC_SELECTION_INDEX_MAX)
        return wrong(error, key, "a number from 0 to 65535", value, end);
    *index = number;
    return DAMACY_OK;
}

/* A decimal number above 0. By hand, because strtod() follows the program's locale and takes more than decimals: 15 digits are
 * more than any scale has, and a power of ten as a product is off by less than a level ever matters. */
static bool read_number(const char **at, const char *end, double *number)
{
    const char *p = *at;
    double value = 0, unit = 1;
    int digits = 0, exponent = 0;
    bool point = false;
    for (; p < end && ((*p >= '0' && *p <= '9') || (*p == '.' && !point)); p++) {
        if (*p == '.') {
            point = true;
            continue;
        }
        digits++;
        value = value * 10 + (*p - '0');
        unit *= point ? 10 : 1;
        if (digits > 40)
            return false;
    }
    if (p < end && (*p == 'e' || *p == 'E')) {
        bool minus = p + 1 < end && p[1] == '-';
        p += 1 + (minus || (p + 1 < end && p[1] == '+'));
        const char *first = p;
        for (; p < end && *p >= '0' && *p <= '9' && exponent < 100; p++)
            exponent = exponent * 10 + (*p - '0');
        if (p == first || exponent >= 100)
            return false;
        for (; exponent > 0; exponent--)
            *(minus ? &unit : &value) *= 10;
    }
    *at = p;
    *number = value / unit;
    return digits > 0 && *number > 0 && *number < 1e300;
}

static enum damacy_status read_scale(const char *value, const char *end, struct dmc_selection *selection,
                                     struct damacy_error *error)
{
    for (const char *p = value;; p++) {
        if (selection->scale_count == DMC_SELECTION_SCALES_MAX)
            return wrong(error, SCALE, "at most 8 numbers", value, end);
        if (!read_number(&p, end, &selection->scale[selection->scale_count++]) || (p < end && *p != ','))
            return wrong(error, SCALE, "a number above 0, or one for each spatial axis with commas between", value, end);
        if (p == end)
            return DAMACY_OK;
    }
}

static enum damacy_status read_value(enum key key, const char *value, const char *end, struct dmc_selection *selection,
                                     struct damacy_error *error)
{
    switch (key) {
    case LEVEL:
        selection->has_level = true;
        return read_index(key, value, end, &selection->level, error);
    case SCALE:
        return read_scale(value, end, selection, error);
    case LABEL:
        return read_text(key, value, end, selection->label, error);
    case WELL:
        return read_text(key, value, end, selection->well, error);
    case FIELD:
        selection->has_field = true;
        return read_index(key, value, end, &selection->field, error);
    case MEMBER:
        return read_text(key, value, end, selection->member, error);
    case KEY_COUNT:
        break;
    }
    return DAMACY_OK;
}

enum damacy_status dmc_selection_parse(const char *uri, struct dmc_selection *selection, size_t *uri_bytes,
                                       struct damacy_error *error)
{
    *selection = (struct dmc_selection){0};
    *uri_bytes = strlen(uri);
    const char *hash = strrchr(uri, '#');
    if (!hash || !is_fragment(hash + 1))
        return DAMACY_OK;
    bool seen[KEY_COUNT] = {false};
    const char *part = hash + 1;
    for (;;) {
        const char *value = NULL, *end = part_end(part);
        enum key key = find_key(part, end, &value);
        if (seen[key])
            return dmc_error_set(error, DAMACY_INVAL, "config", "the uri's fragment says %s twice", key_names[key]);
        seen[key] = true;
        enum damacy_status status = read_value(key, value, end, selection, error);
        if (status)
            return status;
        if (!*end)
            break;
        part = end + 1;
    }
    if (selection->has_level && selection->scale_count)
        return dmc_error_set(error, DAMACY_INVAL, "config",
                             "the uri's fragment says both level and scale: one of them names the level");
    *uri_bytes = (size_t)(hash - uri);
    return DAMACY_OK;
}

bool dmc_selection_needs_group(const struct dmc_selection *selection)
{
    return selection->has_level || selection->has_field || selection->scale_count || selection->label[0] || selection->well[0];
}

const char *dmc_selection_doubt(const char *uri)
{
    const char *hash = strrchr(uri, '#'), *slash = strchr(uri, '/');
    if (slash && slash > uri + 1 && slash[-1] == ':' && slash[1] != '/' && strncmp(uri, "file:", 5) != 0)
        return "; with one '/' behind the ':' it is a path: pathlib.Path takes the other away, so give the uri as a str";
    if (uri[0] == '~')
        return "; '~' is a folder's name here: only shells, and os.path.expanduser(), make your home of it";
    if (hash && is_like_fragment(hash + 1) && !is_fragment(hash + 1))
        return "; what follows '#' is a part of the path: it is not made of level=, scale=, label=, well=, field= and member=";
    if (uri[0] != '/' && !strstr(uri, "://"))
        return "; a path that does not begin with '/' is one from the folder in which the program runs";
    return "";
}

const char *dmc_selection_astray(const struct dmc_selection *selection)
{
    if (selection->label[0])
        return "the image seems to have no labels: they would be listed there";
    return "check the uri's fragment, and whether the data are complete";
}
