/* What damacy/_config.py hands over, as the C library wants it:
 *
 *     (samples_per_batch, ((name, shape, dtype), ...), device, ordinal, on_error, verify, max_host_memory_bytes, {knob: value},
 *      max_gpu_memory_bytes, decode, storage_options as JSON or None, numa, numa_node,
 *      gpu_direct_storage)
 *
 * Types were checked there; ranges of C's integers are checked here. */
#include "core.h"

#include <stddef.h>
#include <string.h>

struct knob {
    const char *name;
    size_t offset;
    bool wide;
};
#define NARROW(name)                                                                                                           \
    {                                                                                                                          \
#name, offsetof(struct damacy_tuning, name), false                                                                     \
    }
#define WIDE(name)                                                                                                             \
    {                                                                                                                          \
#name, offsetof(struct damacy_tuning, name), true                                                                      \
    }
static const struct knob knobs[] = {
    NARROW(worker_count),
    NARROW(batch_slots),
    NARROW(lookahead_samples),
    NARROW(prefetch_samples),
    NARROW(reads_in_flight),
    NARROW(metadata_reads_in_flight),
    WIDE(coalesce_gap_bytes),
    WIDE(coalesce_read_bytes_max),
    WIDE(array_meta_cache_bytes),
    WIDE(shard_index_cache_bytes),
    WIDE(chunk_layout_cache_bytes),
    WIDE(metadata_object_bytes_max),
    WIDE(worker_bytes),
    WIDE(kept_chunk_bytes),
    NARROW(open_files_max),
    NARROW(io_uring),
    NARROW(bypass_decode),
    NARROW(metadata_latency_ns),
};
#define KNOB_COUNT (sizeof knobs / sizeof *knobs)

static int parse_number(PyObject *value, const char *name, uint64_t limit, uint64_t *out)
{
    *out = PyLong_AsUnsignedLongLong(value);
    if (PyErr_Occurred())
        return -1;
    if (*out <= limit)
        return 0;
    dmc_raise_text(DAMACY_INVAL, "config", "%s is %llu, at most %llu are allowed", name, (unsigned long long)*out,
                   (unsigned long long)limit);
    return -1;
}

static int parse_knobs(PyObject *dict, struct damacy_tuning *tuning)
{
    for (size_t i = 0; i < KNOB_COUNT; i++) {
        PyObject *value = PyDict_GetItemString(dict, knobs[i].name);
        uint64_t number;
        if (!value)
            continue;
        if (parse_number(value, knobs[i].name, knobs[i].wide ? UINT64_MAX : UINT32_MAX, &number) < 0)
            return -1;
        char *member = (char *)tuning + knobs[i].offset;
        uint32_t narrow = (uint32_t)number;
        memcpy(member, knobs[i].wide ? (void *)&number : (void *)&narrow, knobs[i].wide ? sizeof number : sizeof narrow);
    }
    return 0;
}

PyObject *dmc_tuning_dict(const struct damacy_tuning *tuning)
{
    PyObject *dict = PyDict_New();
    for (size_t i = 0; dict && i < KNOB_COUNT; i++) {
        const char *member = (const char *)tuning + knobs[i].offset;
        uint32_t narrow;
        uint64_t wide;
        memcpy(&narrow, member, sizeof narrow);
        memcpy(&wide, member, knobs[i].wide ? sizeof wide : sizeof narrow);
        PyObject *value = PyLong_FromUnsignedLongLong(knobs[i].wide ? wide : narrow);
        if (!value || PyDict_SetItemString(dict, knobs[i].name, value) < 0)
            Py_CLEAR(dict);
        Py_XDECREF(value);
    }
    return dict;
}

