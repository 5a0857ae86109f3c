/* The command-line tool `damacy`. Uses the public API only.
 *
 *     cli_main.c    commands, help, options that all share
 *     cli_info.c    damacy info: what is at a uri
 *     cli_stream.c  damacy stream: random crops, and how fast they come
 *     cli_text.c    numbers and JSON for output
 *
 * What was asked for goes to stdout; progress, warnings and errors to stderr. */
#ifndef DAMACY_CLI_H
#define DAMACY_CLI_H

#include "damacy/damacy.h"

#include <stdio.h>

enum { CLI_OK = 0, CLI_FAILED = 1, CLI_USAGE = 2, CLI_INTERRUPTED = 130 };

/* Set by SIGINT and SIGTERM. */
bool cli_interrupted(void);

/* The arguments behind the command's name, taken one after another. */
struct cli_arguments {
    char **at, **end;
};

/* Is the next argument the option `name` ("--shape")? Then its value (`--shape 1` or `--shape=1`) is taken with it.
 * value NULL: the option takes none. A missing value ends in cli_usage. */
bool cli_option(struct cli_arguments *arguments, const char *name, const char **value);
/* The next argument if it is no option; NULL: it is one, or there is none. After "--" nothing is. */
const char *cli_positional(struct cli_arguments *arguments);
/* Say what is wrong with the arguments; returns CLI_USAGE. */
int cli_usage(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Say what failed; returns CLI_FAILED, or CLI_INTERRUPTED after a signal. */
int cli_fail(const struct damacy_error *error);

bool cli_read_u64(const char *text, uint64_t *out);
bool cli_read_seconds(const char *text, uint64_t *ns); /* "1.5"; at least a nanosecond, at most a century */

/* "1.23 GB": three digits, powers of 1000. Returns `text`. */
const char *cli_bytes(double bytes, char text[32]);
/* "16 x 128 x 128", or "-" where there is no axis. Returns `text`. */
const char *cli_shape(const uint64_t *shape, uint32_t rank, char *text, size_t capacity);
/* In quotes, escaped. */
void cli_json_text(FILE *out, const char *text);

int cli_info(struct cli_arguments *arguments);
int cli_stream(struct cli_arguments *arguments);

#endif
