/* See write_choice.h. */
#include "pipeline/write_choice.h"
#include "base/log.h"

/* A trial is better when it takes less than this part of the time; what is less than that is not worth the change. */
#define BETTER 0.97
/* Trials in a row that must be better; fewer where what they gained adds up to this, which no noise does. */
#define BETTER_TRIALS 3u
#define SURE_GAIN 0.2
/* Rests, as multiples of the trial before. */
#define REST_FIRST 16u
#define REST_MOST 256u

void dmc_write_choice_init(struct dmc_write_choice *choice, bool streamed, bool tries, uint32_t slots, uint64_t window_ns)
{
    *choice = (struct dmc_write_choice){
        .tries = tries, .window_ns = window_ns, .batches = 2 * slots, .streamed = streamed, .rest_factor = REST_FIRST};
    choice->left = 2 * choice->batches; /* the first batches find nothing as it will be */
}

static void enter(struct dmc_write_choice *choice, enum dmc_write_phase phase, uint64_t batches)
{
    choice->phase = phase;
    choice->left = batches;
}

/* The end of a window: what a byte took, or false: it was too short. */
static bool window_ends(struct dmc_write_choice *choice, const struct dmc_write_work *now, double *cost)
{
    uint64_t bytes = now->bytes - choice->begin.bytes, cpu_ns = now->cpu_ns - choice->begin.cpu_ns;
    if (cpu_ns < choice->window_ns || bytes == 0)
        return false;
    *cost = (double)cpu_ns / (double)bytes;
    choice->begin = *now;
    return true;
}

/* The trial is over, and what came after it took `after`. */
static void judge(struct dmc_write_choice *choice, double after)
{
    const char *way = choice->streamed ? "into" : "around";
    dmc_log(DMC_PIPELINE, DAMACY_LOG_DEBUG, "writing batches %s the cache: %.3f ns a byte, before %.3f, after %.3f", way,
            choice->trial, choice->before, after);
    double part = choice->trial / ((choice->before + after) / 2);
    if (part >= BETTER) {
        choice->better = 0;
        choice->gain = 0;
        enter(choice, DMC_WRITE_REST, choice->rest_factor * choice->trial_length);
        choice->rest_factor = choice->rest_factor < REST_MOST ? 2 * choice->rest_factor : REST_MOST;
    } else if (++choice->better < BETTER_TRIALS && (choice->gain += 1 - part) < SURE_GAIN) {
        choice->before = after;
        enter(choice, DMC_WRITE_TURN, choice->batches);
    } else {
        choice->better = 0;
        choice->gain = 0;
        choice->streamed = !choice->streamed;
        dmc_log(DMC_PIPELINE, DAMACY_LOG_INFO, "batches are written %s the cache from now on", way);
        choice->rest_factor = REST_FIRST;
        enter(choice, DMC_WRITE_REST, choice->rest_factor * choice->trial_length);
    }
}

/* The phase has had its batches. */
static void step(struct dmc_write_choice *choice, const struct dmc_write_work *now)
{
    double after;
    switch (choice->phase) {
    case DMC_WRITE_REST:
        choice->begin = *now;
        enter(choice, DMC_WRITE_BEFORE, choice->batches);
        break;
    case DMC_WRITE_BEFORE:
        if (window_ends(choice, now, &choice->before))
            enter(choice, DMC_WRITE_TURN, choice->batches);
        break;
    case DMC_WRITE_TURN:
        choice->begin = *now;
        choice->trial_length = choice->batches;
        enter(choice, DMC_WRITE_TRIAL, choice->batches);
        break;
    case DMC_WRITE_TRIAL:
        if (window_ends(choice, now, &choice->trial))
            enter(choice, DMC_WRITE_RETURN, choice->batches);
        break;
    case DMC_WRITE_RETURN:
        choice->begin = *now;
        enter(choice, DMC_WRITE_AFTER, choice->batches);
        break;
    case DMC_WRITE_AFTER:
        if (window_ends(choice, now, &after))
            judge(choice, after);
        break;
    }
}

bool dmc_write_choice_next(struct dmc_write_choice *choice, void (*measure)(void *user, struct dmc_write_work *work),
                           void *user)
{
    if (!choice->tries)
        return choice->streamed;
    if (choice->left > 0)
        choice->left--;
    if (choice->left == 0) {
        struct dmc_write_work now;
        measure(user, &now);
        step(choice, &now);
    }
    bool tried = choice->phase == DMC_WRITE_TURN || choice->phase == DMC_WRITE_TRIAL;
    if (choice->phase == DMC_WRITE_TRIAL)
        choice->trial_length++;
    return choice->streamed != tried;
}
