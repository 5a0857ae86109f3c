/* Goal: S3 is asked where the bucket is, in the style that is wanted, signed for that place and time with the keys that hold,
 * through the proxy if there is one, and its errors mean what S3 means by them; no secret is ever told. Method: a server in
 * this process that plays S3, a proxy, and a container's credentials service. It keeps what it was asked. */
#include "net_world.h"

#include <time.h>

#define KEYS "\"key\": \"AKIDTEST\", \"secret\": \"sesame\", \"token\": \"sesame-token\""

/* What was asked last, and what to answer. Questions come one at a time: hedges are off. */
struct play {
    char target[600], authorization[600], host[200], token[100], payer[40], proxy[200], date[40];
    const char *once; /* the next answer, whole; NULL: the object */
    bool always;      /* `once` stays */
    uint32_t keys;    /* how often the container's service was asked */
};

static void keep(const struct question *question, const char *name, char *value, size_t capacity)
{
    if (!question_header(question, name, value, capacity))
        value[0] = 0;
}

static bool act(struct server *server, int fd, const struct question *question)
{
    struct play *play = server->user;
    if (strcmp(question->target, "/container/keys") == 0) {
        char body[300], answer[500];
        snprintf(body, sizeof body,
                 "{\"AccessKeyId\":\"CONTAINER%u\",\"SecretAccessKey\":\"sesame\",\"Expiration\":\"2099-01-01T00:00:00Z\"}",
                 play->keys++);
        snprintf(answer, sizeof answer, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n%s", strlen(body), body);
        return send_text(fd, answer);
    }
    snprintf(play->target, sizeof play->target, "%.*s", (int)sizeof play->target - 1, question->target);
    keep(question, "Authorization", play->authorization, sizeof play->authorization);
    keep(question, "Host", play->host, sizeof play->host);
    keep(question, "x-amz-security-token", play->token, sizeof play->token);
    keep(question, "x-amz-request-payer", play->payer, sizeof play->payer);
    keep(question, "x-amz-date", play->date, sizeof play->date);
    keep(question, "Proxy-Authorization", play->proxy, sizeof play->proxy);
    char answer[1000] = ""; /* a copy: the test may write its next one while this is still being sent */
    if (play->once)
        snprintf(answer, sizeof answer, "%s", play->once);
    if (!play->always)
        play->once = NULL;
    return answer[0] ? send_text(fd, answer) : answer_well(fd, question, SEED, OBJECT_BYTES, "ETag: \"v1\"\r\n");
}

static void clean_environment(void)
{
    static const char *const names[] = {"AWS_REGION",
                                        "AWS_DEFAULT_REGION",
                                        "AWS_ENDPOINT_URL",
                                        "AWS_ENDPOINT_URL_S3",
                                        "AWS_PROFILE",
                                        "AWS_ACCESS_KEY_ID",
                                        "AWS_SECRET_ACCESS_KEY",
                                        "AWS_SESSION_TOKEN",
                                        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
                                        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
                                        "http_proxy",
                                        "HTTP_PROXY",
                                        "https_proxy",
                                        "all_proxy",
                                        "no_proxy"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        unsetenv(names[i]);
    setenv("AWS_EC2_METADATA_DISABLED", "true", 1);
    setenv("HOME", "/nonexistent", 1);
}

/* `options` is a format for the server's port, and may use it twice. */
static void open_play(struct world *world, struct play *play, const char *options, const char *uri)
{
    char text[1000];
    memset(play, 0, sizeof *play);
    memset(world, 0, sizeof *world);
    server_start(&world->server, act, play);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    snprintf(text, sizeof text, options, world->server.port, world->server.port);
#pragma GCC diagnostic pop
    world_open(world, text, uri);
}

static void has(const char *text, const char *part)
{
    if (!strstr(text, part))
        fail_msg("'%s' has no '%s'", text, part);
}

#define AT_SERVER "\"endpoint_url\": \"http://127.0.0.1:%u\", \"hedge_share\": 0, " QUICK

/* Path style, keys that need encoding, a path in front of the bucket; the token and who pays are part of what is signed. */
static void test_path_style(void **state)
{
    (void)state;
    struct world world;
    struct play play;
    clean_environment();
    open_play(&world, &play,
              "{" KEYS ", \"endpoint_url\": \"http://127.0.0.1:%u/base/\", \"region\": \"eu-north-1\", \"requester_pays\": "
              "true, \"hedge_share\": 0}",
              "s3://my.bucket/a folder/x.zarr");
    assert_string_equal(world.prefix, "a folder/x.zarr");
    expect_span(&world, "a folder/\xc3\xa4+b", 100, 50);
    assert_string_equal(play.target, "/base/my.bucket/a%20folder/%C3%A4%2Bb");
    has(play.authorization, "AWS4-HMAC-SHA256 Credential=AKIDTEST/");
    has(play.authorization, "/eu-north-1/s3/aws4_request");
    has(play.authorization, "SignedHeaders=host;x-amz-content-sha256;x-amz-date;x-amz-request-payer;x-amz-security-token");
    assert_string_equal(play.token, "sesame-token");
    assert_string_equal(play.payer, "requester");
    world_end(&world);

    open_play(&world, &play, "{\"anon\": true, " AT_SERVER "}", "s3://bucket/x");
    expect_span(&world, "x/y", 0, 10);
    assert_string_equal(play.target, "/bucket/x/y");
    assert_string_equal(play.authorization, "");
    world_end(&world);
}

/* The bucket in the host's name, and a proxy between: it gets the whole url, and its own password. */
static void test_virtual_style_and_proxies(void **state)
{
    (void)state;
    struct world world;
    struct play play;
    clean_environment();
    open_play(&world, &play,
              "{" KEYS ", \"endpoint_url\": \"http://store.example\", \"addressing_style\": \"virtual\", \"hedge_share\": 0, "
              "\"proxy\": \"http://me:pass@127.0.0.1:%u\"}",
              "s3://my-bucket/x");
    expect_span(&world, "x/y", 0, 10);
    assert_string_equal(play.target, "http://my-bucket.store.example/x/y");
    assert_string_equal(play.host, "my-bucket.store.example");
    assert_string_equal(play.proxy, "Basic bWU6cGFzcw==");
    world_end(&world);

    /* AWS itself, by region, where nothing is configured but the proxy of the environment. */
    char url[100];
    open_play(&world, &play, "{" KEYS ", \"endpoint_url\": \"http://store.example:81\", \"hedge_share\": 0}",
              "s3://my-bucket/x");
    snprintf(url, sizeof url, "http://127.0.0.1:%u", world.server.port);
    setenv("http_proxy", url, 1);
    expect_span(&world, "x/y", 0, 10);
    assert_string_equal(play.target, "http://store.example:81/my-bucket/x/y");
    world_end(&world);

    /* `proxy` of "" and no_proxy: straight there. */
    setenv("http_proxy", "http://127.0.0.1:1", 1);
    open_play(&world, &play, "{" KEYS ", \"proxy\": \"\", " AT_SERVER "}", "s3://my-bucket/x");
    expect_span(&world, "x/y", 0, 10);
    assert_string_equal(play.target, "/my-bucket/x/y");
    world_end(&world);
    setenv("no_proxy", "127.0.0.1", 1);
    open_play(&world, &play, "{" KEYS ", " AT_SERVER "}", "s3://my-bucket/x");
    expect_span(&world, "x/y", 0, 10);
    world_end(&world);
    clean_environment();
}

static void expect_untold(struct world *world, const char *says)
{
    struct one_read read;
    struct dmc_request *request = read_one(world, &read, "x", DMC_RANGE_SPAN, 0, 10);
    assert_int_equal(request->outcome, DMC_OUTCOME_FAILED);
    has(read.error.message, says);
    assert_null(strstr(read.error.message, "sesame"));
}

/* A proxy that is not there, or makes no sense, or refuses: its password is in no error. */
static void test_proxies_that_fail(void **state)
{
    (void)state;
    static const char *const proxies[] = {"http://me:sesame@127.0.0.1:1", "nonsense://me:sesame@127.0.0.1:1",
                                          "http://me:sesame@127.0.0.1:1:2:3"};
    struct world world;
    struct play play;
    clean_environment();
    for (size_t i = 0; i < sizeof proxies / sizeof proxies[0]; i++) {
        char options[400];
        snprintf(options, sizeof options,
                 "{" KEYS ", \"endpoint_url\": \"http://store.example\", \"proxy\": \"%s\", \"retries\": 0}", proxies[i]);
        memset(&world, 0, sizeof world);
        world_open(&world, options, "s3://bucket/x");
        expect_untold(&world, "");
        world_close(&world);
    }
    open_play(&world, &play,
              "{" KEYS
              ", \"endpoint_url\": \"http://store.example\", \"proxy\": \"http://me:sesame@127.0.0.1:%u\", \"hedge_share\": 0}",
              "s3://bucket/x");
    play.once = "HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n";
    expect_untold(&world, "the proxy wants credentials");
    world_end(&world);
}

static const char moved[] = "HTTP/1.1 301 Moved\r\nx-amz-bucket-region: eu-central-1\r\nContent-Length: 0\r\n\r\n";
static const char moved_by_body[] = "HTTP/1.1 400 Bad\r\nContent-Length: 121\r\n\r\n"
                                    "<Error><Code>AuthorizationHeaderMalformed</Code><Message>the region is wrong</Message>"
                                    "<Region>ap-south-1</Region></Error>";

/* A bucket elsewhere is followed once; one that is nowhere is an error in the end. */
static void test_regions(void **state)
{
    (void)state;
    struct world world;
    struct play play;
    clean_environment();
    setenv("AWS_REGION", "us-west-2", 1);
    open_play(&world, &play, "{" KEYS ", " AT_SERVER "}", "s3://bucket/x");
    expect_span(&world, "x", 0, 10);
    has(play.authorization, "/us-west-2/s3/");
    play.once = moved;
    expect_span(&world, "x", 0, 10);
    has(play.authorization, "/eu-central-1/s3/");
    assert_int_equal(atomic_load(&world.server.questions), 3);
    expect_span(&world, "x", 0, 10); /* remembered */
    has(play.authorization, "/eu-central-1/s3/");
    assert_int_equal(atomic_load(&world.server.questions), 4);
    play.once = moved_by_body;
    expect_span(&world, "x", 0, 10);
    has(play.authorization, "/ap-south-1/s3/");
    play.once = moved_by_body;
    play.always = true;
    expect_untold(&world, "400: AuthorizationHeaderMalformed: the region is wrong"); /* there we are already */
    world_end(&world);
    clean_environment();
}

/* Two regions that send to each other. */
static bool ping_pong(struct server *server, int fd, const struct question *question)
{
    (void)server;
    return send_text(fd, question->number % 2
                             ? "HTTP/1.1 301 M\r\nx-amz-bucket-region: eu-west-1\r\nContent-Length: 0\r\n\r\n"
                             : "HTTP/1.1 301 M\r\nx-amz-bucket-region: eu-west-2\r\nContent-Length: 0\r\n\r\n");
}

static void test_regions_in_a_circle(void **state)
{
    (void)state;
    struct world world;
    char options[300];
    clean_environment();
    memset(&world, 0, sizeof world);
    server_start(&world.server, ping_pong, NULL);
    snprintf(options, sizeof options, "{" KEYS ", " AT_SERVER "}", world.server.port);
    world_open(&world, options, "s3://bucket/x");
    expect_failure(&world, "x", 0, 10, "301");
    assert_in_range(atomic_load(&world.server.questions), 3, 6);
    world_end(&world);
}

/* A machine whose clock is wrong signs with the server's time. */
static void test_clock(void **state)
{
    (void)state;
    static const char body[] = "<Error><Code>RequestTimeTooSkewed</Code></Error>";
    struct world world;
    struct play play;
    char answer[400], date[60], expected[12];
    clean_environment();
    time_t there = time(NULL) / 86400 * 86400 + 86400 * 3 + 43200; /* at noon, so that no day ends meanwhile */
    struct tm parts;
    strftime(date, sizeof date, "%a, %d %b %Y %H:%M:%S GMT", gmtime_r(&there, &parts));
    strftime(expected, sizeof expected, "%Y%m%dT", &parts);
    snprintf(answer, sizeof answer, "HTTP/1.1 403 No\r\nDate: %s\r\nContent-Length: %zu\r\n\r\n%s", date, sizeof body - 1,
             body);
    open_play(&world, &play, "{" KEYS ", " AT_SERVER "}", "s3://bucket/x");
    play.once = answer;
    expect_span(&world, "x", 0, 10);
    assert_int_equal(strncmp(play.date, expected, strlen(expected)), 0);
    play.once = answer;
    play.always = true;
    expect_untold(&world, "RequestTimeTooSkewed"); /* it is corrected already */
    world_end(&world);
}

/* Keys that the server calls expired are fetched anew in mid-run; those given as options are not. */
static void test_expired(void **state)
{
    (void)state;
    static const char expired[] =
        "HTTP/1.1 400 No\r\nContent-Length: 121\r\n\r\n<Error><Code>ExpiredToken</Code><Message>The provided token has expired."
        "</Message><Token-0>sesame-token</Token-0></Error>";
    struct world world;
    struct play play;
    char url[100];
    clean_environment();
    open_play(&world, &play, "{" AT_SERVER "}", "s3://bucket/x");
    snprintf(url, sizeof url, "http://127.0.0.1:%u/container/keys", world.server.port);
    setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", url, 1);
    expect_span(&world, "x", 0, 10);
    has(play.authorization, "Credential=CONTAINER0/");
    play.once = expired;
    expect_span(&world, "x", 10, 10);
    has(play.authorization, "Credential=CONTAINER1/");
    expect_span(&world, "x", 10, 10);
    assert_int_equal(play.keys, 2);
    world_end(&world);
    open_play(&world, &play, "{" KEYS ", " AT_SERVER "}", "s3://bucket/x");
    play.once = expired;
    expect_untold(&world, "the credentials given have run out");
    world_end(&world);
    clean_environment();
}

static void test_meanings(void **state)
{
    (void)state;
    static const struct {
        const char *status, *body, *says;
        enum dmc_outcome outcome, hidden; /* without and with missing_is_403 */
    } cases[] = {
        {"404 Not Found", "<Error><Code>NoSuchKey</Code></Error>", "", DMC_OUTCOME_ABSENT, DMC_OUTCOME_ABSENT},
        {"404 Not Found", "<Error><Code>NoSuchBucket</Code></Error>", "the bucket 'bucket' does not exist", DMC_OUTCOME_FAILED,
         DMC_OUTCOME_FAILED},
        {"403 Forbidden", "<Error><Code>AccessDenied</Code></Error>", "set missing_is_403", DMC_OUTCOME_FAILED,
         DMC_OUTCOME_ABSENT},
        {"403 Forbidden", "<Error><Code>SignatureDoesNotMatch</Code><SignatureProvided>sesame</SignatureProvided></Error>",
         "SignatureDoesNotMatch", DMC_OUTCOME_FAILED, DMC_OUTCOME_ABSENT},
        {"503 Slow", "<Error><Code>SlowDown</Code></Error>", "", DMC_OUTCOME_OK, DMC_OUTCOME_OK},
        {"400 Bad", "<Error><Code>RequestTimeout</Code></Error>", "", DMC_OUTCOME_OK, DMC_OUTCOME_OK},
        {"500 Oops", "<Error><Code>InternalError</Code></Error>", "", DMC_OUTCOME_OK, DMC_OUTCOME_OK},
        {"400 Bad", "this is no XML <<<", "answered 400", DMC_OUTCOME_FAILED, DMC_OUTCOME_FAILED},
    };
    clean_environment();
    for (int hidden = 0; hidden < 2; hidden++) {
        struct world world;
        struct play play;
        open_play(&world, &play, hidden ? "{" KEYS ", \"missing_is_403\": true, " AT_SERVER "}" : "{" KEYS ", " AT_SERVER "}",
                  "s3://bucket/x");
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
            char answer[500];
            struct one_read read;
            snprintf(answer, sizeof answer, "HTTP/1.1 %s\r\nContent-Length: %zu\r\n\r\n%s", cases[i].status,
                     strlen(cases[i].body), cases[i].body);
            play.once = answer;
            enum dmc_outcome outcome = read_one(&world, &read, "x", DMC_RANGE_SPAN, 0, 10)->outcome;
            if (outcome != (hidden ? cases[i].hidden : cases[i].outcome))
                fail_msg("%s: outcome %d: %s", cases[i].body, outcome, read.error.message);
            if (outcome == DMC_OUTCOME_FAILED)
                has(read.error.message, cases[i].says);
            assert_null(strstr(read.error.message, "sesame"));
        }
        world_end(&world);
    }
}

/* Keys in front of the bucket's name are no form of uri, and not repeated. */
static void test_wrong_places(void **state)
{
    (void)state;
    static const struct {
        const char *options, *uri, *says;
    } cases[] = {
        {NULL, "s3://AKID:sesame@bucket/x", "in front of the bucket's name"},
        {NULL, "s3://a b/x", "'a b' is no bucket's name"},
        {NULL, "s3://x/", "'x' is no bucket's name"},
        {"{\"endpoint_url\": \"http://me:sesame@host\"}", "s3://bucket/x", "endpoint_url makes no sense"},
        {"{\"endpoint_url\": \"http://host?sesame\"}", "s3://bucket/x", "endpoint_url makes no sense"},
        {"{\"endpoint_url\": \"ftp://host\"}", "s3://bucket/x", "endpoint_url makes no sense"},
        {"{\"endpoint_url\": \"http://host\", \"allow_http\": false}", "s3://bucket/x", "allow_http"},
        {"{\"region\": \"no region\"}", "s3://bucket/x", "no region"},
    };
    clean_environment();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct dmc_net *net;
        struct dmc_store *store;
        struct damacy_error error = {0};
        char prefix[100];
        assert_int_equal(dmc_net_create(cases[i].options, DMC_NETWORK_BYTES_DEFAULT, &net, &error), DAMACY_OK);
        assert_int_equal(dmc_net_resolve(net, cases[i].uri, &store, prefix, sizeof prefix, &error), DAMACY_INVAL);
        has(error.message, cases[i].says);
        assert_null(strstr(error.message, "sesame"));
        dmc_net_destroy(net);
    }
}

/* Every allocation fails once, with stores and signers for three engines: an answer that says so, and nothing leaks. */
static void test_short_memory(void **state)
{
    (void)state;
    struct world world;
    struct play play;
    char options[300];
    clean_environment();
    open_play(&world, &play, "{" KEYS ", " AT_SERVER "}", "s3://bucket/x");
    snprintf(options, sizeof options, "{" KEYS ", \"network_threads\": 3, " AT_SERVER "}", world.server.port);
    assert_true(refusals_for_memory(&world, options, "s3://bucket/x", 6) > 20);
    world_end(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_short_memory),
        cmocka_unit_test(test_path_style),
        cmocka_unit_test(test_virtual_style_and_proxies),
        cmocka_unit_test(test_proxies_that_fail),
        cmocka_unit_test(test_regions),
        cmocka_unit_test(test_regions_in_a_circle),
        cmocka_unit_test(test_clock),
        cmocka_unit_test(test_expired),
        cmocka_unit_test(test_meanings),
        cmocka_unit_test(test_wrong_places),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
