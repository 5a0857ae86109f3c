/* Managed tensors in capsules. A consumer renames the capsule to "used_..." and calls the deleter when it is done; a capsule
 * that nobody used calls it itself. The tensor shares the batch's memory and keeps it, and only it, alive. */
#include "core.h"
#include "dlpack.h"

#include <stdlib.h>
#include <string.h>

static const char versioned_name[] = "dltensor_versioned";
static const char managed_name[] = "dltensor";

static void drop_versioned(PyObject *capsule)
{
    if (!PyCapsule_IsValid(capsule, versioned_name))
        return;
    struct dmc_dlpack_versioned *tensor = PyCapsule_GetPointer(capsule, versioned_name);
    tensor->deleter(tensor);
}

static void drop_managed(PyObject *capsule)
{
    if (!PyCapsule_IsValid(capsule, managed_name))
        return;
    struct dmc_dlpack_managed *tensor = PyCapsule_GetPointer(capsule, managed_name);
    tensor->deleter(tensor);
}

/* A tensor of its own memory, for copy=True. Plain malloc: the deleter may run anywhere, also when the interpreter is gone. */
struct copied {
    struct dmc_dlpack_versioned versioned;
    struct dmc_dlpack_managed managed;
    int64_t shape[DAMACY_RANK_MAX + 1];
    int64_t strides[DAMACY_RANK_MAX + 1];
    void *data;
};

static void free_copied(struct copied *copied)
{
    free(copied->data);
    free(copied);
}
static void delete_versioned_copy(struct dmc_dlpack_versioned *tensor)
{
    free_copied(tensor->context);
}
static void delete_managed_copy(struct dmc_dlpack_managed *tensor)
{
    free_copied(tensor->context);
}

static void *copy_tensor(const struct dmc_dlpack_tensor *tensor, uint64_t bytes, bool versioned)
{
    struct copied *copied = calloc(1, sizeof *copied);
    if (!copied || posix_memalign(&copied->data, 64, bytes ? bytes : 64) != 0) {
        free(copied);
        return NULL;
    }
    memcpy(copied->data, tensor->data, bytes);
    memcpy(copied->shape, tensor->shape, (size_t)tensor->ndim * sizeof(int64_t));
    memcpy(copied->strides, tensor->strides, (size_t)tensor->ndim * sizeof(int64_t));
    struct dmc_dlpack_tensor own = *tensor;
    own.data = copied->data;
    own.shape = copied->shape;
    own.strides = copied->strides;
    copied->versioned = (struct dmc_dlpack_versioned){1, 0, copied, delete_versioned_copy, DMC_DLPACK_FLAG_COPIED, own};
    copied->managed = (struct dmc_dlpack_managed){own, copied, delete_managed_copy};
    return versioned ? (void *)&copied->versioned : (void *)&copied->managed;
}

/* What a consumer asks for, as the array API standard has it. */
struct wishes {
    bool versioned, copy;
    bool has_stream; /* false: stream=-1, the consumer takes care itself */
    void *stream;    /* NULL: the legacy default stream */
};

static int parse_stream(PyObject *stream, const struct damacy_batch_info *info, struct wishes *wishes)
{
    wishes->has_stream = true;
    wishes->stream = NULL;
    if (stream == Py_None)
        return 0;
    if (info->device == DAMACY_CPU) {
        dmc_raise_text(DAMACY_INVAL, "pop", "stream must be None: the tensor is on the CPU");
        return -1;
    }
    long long handle = PyLong_AsLongLong(stream);
    if (handle == -1 && PyErr_Occurred())
        return -1;
    wishes->has_stream = handle != -1;
    wishes->stream = (void *)(uintptr_t)handle; /* 1 and 2 are the driver's own names of the default streams */
    return 0;
}

enum { STREAM, MAX_VERSION, DL_DEVICE, COPY, ARGUMENT_COUNT };

/* Sorts what came in by name. PyArg_ParseTupleAndKeywords, which wants a dict, took more time than all else of an export, and
 * there is one for each batch. */
static int sort_arguments(PyObject *const *args, Py_ssize_t count, PyObject *names, PyObject *sorted[ARGUMENT_COUNT])
{
    static const char *const known[ARGUMENT_COUNT] = {"stream", "max_version", "dl_device", "copy"};
    if (count) {
        PyErr_Format(PyExc_TypeError, "__dlpack__() takes keyword arguments only, %zd positional ones were given", count);
        return -1;
    }
    Py_ssize_t name_count = names ? PyTuple_Size(names) : 0;
    for (Py_ssize_t i = 0; i < name_count; i++) {
        PyObject *name = PyTuple_GetItem(names, i);
        int found = 0;
        while (found < ARGUMENT_COUNT && PyUnicode_CompareWithASCIIString(name, known[found]) != 0)
            found++;
        if (found == ARGUMENT_COUNT) {
            PyErr_Format(PyExc_TypeError, "__dlpack__() got an unexpected keyword argument %R", name);
            return -1;
        }
        sorted[found] = args[i];
    }
    return 0;
}

