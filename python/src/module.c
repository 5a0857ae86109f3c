/* damacy._core: the native part of the package. damacy/__init__.py is what people import. */
#include "core.h"

#include <pthread.h>

#define TEXT_(x) #x
#define TEXT(x) TEXT_(x)

struct core dmc_core;

/* Forks between this process and the one that loaded the module: asked several times a batch, where getpid() is a system
 * call. */
static unsigned forks;

static void in_child(void)
{
    forks++;
}

__attribute__((constructor)) static void watch_forks(void)
{
    pthread_atfork(NULL, NULL, in_child);
}

unsigned dmc_python_forks(void)
{
    return forks;
}

static PyObject *core_set_log_level(PyObject *module, PyObject *level)
{
    (void)module;
    long number = PyLong_AsLong(level);
    if (PyErr_Occurred())
        return NULL;
    damacy_set_log_level((enum damacy_log_level)number);
    Py_RETURN_NONE;
}

static PyObject *core_set_log_quiet(PyObject *module, PyObject *quiet)
{
    (void)module;
    int truth = PyObject_IsTrue(quiet);
    if (truth < 0)
        return NULL;
    damacy_set_log_quiet(truth > 0);
    Py_RETURN_NONE;
}

static PyObject *core_uri_shown(PyObject *module, PyObject *uri)
{
    (void)module;
    const char *text;
    size_t bytes;
    PyObject *owner = dmc_uri_bytes(uri, &text, &bytes);
    if (!owner)
        return NULL;
    char shown[DAMACY_URI_BYTES_MAX + 1];
    damacy_uri_shown(text, shown, sizeof shown);
    Py_DECREF(owner);
    return PyUnicode_DecodeFSDefault(shown);
}

static PyObject *core_describe(PyObject *module, PyObject *tuple)
{
    (void)module;
    struct dmc_native_config native;
    struct damacy_error error;
    char text[4096];
    if (dmc_native_config_parse(tuple, &native) < 0)
        return NULL;
    enum damacy_status status = damacy_config_describe(&native.config, text, sizeof text, NULL, &error);
    PyMem_Free(native.fields);
    /* Over the budget: the breakdown is what was asked for. */
    return status == DAMACY_OK || status == DAMACY_BUDGET ? PyUnicode_FromString(text) : dmc_raise(&error);
}

static PyObject *core_tuning_defaults(PyObject *module, PyObject *tuple)
{
    (void)module;
    struct dmc_native_config native;
    struct damacy_error error;
    struct damacy_tuning tuning = DAMACY_TUNING_INIT;
    if (dmc_native_config_parse(tuple, &native) < 0)
        return NULL;
    enum damacy_status status = damacy_tuning_defaults(&native.config, &tuning, &error);
    PyMem_Free(native.fields);
    return status == DAMACY_OK ? dmc_tuning_dict(&tuning) : dmc_raise(&error);
}

/* The members of an enumeration of damacy._types, by value. */
static int look_up_members(PyObject *types, const char *name, PyObject **members, int count)
{
    PyObject *class = PyObject_GetAttrString(types, name);
    for (int i = 0; class && i < count; i++)
        if (!(members[i] = PyObject_CallFunction(class, "i", i)))
            Py_CLEAR(class);
    Py_XDECREF(class);
    return class ? 0 : -1;
}

static int look_up_exceptions(PyObject *errors)
{
    PyObject *by_status = PyObject_GetAttrString(errors, "BY_STATUS");
    if (!by_status)
        return -1;
    for (int i = 0; i < DMC_STATUS_COUNT; i++) {
        dmc_core.exceptions[i] = PyDict_GetItemWithError(by_status, dmc_core.statuses[i]);
        Py_XINCREF(dmc_core.exceptions[i]);
    }
    Py_DECREF(by_status);
    return PyErr_Occurred() ? -1 : 0;
}

