/* Goal: keys for S3 are found where users keep them, in the documented order, are fetched anew before they expire, and a
 * failure says what was tried without saying a secret. Method: environments and files made for each case, and a server that
 * plays the metadata services. */
#include "net_server.h"

#include "store/s3_credentials.h"

#include <time.h>

static const char *const variables[] = {"AWS_ACCESS_KEY_ID",
                                        "AWS_SECRET_ACCESS_KEY",
                                        "AWS_SESSION_TOKEN",
                                        "AWS_PROFILE",
                                        "AWS_DEFAULT_PROFILE",
                                        "AWS_SHARED_CREDENTIALS_FILE",
                                        "AWS_CONFIG_FILE",
                                        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
                                        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
                                        "AWS_CONTAINER_AUTHORIZATION_TOKEN",
                                        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
                                        "AWS_EC2_METADATA_SERVICE_ENDPOINT",
                                        "AWS_WEB_IDENTITY_TOKEN_FILE",
                                        "AWS_ROLE_ARN",
                                        "AWS_ENDPOINT_URL_STS"};

static void clean_environment(void)
{
    for (size_t i = 0; i < sizeof variables / sizeof variables[0]; i++)
        unsetenv(variables[i]);
    setenv("AWS_EC2_METADATA_DISABLED", "true", 1);
    setenv("HOME", "/nonexistent", 1);
    setenv("no_proxy", "*", 1);
}

static struct dmc_s3_keys keys;

/* Wait for READY or FAILED. */
static enum dmc_net_prepared get(struct dmc_s3_credentials *credentials, struct damacy_error *error)
{
    enum dmc_net_prepared prepared;
    memset(&keys, 0, sizeof keys);
    for (int i = 0; (prepared = dmc_s3_credentials_get(credentials, &keys, error)) == DMC_NET_WAIT; i++) {
        assert_true(i < 60000);
        usleep(1000);
    }
    return prepared;
}

struct world {
    struct dmc_net_option_set set;
    struct dmc_s3_credentials *credentials;
};

static void open_world(struct world *world, const char *options)
{
    assert_int_equal(dmc_net_options_parse(options, &world->set, NULL), DAMACY_OK);
    assert_int_equal(dmc_s3_credentials_create(&world->set.families[DMC_NET_S3], "us-east-1", NULL, &world->credentials, NULL),
                     DAMACY_OK);
}

static void close_world(struct world *world)
{
    dmc_s3_credentials_stop(world->credentials);
    dmc_s3_credentials_destroy(world->credentials);
    dmc_net_options_deinit(&world->set);
}

static void expect(const char *options, const char *key, const char *secret, const char *token)
{
    struct world world;
    struct damacy_error error = {0};
    open_world(&world, options);
    if (get(world.credentials, &error) != DMC_NET_READY)
        fail_msg("%s", error.message);
    assert_string_equal(keys.key, key);
    assert_string_equal(keys.secret, secret);
    assert_string_equal(keys.token, token);
    close_world(&world);
}

static void expect_failure(const char *options, const char *says)
{
    struct world world;
    struct damacy_error error = {0};
    open_world(&world, options);
    assert_int_equal(get(world.credentials, &error), DMC_NET_FAILED);
    if (!strstr(error.message, says))
        fail_msg("'%s' does not say '%s'", error.message, says);
    assert_null(strstr(error.message, "sesame"));
    close_world(&world);
}

