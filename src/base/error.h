/* Errors: a status travels as the return value, its story in a struct damacy_error that the caller owns.
 *
 * The finder says what went wrong with dmc_error_set(); each caller that knows more about where adds it with
 * dmc_error_where(), which fills members and puts the place in front of the message. All functions accept NULL.
 */
#ifndef DMC_BASE_ERROR_H
#define DMC_BASE_ERROR_H

#include "damacy/damacy.h"

/* Start a new error: clears the struct, sets status, stage (may be NULL) and message. Returns status, so that
 * `return dmc_error_set(error, DAMACY_IO, "read", "...")` reads well. A status of OK is a bug. */
enum damacy_status dmc_error_set(struct damacy_error *error, enum damacy_status status, const char *stage, const char *format,
                                 ...) __attribute__((format(printf, 4, 5)));

/* The same for a failed system call: appends strerror text and keeps the number in os_error. */
enum damacy_status dmc_error_set_os(struct damacy_error *error, enum damacy_status status, const char *stage, int os_error,
                                    const char *format, ...) __attribute__((format(printf, 5, 6)));

/* Add where it happened. NULL or "" leaves a member alone; a range of 0, 0 is none. Puts "uri: key [begin, end): " (what is
 * given) in front of the message. A uri that the error has already is not repeated; it is told as damacy_uri_shown() does. */
void dmc_error_where(struct damacy_error *error, const char *uri, const char *key, uint64_t range_begin, uint64_t range_end);

/* Name the field; puts "field 'NAME': " in front. Empty names do nothing. */
void dmc_error_field(struct damacy_error *error, const char *field);

/* Record what was expected and found; appends ": found FOUND, expected EXPECTED" to the message. */
void dmc_error_expected(struct damacy_error *error, const char *expected, const char *found);

/* Record what to do about it; appends "; HINT" to the message. */
void dmc_error_hint(struct damacy_error *error, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Copy text into a member of fixed size; cut texts end in "...". */
void dmc_text_copy(char *to, size_t capacity, const char *from);

#endif
