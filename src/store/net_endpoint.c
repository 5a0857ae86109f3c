/* See net_endpoint.h. */
#include "store/net_endpoint.h"
#include "base/bytes.h"

#define MS_NS 1000000u
#define BULK_BEGIN 32
#define METADATA_BEGIN 32
#define METADATA_MAX 128
#define LIMIT_MIN 4
#define IDLE_PERIOD_NS (10000ull * MS_NS)
#define LATE_SLACK_NS (20.0 * MS_NS) /* queueing in a server that is merely busy is no overload */
#define FADE_COUNT 2048u
#define KNOWN_COUNT 30u
#define REFRESH_EVERY 32u
#define HEDGE_WAIT_MIN_NS (5ull * MS_NS)
#define HEDGE_TOKENS_MAX 8.0
#define HEDGES_JUDGED 32u
#define BODY_BYTES_MIN 32768u /* shorter bodies come with their first byte */
#define MIB 1048576.0

static void lane_init(struct dmc_net_lane *lane, double begin, double max)
{
    lane->limit_max = max < LIMIT_MIN ? (max < 1 ? 1 : max) : max;
    lane->limit_min = lane->limit_max < LIMIT_MIN ? lane->limit_max : LIMIT_MIN;
    lane->limit = begin < lane->limit_max ? begin : lane->limit_max;
    lane->doubling = true;
}

void dmc_net_endpoint_init(struct dmc_net_endpoint *endpoint, uint32_t concurrency_max, double hedge_share)
{
    lane_init(&endpoint->lanes[DMC_NET_BULK], BULK_BEGIN, concurrency_max);
    lane_init(&endpoint->lanes[DMC_NET_METADATA], METADATA_BEGIN,
              concurrency_max < METADATA_MAX ? concurrency_max : METADATA_MAX);
    endpoint->hedge_share = hedge_share;
    endpoint->hedge_part = 0.95;
    endpoint->idle_now_ns = endpoint->idle_last_ns = UINT64_MAX;
    atomic_store_explicit(&endpoint->limit, (uint32_t)endpoint->lanes[DMC_NET_BULK].limit, memory_order_relaxed);
}

static void publish_limit(struct dmc_net_endpoint *endpoint)
{
    atomic_store_explicit(&endpoint->limit, (uint32_t)endpoint->lanes[DMC_NET_BULK].limit, memory_order_relaxed);
}

static void cut(struct dmc_net_endpoint *endpoint, struct dmc_net_lane *lane, double factor, uint64_t now_ns)
{
    uint64_t quiet_ns = dmc_max_u64((uint64_t)(2 * endpoint->recent_ns), 250ull * MS_NS);
    if (lane->cut_ns && now_ns - lane->cut_ns < quiet_ns)
        return;
    lane->cut_ns = now_ns;
    lane->doubling = false;
    lane->limit = lane->limit * factor > lane->limit_min ? lane->limit * factor : lane->limit_min;
    publish_limit(endpoint);
}

/* The idle time to the first byte is the least of the last one or two periods, so that a route that got longer is believed in
 * the end. */
static double idle_ns(const struct dmc_net_endpoint *endpoint)
{
    return (double)dmc_min_u64(endpoint->idle_now_ns, endpoint->idle_last_ns);
}

static void refresh(struct dmc_net_endpoint *endpoint)
{
    uint64_t median = dmc_histogram_quantile(&endpoint->first_byte, 0.5);
    atomic_store_explicit(&endpoint->first_byte_ns, median, memory_order_relaxed);
    atomic_store_explicit(&endpoint->mib_ns, dmc_histogram_quantile(&endpoint->body, 0.5), memory_order_relaxed);
    if (atomic_load_explicit(&endpoint->first_byte.count, memory_order_relaxed) < KNOWN_COUNT)
        return;
    uint64_t wait = dmc_histogram_quantile(&endpoint->first_byte, endpoint->hedge_part);
    endpoint->hedge_wait_ns = dmc_max_u64(dmc_max_u64(wait, median * 3 / 2), HEDGE_WAIT_MIN_NS);
    endpoint->hedge_body_ns = dmc_histogram_quantile(&endpoint->body, endpoint->hedge_part);
}

void dmc_net_endpoint_first_byte(struct dmc_net_endpoint *endpoint, enum dmc_net_lane_kind kind, uint64_t wait_ns,
                                 uint64_t now_ns)
{
    endpoint->answered = true;
    if (now_ns - endpoint->idle_begin_ns > IDLE_PERIOD_NS) {
        endpoint->idle_begin_ns = now_ns;
        endpoint->idle_last_ns = endpoint->idle_now_ns;
        endpoint->idle_now_ns = UINT64_MAX;
    }
    endpoint->idle_now_ns = dmc_min_u64(endpoint->idle_now_ns, wait_ns);
    /* The average follows the usual answer; a single straggler may move it by no more than four usual ones. */
    double seen = (double)wait_ns;
    if (endpoint->recent_ns > 0 && seen > 4 * endpoint->recent_ns)
        seen = 4 * endpoint->recent_ns;
    endpoint->recent_ns = endpoint->recent_ns > 0 ? endpoint->recent_ns * 0.95 + seen * 0.05 : seen;
    if (endpoint->recent_ns > 3 * idle_ns(endpoint) + LATE_SLACK_NS)
        cut(endpoint, &endpoint->lanes[kind], 0.85, now_ns);
    dmc_histogram_add(&endpoint->first_byte, wait_ns);
    if (atomic_load_explicit(&endpoint->first_byte.count, memory_order_relaxed) >= FADE_COUNT)
        dmc_histogram_fade(&endpoint->first_byte);
    if (endpoint->until_refresh-- == 0) {
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
    dmc_histogram_add(&endpoint->latency, latency_ns);
    if (full && lane->limit < lane->limit_max && endpoint->recent_ns <= 2 * idle_ns(endpoint) + LATE_SLACK_NS) {
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

uint64_t dmc_net_endpoint_hedge_due(const struct dmc_net_endpoint *endpoint, uint64_t begin_ns, uint64_t first_ns,
                                    uint64_t left)
{
    if (endpoint->hedge_share <= 0 || endpoint->hedge_wait_ns == 0)
        return UINT64_MAX;
    if (first_ns == 0)
        return begin_ns + endpoint->hedge_wait_ns;
    /* A second request costs another first byte; before that has passed in vain it cannot gain anything. */
    double body = (double)endpoint->hedge_body_ns * ((double)left / MIB);
    return first_ns + endpoint->hedge_wait_ns + (uint64_t)body;
}

void dmc_net_endpoint_request(struct dmc_net_endpoint *endpoint)
{
    dmc_net_count(&endpoint->requests, 1);
    double tokens = endpoint->hedge_tokens + endpoint->hedge_share;
    endpoint->hedge_tokens = tokens < HEDGE_TOKENS_MAX ? tokens : HEDGE_TOKENS_MAX;
}

bool dmc_net_endpoint_hedge_take(struct dmc_net_endpoint *endpoint)
{
    if (endpoint->hedge_tokens < 1)
        return false;
    endpoint->hedge_tokens -= 1;
    return true;
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
