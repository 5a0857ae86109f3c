/* Goal: what comes from outside is understood as its writers mean it, and what makes no sense is refused or passed over:
 * headers, urls, XML, the shared files of AWS's tools, storage_options. Method: tables of texts and what they must give; every
 * prefix of the valid ones, for what is cut. */
#include "store_fixture.h"

#include "store/http_response.h"
#include "store/http_url.h"
#include "store/net_options.h"
#include "store/s3_credentials.h"
#include "store/s3_list.h"
#include "store/s3_xml.h"

/* --- headers --- */

static struct dmc_http_response response;

static void headers(const char *lines)
{
    dmc_http_response_reset(&response);
    while (*lines) {
        size_t bytes = strcspn(lines, "\n") + 1;
        dmc_http_response_line(&response, lines, bytes, 784111777 /* Sun, 06 Nov 1994 08:49:37 GMT */);
        lines += bytes;
    }
}

static void test_headers(void **state)
{
    (void)state;
    headers("HTTP/1.1 100 Continue\r\n\r\n");
    assert_false(response.ended);
    headers("HTTP/1.1 100 Continue\r\nETag: \"no\"\r\n\r\nHTTP/1.1 206 Partial Content\r\ncontent-LENGTH:  10  "
            "\r\nContent-Range: bytes 5-14/100\r\n"
            "ETag: \"abc\"\r\nLast-Modified: x\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n");
    assert_true(response.ended && response.has_range && !response.range_malformed && !response.multipart && !response.encoded);
    assert_int_equal(response.status, 206);
    assert_int_equal(response.content_length, 10);
    assert_int_equal(response.range_begin, 5);
    assert_int_equal(response.range_end, 15);
    assert_int_equal(response.object_bytes, 100);
    assert_string_equal(response.etag, "\"abc\"");
    assert_int_equal(response.version_tag & 1, 1);
    assert_int_equal(response.date_s, 784111777);
    uint64_t strong = response.version_tag;
    headers("HTTP/2 200\r\nETag: W/\"abc\"\r\n\r\n");
    assert_int_equal(response.status, 200);
    assert_int_equal(response.version_tag, strong);
    assert_false(dmc_http_tags_differ(strong, 0));
    assert_false(dmc_http_tags_differ(3, 4)); /* a date says nothing about an ETag */
    assert_true(dmc_http_tags_differ(3, 5));
    headers("HTTP/1.1 416 No\r\nContent-Range: bytes */77\r\n\r\n");
    assert_true(response.unsatisfied);
    assert_int_equal(response.object_bytes, 77);
    headers("HTTP/1.1 206 P\r\nContent-Range: bytes 5-14/*\r\n\r\n");
    assert_true(response.has_range && response.object_bytes == DMC_HTTP_UNKNOWN);
    static const char *const nonsense[] = {
        "bytes 5-4/10",   "bytes 5-14/14",   "bytes 5-/10",
        "bytes -5/10",    "bytes 5-14",      "bytes */*",
        "items 5-14/100", "bytes 5-14/100x", "bytes 99999999999999999999-99999999999999999999/*",
        "bytes",          "bytes ",          ""};
    for (size_t i = 0; i < sizeof nonsense / sizeof nonsense[0]; i++) {
        char lines[200];
        snprintf(lines, sizeof lines, "HTTP/1.1 206 P\r\nContent-Range: %s\r\n\r\n", nonsense[i]);
        headers(lines);
        assert_true(response.range_malformed && !response.has_range && !response.unsatisfied);
    }
    headers("HTTP/1.1 200 K\r\nContent-Length: -1\r\nContent-Length: 1x\r\nContent-Length: 99999999999999999999\r\n\r\n");
    assert_true(response.content_length == DMC_HTTP_UNKNOWN);
    headers("HTTP/1.1 503 K\r\nRetry-After: 7\r\nContent-Encoding: gzip\r\n\r\nETag: trailer\r\n");
    assert_int_equal(response.retry_after_s, 7);
    assert_true(response.encoded && response.version_tag == 0);
    headers("HTTP/1.1 503 K\r\nRetry-After: Sun, 06 Nov 1994 08:50:37 GMT\r\nContent-Encoding: aws-chunked\r\n\r\n");
    assert_int_equal(response.retry_after_s, 60);
    assert_false(response.encoded);
    headers("HTTP/1.1 503 K\r\nRetry-After: Sun, 06 Nov 1993 08:50:37 GMT\r\n\r\n");
    assert_int_equal(response.retry_after_s, 0);
    headers("HTTP/1.1 999999 K\r\n\r\n");
    assert_int_equal(response.status, 0);
}

