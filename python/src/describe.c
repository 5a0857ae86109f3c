/* damacy.open(): what is at a uri, as dicts that damacy/_describe.py makes nodes of.
 *
 * The call itself runs without the interpreter's lock; ten times a second it asks whether a signal came, in this same thread,
 * so Ctrl-C ends it with what the handler raised. Children are dicts within their parent's; other links (levels, labels) are
 * paths. */
#include "core.h"

#include <string.h>

static PyObject *text(const char *value)
{
    return PyUnicode_DecodeFSDefault(value); /* as uris of Samples: bytes that are no UTF-8 come back unharmed */
}

static PyObject *number(uint64_t value)
{
    return PyLong_FromUnsignedLongLong(value);
}

/* NULL becomes None. */
static PyObject *extents(const uint64_t *values, uint32_t count)
{
    if (!values)
        Py_RETURN_NONE;
    PyObject *tuple = PyTuple_New(count);
    for (uint32_t i = 0; tuple && i < count; i++) {
        PyObject *value = number(values[i]);
        if (!value || PyTuple_SetItem(tuple, i, value) < 0)
            Py_CLEAR(tuple);
    }
    return tuple;
}

static PyObject *floats(const double *values, uint32_t count)
{
    if (!values)
        Py_RETURN_NONE;
    PyObject *tuple = PyTuple_New(count);
    for (uint32_t i = 0; tuple && i < count; i++) {
        PyObject *value = PyFloat_FromDouble(values[i]);
        if (!value || PyTuple_SetItem(tuple, i, value) < 0)
            Py_CLEAR(tuple);
    }
    return tuple;
}

static PyObject *texts(const char *const *values, uint32_t count)
{
    PyObject *tuple = PyTuple_New(count);
    for (uint32_t i = 0; tuple && i < count; i++) {
        PyObject *value = text(values[i]);
        if (!value || PyTuple_SetItem(tuple, i, value) < 0)
            Py_CLEAR(tuple);
    }
    return tuple;
}

static PyObject *paths(const struct damacy_node *const *nodes, uint32_t count)
{
    PyObject *tuple = PyTuple_New(count);
    for (uint32_t i = 0; tuple && i < count; i++) {
        PyObject *value = text(nodes[i]->path);
        if (!value || PyTuple_SetItem(tuple, i, value) < 0)
            Py_CLEAR(tuple);
    }
    return tuple;
}

static PyObject *axes_tuple(const struct damacy_axis *axes, uint32_t count)
{
    PyObject *tuple = PyTuple_New(count);
    for (uint32_t i = 0; tuple && i < count; i++) {
        PyObject *value = Py_BuildValue("sss", axes[i].name, axes[i].type, axes[i].unit);
        if (!value || PyTuple_SetItem(tuple, i, value) < 0)
            Py_CLEAR(tuple);
    }
    return tuple;
}

static PyObject *wells_tuple(const struct damacy_well *wells, uint32_t count)
{
    PyObject *tuple = PyTuple_New(count);
    for (uint32_t i = 0; tuple && i < count; i++) {
        PyObject *value = Py_BuildValue("NN", text(wells[i].path), text(wells[i].uri));
        if (!value || PyTuple_SetItem(tuple, i, value) < 0)
            Py_CLEAR(tuple);
    }
    return tuple;
}

/* Takes over `value`. */
static int put(PyObject *dict, const char *name, PyObject *value)
{
    if (!value)
        return -1;
    int result = PyDict_SetItemString(dict, name, value);
    Py_DECREF(value);
    return result;
}

static int put_array(PyObject *dict, const struct damacy_array_info *array)
{
    return put(dict, "shape", extents(array->shape, array->rank)) < 0 ||
                   put(dict, "chunks", extents(array->chunk_shape, array->rank)) < 0 ||
                   put(dict, "shards", extents(array->shard_shape, array->rank)) < 0 ||
                   put(dict, "dtype", PyLong_FromLong(array->dtype)) < 0 || put(dict, "nbytes", number(array->bytes)) < 0 ||
                   put(dict, "data_type", text(array->data_type)) < 0 || put(dict, "fill_value", text(array->fill_value)) < 0 ||
                   put(dict, "codecs", text(array->codecs)) < 0 || put(dict, "chunk_grid", text(array->chunk_grid)) < 0 ||
                   put(dict, "chunk_key_encoding", text(array->chunk_key_encoding)) < 0 ||
                   put(dict, "axes", axes_tuple(array->axes, array->rank)) < 0 ||
                   put(dict, "scale", floats(array->scale, array->rank)) < 0 ||
                   put(dict, "translation", floats(array->translation, array->rank)) < 0 ||
                   put(dict, "members", texts(array->members, array->member_count)) < 0
               ? -1
               : 0;
}

static int put_group(PyObject *dict, const struct damacy_node *node)
{
    return put(dict, "ome_version", text(node->ome_version)) < 0 ||
                   put(dict, "axes", axes_tuple(node->axes, node->axis_count)) < 0 ||
                   put(dict, "levels", paths(node->levels, node->level_count)) < 0 ||
                   put(dict, "labels", paths(node->labels, node->label_count)) < 0 ||
                   put(dict, "wells", wells_tuple(node->wells, node->well_count)) < 0 ||
                   put(dict, "fields", texts(node->fields, node->field_count)) < 0 ||
                   put(dict, "consolidated", PyBool_FromLong(node->consolidated)) < 0
               ? -1
               : 0;
}

