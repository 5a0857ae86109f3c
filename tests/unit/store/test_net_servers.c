/* Goal: real servers give the answers that every store gives.
 * Method: the conformance suite over each server that tests/python/remote/test_remote_conformance.py has started. It names a
 * file in DAMACY_TEST_SERVERS with four lines for each: name, uri, storage_options, and the folder that becomes the server's;
 * then the command, "" none, that brings the folder there. Without it there is nothing to do. */
#include "support/store_conformance.h"

struct server {
    struct conformance suite; /* first */
    char folder[300], command[1000];
};

static void put(struct conformance *suite, const char *name, const void *data, uint64_t bytes)
{
    const struct server *server = (const struct server *)suite;
    char path[700], temporary[720];
    snprintf(path, sizeof path, "%s/%s", server->folder, name);
    snprintf(temporary, sizeof temporary, "%s.new", path);
    int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, bytes), (ssize_t)bytes);
    close(fd);
    assert_int_equal(rename(temporary, path), 0); /* at once, as object stores do it */
}

static void run_command(struct conformance *suite)
{
    assert_int_equal(system(((struct server *)suite)->command), 0);
}

static bool read_line(FILE *file, char *line, size_t capacity)
{
    if (!fgets(line, (int)capacity, file))
        return false;
    line[strcspn(line, "\n")] = 0;
    return true;
}

static void test_servers(void **state)
{
    (void)state;
    const char *path = getenv("DAMACY_TEST_SERVERS");
    if (!path) {
        printf("skipped: tests/python/remote/test_remote_conformance.py starts the servers\n");
        return;
    }
    FILE *file = fopen(path, "re");
    assert_non_null(file);
    static char name[100], uri[1000], options[2000];
    static struct server server;
    uint64_t seed = test_seed();
    int count = 0;
    while (read_line(file, name, sizeof name)) {
        memset(&server, 0, sizeof server);
        assert_true(read_line(file, uri, sizeof uri) && read_line(file, options, sizeof options));
        assert_true(read_line(file, server.folder, sizeof server.folder) &&
                    read_line(file, server.command, sizeof server.command));
        struct dmc_stores *stores;
        struct dmc_stores_options settings = {.storage_options = options};
        struct damacy_error error;
        if (dmc_stores_create(&settings, &stores, &error) != DAMACY_OK ||
            dmc_stores_resolve(stores, uri, &server.suite.store, server.suite.folder, sizeof server.suite.folder, &error) !=
                DAMACY_OK)
            fail_msg("%s: %s", name, error.message);
        server.suite.name = name;
        server.suite.put = put;
        server.suite.sync = server.command[0] ? run_command : NULL;
        server.suite.allocates = true;
        server.suite.io = io_make(64, false);
        conformance_run(&server.suite, seed);
        io_end(server.suite.io);
        dmc_stores_destroy(stores);
        count++;
    }
    fclose(file);
    printf("%d servers\n", count);
    assert_true(count > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_servers)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