static void test_dates(void **state)
{
    (void)state;
    uint64_t s;
    static const struct {
        const char *text;
        uint64_t seconds;
    } dates[] = {{"Thu, 01 Jan 1970 00:00:00 GMT", 0},      {"Sun, 06 Nov 1994 08:49:37 GMT", 784111777},
                 {"2000-02-29T12:00:00Z", 951825600},       {"2026-11-22T22:30:00.123Z", 1795386600},
                 {"2038-01-19T03:14:08+00:00", 2147483648}, {"9999-12-31T23:59:60Z", 253402300800}};
    for (size_t i = 0; i < sizeof dates / sizeof dates[0]; i++) {
        assert_true(dmc_http_date(dates[i].text, strlen(dates[i].text), &s));
        assert_int_equal(s, dates[i].seconds);
        for (size_t cut = 0; cut < strlen(dates[i].text); cut++)
            if (!(dates[i].text[4] == '-' && cut >= 19)) /* a cut of the fraction is still a date, but not in UTC */
                assert_false(dmc_http_date(dates[i].text, cut, &s));
    }
    static const char *const none[] = {"2026-13-01T00:00:00Z",           "2026-01-01T24:00:00Z",
                                       "1969-12-31T00:00:00Z",           "2026-01-01T00:00:00+01:00",
                                       "Sun, 06 Nov 1994 08:49:37 CET",  "Sun, 06 Xxx 1994 08:49:37 GMT",
                                       "Sunday, 06-Nov-94 08:49:37 GMT", "now"};
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++)
        assert_false(dmc_http_date(none[i], strlen(none[i]), &s));
}

/* --- urls --- */

static void test_urls(void **state)
{
    (void)state;
    struct dmc_http_url url, same;
    assert_null(dmc_http_url_parse("HTTPS://us%40er:pw@Host.Example:8443/a/b?x=1#f", &url));
    assert_true(url.tls && url.port == 8443 && url.user_bytes == 10 && url.path_bytes == 4 && url.query_bytes == 3);
    assert_string_equal(url.host, "host.example");
    assert_null(dmc_http_url_parse("http://[::1]:80", &url));
    assert_string_equal(url.host, "[::1]");
    assert_true(url.port == 80 && url.path_bytes == 0 && !url.query);
    static const char *const nonsense[] = {"ftp://a/b",
                                           "http://",
                                           "http:///a",
                                           "https://a:0/",
                                           "https://a:65536/",
                                           "https://a:x/",
                                           "https://[::1/",
                                           "http://a b/",
                                           "http://a\tb/",
                                           "http://a/\r\nEvil: 1",
                                           "https://a\\b/",
                                           "a/b",
                                           ""};
    for (size_t i = 0; i < sizeof nonsense / sizeof nonsense[0]; i++)
        assert_non_null(dmc_http_url_parse(nonsense[i], &url));
    assert_null(dmc_http_url_parse("https://a.b/", &url));
    assert_null(dmc_http_url_parse("https://A.B:443/x", &same));
    assert_true(dmc_http_same_origin(&url, &same));
    assert_null(dmc_http_url_parse("http://a.b:443/x", &same));
    assert_false(dmc_http_same_origin(&url, &same));

    static const struct {
        const char *base, *location, *target;
    } redirects[] = {
        {"https://a/b/c?d", "https://e/f", "https://e/f"},
        {"http://a/b/c", "https://a/f", "https://a/f"},
        {"https://a/b/c", "/x?y", "https://a/x?y"},
        {"https://a:1/b/c?q/r", "x", "https://a:1/b/x"},
        {"https://a/b/c", "?y", "https://a/b/c?y"},
        {"https://a", "x", "https://a/x"},
        {"https://a/b", "//c/d", "https://c/d"},
        {"https://a/b", "http://a/b", NULL},
        {"https://a/b", "file:///etc/passwd", NULL},
        {"http://a/b", "gopher://a/b", NULL},
        {"http://a/b", "http://", NULL},
        {"http://a/b", "http://u:p@c/", NULL},
        {"http://a/b", "javascript:alert(1)", NULL},
    };
    struct dmc_text target = {0};
    for (size_t i = 0; i < sizeof redirects / sizeof redirects[0]; i++) {
        const char *wrong = dmc_http_redirect(redirects[i].base, redirects[i].location, &target);
        assert_int_equal(wrong != NULL, redirects[i].target == NULL);
        if (!wrong)
            assert_string_equal(target.data, redirects[i].target);
    }
    dmc_text_free(&target);
}