static PyObject *node_dict(const struct damacy_node *node)
{
    PyObject *dict = PyDict_New();
    if (!dict || Py_EnterRecursiveCall(" while describing a hierarchy")) {
        Py_XDECREF(dict);
        return NULL;
    }
    int result = put(dict, "kind", text(damacy_node_kind_str(node->kind))) < 0 ||
                         put(dict, "status", PyLong_FromLong(node->status)) < 0 ||
                         put(dict, "message", text(node->message)) < 0 || put(dict, "path", text(node->path)) < 0 ||
                         put(dict, "uri", text(node->uri)) < 0 || put(dict, "zarr_format", number(node->zarr_format)) < 0 ||
                         put(dict, "attributes", text(node->attributes)) < 0 || put(dict, "cut", PyBool_FromLong(node->cut)) < 0
                     ? -1
                     : 0;
    if (result == 0)
        result = node->array ? put_array(dict, node->array) : put_group(dict, node);
    PyObject *children = result == 0 ? PyTuple_New((Py_ssize_t)node->child_count) : NULL;
    for (uint64_t i = 0; children && i < node->child_count; i++) {
        PyObject *child = node_dict(node->children[i]);
        if (!child || PyTuple_SetItem(children, (Py_ssize_t)i, child) < 0)
            Py_CLEAR(children);
    }
    Py_LeaveRecursiveCall();
    if (!children || put(dict, "children", children) < 0)
        Py_CLEAR(dict);
    return dict;
}

static bool go_on(void *user)
{
    (void)user;
    PyGILState_STATE state = PyGILState_Ensure();
    bool quiet = PyErr_CheckSignals() == 0; /* what a handler raised waits in this thread */
    PyGILState_Release(state);
    return quiet;
}

/* What the call needs of its uris; freed together. */
struct request {
    Py_ssize_t count;
    PyObject **owners; /* of the uris' bytes */
    const char **uris;
    struct damacy_node **nodes;
    struct damacy_error *errors;
};

static void request_deinit(struct request *request)
{
    for (Py_ssize_t i = 0; i < request->count; i++) {
        if (request->owners)
            Py_XDECREF(request->owners[i]);
        if (request->nodes)
            damacy_node_free(request->nodes[i]);
    }
    PyMem_Free(request->owners);
    PyMem_Free(request->uris);
    PyMem_Free(request->nodes);
    PyMem_Free(request->errors);
}

static int request_init(struct request *request, PyObject *uris)
{
    size_t count = (size_t)PyTuple_Size(uris);
    *request = (struct request){.count = (Py_ssize_t)count};
    request->owners = PyMem_Calloc(count + 1, sizeof *request->owners);
    request->uris = PyMem_Calloc(count + 1, sizeof *request->uris);
    request->nodes = PyMem_Calloc(count + 1, sizeof *request->nodes);
    request->errors = PyMem_Calloc(count + 1, sizeof *request->errors);
    if (!request->owners || !request->uris || !request->nodes || !request->errors) {
        PyErr_NoMemory();
        return -1;
    }
    for (size_t i = 0; i < count; i++) {
        size_t bytes;
        request->owners[i] = dmc_uri_bytes(PyTuple_GetItem(uris, (Py_ssize_t)i), &request->uris[i], &bytes);
        if (!request->owners[i])
            return -1;
    }
    return 0;
}

PyObject *dmc_open(PyObject *module, PyObject *args)
{
    (void)module;
    PyObject *uris;
    unsigned long long timeout_ns;
    int shallow, wells;
    struct damacy_open_options options = DAMACY_OPEN_OPTIONS_INIT;
    if (!PyArg_ParseTuple(args, "O!zKpp:open", &PyTuple_Type, &uris, &options.storage_options, &timeout_ns, &shallow, &wells))
        return NULL;
    options.timeout_ns = timeout_ns;
    options.shallow = shallow;
    options.wells = wells;
    options.poll = go_on;
    struct request request;
    PyObject *list = NULL;
    if (request_init(&request, uris) < 0)
        goto out;
    struct damacy_error error;
    memset(&error, 0, sizeof error);
    enum damacy_status status;
    Py_BEGIN_ALLOW_THREADS status =
        damacy_open_many(request.uris, (size_t)request.count, &options, request.nodes, request.errors, &error);
    Py_END_ALLOW_THREADS if (PyErr_Occurred()) /* in go_on() */
        goto out;
    bool any = false; /* else the whole call failed */
    for (Py_ssize_t i = 0; i < request.count; i++)
        any |= request.nodes[i] || request.errors[i].status != DAMACY_OK;
    if (status != DAMACY_OK && !any) {
        dmc_raise(&error);
        goto out;
    }
    list = PyList_New(request.count);
    for (Py_ssize_t i = 0; list && i < request.count; i++) {
        PyObject *item = request.nodes[i] ? node_dict(request.nodes[i]) : dmc_make_exception(&request.errors[i]);
        if (!item || PyList_SetItem(list, i, item) < 0)
            Py_CLEAR(list);
    }
out:
    request_deinit(&request);
    return list;
}
