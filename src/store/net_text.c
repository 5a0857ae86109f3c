/* See net_text.h. */
#include "store/net_text.h"
#include "base/mem.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void dmc_text_clear(struct dmc_text *text)
{
    text->length = 0;
    text->failed = false;
    if (text->data)
        text->data[0] = 0;
}

void dmc_text_free(struct dmc_text *text)
{
    if (text->data)
        explicit_bzero(text->data, text->capacity);
    dmc_free(text->data);
    *text = (struct dmc_text){0};
}

/* Room for `count` more bytes and the zero. Not realloc: what is left behind might be a secret. */
static bool make_room(struct dmc_text *text, size_t count)
{
    if (text->failed)
        return false;
    if (count < text->capacity - text->length)
        return true;
    size_t capacity = text->capacity ? text->capacity : 256;
    while (capacity - text->length <= count) {
        if (capacity > SIZE_MAX / 4) {
            text->failed = true;
            return false;
        }
        capacity *= 2;
    }
    char *data = dmc_malloc(capacity);
    if (!data) {
        text->failed = true;
        return false;
    }
    if (text->data) {
        memcpy(data, text->data, text->length);
        explicit_bzero(text->data, text->capacity);
        dmc_free(text->data);
    }
    data[text->length] = 0;
    text->data = data;
    text->capacity = capacity;
    return true;
}

void dmc_text_bytes(struct dmc_text *text, const char *bytes, size_t count)
{
    if (!make_room(text, count))
        return;
    memcpy(text->data + text->length, bytes, count);
    text->length += count;
    text->data[text->length] = 0;
}

void dmc_text_add(struct dmc_text *text, const char *zero_terminated)
{
    dmc_text_bytes(text, zero_terminated, strlen(zero_terminated));
}

void dmc_text_format(struct dmc_text *text, const char *format, ...)
{
    char small[512];
    va_list arguments, again;
    va_start(arguments, format);
    va_copy(again, arguments);
    int bytes = vsnprintf(small, sizeof small, format, arguments);
    va_end(arguments);
    if (bytes >= 0 && (size_t)bytes < sizeof small) {
        dmc_text_bytes(text, small, (size_t)bytes);
    } else if (bytes >= 0 && make_room(text, (size_t)bytes)) {
        vsnprintf(text->data + text->length, (size_t)bytes + 1, format, again);
        text->length += (size_t)bytes;
    }
    va_end(again);
}

void dmc_text_encoded(struct dmc_text *text, const char *bytes, size_t count, bool keep_slash)
{
    static const char digits[] = "0123456789ABCDEF";
    if (!make_room(text, 3 * count))
        return;
    char *to = text->data + text->length;
    for (size_t i = 0; i < count; i++) {
        unsigned char c = (unsigned char)bytes[i];
        bool plain = (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.' ||
                     c == '_' || c == '~' || (keep_slash && c == '/');
        if (plain) {
            *to++ = (char)c;
        } else {
            *to++ = '%';
            *to++ = digits[c >> 4];
            *to++ = digits[c & 15];
        }
    }
    *to = 0;
    text->length = (size_t)(to - text->data);
}
