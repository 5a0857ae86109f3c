/* What the files of the engine share: net_engine.c (thread, inbox, timers, libcurl's sockets), net_transfer.c (a request from
 * QUEUED to its end: retries, hedges, errors) and net_attempt.c (one exchange with a server: what is asked, what the answer
 * means, where its bytes go). All but the group marked shared is the event thread's. */
#ifndef DMC_NET_ENGINE_IMPL_H
#define DMC_NET_ENGINE_IMPL_H

#include "store/net_engine.h"

#define DMC_NET_BODY_KEPT 2048u /* of an answer that is no success, to say what it says */
#define DMC_NET_NO_TIMER UINT32_MAX
/* Of a transfer at the same time. Where one answer in a hundred is lost, so is one in ten thousand together with its hedge's;
 * a batch of a hundred requests would meet that every hundredth time. */
#define DMC_NET_ATTEMPTS 3u

enum dmc_transfer_state {
    DMC_TRANSFER_QUEUED,
    DMC_TRANSFER_RUNNING,
    DMC_TRANSFER_BACKOFF,
    DMC_TRANSFER_CREDENTIALS,
    DMC_TRANSFER_FOLLOWING, /* another one brings its bytes, too (net_share.c) */
    DMC_TRANSFER_BORROWING  /* its own bytes are there; another one brings the rest */
};

/* What the headers of an answer amount to. */
enum dmc_verdict {
    DMC_VERDICT_NONE,  /* no headers yet */
    DMC_VERDICT_BODY,  /* bytes of the object follow */
    DMC_VERDICT_SIZE,  /* HEAD: the size is known now */
    DMC_VERDICT_ENDED, /* nothing is left to read */
    DMC_VERDICT_ABSENT,
    DMC_VERDICT_TRUNCATED,
    DMC_VERDICT_TOO_LONG,
    DMC_VERDICT_ALONE,    /* what was to come along with the range is too much for the server: ask for the range alone */
    DMC_VERDICT_ASK_SIZE, /* the range lies behind the end, and the server did not say where that is */
    DMC_VERDICT_REDIRECT,
    DMC_VERDICT_STATUS, /* a status that the service explains */
    DMC_VERDICT_FAILED, /* permanent; transfer->error says why */
    DMC_VERDICT_BROKEN  /* the answer contradicts itself or the question; worth another try; transfer->error says why */
};

struct dmc_attempt {
    struct dmc_attempt *next; /* free */
    CURL *easy;
    const struct dmc_net_settings *settings; /* that the handle was set up for */
    struct dmc_transfer *transfer;           /* NULL: given up; what still comes is thrown away */
    bool running;                            /* in the multi handle */
    bool hedge;
    bool head;
    bool ranged;  /* a Range was asked for */
    bool overrun; /* more bytes came than the range has */
    enum dmc_verdict verdict;
    struct dmc_http_response response;
    uint64_t asked_begin, asked_end; /* of the transfer's range; end UINT64_MAX: to the end of the object */
    uint64_t position;               /* of the next byte, in the transfer's range */
    uint64_t skip;                   /* bytes of a whole object in front of it */
    uint64_t header_bytes;           /* of all headers in front of the body, so far */
    uint64_t body_bytes;             /* of the body, so far */
    uint32_t part;                   /* where `position` is */
    uint64_t part_offset;
    bool fresh; /* on a connection that was made for it */
    uint64_t begin_ns, sent_ns, first_ns, window_ns, window_bytes;
    uint32_t kept_bytes;
    char kept[DMC_NET_BODY_KEPT + 1];
    struct dmc_text url;
    struct dmc_net_headers headers;
    char curl_error[CURL_ERROR_SIZE];
};

/* An end of a transfer's range that another transfer brings (net_share.c). */
enum dmc_range_end { DMC_RANGE_HEAD, DMC_RANGE_TAIL, DMC_RANGE_ENDS };
struct dmc_borrowed {
    struct dmc_transfer *borrower;
    struct dmc_transfer *lender;          /* NULL: nothing is borrowed at this end, or it has come */
    struct dmc_borrowed *previous, *next; /* of the same lender */
    uint64_t begin, bytes;                /* in the borrower's range */
};

