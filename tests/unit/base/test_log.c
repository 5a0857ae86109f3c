/* Goal: levels, quiet and DAMACY_LOG decide what is written; a line is one write and never too long. Method: stderr goes to a
 * file; for the environment, which is read at the start, the test runs itself again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/log.h"
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static char *captured;

/* What `run` writes to stderr. */
static const char *capture(void (*run)(void))
{
    static char text[16384];
    FILE *file = tmpfile();
    int saved = dup(STDERR_FILENO);
    dup2(fileno(file), STDERR_FILENO);
    run();
    dup2(saved, STDERR_FILENO);
    close(saved);
    rewind(file);
    size_t bytes = fread(text, 1, sizeof text - 1, file);
    text[bytes] = 0;
    fclose(file);
    return captured = text;
}

static void say_all(void)
{
    dmc_log(DMC_STORE, DAMACY_LOG_ERROR, "e %d", 1);
    dmc_log(DMC_PLAN, DAMACY_LOG_WARN, "w");
    dmc_log(DMC_CODEC, DAMACY_LOG_INFO, "i");
    dmc_log(DMC_PIPELINE, DAMACY_LOG_DEBUG, "d");
}

static void say_long(void)
{
    char *text = malloc(9001);
    memset(text, 'y', 9000);
    text[9000] = 0;
    dmc_log(DMC_BASE, DAMACY_LOG_ERROR, "%s", text);
    free(text);
}

static void test_levels(void **state)
{
    (void)state;
    assert_string_equal(capture(say_all), "damacy ERROR store: e 1\ndamacy WARN plan: w\n");
    damacy_set_log_level(DAMACY_LOG_DEBUG);
    assert_string_equal(capture(say_all),
                        "damacy ERROR store: e 1\ndamacy WARN plan: w\ndamacy INFO codec: i\ndamacy DEBUG pipeline: d\n");
    damacy_set_log_level(DAMACY_LOG_ERROR);
    assert_string_equal(capture(say_all), "damacy ERROR store: e 1\n");
    damacy_set_log_quiet(true);
    assert_string_equal(capture(say_all), "");
    damacy_set_log_level((enum damacy_log_level)100); /* clamped, and quiet stays */
    assert_string_equal(capture(say_all), "");
    damacy_set_log_quiet(false);
    assert_true(dmc_log_wanted(DMC_ZARR, DAMACY_LOG_DEBUG));
    damacy_set_log_level((enum damacy_log_level) - 5);
    assert_string_equal(capture(say_all), "damacy ERROR store: e 1\n");
    damacy_set_log_level(DAMACY_LOG_WARN);
}

static void test_long_line(void **state)
{
    (void)state;
    const char *text = capture(say_long);
    size_t bytes = strlen(text);
    assert_true(bytes > 2048 && bytes < 4096);
    assert_string_equal(text + bytes - 4, "...\n");
}

static const char *program;

static void run_again(void)
{
    pid_t child = fork();
    if (child == 0) {
        execl(program, program, "say", (char *)NULL);
        _exit(1);
    }
    waitpid(child, NULL, 0);
}

static void test_environment(void **state)
{
    (void)state;
    setenv("DAMACY_LOG", "codec,,nonsense,pipelin", 1);
    const char *text = capture(run_again);
    static const char first[] = "damacy WARN base: DAMACY_LOG: 'nonsense' is none of base, zarr, ",
                      second[] = "\ndamacy WARN base: DAMACY_LOG: 'pipelin' is none of ",
                      rest[] = ", all\ndamacy ERROR store: e 1\ndamacy WARN plan: w\ndamacy INFO codec: i\n";
    assert_int_equal(strncmp(text, first, strlen(first)), 0);
    assert_non_null(strstr(text, second));
    assert_string_equal(text + strlen(text) - strlen(rest), rest);
    setenv("DAMACY_LOG", "all", 1);
    capture(run_again);
    assert_non_null(strstr(captured, "DEBUG pipeline"));
    unsetenv("DAMACY_LOG");
}

int main(int count, char **arguments)
{
    (void)arguments;
    if (count > 1) {
        say_all();
        return 0;
    }
    program = "/proc/self/exe";
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_levels), cmocka_unit_test(test_long_line),
                                       cmocka_unit_test(test_environment)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
