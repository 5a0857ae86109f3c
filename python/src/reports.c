/* BatchInfo and Stats: values for Python, made from the C library's structs. Their classes are in damacy/_types.py. */
#include "core.h"

#include <stddef.h>
#include <string.h>

/* --- BatchInfo --- */

PyObject *dmc_device_name(enum damacy_device_type device, int32_t ordinal)
{
    return device == DAMACY_CPU ? PyUnicode_FromString("cpu") : PyUnicode_FromFormat("cuda:%d", (int)ordinal);
}

static PyObject *make_row(const struct damacy_row *row)
{
    PyObject *error = Py_None;
    Py_INCREF(error);
    if (row->error) {
        Py_DECREF(error);
        error = dmc_make_exception(row->error);
    }
    PyObject *result = NULL;
    if (error)
        result = PyObject_CallFunction(dmc_core.row, "KKOO", (unsigned long long)row->ordinal, (unsigned long long)row->tag,
                                       dmc_core.statuses[row->status], error);
    Py_XDECREF(error);
    return result;
}

static PyObject *make_rows(const struct damacy_row *rows, uint32_t count)
{
    PyObject *tuple = PyTuple_New(count);
    for (uint32_t i = 0; tuple && i < count; i++) {
        PyObject *row = make_row(&rows[i]);
        if (!row || PyTuple_SetItem(tuple, i, row) < 0)
            Py_CLEAR(tuple);
    }
    return tuple;
}

static PyObject *make_tensor_info(const struct damacy_tensor_info *info)
{
    PyObject *shape = PyTuple_New(info->rank), *result = NULL;
    for (uint32_t a = 0; shape && a < info->rank; a++) {
        PyObject *extent = PyLong_FromLongLong(info->shape[a]);
        if (!extent || PyTuple_SetItem(shape, a, extent) < 0)
            Py_CLEAR(shape);
    }
    if (shape)
        result = PyObject_CallFunction(dmc_core.tensor_info, "OOK", shape, dmc_core.dtypes[info->dtype],
                                       (unsigned long long)info->bytes);
    Py_XDECREF(shape);
    return result;
}

PyObject *dmc_batch_info_create(const struct damacy_batch_info *info)
{
    PyObject *tensors = PyDict_New(), *pointers = PyDict_New(), *rows = NULL, *skipped = NULL, *result = NULL;
    for (uint32_t f = 0; tensors && f < info->field_count; f++) {
        PyObject *tensor = make_tensor_info(&info->tensors[f]);
        if (!tensor || PyDict_SetItemString(tensors, info->tensors[f].name, tensor) < 0)
            Py_CLEAR(tensors);
        Py_XDECREF(tensor);
        if (tensors && pointers && info->device != DAMACY_CPU) {
            PyObject *pointer = PyLong_FromVoidPtr(info->tensors[f].data);
            if (!pointer || PyDict_SetItemString(pointers, info->tensors[f].name, pointer) < 0)
                Py_CLEAR(pointers);
            Py_XDECREF(pointer);
        }
    }
    if (tensors && pointers && (rows = make_rows(info->rows, info->row_count)) &&
        (skipped = make_rows(info->skipped, info->skipped_count)))
        result = PyObject_CallFunction(dmc_core.batch_info, "KNOOOO", (unsigned long long)info->batch_id,
                                       dmc_device_name(info->device, info->device_ordinal), tensors, rows, skipped, pointers);
    Py_XDECREF(tensors);
    Py_XDECREF(pointers);
    Py_XDECREF(rows);
    Py_XDECREF(skipped);
    return result;
}

/* --- Stats --- */

struct member {
    const char *name;
    size_t offset;
};
#define MEMBER(name)                                                                                                           \
    {                                                                                                                          \
#name, offsetof(struct damacy_stats, name)                                                                             \
    }
static const struct member counts[] = {
    MEMBER(elapsed_ns),          MEMBER(samples_pushed),     MEMBER(samples_delivered),    MEMBER(samples_failed),
    MEMBER(batches_delivered),   MEMBER(bytes_delivered),    MEMBER(lookahead_samples),    MEMBER(batches_ready),
    MEMBER(batches_held),        MEMBER(bytes_needed),       MEMBER(array_meta_hits),      MEMBER(array_meta_misses),
    MEMBER(shard_index_hits),    MEMBER(shard_index_misses), MEMBER(host_bytes_committed), MEMBER(host_bytes_limit),
    MEMBER(gpu_bytes_committed), MEMBER(gpu_bytes_limit),    MEMBER(gpu_decode_busy_ns),
};
static const struct member metrics[] = {
    MEMBER(metadata),
    MEMBER(plan),
    MEMBER(read),
    MEMBER(read_wait),
    MEMBER(decode),
    MEMBER(assemble),
    MEMBER(fill),
    MEMBER(worker_idle),
    MEMBER(pop_wait),
    MEMBER(slot_wait),
    MEMBER(input_transfer),
    MEMBER(gpu_decode),
    MEMBER(gpu_assemble),
    MEMBER(gpu_retry),
    MEMBER(post_decode),
    MEMBER(decode_gap),
    MEMBER(bind_wait),
    MEMBER(gpu_direct_read),
    MEMBER(gpu_direct_fallback),
    MEMBER(decode_shared),
};

