/* UTF-8, as metadata are written in (RFC 3629):
 *
 *     code point             bytes
 *     0 to 0x7f              0xxxxxxx
 *     0x80 to 0x7ff          110xxxxx 10xxxxxx
 *     0x800 to 0xffff        1110xxxx 10xxxxxx 10xxxxxx      but for the surrogates 0xd800 to 0xdfff
 *     0x10000 to 0x10ffff    11110xxx 10xxxxxx 10xxxxxx 10xxxxxx
 */
#ifndef DMC_BASE_UTF8_H
#define DMC_BASE_UTF8_H

#include <stddef.h>
#include <stdint.h>

/* Bytes of the UTF-8 sequence at `p`, or 0: no overlong forms, no surrogates, nothing above U+10FFFF. */
static inline size_t dmc_utf8_bytes(const char *p, const char *end)
{
    const unsigned char *b = (const unsigned char *)p;
    size_t left = (size_t)(end - p);
    size_t bytes = b[0] < 0x80 ? 1 : b[0] < 0xc2 ? 0 : b[0] < 0xe0 ? 2 : b[0] < 0xf0 ? 3 : b[0] < 0xf5 ? 4 : 0;
    if (bytes == 0 || bytes > left)
        return 0;
    for (size_t i = 1; i < bytes; i++)
        if ((b[i] & 0xc0) != 0x80)
            return 0;
    if ((b[0] == 0xe0 && b[1] < 0xa0) || (b[0] == 0xed && b[1] > 0x9f) || (b[0] == 0xf0 && b[1] < 0x90) ||
        (b[0] == 0xf4 && b[1] > 0x8f))
        return 0;
    return bytes;
}

/* Write the code point `c`, which is one (at most 0x10ffff, no surrogate); returns its bytes. */
static inline size_t dmc_utf8_put(char to[4], uint32_t c)
{
    if (c < 0x80) {
        to[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        to[0] = (char)(0xc0 | c >> 6);
        to[1] = (char)(0x80 | (c & 0x3f));
        return 2;
    }
    if (c < 0x10000) {
        to[0] = (char)(0xe0 | c >> 12);
        to[1] = (char)(0x80 | (c >> 6 & 0x3f));
        to[2] = (char)(0x80 | (c & 0x3f));
        return 3;
    }
    to[0] = (char)(0xf0 | c >> 18);
    to[1] = (char)(0x80 | (c >> 12 & 0x3f));
    to[2] = (char)(0x80 | (c >> 6 & 0x3f));
    to[3] = (char)(0x80 | (c & 0x3f));
    return 4;
}

#endif