/* stream, max_version, dl_device and copy of `__dlpack__`, as the array API standard has them. */
static int parse_arguments(PyObject *const *args, Py_ssize_t count, PyObject *names, const struct damacy_batch_info *info,
                           struct wishes *wishes)
{
    PyObject *sorted[ARGUMENT_COUNT] = {Py_None, Py_None, Py_None, Py_None};
    if (sort_arguments(args, count, names, sorted) < 0 || parse_stream(sorted[STREAM], info, wishes) < 0)
        return -1;
    PyObject *version = sorted[MAX_VERSION], *device = sorted[DL_DEVICE], *copy_flag = sorted[COPY];
    int own = info->device == DAMACY_CPU ? DMC_DLPACK_CPU : DMC_DLPACK_CUDA;
    int major = 0, minor = 0, type = own, id = info->device_ordinal;
    if (version != Py_None && (!PyTuple_Check(version) || !PyArg_ParseTuple(version, "ii", &major, &minor))) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_TypeError, "max_version is a tuple of two integers, or None");
        return -1;
    }
    if (device != Py_None && (!PyTuple_Check(device) || !PyArg_ParseTuple(device, "ii", &type, &id))) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_TypeError, "dl_device is a tuple of two integers, or None");
        return -1;
    }
    if (type != own || id != info->device_ordinal) {
        PyErr_Format(PyExc_BufferError, "the tensor is on %s; it cannot be exported to device (%d, %d)",
                     info->device == DAMACY_CPU ? "the CPU" : "a CUDA device", type, id);
        return -1;
    }
    int truth = copy_flag == Py_None ? 0 : PyObject_IsTrue(copy_flag);
    if (truth > 0 && info->device != DAMACY_CPU) {
        PyErr_SetString(PyExc_BufferError, "copy=True is not supported on a CUDA device; copy what from_dlpack gives");
        return -1;
    }
    wishes->versioned = major >= 1;
    wishes->copy = truth > 0;
    return truth < 0 ? -1 : 0;
}

PyObject *dmc_dlpack_capsule(struct dmc_batch_object *batch, uint32_t field, PyObject *const *args, Py_ssize_t count,
                             PyObject *names)
{
    struct wishes wishes;
    struct damacy_batch_info info;
    struct damacy_error error;
    void *tensor;
    if (dmc_batch_describe(batch, &info) < 0 || parse_arguments(args, count, names, &info, &wishes) < 0)
        return NULL;
    bool versioned = wishes.versioned, copy = wishes.copy;
    if (wishes.has_stream && damacy_batch_stream(batch->native, wishes.stream, &error) != DAMACY_OK)
        return dmc_raise(&error);
    if (damacy_batch_dlpack(batch->native, field, versioned, &tensor, &error) != DAMACY_OK)
        return dmc_raise(&error);
    if (copy) {
        struct dmc_dlpack_versioned *as_versioned = tensor;
        struct dmc_dlpack_managed *as_managed = tensor;
        void *own = copy_tensor(versioned ? &as_versioned->tensor : &as_managed->tensor, info.tensors[field].bytes, versioned);
        versioned ? as_versioned->deleter(as_versioned) : as_managed->deleter(as_managed);
        if (!own)
            return dmc_raise_text(DAMACY_OOM, "pop", "no memory for a copy of the tensor");
        tensor = own;
    }
    PyObject *capsule =
        versioned ? PyCapsule_New(tensor, versioned_name, drop_versioned) : PyCapsule_New(tensor, managed_name, drop_managed);
    if (!capsule)
        versioned ? ((struct dmc_dlpack_versioned *)tensor)->deleter(tensor)
                  : ((struct dmc_dlpack_managed *)tensor)->deleter(tensor);
    return capsule;
}

PyObject *dmc_dlpack_device(struct dmc_batch_object *batch)
{
    struct damacy_batch_info info;
    if (dmc_batch_describe(batch, &info) < 0)
        return NULL;
    return Py_BuildValue("ii", info.device == DAMACY_CPU ? DMC_DLPACK_CPU : DMC_DLPACK_CUDA, (int)info.device_ordinal);
}
