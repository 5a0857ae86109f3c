/* Text that grows: urls, header lines and what is signed. A failed allocation is remembered and found at the end, so that
 * whoever builds a text asks once. Kept and reused, it allocates no more once it was as long as ever needed. */
#ifndef DMC_NET_TEXT_H
#define DMC_NET_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct dmc_text {
    char *data; /* zero-terminated once anything was added */
    size_t length;
    size_t capacity;
    bool failed; /* memory was short: the text is not complete */
};

void dmc_text_clear(struct dmc_text *text); /* keeps the memory */
void dmc_text_free(struct dmc_text *text);  /* wipes it: it may hold secrets */
void dmc_text_bytes(struct dmc_text *text, const char *bytes, size_t count);
void dmc_text_add(struct dmc_text *text, const char *zero_terminated);
void dmc_text_format(struct dmc_text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Percent-encode as SigV4 and RFC 3986 want it: all but A-Za-z0-9-._~ become %XX with capital hex. */
void dmc_text_encoded(struct dmc_text *text, const char *bytes, size_t count, bool keep_slash);

#endif
