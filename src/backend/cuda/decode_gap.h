/* When did the device decode nothing although it could have? Fed by the submitter with each wave's decode interval.
 *
 *     wave 1  due |---- copy ----|=== decode ===|
 *     wave 2            due |--- copy ---|         =decode=|
 *     counted     |     gap      |              |   gap    |       busy: both decodes
 *
 * A wave is due once it is closed. Waves end in any order and are accounted for in the order of their launch, so that one that
 * ends early does not count what an older one, still under way, will turn out to have been decoding. Pure. */
#ifndef DMC_DECODE_GAP_H
#define DMC_DECODE_GAP_H

#include <stdbool.h>
#include <stdint.h>

/* Flights remembered at once; when a wave outlasts so many others, the oldest is accounted for without it. */
#define DMC_DECODE_FLIGHTS 64u

struct dmc_decode_gap {
    struct {
        uint64_t due_ns, begin_ns, end_ns;
        bool ended;
    } flights[DMC_DECODE_FLIGHTS]; /* a ring: [first, next) */
    uint64_t first, next;
    uint64_t busy_until_ns; /* the latest end accounted for */
    /* results, all ever growing */
    uint64_t gap_count, gap_ns;
    uint64_t busy_ns; /* of the union of all decodes */
};

/* A wave is launched; returns what dmc_decode_gap_end wants. due_ns: when it was closed. */
uint64_t dmc_decode_gap_begin(struct dmc_decode_gap *gap, uint64_t due_ns);

/* It has decoded from begin_ns to end_ns; the same twice: it had nothing to decode. */
void dmc_decode_gap_end(struct dmc_decode_gap *gap, uint64_t flight, uint64_t begin_ns, uint64_t end_ns);

#endif
