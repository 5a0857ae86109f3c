/* Goal: spans of all threads arrive in a file that is JSON; buffers are bounded and reused; a forked child leaves the file
 * alone. Method: trace, flush and read back with our own parser. Without DAMACY_TRACE nothing is recorded: seen in a process of
 * its own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/json.h"
#include "base/mem.h"
#include "base/thread.h"
#include "base/trace.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static char path[64];

struct content {
    size_t spans;
    size_t names; /* thread names */
    uint64_t dropped;
};

static struct content read_back(void)
{
    struct content content = {0};
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    size_t capacity = 64 << 20;
    char *text = malloc(capacity);
    size_t bytes = fread(text, 1, capacity, file);
    fclose(file);
    struct dmc_json_doc *doc;
    struct damacy_error error;
    if (dmc_json_parse(text, bytes, &doc, &error) != DAMACY_OK)
        fail_msg("%s", error.message);
    free(text);
    dmc_json *events = dmc_json_get(dmc_json_root(doc), "traceEvents");
    for (size_t i = 0; i < dmc_json_count(events); i++) {
        const char *kind;
        double moment;
        assert_true(dmc_json_string(dmc_json_get(dmc_json_at(events, i), "ph"), &kind, NULL));
        if (kind[0] == 'X') {
            content.spans++;
            assert_true(dmc_json_f64(dmc_json_get(dmc_json_at(events, i), "dur"), &moment));
            assert_true(moment == 1.5 || moment == 0);
        } else
            content.names++;
    }
    assert_true(dmc_json_u64(dmc_json_get(dmc_json_get(dmc_json_root(doc), "otherData"), "dropped"), &content.dropped));
    dmc_json_free(doc);
    return content;
}

static void *trace_some(void *argument)
{
    int count = *(int *)argument;
    for (int i = 0; i < count; i++)
        dmc_trace_span("some", 1000, 2500, (uint64_t)i);
    return NULL;
}

static void test_trace(void **state)
{
    (void)state;
    assert_true(dmc_trace_on());
    int count = 3000;
    for (int round = 0; round < 2; round++) {
        pthread_t threads[2];
        for (int i = 0; i < 2; i++)
            assert_int_equal(dmc_thread_start(&threads[i], "tr\"acer", trace_some, &count), 0);
        dmc_trace_flush(); /* while they run */
        for (int i = 0; i < 2; i++)
            dmc_thread_join_until(threads[i], UINT64_MAX);
    }
    dmc_trace_span("backwards", 2, 1, 0);
    dmc_trace_flush();
    struct content content = read_back();
    assert_int_equal(content.spans, 4 * 3000 + 1);
    assert_true(content.names >= 1 && content.names <= 3); /* one buffer for threads that never met; never more than three */
    assert_int_equal(content.dropped, 0);

    /* The n-th allocation fails: events are lost and counted, nothing else happens. */
    dmc_mem_fail_at(1);
    int more = 1100;
    trace_some(&more);
    dmc_mem_fail_at(0);

    pid_t child = fork();
    if (child == 0) {
        dmc_trace_span("child", 0, 0, 0);
        exit(0); /* with the handlers that write the file */
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(read_back().spans, content.spans); /* the child has not written the file anew */

    int many = 200000;
    trace_some(&many);
    dmc_trace_flush();
    content = read_back();
    assert_true(content.spans <= 2 * 65536 + 3000 * 4 && content.spans >= 65536 / 2);
    assert_true(content.dropped > 0);
}

static void test_off(void **state)
{
    (void)state;
    pid_t child = fork();
    if (child == 0) {
        unsetenv("DAMACY_TRACE");
        execl("/proc/self/exe", "test_trace", "off", (char *)NULL);
        _exit(1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

static void test_unwritable(void **state)
{
    (void)state;
    pid_t child = fork();
    if (child == 0) {
        setenv("DAMACY_TRACE", "/nonexistent/folder/trace.json", 1);
        execl("/proc/self/exe", "test_trace", "on", (char *)NULL);
        _exit(1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

static pid_t process;
static void remove_file(void)
{
    if (getpid() == process)
        unlink(path);
}

int main(int count, char **arguments)
{
    if (count > 1) {
        dmc_trace_span("x", 0, 1, 0);
        dmc_trace_flush();
        return dmc_trace_on() == (strcmp(arguments[1], "on") == 0) ? 0 : 1;
    }
    process = getpid();
    atexit(remove_file); /* first in, last out: the trace is written at exit, too */
    strcpy(path, "/tmp/damacy_trace_XXXXXX");
    close(mkstemp(path));
    setenv("DAMACY_TRACE", path, 1); /* before the first use */
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_trace), cmocka_unit_test(test_off),
                                       cmocka_unit_test(test_unwritable)};
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    return failed;
}
