/* damacy.register_codec(): codecs whose decode function is Python's.
 *
 * The C library's workers call decode_chunk() at any time, many at once. Each takes the interpreter's lock, so such a codec
 * decodes one chunk at a time and holds up whatever else wants to run Python: the slow path, as its documentation says.
 *
 * What the function is given is a copy of the stored bytes, and what it gives is copied, so it may keep either.
 *
 * When the interpreter ends, threads that still want its lock would be stopped in the middle of C. So at exit, before that, new
 * calls are turned away (`ending`) and those under way are waited for (`calls`). In a forked child nobody is under way. */
#include "core.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static _Atomic bool ending;
static _Atomic uint32_t calls;

struct function {
    PyObject *function;
    PyObject *configurations; /* dict: JSON text -> what it means; filled as they are met */
    PyObject *parse;          /* json.loads */
};

static void forked_child(void)
{
    atomic_store(&calls, 0);
}

/* Enter Python from a thread of the library. false: it is ending. */
static bool enter(PyGILState_STATE *state)
{
    atomic_fetch_add(&calls, 1); /* pairs with codecs_end(): either it sees us, or we see `ending` */
    if (atomic_load(&ending)) {
        atomic_fetch_sub(&calls, 1);
        return false;
    }
    *state = PyGILState_Ensure();
    return true;
}

static void leave(PyGILState_STATE state)
{
    PyGILState_Release(state);
    atomic_fetch_sub(&calls, 1);
}

/* The last line of the traceback, "ValueError: too short". Clears the exception. */
static enum damacy_status tell_exception(char *message, size_t message_bytes)
{
    PyObject *type, *value, *trace, *line = NULL;
    enum damacy_status status = PyErr_ExceptionMatches(PyExc_MemoryError) ? DAMACY_OOM : DAMACY_DECODE;
    PyErr_Fetch(&type, &value, &trace);
    PyErr_NormalizeException(&type, &value, &trace);
    PyObject *name = type ? PyObject_GetAttrString(type, "__name__") : NULL, *text = value ? PyObject_Str(value) : NULL;
    if (name && text)
        line = PyObject_Size(text) > 0 ? PyUnicode_FromFormat("%U: %U", name, text) : (Py_INCREF(name), name);
    const char *utf8 = line ? PyUnicode_AsUTF8AndSize(line, NULL) : NULL;
    snprintf(message, message_bytes, "%s", utf8 ? utf8 : "an exception that cannot be shown");
    Py_XDECREF(name);
    Py_XDECREF(text);
    Py_XDECREF(line);
    Py_XDECREF(type);
    Py_XDECREF(value);
    Py_XDECREF(trace);
    PyErr_Clear();
    return status;
}

/* Borrowed: what the configuration means, parsed once. None if there is none. */
static PyObject *configuration_of(struct function *self, const char *configuration)
{
    if (!configuration)
        return Py_None;
    PyObject *key = PyUnicode_FromString(configuration);
    PyObject *found = key ? PyDict_GetItemWithError(self->configurations, key) : NULL;
    if (key && !found && !PyErr_Occurred()) {
        if (PyDict_Size(self->configurations) > 1000) /* arrays with a configuration each: begin anew rather than grow */
            PyDict_Clear(self->configurations);
        PyObject *parsed = PyObject_CallFunctionObjArgs(self->parse, key, NULL);
        if (parsed && PyDict_SetItem(self->configurations, key, parsed) == 0)
            found = parsed; /* which the dict holds */
        Py_XDECREF(parsed);
    }
    Py_XDECREF(key);
    return found;
}

static enum damacy_status copy_result(PyObject *result, void *target, size_t target_bytes, size_t *decoded_bytes, char *message,
                                      size_t message_bytes)
{
    Py_buffer view;
    if (PyObject_GetBuffer(result, &view, PyBUF_SIMPLE) < 0) {
        PyErr_Clear();
        PyObject *name = PyObject_GetAttrString((PyObject *)Py_TYPE(result), "__name__");
        const char *utf8 = name ? PyUnicode_AsUTF8AndSize(name, NULL) : NULL;
        snprintf(message, message_bytes, "the function gave a %s, expected bytes, or what has contiguous ones",
                 utf8 ? utf8 : "?");
        Py_XDECREF(name);
        PyErr_Clear();
        return DAMACY_DECODE;
    }
    enum damacy_status status = DAMACY_OK;
    if ((size_t)view.len > target_bytes) {
        snprintf(message, message_bytes, "the function gave %zd bytes, expected %zu at most", view.len, target_bytes);
        status = DAMACY_DECODE;
    } else {
        if (view.len)
            memcpy(target, view.buf, (size_t)view.len);
        *decoded_bytes = (size_t)view.len;
    }
    PyBuffer_Release(&view);
    return status;
}

