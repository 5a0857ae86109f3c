/* Goal: bytes of a cache's file that were read before a writer added to their block are not called damaged, and bytes that are
 * damaged are. Method: one file, written and read by hand in the order in which two threads may come. */
#include "base/mem.h"
#include "store/cache_file.h"

#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#define OBJECT_BYTES (2 * DMC_CACHE_BLOCK)

static char folder[] = "/tmp/damacy-cache-file-XXXXXX";
static int folder_fd;
static struct dmc_cache_files *files;
static struct dmc_cache_file *file;
static unsigned char object[OBJECT_BYTES];

static bool room(void *user, uint64_t bytes)
{
    (void)user, (void)bytes;
    return true;
}

static void keep(uint64_t begin, uint64_t bytes)
{
    struct dmc_cache_writer writer = {.reserve = room};
    uint64_t stored = 0;
    assert_int_equal(dmc_cache_file_write(file, &writer, begin, object + begin, bytes, &stored), DMC_CACHE_WROTE);
}

/* The block as it is in the file now; what was never written is 0. */
static void look(uint64_t block, unsigned char *data)
{
    memset(data, 0, DMC_CACHE_BLOCK);
    assert_true(dmc_cache_read(file->fd, data, DMC_CACHE_BLOCK, file->data_begin + block * DMC_CACHE_BLOCK) >= 0);
}

static enum dmc_cache_check check(uint64_t begin, uint64_t end, unsigned char *data)
{
    const struct iovec part = {data, DMC_CACHE_BLOCK};
    return dmc_cache_file_check(file, begin, end, &part, 1);
}

static int setup(void **state)
{
    (void)state;
    struct damacy_error error;
    struct dmc_cache_name name;
    for (size_t i = 0; i < sizeof object; i++)
        object[i] = (unsigned char)(1 + i * 7 % 251);
    if (!mkdtemp(folder) || (folder_fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0 ||
        mkdirat(folder_fd, "tmp", 0700) < 0 || dmc_cache_files_create(folder_fd, 0, &files, &error) != DAMACY_OK ||
        !dmc_cache_name_make("test", "object", &name))
        return -1;
    file = dmc_cache_file_make(files, &name, 42, OBJECT_BYTES, 1);
    return file ? 0 : -1;
}

static int remove_one(const char *path, const struct stat *facts, int kind, struct FTW *walk)
{
    (void)facts, (void)kind, (void)walk;
    return remove(path);
}

static int teardown(void **state)
{
    (void)state;
    if (!file)
        return -1;
    dmc_cache_file_release(files, file);
    bool all = dmc_cache_files_destroy(files);
    close(folder_fd);
    return nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS) == 0 && all ? 0 : -1;
}

static void test_overtaken_by_a_writer(void **state)
{
    (void)state;
    unsigned char data[DMC_CACHE_BLOCK];
    keep(100, 900);
    look(0, data);
    assert_int_equal(check(100, 1000, data), DMC_CACHE_GOOD);
    keep(1000, 500); /* the table tells of [100, 1500) now, of which data[] has the first part */
    assert_int_equal(check(100, 1000, data), DMC_CACHE_GONE);
    look(0, data); /* and nothing was taken out */
    assert_int_equal(check(100, 1500, data), DMC_CACHE_GOOD);
    assert_memory_equal(data + 100, object + 100, 1400);
}

static void test_damaged(void **state)
{
    (void)state;
    unsigned char data[DMC_CACHE_BLOCK], wrong = 0;
    keep(DMC_CACHE_BLOCK, DMC_CACHE_BLOCK);
    assert_int_equal(pwrite(file->fd, &wrong, 1, (off_t)(file->data_begin + DMC_CACHE_BLOCK + 7)), 1);
    look(1, data);
    assert_int_equal(check(DMC_CACHE_BLOCK, OBJECT_BYTES, data), DMC_CACHE_DAMAGED);
    assert_int_equal(check(DMC_CACHE_BLOCK, OBJECT_BYTES, data), DMC_CACHE_GONE); /* taken out */
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_overtaken_by_a_writer), cmocka_unit_test(test_damaged)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