static int set_member(PyObject *dict, const char *name, PyObject *value)
{
    if (!value)
        return -1;
    int result = PyDict_SetItemString(dict, name, value);
    Py_DECREF(value);
    return result;
}

static int set_members(PyObject *dict, const struct damacy_stats *stats)
{
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        uint64_t count;
        memcpy(&count, (const char *)stats + counts[i].offset, sizeof count);
        if (set_member(dict, counts[i].name, PyLong_FromUnsignedLongLong(count)) < 0)
            return -1;
    }
    for (size_t i = 0; i < sizeof metrics / sizeof *metrics; i++) {
        struct damacy_metric metric;
        memcpy(&metric, (const char *)stats + metrics[i].offset, sizeof metric);
        if (set_member(dict, metrics[i].name,
                       PyObject_CallFunction(dmc_core.metric, "KKK", (unsigned long long)metric.count,
                                             (unsigned long long)metric.bytes, (unsigned long long)metric.time_ns)) < 0)
            return -1;
    }
    return set_member(dict, "bottleneck", PyUnicode_FromString(damacy_bottleneck_str(stats->bottleneck)));
}

PyObject *dmc_stats_create(const struct damacy_stats *stats)
{
    PyObject *members = PyDict_New(), *none = members ? PyTuple_New(0) : NULL, *result = NULL;
    if (none && set_members(members, stats) == 0)
        result = PyObject_Call(dmc_core.stats, none, members);
    Py_XDECREF(members);
    Py_XDECREF(none);
    return result;
}

/* --- the network --- */

#define SERVER(name)                                                                                                           \
    {                                                                                                                          \
#name, offsetof(struct damacy_server_stats, name)                                                                      \
    }
static const struct member server_counts[] = {
    SERVER(requests),    SERVER(attempts),       SERVER(retries),        SERVER(hedges),         SERVER(hedges_won),
    SERVER(throttled),   SERVER(stalls),         SERVER(redirects),      SERVER(failures),       SERVER(bytes_received),
    SERVER(bytes_used),  SERVER(latency_p50_ns), SERVER(latency_p90_ns), SERVER(latency_p99_ns), SERVER(first_byte_ns),
    SERVER(bytes_per_s), SERVER(concurrency),
};
#define REMOTE(name)                                                                                                           \
    {                                                                                                                          \
#name, offsetof(struct damacy_remote_stats, name)                                                                      \
    }
static const struct member remote_counts[] = {
    REMOTE(cache_hits),       REMOTE(cache_hit_bytes), REMOTE(cache_misses),    REMOTE(cache_miss_bytes),
    REMOTE(cache_used_bytes), REMOTE(cache_bytes_max), REMOTE(shared_requests), REMOTE(shared_bytes),
};

static PyObject *counts_dict(const void *from, const struct member *members, size_t count)
{
    PyObject *dict = PyDict_New();
    for (size_t i = 0; dict && i < count; i++) {
        uint64_t number;
        memcpy(&number, (const char *)from + members[i].offset, sizeof number);
        if (set_member(dict, members[i].name, PyLong_FromUnsignedLongLong(number)) < 0)
            Py_CLEAR(dict);
    }
    return dict;
}

PyObject *dmc_remote_stats_create(const struct damacy_remote_stats *stats)
{
    uint64_t there = stats->server_count < stats->server_capacity ? stats->server_count : stats->server_capacity;
    PyObject *dict = counts_dict(stats, remote_counts, sizeof remote_counts / sizeof *remote_counts), *servers = PyDict_New();
    for (uint64_t i = 0; dict && servers && i < there; i++)
        if (set_member(servers, stats->servers[i].origin,
                       counts_dict(&stats->servers[i], server_counts, sizeof server_counts / sizeof *server_counts)) < 0)
            Py_CLEAR(servers);
    if (!dict || !servers || PyDict_SetItemString(dict, "servers", servers) < 0)
        Py_CLEAR(dict);
    Py_XDECREF(servers);
    return dict;
}