struct dmc_transfer {
    /* shared: engine->lock */
    struct dmc_request *shared_request; /* NULL: over */
    struct dmc_transfer *shared_next;   /* in the inbox, or free */
    bool shared_listed, shared_new, shared_cancel;
    /* the event thread's */
    struct dmc_request *request;
    struct dmc_net_store *store;
    struct dmc_net_endpoint *endpoint;
    const struct dmc_net_settings *settings;
    const char *query;
    enum dmc_net_lane_kind lane;
    enum dmc_transfer_state state;
    struct dmc_transfer *previous, *next; /* in its lane, among those that wait for credentials, or that follow the same one */
    struct dmc_transfer *leader;          /* FOLLOWING: whom; else NULL */
    struct dmc_transfer *followers;
    struct dmc_transfer *share_previous, *share_next; /* in its bucket */
    bool share_listed;                                /* others may follow it */
    struct dmc_borrowed borrowed[DMC_RANGE_ENDS];
    struct dmc_borrowed *lent;
    bool handed_over; /* the one that it followed is gone: it has waited long enough, and does not queue behind others */
    uint32_t timer;   /* place in the heap */
    uint64_t due_ns;
    struct dmc_attempt *attempts[DMC_NET_ATTEMPTS]; /* behind the first, hedges */
    enum dmc_range_kind kind;
    struct iovec *parts; /* the request's, or ahead_parts */
    uint32_t part_count;
    uint64_t own_bytes;  /* of the request's parts */
    uint64_t capacity;   /* of the parts */
    uint64_t length;     /* of the range, without tail_bytes; WHOLE: UINT64_MAX until known */
    uint64_t tail_bytes; /* at the end of the range, that come or came from elsewhere */
    uint64_t absolute;   /* where the range begins in the object; UINT64_MAX: a suffix of an object of unknown size */
    uint64_t covered;    /* so much of the range, from its beginning, is there, or comes from elsewhere */
    uint64_t object_bytes;
    uint64_t version_tag;
    uint64_t object_hash; /* for the table of versions */
    char etag[160];
    bool truncated;               /* the object ends inside the range: length was cut */
    bool too_long;                /* WHOLE without a known size: being counted */
    bool ask_size;                /* only the size is wanted */
    struct dmc_ahead_body *ahead; /* where what comes along goes; NULL: nothing does */
    struct iovec ahead_parts[2];
    bool ahead_refused; /* the server was asked for more than the range, and refused */
    bool lane_was_full;
    uint32_t hedges_left;                             /* so many more attempts may go out beside those that run */
    uint64_t hedge_after_ns;                          /* not before: there was no room for one, or no allowance */
    uint32_t attempt_count, barren, mends, redirects; /* barren: failures in a row that brought nothing */
    uint64_t begin_ns, first_run_ns, deadline_ns;
    uint64_t age_ns;           /* when its batch began, or else itself: who began first is asked for first */
    bool batch_deadline;       /* deadline_ns is that of its batch */
    struct dmc_text redirect;  /* "" none */
    struct damacy_error error; /* of the last failure */
};

/* It was tried before, or followed one that was. */
static inline bool dmc_transfer_has_waited(const struct dmc_transfer *transfer)
{
    return transfer->attempt_count > 0 || transfer->handed_over;
}

#define DMC_SHARE_BUCKETS 512u /* a power of two */

/* Tags of the objects that were seen, so that a change is noticed: 4-way, the oldest of a set goes. */
#define DMC_VERSION_SETS_MAX 65536u
#define DMC_VERSION_SETS_MIN 1024u
struct dmc_version_set {
    uint64_t hashes[4];
    uint64_t tags[4];
};

/* A connection's socket stays in the epoll for as long as it is open. To enter it for each request anew takes three calls of
 * the kernel; without them, and with options set once a store (net_attempt.c), the thread takes 6 % less: uncompressed chunks
 * over loopback, nine processes each. Sockets with larger numbers, and those that libcurl opens without a word (a resolver's),
 * are watched only while libcurl asks for it. */
#define DMC_NET_SOCKETS_MAX 4096
struct dmc_net_socket {
    bool told;       /* a connection's: libcurl says when it opens and closes it */
    bool idle;       /* libcurl waits for nothing on it; what comes nevertheless is the server's goodbye */
    uint8_t watched; /* CURL_POLL_*, as the epoll has it */
};