/* --- XML --- */

struct seen {
    char text[2000];
};

static bool note(void *user, const struct dmc_s3_element *element)
{
    struct seen *seen = user;
    size_t used = strlen(seen->text);
    assert_int_equal(strlen(element->text), element->text_bytes);
    snprintf(seen->text + used, sizeof seen->text - used, "%s=%s;", element->path, element->text);
    return true;
}

static enum damacy_status xml(const char *text, size_t bytes, struct seen *seen)
{
    char *copy = malloc(bytes + 1); /* exactly as long, for the sanitizer */
    assert_non_null(copy);
    memcpy(copy, text, bytes);
    seen->text[0] = 0;
    char *exact = malloc(bytes ? bytes : 1);
    memcpy(exact, copy, bytes);
    enum damacy_status status = dmc_s3_xml(exact, bytes, note, seen, NULL);
    free(exact);
    free(copy);
    return status;
}

static void test_xml(void **state)
{
    (void)state;
    struct seen seen;
    static const char good[] = "\xef\xbb\xbf<?xml version=\"1.0\" encoding='UTF-8'?>\n<a xmlns='http://x/' b = \"c > d\">\n "
                               "<b>x&amp;y&#x20AC;&#228;&lt;</b> <c/>"
                               "<n:d><e>1</e><e></e></n:d >text</a>\n ";
    assert_int_equal(xml(good, sizeof good - 1, &seen), DAMACY_OK);
    assert_string_equal(seen.text, "a/b=x&y\xe2\x82\xac\xc3\xa4<;a/c=;a/d/e=1;a/d/e=;");
    for (size_t cut = 0; cut < sizeof good - 3; cut++)
        assert_int_equal(xml(good, cut, &seen), DAMACY_DECODE);
    static const char *const bad[] = {"<a></b>",
                                      "<a><b></a></b>",
                                      "<a>&nbsp;</a>",
                                      "<a>&#0;</a>",
                                      "<a>&#xD800;</a>",
                                      "<a>&#1114112;</a>",
                                      "<a>&amp</a>",
                                      "<!DOCTYPE a><a/>",
                                      "<a><!-- x --></a>",
                                      "<a><![CDATA[x]]></a>",
                                      "<a><?x?></a>",
                                      "<a/><b/>",
                                      "x<a/>",
                                      "<a/>x",
                                      "<a b></a>",
                                      "<a b=c></a>",
                                      "<a b='<'></a>",
                                      "< a/>",
                                      "</a>",
                                      "<a><b><c><d><e><f><g><h><i></i></h></g></f></e></d></c></b></a>",
                                      ""};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (xml(bad[i], strlen(bad[i]), &seen) != DAMACY_DECODE)
            fail_msg("taken: %s", bad[i]);
}

static bool child(const char *name, bool is_prefix, void *user)
{
    struct seen *seen = user;
    size_t used = strlen(seen->text);
    snprintf(seen->text + used, sizeof seen->text - used, "%s%s;", name, is_prefix ? "/" : "");
    return strcmp(name, "stop") != 0;
}

