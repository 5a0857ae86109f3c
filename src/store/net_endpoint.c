/* See net_endpoint.h. */
#include "store/net_endpoint.h"
#include "base/bytes.h"

#define MS_NS 1000000u
#define BULK_BEGIN 64
#define METADATA_BEGIN 32
#define METADATA_MAX 128
#define LIMIT_MIN 4
/* Of a lane, where every answer costs a connection: servers that speak HTTP/1.0 still are small ones, and let five connections
 * wait (python -m http.server). What is beyond that seems to be connected, but is not heard for as long as it takes to stall.
 */
#define CLOSING_MAX 4
#define IDLE_AVERAGED 16u
#define IDLE_PERIOD_NS (10000ull * MS_NS)
/* Queueing in a server that is merely busy, or for a core of this machine, is no overload, nor is what it holds up lost:
 * another request would only queue behind it. Without any latency 16 cores that all worked had one request in 24 hedged when 5
 * ms were late. */
#define LATE_SLACK_NS (20ull * MS_NS)
#define FADE_COUNT 2048u
#define GUESSED_COUNT 8u /* from so many answers on there is an opinion, with much room */
#define KNOWN_COUNT 32u
#define REFRESH_EVERY 32u
/* However narrow the usual answers lie, what is later by less than a third of an answer's time will hardly come sooner for
 * being asked for twice, and the connection of the one that loses is gone. An answer's time is that on a connection in use,
 * also for a fresh one, whose handshakes take as long as ever. Until many are known, a whole one more: what is lost among the
 * first requests is what the first batch waits for. */
#define HEDGE_LATE_PART 3u
/* What a moment's trouble may use up at once. It is earned before, so it does not raise the share. The last few are for what is
 * later still: a server that halts for a moment makes everything late, and then those that are really lost must not go without.
 */
#define HEDGE_TOKENS_MAX 32u
#define HEDGE_TOKENS_FEW 4u
#define HEDGE_PRICE 1000000000u
#define HEDGES_JUDGED 32u
#define BODY_BYTES_MIN 32768u /* shorter bodies come with their first byte */
#define MIB 1048576.0

static void lane_init(struct dmc_net_lane *lane, double begin, double max)
{
    lane->limit_max = max < 1 ? 1 : max;
    lane->limit_min = lane->limit_max < LIMIT_MIN ? lane->limit_max : LIMIT_MIN;
    lane->limit = begin < lane->limit_max ? begin : lane->limit_max;
    lane->doubling = true;
}

static void publish_limit(struct dmc_net_endpoint *endpoint)
{
    atomic_store_explicit(&endpoint->limit, (uint32_t)endpoint->lanes[DMC_NET_BULK].limit, memory_order_relaxed);
}

void dmc_net_endpoint_init(struct dmc_net_endpoint *endpoint, uint32_t concurrency_max, uint32_t engines, double hedge_share)
{
    lane_init(&endpoint->lanes[DMC_NET_BULK], dmc_max_u64(BULK_BEGIN / engines, LIMIT_MIN), concurrency_max / engines);
    lane_init(&endpoint->lanes[DMC_NET_METADATA], dmc_max_u64(METADATA_BEGIN / engines, LIMIT_MIN),
              dmc_min_u64(concurrency_max, METADATA_MAX) / engines);
    endpoint->closing_max = (uint32_t)dmc_max_u64(CLOSING_MAX / engines, 1);
    endpoint->first = endpoint;
    endpoint->hedge_share = hedge_share;
    endpoint->hedge_part = 0.95;
    for (int i = 0; i < 2; i++)
        endpoint->waits[i].idle_now_ns = endpoint->waits[i].idle_last_ns = UINT64_MAX;
    publish_limit(endpoint);
}

/* A thread that comes late with its part of a batch would find the lane full of later ones, and the whole batch would wait for
 * a round trip more: it may pass them. With 7 batches begun at once, half of the first one's 70 to 106 requests came behind 130
 * of later ones and waited 26 to 60 ms, at 20 ms of latency (bench/remote, 2 cores). */