struct dmc_net_engine {
    /* constant */
    const struct dmc_curl *curl;
    uint32_t count;           /* of the pipeline's engines */
    uint32_t version_sets;    /* a power of two */
    uint64_t transfers_bytes; /* of attempts, and of what they leave room for: transfers, stores, endpoints */
    uint64_t hold_bytes;      /* of bodies; 0: none are kept */
    struct dmc_net_hold *hold;
    uint64_t ahead_bytes_max; /* of what comes along with an index; 0: none is kept */
    struct dmc_net_ahead *ahead;
    uint64_t fork_generation;
    int epoll_fd, wake_fd;
    pthread_t thread;
    /* shared */
    struct dmc_mutex lock;
    struct dmc_transfer *shared_inbox_first, *shared_inbox_last;
    struct dmc_transfer *shared_free;
    struct dmc_net_endpoint *shared_endpoints;
    uint32_t shared_endpoint_count;
    uint64_t shared_store_bytes; /* of stores and endpoints */
    uint32_t shared_transfer_count;
    bool shared_started, shared_stop, shared_asleep, shared_credentials;
    struct dmc_transfer **shared_heap; /* the event thread's but for its size, which grows with the transfers */
    uint32_t shared_heap_capacity;
    _Atomic uint32_t attempts_max; /* what memory allows: written under the lock, read by the event thread */
    /* the event thread's */
    struct dmc_transfer **heap;
    uint32_t heap_count;
    uint32_t heap_capacity;
    CURLM *multi;
    struct dmc_net_socket sockets[DMC_NET_SOCKETS_MAX]; /* by number */
    uint64_t curl_due_ns;                               /* when libcurl wants to be called */
    uint64_t pause_due_ns;                              /* when the first endpoint that asked for quiet may be asked again */
    struct dmc_attempt *free_attempts;
    uint32_t attempts_out;  /* attempts that are not free */
    uint32_t attempts_made; /* those, and the free ones */
    bool crowded;           /* an endpoint waits for others to leave room for an attempt */
    bool pumping_all;
    struct dmc_transfer *waiting_first; /* for credentials */
    struct dmc_transfer *whole_first;   /* of BORROWING ones, those that have all */
    bool ending_whole;
    struct dmc_version_set *versions;                /* version_sets of them */
    struct dmc_transfer *sharing[DMC_SHARE_BUCKETS]; /* those that others may follow, by object and place */
    uint64_t random;
};

/* --- net_engine.c --- */
void dmc_engine_timer(struct dmc_net_engine *engine, struct dmc_transfer *transfer, uint64_t due_ns);
void dmc_engine_timer_off(struct dmc_net_engine *engine, struct dmc_transfer *transfer);
/* libcurl's callbacks for a socket that it has opened, and for closing one; `user` is the engine. */
int dmc_engine_socket_opened(void *user, curl_socket_t socket, curlsocktype purpose);
int dmc_engine_socket_close(void *user, curl_socket_t socket);
/* Start what waits and has room: of this endpoint, or of all if some wait for another's attempts to end. */
void dmc_engine_pump(struct dmc_net_engine *engine, struct dmc_net_endpoint *endpoint);
/* The request is over: its answer is set. */
void dmc_engine_complete(struct dmc_net_engine *engine, struct dmc_transfer *transfer);
/* From 0 up to below 1. */
double dmc_engine_random(struct dmc_net_engine *engine);
/* How many attempts memory allows now: fewer the more servers, and requests, there are. */
static inline uint32_t dmc_engine_attempts_max(struct dmc_net_engine *engine)
{
    return atomic_load_explicit(&engine->attempts_max, memory_order_relaxed);
}
/* Note the tag of an object; false: it was another one. */
bool dmc_engine_version(struct dmc_net_engine *engine, uint64_t object_hash, uint64_t tag);

/* --- net_transfer.c --- */
void dmc_transfer_begin(struct dmc_net_engine *engine, struct dmc_transfer *transfer);
void dmc_transfer_start(struct dmc_net_engine *engine, struct dmc_transfer *transfer); /* it has room in its lane */
void dmc_transfer_due(struct dmc_net_engine *engine, struct dmc_transfer *transfer);   /* its timer fired */
void dmc_transfer_cancel(struct dmc_net_engine *engine, struct dmc_transfer *transfer);
void dmc_transfer_attempt_over(struct dmc_net_engine *engine, struct dmc_attempt *attempt, CURLcode code);
/* While it runs: when to look at it next. Calls nothing of libcurl. */
void dmc_transfer_plan_timer(struct dmc_net_engine *engine, struct dmc_transfer *transfer);
void dmc_transfer_enter(struct dmc_net_engine *engine,
                        struct dmc_transfer *transfer); /* after begin: follow another, or queue */
void dmc_transfer_queue(struct dmc_net_engine *engine, struct dmc_transfer *transfer); /* into its lane */
void dmc_transfer_unqueue(struct dmc_net_engine *engine, struct dmc_transfer *transfer);

/* --- net_share.c: see there --- */
/* Follow a transfer under way that will bring all its bytes. false: there is none; from now on others may follow this one. */
bool dmc_share_follow(struct dmc_net_engine *engine, struct dmc_transfer *transfer);
void dmc_share_unfollow(struct dmc_transfer *transfer);
/* Of those under way, find some that will bring what the beginning or the end of its range lacks, and ask for the rest only.
 * Those bytes count as covered, or are taken off the length, from now on. */
