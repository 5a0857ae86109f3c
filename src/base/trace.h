/* DAMACY_TRACE=out.json writes a Chrome trace (open it in Perfetto) when the process ends or dmc_trace_flush() is called.
 * Each thread appends to a buffer of its own (bounded; when full the oldest half is dropped and counted); nothing is shared
 * on the way. When tracing is off a span costs one load and a branch. */
#ifndef DMC_BASE_TRACE_H
#define DMC_BASE_TRACE_H

#include <stdbool.h>
#include <stdint.h>

/* Is tracing on? Decided at the first call from the environment. */
bool dmc_trace_on(void);

/* Record that `name` (static storage) ran from begin_ns to end_ns (dmc_clock_ns) in this thread, about `number` (a batch_id,
 * a read index, ...). Does nothing when tracing is off. */
void dmc_trace_span(const char *name, uint64_t begin_ns, uint64_t end_ns, uint64_t number);

/* Write what there is. Called at exit, too. */
void dmc_trace_flush(void);

#endif
