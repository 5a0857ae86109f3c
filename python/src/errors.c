/* The C library's errors as Python's exceptions. The classes are in damacy/_errors.py. */
#include "core.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Paths may hold any bytes, and a text that was cut may end within a character. */
static PyObject *text_or_none(const char *text)
{
    if (!*text)
        Py_RETURN_NONE;
    return PyUnicode_DecodeUTF8(text, (Py_ssize_t)strlen(text), "replace");
}

static int set_item(PyObject *dict, const char *name, PyObject *value)
{
    if (!value)
        return -1;
    int result = PyDict_SetItemString(dict, name, value);
    Py_DECREF(value);
    return result;
}

PyObject *dmc_make_exception(const struct damacy_error *error)
{
    enum damacy_status status = error->status;
    PyObject *class = (unsigned)status < DMC_STATUS_COUNT ? dmc_core.exceptions[status] : NULL;
    if (!class)
        class = dmc_core.exceptions[DAMACY_INTERNAL];
    PyObject *message = PyUnicode_DecodeUTF8(error->message, (Py_ssize_t)strlen(error->message), "replace");
    PyObject *arguments = message ? PyTuple_Pack(1, message) : NULL;
    PyObject *keywords = arguments ? PyDict_New() : NULL;
    PyObject *exception = NULL;
    bool has_range = error->range_begin || error->range_end;
    if (keywords && set_item(keywords, "uri", text_or_none(error->uri)) == 0 &&
        set_item(keywords, "key", text_or_none(error->key)) == 0 &&
        set_item(keywords, "field", text_or_none(error->field)) == 0 &&
        set_item(keywords, "stage", text_or_none(error->stage)) == 0 &&
        set_item(keywords, "expected", text_or_none(error->expected)) == 0 &&
        set_item(keywords, "found", text_or_none(error->found)) == 0 &&
        set_item(keywords, "hint", text_or_none(error->hint)) == 0 &&
        (!has_range ||
         set_item(keywords, "byte_range",
                  Py_BuildValue("KK", (unsigned long long)error->range_begin, (unsigned long long)error->range_end)) == 0) &&
        (!error->os_error || set_item(keywords, "os_error", PyLong_FromLong(error->os_error)) == 0))
        exception = PyObject_Call(class, arguments, keywords);
    Py_XDECREF(message);
    Py_XDECREF(arguments);
    Py_XDECREF(keywords);
    return exception;
}

PyObject *dmc_raise(const struct damacy_error *error)
{
    PyObject *exception = dmc_make_exception(error);
    if (exception) {
        PyErr_SetObject((PyObject *)Py_TYPE(exception), exception);
        Py_DECREF(exception);
    }
    return NULL;
}

PyObject *dmc_raise_text(enum damacy_status status, const char *stage, const char *format, ...)
{
    struct damacy_error error = {.status = status};
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error.message, sizeof error.message, format, arguments);
    va_end(arguments);
    snprintf(error.stage, sizeof error.stage, "%s", stage);
    return dmc_raise(&error);
}
