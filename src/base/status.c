/* Names of public enumerations. */
#include "damacy/damacy.h"

static const char *const status_names[] = {
    [DAMACY_OK] = "OK",
    [DAMACY_AGAIN] = "AGAIN",
    [DAMACY_INVAL] = "INVAL",
    [DAMACY_NOTFOUND] = "NOTFOUND",
    [DAMACY_DTYPE] = "DTYPE",
    [DAMACY_RANK] = "RANK",
    [DAMACY_UNSUPPORTED] = "UNSUPPORTED",
    [DAMACY_IO] = "IO",
    [DAMACY_DECODE] = "DECODE",
    [DAMACY_CUDA] = "CUDA",
    [DAMACY_OOM] = "OOM",
    [DAMACY_BUDGET] = "BUDGET",
    [DAMACY_STARVED] = "STARVED",
    [DAMACY_SHUTDOWN] = "SHUTDOWN",
    [DAMACY_FORKED] = "FORKED",
    [DAMACY_TIMEOUT] = "TIMEOUT",
    [DAMACY_END] = "END",
    [DAMACY_INTERNAL] = "INTERNAL",
};

static const char *const bottleneck_names[] = {
    [DAMACY_BOTTLENECK_NONE] = "none",         [DAMACY_BOTTLENECK_STORAGE] = "storage",   [DAMACY_BOTTLENECK_DECODE] = "decode",
    [DAMACY_BOTTLENECK_CONSUMER] = "consumer", [DAMACY_BOTTLENECK_PRODUCER] = "producer",
};

const char *damacy_status_str(enum damacy_status status)
{
    return (size_t)status < sizeof status_names / sizeof *status_names ? status_names[status] : "?";
}

const char *damacy_bottleneck_str(enum damacy_bottleneck bottleneck)
{
    return (size_t)bottleneck < sizeof bottleneck_names / sizeof *bottleneck_names ? bottleneck_names[bottleneck] : "?";
}