void dmc_share_borrow(struct dmc_net_engine *engine, struct dmc_transfer *transfer);
/* Does it still wait for what another one brings? */
static inline bool dmc_share_waits(const struct dmc_transfer *transfer)
{
    return transfer->borrowed[DMC_RANGE_HEAD].lender || transfer->borrowed[DMC_RANGE_TAIL].lender;
}
/* It borrows nothing any more at that end. */
void dmc_share_forget(struct dmc_transfer *transfer, enum dmc_range_end which);
/* The lender has its answer, and its parts are still there: give it what it was to bring. false: it has not got that, or of
 * another version. Either way nothing is borrowed there any more. */
bool dmc_share_lend(const struct dmc_transfer *lender, uint64_t bytes_read, struct dmc_borrowed *borrowed);
/* No one follows it or borrows from it any more from now on, and it borrows nothing. Those that do are still in
 * transfer->followers and transfer->lent. */
void dmc_share_close(struct dmc_net_engine *engine, struct dmc_transfer *transfer);
/* From `skip` bytes into some parts to `offset` bytes into others. */
void dmc_share_copy_parts(const struct iovec *from, uint64_t skip, const struct iovec *to, uint64_t offset, uint64_t bytes);
/* The leader has its answer, and its parts are still there: give the follower its bytes. How many it has is returned. */
uint64_t dmc_share_copy(const struct dmc_transfer *leader, uint64_t bytes_read, const struct dmc_transfer *follower);

/* --- net_hold.c: see there --- */
struct dmc_net_hold;
/* What it takes besides the bodies that it keeps. */
uint64_t dmc_hold_table_bytes(void);
/* NULL: no memory. */
struct dmc_net_hold *dmc_hold_create(uint64_t body_bytes);
void dmc_hold_destroy(struct dmc_net_hold *hold); /* NULL allowed, here and below: keeps nothing */
void dmc_hold_expect(struct dmc_net_hold *hold, uint64_t object_hash, uint64_t begin, uint64_t end); /* any thread */
/* A request has come: it is expected no longer. true: its bytes, tag and size were here. Where only those of its beginning or
 * end were, they are in its parts now, and it is told as by dmc_share_borrow(). */
bool dmc_hold_take(struct dmc_net_hold *hold, struct dmc_transfer *transfer);
/* Those `bytes` from the beginning of its range are there: keep what else is expected of them. */
void dmc_hold_offer(struct dmc_net_hold *hold, const struct dmc_transfer *transfer, uint64_t bytes);

/* --- net_ahead.c: see there --- */
struct dmc_net_ahead;
struct dmc_ahead_body;
/* NULL: no memory. */
struct dmc_net_ahead *dmc_ahead_create(uint64_t bytes_max);
void dmc_ahead_destroy(struct dmc_net_ahead *ahead); /* NULL allowed, here and below: keeps nothing */
/* How many bytes could be kept now. Called once for each index that might bring more. Any thread. */
uint64_t dmc_ahead_room(struct dmc_net_ahead *ahead);
/* The object is asked for anew. What came along before may be of another version than what comes now, where no tag tells
 * (`all`: or tags are not to be believed): it serves nobody any more. */
void dmc_ahead_forget(struct dmc_net_ahead *ahead, uint64_t object_hash, bool all);
/* Room for so many bytes; NULL: there is none. Until it is kept or dropped it is the caller's. */
struct dmc_ahead_body *dmc_ahead_reserve(struct dmc_net_ahead *ahead, const char *key, uint64_t object_hash, uint64_t bytes);
unsigned char *dmc_ahead_bytes(const struct dmc_ahead_body *body);
/* The first `bytes` of the room hold the object from `begin` on. */
void dmc_ahead_keep(struct dmc_net_ahead *ahead, struct dmc_ahead_body *body, uint64_t begin, uint64_t bytes, uint64_t tag,
                    uint64_t object_bytes);
void dmc_ahead_drop(struct dmc_net_ahead *ahead, struct dmc_ahead_body *body);
/* The range will be asked for. Any thread. */
void dmc_ahead_expect(struct dmc_net_ahead *ahead, uint64_t object_hash, uint64_t begin, uint64_t end);
/* true: the transfer's bytes, tag and size were here. */
bool dmc_ahead_take(struct dmc_net_ahead *ahead, struct dmc_transfer *transfer);

/* --- net_attempt.c --- */
/* NULL: no memory. */
struct dmc_attempt *dmc_attempt_take(struct dmc_net_engine *engine);
/* Out of libcurl's hands; from now on nothing more of it comes. */
void dmc_attempt_give_back(struct dmc_net_engine *engine, struct dmc_attempt *attempt);
void dmc_attempt_free(struct dmc_net_engine *engine, struct dmc_attempt *attempt);
/* Ask for what is missing. FAILED: transfer->error is set. */
enum dmc_net_prepared dmc_attempt_start(struct dmc_net_engine *engine, struct dmc_attempt *attempt,
                                        struct dmc_transfer *transfer, uint64_t now_ns);

#endif
