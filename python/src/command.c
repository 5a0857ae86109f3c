/* `python -m damacy`: the command-line tool of cli/, whose main() is compiled into this module under another name. */
#include "core.h"

int dmc_cli_main(int argc, char **argv);

PyObject *dmc_command(PyObject *module, PyObject *words)
{
    (void)module;
    if (!PyTuple_Check(words))
        return PyErr_Format(PyExc_TypeError, "argv is %R, expected a tuple", words);
    Py_ssize_t count = PyTuple_Size(words), made = 0;
    PyObject **owners = PyMem_Calloc((size_t)count + 1, sizeof *owners);
    char **argv = PyMem_Calloc((size_t)count + 1, sizeof *argv);
    PyObject *result = NULL;
    if (!owners || !argv) {
        PyErr_NoMemory();
        goto out;
    }
    for (; made < count; made++)
        if (!PyUnicode_FSConverter(PyTuple_GetItem(words, made), &owners[made]) ||
            !(argv[made] = PyBytes_AsString(owners[made])))
            goto out;
    int status;
    Py_BEGIN_ALLOW_THREADS status = dmc_cli_main((int)count, argv);
    Py_END_ALLOW_THREADS result = PyLong_FromLong(status);
out:
    for (Py_ssize_t i = 0; owners && i < count; i++)
        Py_XDECREF(owners[i]);
    PyMem_Free(owners);
    PyMem_Free(argv);
    return result;
}