/* Names are borrowed from the tuple, which the caller holds. */
static int parse_field(PyObject *tuple, struct damacy_field *field, int64_t **shape, const int64_t *shape_end)
{
    PyObject *extents;
    int dtype;
    if (!PyArg_ParseTuple(tuple, "sO!i", &field->name, &PyTuple_Type, &extents, &dtype))
        return -1;
    Py_ssize_t rank = PyTuple_Size(extents);
    if (rank > shape_end - *shape) { /* the tuple was measured a moment ago */
        PyErr_SetString(PyExc_RuntimeError, "sample_shape changed");
        return -1;
    }
    field->rank = (uint32_t)rank;
    field->sample_shape = *shape;
    field->dtype = (enum damacy_dtype)dtype;
    for (Py_ssize_t a = 0; a < rank; a++) {
        *(*shape)++ = PyLong_AsLongLong(PyTuple_GetItem(extents, a));
        if (PyErr_Occurred())
            return -1;
    }
    return 0;
}

static Py_ssize_t count_extents(PyObject *fields)
{
    Py_ssize_t count = 0;
    for (Py_ssize_t f = 0; f < PyTuple_Size(fields); f++) {
        PyObject *shape = PyTuple_GetItem(PyTuple_GetItem(fields, f), 1);
        if (!shape || !PyTuple_Check(shape))
            return PyErr_Occurred() ? -1 : (PyErr_SetString(PyExc_TypeError, "a field's shape is no tuple"), -1);
        count += PyTuple_Size(shape);
    }
    return count;
}

int dmc_native_config_parse(PyObject *tuple, struct dmc_native_config *native)
{
    PyObject *samples, *fields, *limit, *knob_dict, *gpu_limit;
    int device, ordinal, on_error, verify, decode, numa, numa_node, gpu_direct_storage;
    *native = (struct dmc_native_config){.config = DAMACY_CONFIG_INIT};
    if (!PyArg_ParseTuple(tuple, "OO!iiiiOO!Oiziii:Config", &samples, &PyTuple_Type, &fields, &device, &ordinal, &on_error,
                          &verify, &limit, &PyDict_Type, &knob_dict, &gpu_limit, &decode, &native->config.storage_options,
                          &numa, &numa_node, &gpu_direct_storage))
        return -1;
    struct damacy_config *config = &native->config;
    uint64_t samples_per_batch;
    if (parse_number(samples, "samples_per_batch", UINT32_MAX, &samples_per_batch) < 0 ||
        parse_number(limit, "max_host_memory_bytes", UINT64_MAX, &config->max_host_memory_bytes) < 0 ||
        parse_number(gpu_limit, "max_gpu_memory_bytes", UINT64_MAX, &config->max_gpu_memory_bytes) < 0 ||
        parse_knobs(knob_dict, &config->tuning) < 0)
        return -1;
    config->samples_per_batch = (uint32_t)samples_per_batch;
    config->device = (enum damacy_device_type)device;
    config->device_ordinal = ordinal;
    config->on_error = (enum damacy_on_error)on_error;
    config->verify = (enum damacy_verify)verify;
    config->decode = (enum damacy_decode)decode;
    config->numa = (enum damacy_numa)numa;
    config->numa_node = (uint32_t)numa_node;
    config->gpu_direct_storage = (uint32_t)gpu_direct_storage;
    Py_ssize_t field_count = PyTuple_Size(fields), extents = count_extents(fields);
    if (extents < 0)
        return -1;
    size_t field_bytes = (size_t)field_count * sizeof *native->fields;
    native->fields = PyMem_Malloc(field_bytes + (size_t)extents * sizeof(int64_t) + 1);
    if (!native->fields) {
        PyErr_NoMemory();
        return -1;
    }
    int64_t *shape = (int64_t *)((char *)native->fields + field_bytes);
    const int64_t *shape_end = shape + extents;
    for (Py_ssize_t f = 0; f < field_count; f++)
        if (parse_field(PyTuple_GetItem(fields, f), &native->fields[f], &shape, shape_end) < 0) {
            PyMem_Free(native->fields);
            native->fields = NULL;
            return -1;
        }
    config->fields = native->fields;
    config->field_count = (uint32_t)field_count;
    return 0;
}