static void test_page(void **state)
{
    (void)state;
    struct seen seen = {""};
    struct dmc_s3_page page = {.prefix = "p/", .child = child, .user = &seen};
    char text[] = "<ListBucketResult><Name>b</Name><Prefix>p/</Prefix><IsTruncated>true</"
                  "IsTruncated><NextContinuationToken>t&amp;1==</NextContinuationToken>"
                  "<Contents><Key>p/</Key><Size>0</Size></Contents><Contents><Key>p/a "
                  "&lt;b</Key></Contents><Contents><Key>q/other</Key></Contents>"
                  "<Contents><Key>p/x/y</Key></Contents><CommonPrefixes><Prefix>p/c/</Prefix></"
                  "CommonPrefixes><CommonPrefixes><Prefix>p//</Prefix></CommonPrefixes>"
                  "</ListBucketResult>";
    assert_int_equal(dmc_s3_page_read(text, sizeof text - 1, &page, NULL), DAMACY_OK);
    assert_string_equal(seen.text, "a <b;c/;");
    assert_true(page.truncated && !page.enough);
    assert_string_equal(page.next, "t&1==");
    seen.text[0] = 0;
    char more[] =
        "<ListBucketResult><Contents><Key>p/stop</Key></Contents><Contents><Key>p/z</Key></Contents></ListBucketResult>";
    assert_int_equal(dmc_s3_page_read(more, sizeof more - 1, &page, NULL), DAMACY_OK);
    assert_string_equal(seen.text, "stop;");
    assert_true(page.enough && !page.truncated);
}

/* --- shared files --- */

static void test_profiles(void **state)
{
    (void)state;
    static const char credentials[] = "# mine\n[default]\naws_access_key_id=AKIDEFAULT\n aws_secret_access_key = nested, so "
                                      "not ours\naws_secret_access_key = de/fault=\n"
                                      "\n[ work ]\r\naws_access_key_id = AKIWORK\r\naws_secret_access_key = "
                                      "wo+rk\r\naws_session_token = tok==\r\nregion = eu-west-1\r\n[other]\nregion = x\n";
    static const char config[] =
        "[default]\nregion = us-west-2\n[profile work]\nregion = eu-central-1\nendpoint_url = https://s3.example:9000\n"
        "s3 =\n  addressing_style = path\n[profile sso]\nsso_session = my\n[work]\nregion = wrong\nnonsense\n[unclosed\nregion "
        "= wrong";
    static struct dmc_s3_profile profile;
    memset(&profile, 0, sizeof profile);
    dmc_s3_profile_read(credentials, sizeof credentials - 1, "default", false, &profile);
    assert_string_equal(profile.key, "AKIDEFAULT");
    assert_string_equal(profile.secret, "de/fault=");
    assert_true(profile.found && !profile.needs_other);
    memset(&profile, 0, sizeof profile);
    dmc_s3_profile_read(credentials, sizeof credentials - 1, "work", false, &profile);
    dmc_s3_profile_read(config, sizeof config - 1, "work", true, &profile);
    assert_string_equal(profile.key, "AKIWORK");
    assert_string_equal(profile.secret, "wo+rk");
    assert_string_equal(profile.token, "tok==");
    assert_string_equal(profile.region, "eu-west-1"); /* the credentials file is read first */
    assert_string_equal(profile.endpoint_url, "https://s3.example:9000");
    memset(&profile, 0, sizeof profile);
    dmc_s3_profile_read(config, sizeof config - 1, "sso", true, &profile);
    assert_true(profile.found && profile.needs_other);
    memset(&profile, 0, sizeof profile);
    dmc_s3_profile_read(config, sizeof config - 1, "nobody", true, &profile);
    assert_false(profile.found);
}

static void test_credential_answers(void **state)
{
    (void)state;
    static struct dmc_s3_keys keys;
    static const char good[] = "{\"Code\": \"Success\", \"AccessKeyId\": \"A\", \"SecretAccessKey\": \"S\", \"Token\": \"T\", "
                               "\"Expiration\": \"2026-11-22T22:30:00Z\"}";
    assert_int_equal(dmc_s3_credentials_parse(good, sizeof good - 1, &keys, NULL), DAMACY_OK);
    assert_string_equal(keys.key, "A");
    assert_string_equal(keys.secret, "S");
    assert_string_equal(keys.token, "T");
    assert_int_equal(keys.expires_s, 1795386600);
    static const char *const bad[] = {"",
                                      "{}",
                                      "[]",
                                      "{\"AccessKeyId\": \"A\"}",
                                      "{\"AccessKeyId\": \"A\", \"SecretAccessKey\": 1}",
                                      "{\"AccessKeyId\": \"\", \"SecretAccessKey\": \"S\"}",
                                      "{\"AccessKeyId\": \"A\\r\\nEvil: 1\", \"SecretAccessKey\": \"S\"}",
                                      "{\"AccessKeyId\": \"A\", \"SecretAccessKey\": \"S\", \"Expiration\": \"never\"}"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct damacy_error error;
        assert_int_equal(dmc_s3_credentials_parse(bad[i], strlen(bad[i]), &keys, &error), DAMACY_DECODE);
        assert_string_equal(keys.secret, "");
    }
}