static enum damacy_status decode_chunk(void *user, const char *configuration, const void *source, size_t source_bytes,
                                       void *target, size_t target_bytes, size_t *decoded_bytes, char *message,
                                       size_t message_bytes)
{
    struct function *self = user;
    PyGILState_STATE state;
    if (!enter(&state)) {
        snprintf(message, message_bytes, "the interpreter is ending");
        return DAMACY_DECODE;
    }
    PyObject *meaning = configuration_of(self, configuration), *result = NULL;
    if (meaning) {
        Py_INCREF(meaning);
        result = PyObject_CallFunction(self->function, "y#On", (const char *)source, (Py_ssize_t)source_bytes, meaning,
                                       (Py_ssize_t)target_bytes);
        Py_DECREF(meaning);
    }
    enum damacy_status status = result ? copy_result(result, target, target_bytes, decoded_bytes, message, message_bytes)
                                       : tell_exception(message, message_bytes);
    Py_XDECREF(result);
    leave(state);
    return status;
}

static void free_function(struct function *self)
{
    Py_XDECREF(self->function);
    Py_XDECREF(self->configurations);
    Py_XDECREF(self->parse);
    PyMem_Free(self);
}

/* The last array that used it is gone. */
static void release_function(void *user)
{
    PyGILState_STATE state;
    if (!enter(&state))
        return; /* it goes with the process */
    free_function(user);
    leave(state);
}

PyObject *dmc_register_codec(PyObject *module, PyObject *args)
{
    (void)module;
    const char *name;
    PyObject *function;
    int array_to_bytes;
    if (!PyArg_ParseTuple(args, "sOp:register_codec", &name, &function, &array_to_bytes))
        return NULL;
    struct function *self = PyMem_Calloc(1, sizeof *self);
    PyObject *json = self ? PyImport_ImportModule("json") : PyErr_NoMemory();
    if (json) {
        self->parse = PyObject_GetAttrString(json, "loads");
        self->configurations = PyDict_New();
        Py_INCREF(function);
        self->function = function;
        Py_DECREF(json);
    }
    if (!self || !self->parse || !self->configurations) {
        if (self)
            free_function(self);
        return NULL;
    }
    struct damacy_codec codec = DAMACY_CODEC_INIT;
    codec.user = self;
    codec.decode = decode_chunk;
    codec.release = release_function;
    codec.array_to_bytes = array_to_bytes;
    struct damacy_error error;
    enum damacy_status status;
    Py_BEGIN_ALLOW_THREADS /* its lock may be held by a thread that waits for the interpreter's */
        status = damacy_codec_register(name, &codec, &error);
    Py_END_ALLOW_THREADS if (status != DAMACY_OK)
    {
        free_function(self);
        return dmc_raise(&error);
    }
    Py_RETURN_NONE;
}

PyObject *dmc_unregister_codec(PyObject *module, PyObject *name)
{
    (void)module;
    const char *utf8 = PyUnicode_Check(name) ? PyUnicode_AsUTF8AndSize(name, NULL) : NULL;
    if (!utf8)
        return PyErr_Occurred() ? NULL : PyErr_Format(PyExc_TypeError, "the name of a codec is %R, expected a text", name);
    struct damacy_error error;
    enum damacy_status status;
    Py_BEGIN_ALLOW_THREADS status = damacy_codec_unregister(utf8, &error);
    Py_END_ALLOW_THREADS if (status != DAMACY_OK) return dmc_raise(&error);
    Py_RETURN_NONE;
}

static PyObject *codecs_end(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
    atomic_store(&ending, true);
    Py_BEGIN_ALLOW_THREADS while (atomic_load(&calls)) nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
    Py_END_ALLOW_THREADS Py_RETURN_NONE;
}

int dmc_codecs_begin(void)
{
    static PyMethodDef end = {"end_of_codecs", codecs_end, METH_NOARGS, NULL};
    pthread_atfork(NULL, NULL, forked_child);
    PyObject *module = PyImport_ImportModule("atexit"), *function = PyCFunction_New(&end, NULL);
    PyObject *result = module && function ? PyObject_CallMethod(module, "register", "O", function) : NULL;
    Py_XDECREF(module);
    Py_XDECREF(function);
    Py_XDECREF(result);
    return result ? 0 : -1;
}
