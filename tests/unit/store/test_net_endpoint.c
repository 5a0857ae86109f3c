/* Goal: what an endpoint learns from answers gives hedges that come when an answer is really late, for connections in use and
 * for fresh ones, and never more of them than was earned. Method: made-up waits, without a network or a clock. */
#include "store_fixture.h"

#include "store/net_endpoint.h"

#define MS 1000000ull

/* An answer after `wait_ms`; each is a request that earned its share. */
static void answer(struct dmc_net_endpoint *endpoint, bool fresh, double wait_ms)
{
    dmc_net_endpoint_request(endpoint);
    dmc_net_endpoint_first_byte(endpoint, DMC_NET_BULK, fresh, (uint64_t)(wait_ms * 1e6), 1);
}

/* How long after its question an attempt is hedged, in milliseconds. */
static double patience_ms(const struct dmc_net_endpoint *endpoint, bool fresh)
{
    uint64_t due_ns = dmc_net_endpoint_hedge_due(endpoint, fresh, 1, 1, 0, 1000);
    return due_ns == UINT64_MAX ? -1 : (double)(due_ns - 1) / 1e6;
}

static void test_quantiles(void **state)
{
    (void)state;
    static struct dmc_histogram histogram;
    memset(&histogram, 0, sizeof histogram);
    assert_int_equal(dmc_histogram_quantile(&histogram, 0.5), 0);
    for (uint64_t i = 1; i <= 10000; i++) /* even, from 0.1 to 1000 ms */
        dmc_histogram_add(&histogram, i * MS / 10);
    for (double part = 0.1; part < 1; part += 0.05)
        assert_in_range(dmc_histogram_quantile(&histogram, part), (uint64_t)(part * 0.97e9), (uint64_t)(part * 1.03e9));
    uint64_t last = 0;
    for (double part = 0; part <= 1; part += 0.001) {
        uint64_t now = dmc_histogram_quantile(&histogram, part);
        assert_true(now >= last);
        last = now;
    }
    memset(&histogram, 0, sizeof histogram);
    dmc_histogram_add(&histogram, 100 * MS);
    assert_in_range(dmc_histogram_quantile(&histogram, 0), 80 * MS, 120 * MS);
    assert_in_range(dmc_histogram_quantile(&histogram, 1), 80 * MS, 120 * MS);
}

/* Answers that lie close together: late is what takes a third longer, not half as long again or more, and each kind of
 * connection has its own measure. */
static void test_patience(void **state)
{
    (void)state;
    struct dmc_net_endpoint endpoint = {0};
    dmc_net_endpoint_init(&endpoint, 256, 1, 0.05);
    assert_true(patience_ms(&endpoint, false) < 0);
    for (uint32_t i = 0; i < 10; i++)
        answer(&endpoint, false, 95 + i % 11);
    assert_in_range(patience_ms(&endpoint, false), 180, 440); /* few answers, and hardly anything earned */
    for (uint32_t i = 0; i < 990; i++)
        answer(&endpoint, false, 95 + i % 11);
    assert_in_range(patience_ms(&endpoint, false), 125, 145);
    assert_in_range(patience_ms(&endpoint, true), 250, 290); /* of the others: all that is known */
    for (uint32_t i = 0; i < 320; i++)
        answer(&endpoint, true, 190 + i % 21);
    assert_in_range(patience_ms(&endpoint, true), 220, 250); /* only the answer may be late, not the handshakes */
    assert_in_range(patience_ms(&endpoint, false), 125, 145);
    /* Answers that lie far apart: late is what few take. */
    for (uint32_t i = 0; i < 4000; i++)
        answer(&endpoint, false, 1 + i % 400);
    assert_in_range(patience_ms(&endpoint, false), 360, 400);
}

/* Answers that take a millisecond or ten are queueing, and so are those that take twice as long: they get no hedges, and what
 * is lost gets one soon all the same. */
static void test_queueing_is_not_late(void **state)
{
    (void)state;
    struct dmc_net_endpoint endpoint = {0};
    dmc_net_endpoint_init(&endpoint, 256, 1, 0.05);
    for (uint32_t i = 0; i < 4000; i++)
        answer(&endpoint, false, i % 20 ? 1 : 10);
    assert_in_range(patience_ms(&endpoint, false), 20, 25);
}

/* All that is earned can be spent, nothing else, and the last of it on what is later than usual. */
static void test_allowance(void **state)
{
    (void)state;
    struct dmc_net_endpoint endpoint = {0};
    dmc_net_endpoint_init(&endpoint, 256, 1, 0.05);
    assert_false(dmc_net_endpoint_hedge_take(&endpoint));
    uint32_t taken = 0, requests = 0;
    for (uint32_t i = 0; i < 2000; i++, requests++) {
        answer(&endpoint, false, 100);
        if (i % 150 == 149)
            while (dmc_net_endpoint_hedge_take(&endpoint))
                taken++;
    }
    assert_in_range(taken, requests / 20 - 10, requests / 20);
    for (uint32_t i = 0; i < 1000; i++)
        answer(&endpoint, false, 100);
    double usual_ms = patience_ms(&endpoint, false), last_ms = usual_ms;
    for (taken = 0; dmc_net_endpoint_hedge_take(&endpoint); taken++) {
        assert_true(patience_ms(&endpoint, false) >= last_ms);
        last_ms = patience_ms(&endpoint, false);
    }
    assert_in_range(taken, 30, 32);
    assert_true(last_ms > 1.7 * usual_ms && last_ms <= 2 * usual_ms);
    struct dmc_net_endpoint never = {0};
    dmc_net_endpoint_init(&never, 256, 1, 0);
    for (uint32_t i = 0; i < 100; i++)
        answer(&never, false, 100);
    assert_true(patience_ms(&never, false) < 0);
    assert_false(dmc_net_endpoint_hedge_take(&never));
}

/* Two engines ask one server: what one of them has learnt and earned helps the other, until that knows better. */
static void test_two_engines(void **state)
{
    (void)state;
    static struct dmc_net_endpoint first, second;
    dmc_net_endpoint_init(&first, 256, 2, 0.05);
    dmc_net_endpoint_init(&second, 256, 2, 0.05);
    second.first = &first;
    assert_false(dmc_net_endpoint_answered(&second));
    for (uint32_t i = 0; i < 200; i++)
        answer(i % 2 ? &first : &second, false, 30);
    assert_true(dmc_net_endpoint_answered(&first));
    uint32_t taken = 0;
    while (dmc_net_endpoint_hedge_take(taken % 2 ? &first : &second))
        taken++;
    assert_int_equal(taken, 10);
    memset(&second, 0, sizeof second);
    dmc_net_endpoint_init(&second, 256, 2, 0.05);
    second.first = &first;
    assert_true(dmc_net_endpoint_answered(&second));
    for (uint32_t i = 0; i < 1000; i++)
        dmc_net_endpoint_request(&first);
    assert_in_range(patience_ms(&second, false), 38, 44); /* as the other one saw it */
    assert_in_range(patience_ms(&second, true), 76, 88);
    for (uint32_t i = 0; i < 64; i++)
        answer(&second, false, 100);
    assert_in_range(patience_ms(&second, false), 110, 140); /* as it saw it itself */
    assert_in_range(patience_ms(&first, false), 38, 44);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_quantiles), cmocka_unit_test(test_patience),    cmocka_unit_test(test_queueing_is_not_late),
        cmocka_unit_test(test_allowance), cmocka_unit_test(test_two_engines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
