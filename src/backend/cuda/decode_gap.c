/* See decode_gap.h. */
#include "backend/cuda/decode_gap.h"
#include "base/bytes.h"

static void account(struct dmc_decode_gap *gap)
{
    uint64_t at = gap->first++ % DMC_DECODE_FLIGHTS;
    uint64_t begin = gap->flights[at].begin_ns, end = gap->flights[at].end_ns;
    if (!gap->flights[at].ended || end <= begin)
        return;
    uint64_t idle_since = dmc_max_u64(gap->busy_until_ns, gap->flights[at].due_ns);
    if (begin > idle_since) {
        gap->gap_count++;
        gap->gap_ns += begin - idle_since;
    }
    if (end > gap->busy_until_ns) {
        gap->busy_ns += end - dmc_max_u64(begin, gap->busy_until_ns);
        gap->busy_until_ns = end;
    }
}

uint64_t dmc_decode_gap_begin(struct dmc_decode_gap *gap, uint64_t due_ns)
{
    if (gap->next - gap->first == DMC_DECODE_FLIGHTS)
        account(gap);
    uint64_t at = gap->next % DMC_DECODE_FLIGHTS;
    gap->flights[at].due_ns = due_ns;
    gap->flights[at].ended = false;
    return gap->next++;
}

void dmc_decode_gap_end(struct dmc_decode_gap *gap, uint64_t flight, uint64_t begin_ns, uint64_t end_ns)
{
    if (flight < gap->first) /* forgotten: the ring was full */
        return;
    uint64_t at = flight % DMC_DECODE_FLIGHTS;
    gap->flights[at].begin_ns = begin_ns;
    gap->flights[at].end_ns = end_ns;
    gap->flights[at].ended = true;
    while (gap->first < gap->next && gap->flights[gap->first % DMC_DECODE_FLIGHTS].ended)
        account(gap);
}
