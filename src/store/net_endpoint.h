/* What is learnt about one endpoint (scheme, host and port), and what follows: how many transfers it gets at once, when a
 * transfer is so late that a second one pays, and how far apart two ranges may be for one request to be cheaper than two.
 *
 * Concurrency, a lane: additive increase while the lane is full and answers come as fast as they did when the endpoint was
 * idle; multiplicative decrease when it answers 429 or 503, drops connections, or when first bytes come late. At most one
 * decrease for each round trip, since one overload shows in many answers. */
#ifndef DMC_NET_ENDPOINT_H
#define DMC_NET_ENDPOINT_H

#include "store/net_histogram.h"

#include <stdbool.h>

enum dmc_net_lane_kind { DMC_NET_METADATA, DMC_NET_BULK, DMC_NET_LANES };

struct dmc_transfer;

struct dmc_net_lane {
    struct dmc_transfer *first, *last; /* waiting */
    uint32_t running;
    uint64_t newest_ns; /* the latest age (struct dmc_transfer) that ever ran */
    double limit, limit_min, limit_max;
    bool doubling; /* no sign of overload yet: one more for each answer */
    uint64_t cut_ns;
};

/* Times from a question to the first byte of its answer. A fresh connection is slower than one in use: handshakes, slow start,
 * a server that must look things up; so they are kept apart, and neither is taken for a sign of overload or of a lost answer in
 * the other. */
struct dmc_net_waits {
    struct dmc_histogram recent; /* nanoseconds, of late */
    /* Least average over a few answers, in this and the last period: what an idle endpoint takes. Averages, since the luckiest
     * single answer may be several times as quick as the usual one. */
    uint64_t idle_now_ns, idle_last_ns, idle_begin_ns;
    double idle_sum_ns;
    uint32_t idle_count;
    double average_ns;      /* moving */
    uint64_t hedge_wait_ns; /* what is late, 0: too little is known */
};

struct dmc_net_endpoint {
    /* constant */
    struct dmc_net_endpoint *next;
    char *origin;
    struct dmc_net_endpoint *first; /* of the pipeline's first engine: that one itself, or one of another engine */
    double hedge_share;
    uint32_t closing_max; /* of a lane, if each answer costs a connection */
    /* the event thread's */
    struct dmc_net_lane lanes[DMC_NET_LANES];
    bool pumping;                  /* a transfer that ends at once must not begin the next from inside */
    bool http2;                    /* it speaks HTTP/2 */
    struct dmc_net_waits waits[2]; /* on connections in use, and on fresh ones */
    struct dmc_histogram body;     /* nanoseconds a MiB, of late */
    double hedge_part;             /* share of transfers that are quicker than what is hedged */
    uint32_t judged_hedges, judged_wins;
    uint64_t hedge_body_ns;
    uint32_t until_refresh;
    /* of `first`: written by the threads of all engines, so that one which has asked little yet need not learn all anew */
    _Atomic uint64_t shared_pause_until_ns;   /* it asked for quiet */
    _Atomic bool shared_answered;             /* it is, or was, there */
    _Atomic bool shared_closes;               /* it speaks HTTP/1.0: each answer costs a connection */
    _Atomic uint64_t shared_hedge_credit;     /* what requests have earned for second ones, in billionths of one */
    _Atomic uint64_t shared_hedge_wait_ns[2]; /* what is late, as the last thread saw it that knew; as hedge_wait_ns */
    _Atomic uint64_t shared_hedge_body_ns;
    /* counted by the event thread, read by any */
    struct dmc_histogram latency; /* nanoseconds, whole requests */
    _Atomic uint64_t requests, attempts, retries, hedges, hedges_won, throttled, stalls, failures, redirects;
    _Atomic uint64_t bytes_asked, bytes_received, bytes_used;
    _Atomic uint64_t shared, shared_bytes;  /* requests that another one's transfer answered, and the bytes that they got */
    _Atomic uint64_t first_byte_ns, mib_ns; /* medians */
    _Atomic uint32_t limit;
    _Atomic bool ahead_refused; /* it gives an index by itself, but not more of the object with it */
};

/* `engines`: so many share what may be under way. */
void dmc_net_endpoint_init(struct dmc_net_endpoint *endpoint, uint32_t concurrency_max, uint32_t engines, double hedge_share);
/* May a transfer of that age run in the lane? */
bool dmc_net_endpoint_has_room(const struct dmc_net_lane *lane, uint64_t age_ns);
/* It asks for quiet until then. */
void dmc_net_endpoint_pause(struct dmc_net_endpoint *endpoint, uint64_t until_ns);
/* It is, or was, there. */
bool dmc_net_endpoint_answered(const struct dmc_net_endpoint *endpoint);

/* A first byte came `wait_ns` after the question went out. */
void dmc_net_endpoint_first_byte(struct dmc_net_endpoint *endpoint, enum dmc_net_lane_kind lane, bool fresh, uint64_t wait_ns,
                                 uint64_t now_ns);
/* A body of `bytes` took `body_ns` behind its first byte. */
void dmc_net_endpoint_body(struct dmc_net_endpoint *endpoint, uint64_t bytes, uint64_t body_ns);
/* A request was answered in full; `full`: the lane could not take more while it ran. */
void dmc_net_endpoint_success(struct dmc_net_endpoint *endpoint, enum dmc_net_lane_kind lane, bool full, uint64_t latency_ns);
/* It shows that it has too much to do, or is not there. */
void dmc_net_endpoint_overload(struct dmc_net_endpoint *endpoint, enum dmc_net_lane_kind lane, uint64_t now_ns);

/* When an attempt is so late that a second one pays: UINT64_MAX while nothing is known or hedging is off.
 * sent_ns   when its question went out; 0: it has no connection yet, and began at begin_ns.
 * first_ns  when its first byte came; 0: not yet.
 * bytes     of the whole body. */
uint64_t dmc_net_endpoint_hedge_due(const struct dmc_net_endpoint *endpoint, bool fresh, uint64_t begin_ns, uint64_t sent_ns,
                                    uint64_t first_ns, uint64_t bytes);
/* It closes the connection behind each answer. */
void dmc_net_endpoint_closes(struct dmc_net_endpoint *endpoint);
/* A request goes out: it pays its share towards second ones. */
void dmc_net_endpoint_request(struct dmc_net_endpoint *endpoint);
/* May one more hedge start? Takes its price. */
bool dmc_net_endpoint_hedge_take(struct dmc_net_endpoint *endpoint);
void dmc_net_endpoint_hedge_over(struct dmc_net_endpoint *endpoint, bool won);

static inline void dmc_net_count(_Atomic uint64_t *counter, uint64_t more)
{
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + more, memory_order_relaxed);
}

#endif