bool dmc_net_endpoint_has_room(const struct dmc_net_lane *lane, uint64_t age_ns)
{
    double limit = lane->limit;
    if (age_ns < lane->newest_ns)
        limit = dmc_min_u64((uint64_t)(limit * 1.5), (uint64_t)lane->limit_max);
    return lane->running < (uint32_t)limit;
}

void dmc_net_endpoint_pause(struct dmc_net_endpoint *endpoint, uint64_t until_ns)
{
    _Atomic uint64_t *shared = &endpoint->first->shared_pause_until_ns;
    uint64_t before_ns = atomic_load_explicit(shared, memory_order_relaxed);
    while (before_ns < until_ns &&
           !atomic_compare_exchange_weak_explicit(shared, &before_ns, until_ns, memory_order_relaxed, memory_order_relaxed)) {
    }
}

bool dmc_net_endpoint_answered(const struct dmc_net_endpoint *endpoint)
{
    return atomic_load_explicit(&endpoint->first->shared_answered, memory_order_relaxed);
}

void dmc_net_endpoint_closes(struct dmc_net_endpoint *endpoint)
{
    atomic_store_explicit(&endpoint->first->shared_closes, true, memory_order_relaxed);
}

/* Whichever engine has found out. */
static void heed_closing(struct dmc_net_endpoint *endpoint)
{
    double most = endpoint->closing_max;
    if (!atomic_load_explicit(&endpoint->first->shared_closes, memory_order_relaxed))
        return;
    for (uint32_t i = 0; i < DMC_NET_LANES; i++) {
        struct dmc_net_lane *lane = &endpoint->lanes[i];
        lane->limit_max = lane->limit_max < most ? lane->limit_max : most;
        lane->limit_min = lane->limit_min < most ? lane->limit_min : most;
        lane->limit = lane->limit < most ? lane->limit : most;
    }
    publish_limit(endpoint);
}

static void cut(struct dmc_net_endpoint *endpoint, struct dmc_net_lane *lane, double factor, uint64_t now_ns)
{
    uint64_t quiet_ns = dmc_max_u64((uint64_t)(2 * endpoint->waits[0].average_ns), 250ull * MS_NS);
    if (lane->cut_ns && now_ns - lane->cut_ns < quiet_ns)
        return;
    lane->cut_ns = now_ns;
    lane->doubling = false;
    lane->limit = lane->limit * factor > lane->limit_min ? lane->limit * factor : lane->limit_min;
    publish_limit(endpoint);
}

/* The least of the last one or two periods, so that a route that got longer is believed in the end. */
static double idle_ns(const struct dmc_net_waits *waits)
{
    uint64_t least_ns = dmc_min_u64(waits->idle_now_ns, waits->idle_last_ns);
    return least_ns == UINT64_MAX ? waits->average_ns : (double)least_ns;
}

static void refresh(struct dmc_net_endpoint *endpoint)
{
    uint64_t usual_ns = 0, answer_ns = dmc_histogram_quantile(&endpoint->waits[0].recent, 0.5);
    for (int i = 1; i >= 0; i--) {
        struct dmc_net_waits *waits = &endpoint->waits[i];
        uint64_t median_ns = dmc_histogram_quantile(&waits->recent, 0.5);
        usual_ns = median_ns ? median_ns : usual_ns; /* of connections in use, if there are any */
        uint64_t count = atomic_load_explicit(&waits->recent.count, memory_order_relaxed);
        if (count < GUESSED_COUNT)
            continue;
        uint64_t more_ns = answer_ns ? dmc_min_u64(answer_ns, median_ns) : median_ns;
        uint64_t late_ns = median_ns + (count < KNOWN_COUNT ? more_ns : more_ns / HEDGE_LATE_PART);
        if (count >= KNOWN_COUNT)
            late_ns = dmc_max_u64(late_ns, dmc_histogram_quantile(&waits->recent, endpoint->hedge_part));
        waits->hedge_wait_ns = dmc_max_u64(late_ns, LATE_SLACK_NS);
        atomic_store_explicit(&endpoint->first->shared_hedge_wait_ns[i], waits->hedge_wait_ns, memory_order_relaxed);
    }
    endpoint->hedge_body_ns = dmc_histogram_quantile(&endpoint->body, endpoint->hedge_part);
    if (endpoint->hedge_body_ns)
        atomic_store_explicit(&endpoint->first->shared_hedge_body_ns, endpoint->hedge_body_ns, memory_order_relaxed);
    atomic_store_explicit(&endpoint->first_byte_ns, usual_ns, memory_order_relaxed);
    atomic_store_explicit(&endpoint->mib_ns, dmc_histogram_quantile(&endpoint->body, 0.5), memory_order_relaxed);
}