/* --- storage_options --- */

static void test_options(void **state)
{
    (void)state;
    struct dmc_net_option_set set;
    struct damacy_error error = {0};
    const char *text = "{\"key\": \"K\", \"aws_secret_access_key\": \"S\", \"region_name\": \"r\", \"timeout\": 1.5, "
                       "\"retries\": 2, \"skip_signature\": \"true\", \"token\": null,"
                       " \"client_kwargs\": {\"endpoint_url\": \"http://e\"}, \"config_kwargs\": {\"s3\": "
                       "{\"addressing_style\": \"virtual\"}},"
                       " \"gs\": {\"key\": \"G\", \"secret\": \"H\", \"anon\": false}, \"https\": {\"headers\": {\"X-A\": "
                       "\"b\"}, \"hedge_share\": 0}}";
    if (dmc_net_options_parse(text, &set, &error) != DAMACY_OK)
        fail_msg("%s", error.message);
    const struct dmc_net_options *s3 = &set.families[DMC_NET_S3], *gs = &set.families[DMC_NET_GS],
                                 *http = &set.families[DMC_NET_HTTP];
    assert_string_equal(s3->key, "K");
    assert_string_equal(s3->secret, "S");
    assert_string_equal(s3->region, "r");
    assert_string_equal(s3->endpoint_url, "http://e");
    assert_true(s3->anon && s3->anon_set && !s3->token && s3->addressing == DMC_S3_ADDRESS_VIRTUAL);
    assert_int_equal(s3->settings.request_timeout_ns, 1500000000);
    assert_int_equal(s3->settings.retries_max, 2);
    assert_string_equal(gs->key, "G");
    assert_false(gs->anon);
    assert_int_equal(http->header_count, 1);
    assert_true(http->settings.hedge_share == 0 && s3->settings.hedge_share > 0 && s3->header_count == 0);
    dmc_net_options_deinit(&set);
    static const struct {
        const char *text, *says;
    } wrong[] = {
        {"{\"endpint_url\": 1}", "'endpoint_url'"},
        {"{\"acess_key_id\": 1}", "'access_key_id'"},
        {"{\"key\": \"sesame\"}", "go together"},
        {"{\"key\": [\"sesame\"], \"secret\": \"x\"}", "'key' is an array"},
        {"{\"timeout\": \"sesame\"}", "'timeout' is a string"},
        {"{\"timeout\": 0}", "from 0.001"},
        {"{\"verify\": false}", "always verified"},
        {"{\"token\": \"sesame\\r\\nX: y\"}", "control characters"},
        {"{\"headers\": {\"a b\": \"sesame\"}}", "no header has"},
        {"{\"addressing_style\": \"sesame\"}", "'auto', 'path' or 'virtual'"},
        {"{\"s3\": 1}", "an object"},
        {"{\"s3\": {\"gs\": {}}}", "unknown key 'gs'"},
        {"{\"secret\": \"sesame\"", "no valid JSON"},
        {"[]", "expected an object"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        assert_int_equal(dmc_net_options_parse(wrong[i].text, &set, &error), DAMACY_INVAL);
        if (!strstr(error.message, wrong[i].says))
            fail_msg("'%s' does not say '%s'", error.message, wrong[i].says);
        assert_null(strstr(error.message, "sesame")); /* it might be a secret */
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_headers), cmocka_unit_test(test_dates),
        cmocka_unit_test(test_urls),    cmocka_unit_test(test_xml),
        cmocka_unit_test(test_page),    cmocka_unit_test(test_profiles),
        cmocka_unit_test(test_options), cmocka_unit_test(test_credential_answers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
