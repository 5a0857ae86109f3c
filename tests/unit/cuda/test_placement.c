/* Goal: the threads that a CUDA pipeline makes run on the device's NUMA node, unless told otherwise; the caller stays where it
 * was; one reader for each core of the node, unless told otherwise.
 *
 * Method: the fake driver, whose device 0 has the PCI bus id 0000:3B:00.0, and a made-up /sys of two nodes; the kernel tells
 * where threads may run. */
#define PW_CUDA
#include "support/pipeline_world.h"

#include "base/bytes.h"
#include "base/thread.h"
#include "support/numa_tree.h"

#include <dirent.h>

static const int64_t shape[] = {4, 4};

struct threads {
    uint32_t readers, submitters, workers, elsewhere; /* elsewhere: those of these that may run on other CPUs */
};

static struct threads look(const struct dmc_numa_set *expected)
{
    struct threads threads = {0};
    DIR *folder = opendir("/proc/self/task");
    assert_non_null(folder);
    for (struct dirent *entry; (entry = readdir(folder));) {
        char path[300], name[32] = "";
        snprintf(path, sizeof path, "/proc/self/task/%s/comm", entry->d_name);
        FILE *file = fopen(path, "r");
        if (!file || !fgets(name, sizeof name, file))
            name[0] = '\0';
        if (file)
            fclose(file);
        bool reader = strncmp(name, "damacy-read", 11) == 0, submitter = strncmp(name, "damacy-cuda", 11) == 0,
             worker = strncmp(name, "damacy-cpu", 10) == 0;
        struct dmc_numa_set cpus = {0};
        if (!(reader || submitter || worker) ||
            sched_getaffinity(atoi(entry->d_name), sizeof cpus, (cpu_set_t *)(void *)&cpus) != 0)
            continue; /* another thread, or one that has just ended */
        threads.readers += reader;
        threads.submitters += submitter;
        threads.workers += worker;
        threads.elsewhere += memcmp(&cpus, expected, sizeof cpus) != 0;
    }
    closedir(folder);
    return threads;
}

static struct damacy *create(const struct numa_tree *tree, struct damacy_config config, struct dmc_store *memory)
{
    struct dmc_pipeline_extras extras = {.memory_store = memory, .sysfs = tree->sysfs};
    struct damacy_config placed = pw_placed(&config, &extras);
    placed.device = config.device;
    struct damacy *pipeline = NULL;
    struct damacy_error error;
    pw_ok(dmc_pipeline_create(&placed, &extras, &pipeline, &error), &error);
    return pipeline;
}

static void check(const struct numa_tree *tree, struct damacy_config config, const struct dmc_numa_set *expected,
                  uint32_t readers)
{
    struct dmc_store *memory = pw_memory();
    struct threads threads = look(expected);
    while (threads.readers + threads.submitters + threads.workers > 0) { /* a thread that was joined may still be listed */
        pw_nap(1000000);
        threads = look(expected);
    }
    struct damacy *pipeline = create(tree, config, memory);
    threads = look(expected);
    bool cpu = threads.workers != 0;
    assert_int_equal(cpu ? threads.workers : threads.readers, readers);
    assert_int_equal(threads.submitters, cpu ? 0 : 1);
    assert_int_equal(threads.elsewhere, 0);
    struct dmc_numa_set mine;
    numa_affinity(0, &mine);
    assert_memory_equal(&mine, &tree->allowed, sizeof mine);
    damacy_destroy(pipeline);
    dmc_store_destroy(memory);
}

static void test_placed(void **state)
{
    const struct numa_tree *tree = *state;
    if (dmc_numa_count(&tree->allowed) < 2)
        skip();
    struct damacy_field field;
    struct damacy_config config = pw_config(&field, 2, 2, shape, DAMACY_F32);
    config.device = DAMACY_CUDA_DEVICE;
    numa_tree_device(tree, "0000:3b:00.0", "1\n");
    uint32_t cores = dmc_cores_allowed();
    config.tuning.worker_count = cores + 1;
    check(tree, config, &tree->nodes[1], cores + 1); /* as many as asked for */
    config.tuning.worker_count = 0;
    check(tree, config, &tree->nodes[1], (uint32_t)dmc_min_u64(cores, dmc_numa_count(&tree->nodes[1])));
    config.numa = DAMACY_NUMA_OFF;
    check(tree, config, &tree->allowed, cores);
    config.numa = DAMACY_NUMA_NODE;
    config.numa_node = 0;
    config.tuning.worker_count = cores + 1;
    config.device = DAMACY_CPU;
    check(tree, config, &tree->nodes[0], cores + 1);
    config.device = DAMACY_CUDA_DEVICE;
    check(tree, config, &tree->nodes[0], cores + 1);
}

static void test_not_placed(void **state)
{
    const struct numa_tree *tree = *state;
    struct damacy_field field;
    struct damacy_config config = pw_config(&field, 2, 2, shape, DAMACY_F32);
    check(tree, config, &tree->allowed, 2); /* the CPU has no device to be near to */
    config.device = DAMACY_CUDA_DEVICE;
    check(tree, config, &tree->allowed, 2); /* nothing is known of the device */
    numa_tree_device(tree, "0000:3b:00.0", "0\n");
    numa_tree_write(tree, "devices/system/node/online", "0\n"); /* one node */
    check(tree, config, &tree->allowed, 2);

    config.numa = DAMACY_NUMA_NODE;
    config.numa_node = 3;
    struct dmc_pipeline_extras extras = {.sysfs = tree->sysfs};
    struct damacy_config placed = pw_placed(&config, &extras);
    struct damacy *pipeline = NULL;
    struct damacy_error error;
    assert_int_equal(dmc_pipeline_create(&placed, &extras, &pipeline, &error), DAMACY_INVAL);
    assert_non_null(strstr(error.message, "numa is node 3, but this machine has 1 node"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_placed, numa_tree_setup, numa_tree_teardown),
        cmocka_unit_test_setup_teardown(test_not_placed, numa_tree_setup, numa_tree_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