void dmc_net_endpoint_first_byte(struct dmc_net_endpoint *endpoint, enum dmc_net_lane_kind kind, bool fresh, uint64_t wait_ns,
                                 uint64_t now_ns)
{
    struct dmc_net_waits *waits = &endpoint->waits[fresh];
    if (!dmc_net_endpoint_answered(endpoint))
        atomic_store_explicit(&endpoint->first->shared_answered, true, memory_order_relaxed);
    if (now_ns - waits->idle_begin_ns > IDLE_PERIOD_NS) {
        waits->idle_begin_ns = now_ns;
        waits->idle_last_ns = waits->idle_now_ns;
        waits->idle_now_ns = UINT64_MAX;
    }
    /* The average follows the usual answer; a single straggler may move it by no more than four usual ones. */
    double seen_ns = (double)wait_ns;
    if (waits->average_ns > 0 && seen_ns > 4 * waits->average_ns)
        seen_ns = 4 * waits->average_ns;
    waits->average_ns = waits->average_ns > 0 ? waits->average_ns * 0.95 + seen_ns * 0.05 : seen_ns;
    waits->idle_sum_ns += seen_ns;
    if (++waits->idle_count == IDLE_AVERAGED) {
        waits->idle_now_ns = dmc_min_u64(waits->idle_now_ns, (uint64_t)(waits->idle_sum_ns / IDLE_AVERAGED));
        waits->idle_sum_ns = 0;
        waits->idle_count = 0;
    }
    if (waits->average_ns > 3 * idle_ns(waits) + (double)LATE_SLACK_NS)
        cut(endpoint, &endpoint->lanes[kind], 0.85, now_ns);
    dmc_histogram_add(&waits->recent, wait_ns);
    if (atomic_load_explicit(&waits->recent.count, memory_order_relaxed) >= FADE_COUNT)
        dmc_histogram_fade(&waits->recent);
    bool soon = waits->hedge_wait_ns == 0 && atomic_load_explicit(&waits->recent.count, memory_order_relaxed) >= GUESSED_COUNT;
    if (endpoint->until_refresh-- == 0 || soon) {
        endpoint->until_refresh = REFRESH_EVERY - 1;
        refresh(endpoint);
    }
}

void dmc_net_endpoint_body(struct dmc_net_endpoint *endpoint, uint64_t bytes, uint64_t body_ns)
{
    if (bytes < BODY_BYTES_MIN)
        return;
    dmc_histogram_add(&endpoint->body, (uint64_t)((double)body_ns * (MIB / (double)bytes)));
    if (atomic_load_explicit(&endpoint->body.count, memory_order_relaxed) >= FADE_COUNT)
        dmc_histogram_fade(&endpoint->body);
}

void dmc_net_endpoint_success(struct dmc_net_endpoint *endpoint, enum dmc_net_lane_kind kind, bool full, uint64_t latency_ns)
{
    struct dmc_net_lane *lane = &endpoint->lanes[kind];
    const struct dmc_net_waits *waits = &endpoint->waits[0];
    dmc_histogram_add(&endpoint->latency, latency_ns);
    if (full && lane->limit < lane->limit_max && waits->average_ns <= 2 * idle_ns(waits) + (double)LATE_SLACK_NS) {
        lane->limit += lane->doubling ? 1 : 1 / lane->limit;
        if (lane->limit > lane->limit_max)
            lane->limit = lane->limit_max;
        publish_limit(endpoint);
    }
}