static int look_up(void)
{
    PyObject *types = PyImport_ImportModule("damacy._types"), *errors = types ? PyImport_ImportModule("damacy._errors") : NULL;
    const struct {
        const char *name;
        PyObject **to;
    } classes[] = {
        {"BatchInfo", &dmc_core.batch_info}, {"TensorInfo", &dmc_core.tensor_info}, {"Row", &dmc_core.row},
        {"Stats", &dmc_core.stats},          {"Metric", &dmc_core.metric},          {"Pending", &dmc_core.pending},
    };
    bool whole = errors && look_up_members(types, "Status", dmc_core.statuses, DMC_STATUS_COUNT) == 0 &&
                 look_up_members(types, "Dtype", dmc_core.dtypes, DAMACY_DTYPE_COUNT) == 0 && look_up_exceptions(errors) == 0;
    for (size_t i = 0; whole && i < sizeof classes / sizeof *classes; i++)
        whole = (*classes[i].to = PyObject_GetAttrString(types, classes[i].name)) != NULL;
    Py_XDECREF(types);
    Py_XDECREF(errors);
    return whole ? 0 : -1;
}

static int add_types(PyObject *module)
{
    const struct {
        const char *name; /* NULL: not for users */
        PyTypeObject *(*create)(void);
        PyTypeObject **to;
    } types[] = {
        {"Sample", dmc_sample_type_create, &dmc_core.sample},
        {"Pipeline", dmc_pipeline_type_create, &dmc_core.pipeline},
        {"BatchIterator", dmc_iterator_type_create, &dmc_core.iterator},
        {"Batch", dmc_batch_type_create, &dmc_core.batch},
        {"Tensor", dmc_tensor_type_create, &dmc_core.tensor},
        {NULL, dmc_array_source_type_create, &dmc_core.array_source},
    };
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        *types[i].to = types[i].create();
        if (!*types[i].to || (types[i].name && PyModule_AddObjectRef(module, types[i].name, (PyObject *)*types[i].to) < 0))
            return -1;
    }
    return 0;
}

PyMODINIT_FUNC PyInit__core(void);
PyMODINIT_FUNC PyInit__core(void)
{
    static PyMethodDef functions[] = {
        {"set_log_level", core_set_log_level, METH_O,
         "set_log_level($module, level, /)\n--\n\nA number of enum damacy_log_level."},
        {"set_log_quiet", core_set_log_quiet, METH_O,
         "set_log_quiet($module, quiet, /)\n--\n\nTrue: nothing at all goes to stderr, for the whole process.\n\n>>> "
         "damacy.set_log_quiet(False)\n"},
        {"uri_shown", core_uri_shown, METH_O, "uri_shown($module, uri, /)\n--\n\ndamacy_uri_shown()."},
        {"describe", core_describe, METH_O,
         "describe($module, config, /)\n--\n\ndamacy_config_describe() of a Config's tuple."},
        {"tuning_defaults", core_tuning_defaults, METH_O,
         "tuning_defaults($module, config, /)\n--\n\ndamacy_tuning_defaults() of a Config's tuple."},
        {"open", dmc_open, METH_VARARGS,
         "open($module, uris, storage_options, timeout_ns, shallow, wells, /)\n--\n\ndamacy_open_many(): dicts and "
         "exceptions."},
        {"register_codec", dmc_register_codec, METH_VARARGS,
         "register_codec($module, name, function, array_to_bytes, /)\n--\n\ndamacy_codec_register() of a Python function."},
        {"unregister_codec", dmc_unregister_codec, METH_O,
         "unregister_codec($module, name, /)\n--\n\ndamacy_codec_unregister()."},
        {"command", dmc_command, METH_O, "command($module, argv, /)\n--\n\nThe command-line tool; returns its exit status."},
        {0},
    };
    static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "damacy._core",
                                            .m_doc = "The native part of damacy.", .m_size = -1, .m_methods = functions};
    PyObject *module = PyModule_Create(&definition);
    if (!module || look_up() < 0 || add_types(module) < 0 || dmc_codecs_begin() < 0 ||
        PyModule_AddStringConstant(module, "__version__",
                                   TEXT(DAMACY_VERSION_MAJOR) "." TEXT(DAMACY_VERSION_MINOR) "." TEXT(DAMACY_VERSION_PATCH)) <
            0) {
        Py_XDECREF(module);
        return NULL;
    }
    return module;
}
