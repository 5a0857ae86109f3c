/* How the CPU writes batches: around the cache, or into it? By trying, where that cannot be known.
 *
 * Around the cache is right where buffers do not stay in the last cache from one batch to the next, into it where they do; that
 * depends on its size, on how it treats lines that fall out of the cores' own, and on the neighbours. So one way is used, the
 * other one is tried now and then, and what counts is what the workers need for all that they do: processor time for each byte
 * that they wrote. It contains what the way of writing does to reading and decoding, waiting does not disturb it, and it costs
 * nothing until somebody looks.
 *
 *     REST --> BEFORE --> TURN --> TRIAL --> RETURN --> AFTER --+--> TURN     better, but not yet enough to be believed
 *      ^       used       tried    tried     used       used    |
 *      +--------------------------------------------------------+    not better, or enough: then the ways change places
 *
 * A trial is compared with what was measured before and after it, since data change. In TURN and RETURN nothing is measured:
 * batches that were planned before are still being written, and buffers are where the other way left them. A trial that fails
 * makes the next rest longer, up to 256 times as long as a trial, so that a way which is worse by a sixth costs less than a
 * thousandth. */
#ifndef DMC_WRITE_CHOICE_H
#define DMC_WRITE_CHOICE_H

#include <stdbool.h>
#include <stdint.h>

/* Of all workers, since create. */
struct dmc_write_work {
    uint64_t cpu_ns;
    uint64_t bytes; /* written to batches */
};

enum dmc_write_phase { DMC_WRITE_REST, DMC_WRITE_BEFORE, DMC_WRITE_TURN, DMC_WRITE_TRIAL, DMC_WRITE_RETURN, DMC_WRITE_AFTER };

struct dmc_write_choice {
    /* constant */
    bool tries; /* false: `streamed` is for good */
    uint64_t window_ns;
    uint32_t batches; /* that come and go before all is as the way of writing makes it */
    /* the planner's */
    bool streamed; /* the way that is used */
    enum dmc_write_phase phase;
    uint64_t left;         /* batches until the phase may end */
    uint64_t trial_length; /* batches of the trial, as far as it got */
    uint32_t rest_factor;
    uint32_t better; /* trials one after the other */
    double gain;     /* of them together */
    struct dmc_write_work begin;
    double before, trial; /* nanoseconds a byte */
};

/* `slots`: most batches between planned and done. `window_ns`: processor time that makes a measurement. */
void dmc_write_choice_init(struct dmc_write_choice *choice, bool streamed, bool tries, uint32_t slots, uint64_t window_ns);
/* Is the batch that is planned now written around the cache? One call for each batch, in order; `measure` is called at the ends
 * of phases only. */
bool dmc_write_choice_next(struct dmc_write_choice *choice, void (*measure)(void *user, struct dmc_write_work *work),
                           void *user);

#endif