void dmc_net_endpoint_overload(struct dmc_net_endpoint *endpoint, enum dmc_net_lane_kind kind, uint64_t now_ns)
{
    cut(endpoint, &endpoint->lanes[kind], 0.5, now_ns);
}

/* What is late on such a connection: as this engine saw it, or another one; 0: too few of them are known. */
static uint64_t hedge_wait_ns(const struct dmc_net_endpoint *endpoint, bool fresh)
{
    uint64_t wait_ns = endpoint->waits[fresh].hedge_wait_ns;
    return wait_ns ? wait_ns : atomic_load_explicit(&endpoint->first->shared_hedge_wait_ns[fresh], memory_order_relaxed);
}

uint64_t dmc_net_endpoint_hedge_due(const struct dmc_net_endpoint *endpoint, bool fresh, uint64_t begin_ns, uint64_t sent_ns,
                                    uint64_t first_ns, uint64_t bytes)
{
    uint64_t wait_ns = hedge_wait_ns(endpoint, fresh);
    if (wait_ns == 0) /* too few such connections: others tell at least the scale */
        wait_ns = 2 * hedge_wait_ns(endpoint, !fresh);
    if (endpoint->hedge_share <= 0 || wait_ns == 0)
        return UINT64_MAX;
    uint64_t credit = atomic_load_explicit(&endpoint->first->shared_hedge_credit, memory_order_relaxed);
    double few = 1 - (double)credit / ((double)HEDGE_TOKENS_FEW * HEDGE_PRICE);
    wait_ns += few > 0 ? (uint64_t)(few * (double)wait_ns) : 0;
    if (sent_ns == 0)
        return begin_ns + 3 * wait_ns;
    if (first_ns == 0)
        return sent_ns + wait_ns;
    /* A second request costs another first byte; before that has passed in vain it cannot gain anything. */
    uint64_t mib_ns = endpoint->hedge_body_ns;
    if (mib_ns == 0)
        mib_ns = atomic_load_explicit(&endpoint->first->shared_hedge_body_ns, memory_order_relaxed);
    return first_ns + wait_ns + (uint64_t)((double)mib_ns * ((double)bytes / MIB));
}

void dmc_net_endpoint_request(struct dmc_net_endpoint *endpoint)
{
    heed_closing(endpoint);
    _Atomic uint64_t *shared = &endpoint->first->shared_hedge_credit;
    uint64_t before = atomic_load_explicit(shared, memory_order_relaxed), after;
    do
        after = dmc_min_u64(before + (uint64_t)(endpoint->hedge_share * HEDGE_PRICE + 0.5),
                            (uint64_t)HEDGE_TOKENS_MAX * HEDGE_PRICE);
    while (!atomic_compare_exchange_weak_explicit(shared, &before, after, memory_order_relaxed, memory_order_relaxed));
}

bool dmc_net_endpoint_hedge_take(struct dmc_net_endpoint *endpoint)
{
    _Atomic uint64_t *shared = &endpoint->first->shared_hedge_credit;
    uint64_t before = atomic_load_explicit(shared, memory_order_relaxed);
    while (before >= HEDGE_PRICE)
        if (atomic_compare_exchange_weak_explicit(shared, &before, before - HEDGE_PRICE, memory_order_relaxed,
                                                  memory_order_relaxed))
            return true;
    return false;
}

/* Hedges that rarely win come too early, those that nearly always win could have come earlier. */
void dmc_net_endpoint_hedge_over(struct dmc_net_endpoint *endpoint, bool won)
{
    endpoint->judged_wins += won;
    if (++endpoint->judged_hedges < HEDGES_JUDGED)
        return;
    double late = 1 - endpoint->hedge_part;
    if (endpoint->judged_wins < HEDGES_JUDGED / 2)
        late *= 0.7;
    else if (endpoint->judged_wins > HEDGES_JUDGED * 4 / 5)
        late *= 1.4;
    late = late < 0.002 ? 0.002 : late > 0.1 ? 0.1 : late;
    endpoint->hedge_part = 1 - late;
    endpoint->judged_hedges = endpoint->judged_wins = 0;
    refresh(endpoint);
}
