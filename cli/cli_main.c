#include "cli.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char help[] = "usage: damacy COMMAND [OPTIONS] ...\n"
                           "\n"
                           "  damacy info URI          say what is there: arrays, groups, OME-Zarr images, plates\n"
                           "    --json                 as JSON\n"
                           "    --shallow              do not look for what is inside groups\n"
                           "    --wells                look into all wells of plates, too\n"
                           "    --timeout SECONDS      give up after that long (60)\n"
                           "    --storage-options JSON credentials, endpoints, ... of network stores\n"
                           "\n"
                           "  damacy stream URI ...    stream random crops, and say how fast they came\n"
                           "    --shape N,N,...        of a sample (up to 128 along each of the last three axes)\n"
                           "    --batch N              samples in a batch (8)\n"
                           "    --batches N            how many (100)\n"
                           "    --dtype NAME           bool, i8 ... u64, f16, bf16, f32, f64, or native (native)\n"
                           "    --device NAME          cpu, cuda, cuda:1, or auto (cpu)\n"
                           "    --seed N               of the crops' places (0)\n"
                           "    --workers N            threads that read and decode (one for each core)\n"
                           "    --memory BYTES         hard limit on host memory\n"
                           "    --json                 the result as JSON\n"
                           "    --quiet                no progress\n"
                           "    --storage-options JSON as above\n"
                           "\n"
                           "  damacy --version\n"
                           "  damacy --help\n"
                           "\n"
                           "A URI is a path, file://, http(s)://, s3:// or gs:// uri; URI#level=2, #scale=0.5, #label=NAME, "
                           "#well=B/03&field=0 and #member=NAME pick\n"
                           "from OME-Zarr groups and structured arrays.\n"
                           "Exit status: 0 all went well, 1 it did not, 2 the arguments make no sense, 130 interrupted.\n";

static volatile sig_atomic_t signalled;

static void note_signal(int number)
{
    (void)number;
    if (signalled)
        _Exit(CLI_INTERRUPTED); /* asked twice: do not wait for anything */
    signalled = 1;
}

bool cli_interrupted(void)
{
    return signalled;
}

int cli_usage(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("damacy: ", stderr);
    vfprintf(stderr, format, arguments);
    fputs("; see damacy --help\n", stderr);
    va_end(arguments);
    return CLI_USAGE;
}

int cli_fail(const struct damacy_error *error)
{
    if (cli_interrupted()) {
        fputs("damacy: interrupted\n", stderr);
        return CLI_INTERRUPTED;
    }
    fprintf(stderr, "damacy: %s: %s\n", damacy_status_str(error->status), error->message);
    return CLI_FAILED;
}

bool cli_option(struct cli_arguments *arguments, const char *name, const char **value)
{
    if (arguments->at == arguments->end)
        return false;
    const char *text = *arguments->at;
    size_t bytes = strlen(name);
    if (strncmp(text, name, bytes) != 0 || (text[bytes] && (!value || text[bytes] != '=')))
        return false;
    arguments->at++;
    if (!value)
        return true;
    if (text[bytes] == '=')
        *value = text + bytes + 1;
    else if (arguments->at < arguments->end)
        *value = *arguments->at++;
    else
        exit(cli_usage("%s wants a value", name));
    return true;
}

const char *cli_positional(struct cli_arguments *arguments)
{
    if (arguments->at == arguments->end)
        return NULL;
    if (strcmp(*arguments->at, "--") == 0) {
        if (arguments->at + 1 == arguments->end)
            return NULL;
        /* What follows is none, either: the mark moves along. */
        char *mark = arguments->at[0];
        arguments->at[0] = arguments->at[1];
        arguments->at[1] = mark;
        return *arguments->at++;
    }
    return (*arguments->at)[0] == '-' && (*arguments->at)[1] ? NULL : *arguments->at++;
}

/* Is help asked for behind a command, as most tools allow? */
static bool wants_help(char **at)
{
    for (; *at && strcmp(*at, "--") != 0; at++)
        if (strcmp(*at, "--help") == 0 || strcmp(*at, "-h") == 0)
            return true;
    return false;
}

/* `damacy info x | head`: whoever closes a pipe has what they wanted. Under Python there is no SIGPIPE that would end us. */
static bool reader_left(void)
{
    struct pollfd out = {.fd = STDOUT_FILENO};
    return poll(&out, 1, 0) == 1 && (out.revents & POLLERR);
}

int main(int argc, char **argv)
{
    /* Not restarted: waits end, so that what was asked for can be given up in order. */
    struct sigaction action = {.sa_handler = note_signal};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    if (argc < 2) {
        fputs(help, stderr);
        return CLI_USAGE;
    }
    struct cli_arguments arguments = {argv + 2, argv + argc};
    int status;
    if (strcmp(argv[1], "--version") == 0) {
        status = printf("damacy %d.%d.%d\n", DAMACY_VERSION_MAJOR, DAMACY_VERSION_MINOR, DAMACY_VERSION_PATCH) < 0;
    } else if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0 ||
               wants_help(argv + 2)) {
        status = fputs(help, stdout) < 0;
    } else if (strcmp(argv[1], "info") == 0) {
        status = cli_info(&arguments);
    } else if (strcmp(argv[1], "stream") == 0) {
        status = cli_stream(&arguments);
    } else {
        return cli_usage("there is no command '%s'", argv[1]);
    }
    if ((fflush(stdout) || ferror(stdout)) && status == CLI_OK) {
        int reason = errno;
        if (!reader_left())
            fprintf(stderr, "damacy: cannot write: %s\n", strerror(reason));
        return CLI_FAILED;
    }
    return status;
}