static void write_text(const char *name, const char *text, char path[400])
{
    in_folder(path, 400, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static void test_order(void **state)
{
    (void)state;
    char path[400];
    clean_environment();
    expect_failure(NULL, "no credentials for S3 were found");
    write_text(
        "credentials",
        "[default]\naws_access_key_id=FILE\naws_secret_access_key=f\n[work]\naws_access_key_id=WORK\naws_secret_access_key=w\n",
        path);
    setenv("AWS_SHARED_CREDENTIALS_FILE", path, 1);
    write_text("config", "[profile role]\nrole_arn = arn:aws:iam::1:role/x\n", path);
    setenv("AWS_CONFIG_FILE", path, 1);
    expect(NULL, "FILE", "f", "");
    setenv("AWS_PROFILE", "work", 1);
    expect(NULL, "WORK", "w", "");
    setenv("AWS_ACCESS_KEY_ID", "ENV", 1);
    setenv("AWS_SECRET_ACCESS_KEY", "e", 1);
    setenv("AWS_SESSION_TOKEN", "t", 1);
    expect(NULL, "ENV", "e", "t");
    expect("{\"profile\": \"default\"}", "FILE", "f", ""); /* one that was named comes before the environment */
    expect("{\"key\": \"OPT\", \"secret\": \"o\", \"token\": \"tt\"}", "OPT", "o", "tt");
    expect_failure("{\"profile\": \"nobody\"}", "no profile 'nobody'");
    expect_failure("{\"profile\": \"role\"}", "export-credentials");
}

/* --- services --- */

struct service {
    _Atomic uint32_t given;
    uint32_t life_s;       /* of what it gives; but of the first it gave: */
    uint32_t first_life_s; /* 0: the same */
    const char *authorization;
    bool broken;
};

static void answer_keys(int fd, struct service *service, const char *name)
{
    char body[600], answer[1000], expires[40];
    uint32_t number = atomic_load(&service->given); /* it is asked once at a time */
    time_t at = time(NULL) + (time_t)(number == 0 && service->first_life_s ? service->first_life_s : service->life_s);
    struct tm parts;
    strftime(expires, sizeof expires, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&at, &parts));
    snprintf(body, sizeof body,
             "{\"Code\":\"Success\",\"AccessKeyId\":\"%s%u\",\"SecretAccessKey\":\"sesame\",\"Token\":\"tok\",\"Expiration\":"
             "\"%s\"}",
             name, number, expires);
    atomic_store(&service->given, number + 1);
    snprintf(answer, sizeof answer, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n%s", strlen(body), body);
    send_text(fd, answer);
}

static bool serve(struct server *server, int fd, const struct question *question)
{
    struct service *service = server->user;
    char value[100] = "";
    if (service->broken)
        return send_text(fd, "HTTP/1.1 500 No\r\nContent-Length: 6\r\n\r\nsesame");
    if (strcmp(question->target, "/latest/api/token") == 0) {
        assert_string_equal(question->method, "PUT");
        assert_non_null(question_header(question, "X-aws-ec2-metadata-token-ttl-seconds", value, sizeof value));
        return send_text(fd, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nTICKET");
    }
    if (strncmp(question->target, "/latest/meta-data/", 18) == 0) {
        if (!question_header(question, "X-aws-ec2-metadata-token", value, sizeof value) || strcmp(value, "TICKET") != 0)
            return send_text(fd, "HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n");
        if (strcmp(question->target, "/latest/meta-data/iam/security-credentials/") == 0)
            return send_text(fd, "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nmy role");
        assert_string_equal(question->target, "/latest/meta-data/iam/security-credentials/my%20role");
        answer_keys(fd, service, "INSTANCE");
        return true;
    }
    if (strncmp(question->target, "/?Action=AssumeRoleWithWebIdentity", 34) == 0) {
        static const char body[] =
            "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials><SessionToken>st</SessionToken>"
            "<SecretAccessKey>sesame</SecretAccessKey><Expiration>2099-01-01T00:00:00Z</Expiration><AccessKeyId>WEB</"
            "AccessKeyId>"
            "</Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>";
        assert_non_null(strstr(question->target, "&WebIdentityToken=my.token%2B"));
        char answer[1000];
        snprintf(answer, sizeof answer, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n%s", sizeof body - 1, body);
        return send_text(fd, answer);
    }
    question_header(question, "Authorization", value, sizeof value);
    if (service->authorization && strcmp(value, service->authorization) != 0)
        return send_text(fd, "HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n");
    answer_keys(fd, service, "CONTAINER");
    return true;
}

static void test_services(void **state)
{
    (void)state;
    struct service service = {.life_s = 3600, .authorization = "ticket of the pod"};
    struct server server;
    char url[200], path[400];
    clean_environment();
    server_start(&server, serve, &service);
    snprintf(url, sizeof url, "http://127.0.0.1:%u/", server.port);
    unsetenv("AWS_EC2_METADATA_DISABLED");
    setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", url, 1);
    expect(NULL, "INSTANCE0", "sesame", "tok");
    setenv("AWS_EC2_METADATA_DISABLED", "true", 1);
    snprintf(url, sizeof url, "http://127.0.0.1:%u/v1/keys", server.port);
    setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", url, 1);
    expect_failure(NULL, "answered 403");
    setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "ticket of the pod", 1);
    expect(NULL, "CONTAINER1", "sesame", "tok");
    write_text("ticket", "ticket of the pod\n", path);
    setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "wrong", 1);
    setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", path, 1);
    expect(NULL, "CONTAINER2", "sesame", "tok");
    service.broken = true;
    expect_failure(NULL, "answered 500");
    setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://example.com/steal", 1);
    expect_failure(NULL, "not asked over http");
    service.broken = false;
    write_text("web", "my.token+\n", path);
    setenv("AWS_WEB_IDENTITY_TOKEN_FILE", path, 1);
    setenv("AWS_ROLE_ARN", "arn:aws:iam::1:role/x", 1);
    snprintf(url, sizeof url, "http://127.0.0.1:%u", server.port);
    setenv("AWS_ENDPOINT_URL_STS", url, 1);
    expect(NULL, "WEB", "sesame", "st");
    server_end(&server);
}

/* Keys that live for a few seconds are fetched anew while the old ones still serve; those that the server calls expired at
 * once. */
static void test_renewal(void **state)
{
    (void)state;
    struct service service = {.life_s = 3600, .first_life_s = 6};
    struct server server;
    struct world world;
    struct damacy_error error = {0};
    char url[200];
    clean_environment();
    server_start(&server, serve, &service);
    snprintf(url, sizeof url, "http://127.0.0.1:%u/v1/keys", server.port);
    setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", url, 1);
    open_world(&world, NULL);
    time_t expires = time(NULL) + 6; /* or later */
    assert_int_equal(get(world.credentials, &error), DMC_NET_READY);
    assert_string_equal(keys.key, "CONTAINER0");
    for (int i = 0; atomic_load(&service.given) < 2; i++) { /* never a moment without keys, unless they have expired */
        assert_true(i < 12000);
        enum dmc_net_prepared prepared = dmc_s3_credentials_get(world.credentials, &keys, &error);
        assert_true(prepared == DMC_NET_READY || (prepared == DMC_NET_WAIT && time(NULL) >= expires));
        usleep(5000);
    }
    for (int i = 0; strcmp(keys.key, "CONTAINER1") != 0; i++) {
        assert_true(i < 60000);
        assert_int_equal(get(world.credentials, &error), DMC_NET_READY);
        usleep(1000);
    }
    assert_true(dmc_s3_credentials_renew(world.credentials, "CONTAINER1"));
    assert_int_equal(get(world.credentials, &error), DMC_NET_READY);
    assert_string_equal(keys.key, "CONTAINER2");
    assert_true(dmc_s3_credentials_renew(world.credentials, "CONTAINER1")); /* those are not in use any more */
    assert_int_equal(get(world.credentials, &error), DMC_NET_READY);
    assert_string_equal(keys.key, "CONTAINER2");
    close_world(&world);
    open_world(&world, "{\"key\": \"k\", \"secret\": \"s\"}");
    assert_false(dmc_s3_credentials_renew(world.credentials, "k"));
    close_world(&world);
    server_end(&server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_order, folder_setup, folder_teardown),
        cmocka_unit_test_setup_teardown(test_services, folder_setup, folder_teardown),
        cmocka_unit_test(test_renewal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
