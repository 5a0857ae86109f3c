/* Tensor: one field of a batch. Consumers take it through DLPack or the buffer protocol; what they take outlives the batch's
 * release, the Tensor itself does not. */
#include "core.h"
#include "dlpack.h"

#include <stdlib.h>

struct tensor_object {
    PyObject_HEAD struct dmc_batch_object *batch; /* a reference */
    uint32_t field;
};

PyObject *dmc_tensor_create(struct dmc_batch_object *batch, uint32_t field)
{
    allocfunc allocate = (allocfunc)PyType_GetSlot(dmc_core.tensor, Py_tp_alloc);
    struct tensor_object *self = (struct tensor_object *)allocate(dmc_core.tensor, 0);
    if (!self)
        return NULL;
    Py_INCREF(batch);
    self->batch = batch;
    self->field = field;
    return (PyObject *)self;
}

static void tensor_dealloc(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    Py_XDECREF(((struct tensor_object *)object)->batch);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(object);
    Py_DECREF(type);
}

static const struct damacy_tensor_info *describe(PyObject *object)
{
    const struct tensor_object *self = (struct tensor_object *)object;
    struct damacy_batch_info info;
    return dmc_batch_describe(self->batch, &info) < 0 ? NULL : &info.tensors[self->field];
}

static PyObject *shape_tuple(const struct damacy_tensor_info *info)
{
    PyObject *shape = PyTuple_New(info->rank);
    for (uint32_t a = 0; shape && a < info->rank; a++) {
        PyObject *extent = PyLong_FromLongLong(info->shape[a]);
        if (!extent || PyTuple_SetItem(shape, a, extent) < 0)
            Py_CLEAR(shape);
    }
    return shape;
}

static PyObject *get_shape(PyObject *self, void *closure)
{
    (void)closure;
    const struct damacy_tensor_info *info = describe(self);
    return info ? shape_tuple(info) : NULL;
}

static PyObject *get_dtype(PyObject *self, void *closure)
{
    (void)closure;
    const struct damacy_tensor_info *info = describe(self);
    if (!info)
        return NULL;
    Py_INCREF(dmc_core.dtypes[info->dtype]);
    return dmc_core.dtypes[info->dtype];
}

static PyObject *get_name(PyObject *self, void *closure)
{
    (void)closure;
    const struct damacy_tensor_info *info = describe(self);
    return info ? PyUnicode_FromString(info->name) : NULL;
}

static PyObject *get_nbytes(PyObject *self, void *closure)
{
    (void)closure;
    const struct damacy_tensor_info *info = describe(self);
    return info ? PyLong_FromUnsignedLongLong(info->bytes) : NULL;
}

static PyObject *tensor_repr(PyObject *self)
{
    const struct damacy_tensor_info *info = describe(self);
    if (!info) {
        if (!PyErr_ExceptionMatches(PyExc_ValueError))
            return NULL;
        PyErr_Clear();
        return PyUnicode_FromString("<damacy.Tensor of a released batch>");
    }
    PyObject *shape = shape_tuple(info);
    PyObject *text =
        shape ? PyUnicode_FromFormat("<damacy.Tensor '%s' shape=%R dtype=%s>", info->name, shape, damacy_dtype_str(info->dtype))
              : NULL;
    Py_XDECREF(shape);
    return text;
}

static PyObject *tensor_dlpack(PyObject *object, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    struct tensor_object *self = (struct tensor_object *)object;
    return dmc_dlpack_capsule(self->batch, self->field, args, count, names);
}

static PyObject *tensor_dlpack_device(PyObject *self, PyObject *unused)
{
    (void)unused;
    return describe(self) ? dmc_dlpack_device(((struct tensor_object *)self)->batch) : NULL;
}

/* --- the buffer protocol --- */

/* What a view points to. It holds an export of its own, so that the memory stays when the batch is released. */
struct view_parts {
    struct dmc_dlpack_versioned *export;
    Py_ssize_t shape[DAMACY_RANK_MAX + 1];
    Py_ssize_t strides[DAMACY_RANK_MAX + 1];
};

/* In the notation of Python's struct module; NULL where it knows none. */
static const char *const formats[DAMACY_DTYPE_COUNT] = {
    [DAMACY_BOOL] = "?", [DAMACY_I8] = "b",  [DAMACY_I16] = "h", [DAMACY_I32] = "i", [DAMACY_I64] = "l", [DAMACY_U8] = "B",
    [DAMACY_U16] = "H",  [DAMACY_U32] = "I", [DAMACY_U64] = "L", [DAMACY_F16] = "e", [DAMACY_F32] = "f", [DAMACY_F64] = "d",
};

int dmc_tensor_get_buffer(PyObject *exporter, struct dmc_batch_object *batch, uint32_t field, Py_buffer *view, int flags)
{
    struct damacy_batch_info info;
    struct damacy_error error;
    void *export;
    view->obj = NULL;
    if (dmc_batch_describe(batch, &info) < 0)
        return -1;
    if (info.device != DAMACY_CPU) {
        PyErr_SetString(PyExc_BufferError, "the tensor is on a CUDA device; take it by DLPack, as torch.from_dlpack does");
        return -1;
    }
    const struct damacy_tensor_info *tensor = &info.tensors[field];
    const char *format = formats[tensor->dtype];
    if (!format) {
        PyErr_Format(PyExc_BufferError,
                     "NumPy and buffers know no dtype %s; take it by DLPack, as torch.from_dlpack does, or ask for f32",
                     damacy_dtype_str(tensor->dtype));
        return -1;
    }
    if (tensor->rank > 1 && (flags & PyBUF_F_CONTIGUOUS) == PyBUF_F_CONTIGUOUS) {
        PyErr_SetString(PyExc_BufferError, "the tensor is in C order");
        return -1;
    }
    struct view_parts *parts = calloc(1, sizeof *parts);
    if (!parts) {
        PyErr_NoMemory();
        return -1;
    }
    if (damacy_batch_dlpack(batch->native, field, true, &export, &error) != DAMACY_OK) {
        free(parts);
        dmc_raise(&error);
        return -1;
    }
    parts->export = export;
    Py_ssize_t item_bytes = (Py_ssize_t)damacy_dtype_bytes(tensor->dtype), stride = item_bytes;
    for (uint32_t a = tensor->rank; a-- > 0;) {
        parts->shape[a] = (Py_ssize_t)tensor->shape[a];
        parts->strides[a] = stride;
        stride *= tensor->shape[a] ? (Py_ssize_t)tensor->shape[a] : 1;
    }
    Py_INCREF(exporter);
    *view = (Py_buffer){
        .buf = tensor->data,
        .obj = exporter,
        .len = (Py_ssize_t)tensor->bytes,
        .itemsize = item_bytes,
        .readonly = 0,
        .ndim = (int)tensor->rank,
        .format = flags & PyBUF_FORMAT ? (char *)format : NULL,
        .shape = flags & PyBUF_ND ? parts->shape : NULL,
        .strides = (flags & PyBUF_STRIDES) == PyBUF_STRIDES ? parts->strides : NULL,
        .internal = parts,
    };
    return 0;
}

void dmc_tensor_release_buffer(PyObject *exporter, Py_buffer *view)
{
    (void)exporter;
    struct view_parts *parts = view->internal;
    parts->export->deleter(parts->export);
    free(parts);
}

/* NumPy asks for the buffer first. Where there is none it would make an array of one object, this one, without a word: so it is
 * told here why. */
PyObject *dmc_tensor_array(PyObject *exporter, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"dtype", "copy", NULL};
    PyObject *dtype = Py_None, *copy = Py_None, *array = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|OO:__array__", names, &dtype, &copy))
        return NULL;
    PyObject *view = PyMemoryView_FromObject(exporter), *numpy = view ? PyImport_ImportModule("numpy") : NULL;
    PyObject *make = numpy ? PyObject_GetAttrString(numpy, "array") : NULL;
    PyObject *positional = make ? PyTuple_Pack(2, view, dtype) : NULL;
    PyObject *named = positional ? Py_BuildValue("{sO}", "copy", copy) : NULL;
    if (named)
        array = PyObject_Call(make, positional, named);
    Py_XDECREF(named);
    Py_XDECREF(positional);
    Py_XDECREF(make);
    Py_XDECREF(numpy);
    Py_XDECREF(view);
    return array;
}

static int tensor_get_buffer(PyObject *object, Py_buffer *view, int flags)
{
    struct tensor_object *self = (struct tensor_object *)object;
    return dmc_tensor_get_buffer(object, self->batch, self->field, view, flags);
}

PyDoc_STRVAR(tensor_doc,
             "One field of a batch, until the batch is released.\n\n"
             "np.from_dlpack, torch.from_dlpack and jax.dlpack.from_dlpack share its memory, as do np.asarray and memoryview.\n"
             "What they made stays valid after the batch is released: its buffer is used again when all of it is gone.");

PyTypeObject *dmc_tensor_type_create(void)
{
    static PyMethodDef methods[] = {
        {"__dlpack__", (PyCFunction)(void (*)(void))tensor_dlpack, METH_FASTCALL | METH_KEYWORDS,
         "__dlpack__($self, /, *, stream=None, max_version=None, dl_device=None, copy=None)\n--\n\nExport as a DLPack "
         "capsule."},
        {"__dlpack_device__", tensor_dlpack_device, METH_NOARGS,
         "__dlpack_device__($self, /)\n--\n\n(1, 0): the CPU; (2, n): CUDA device n."},
        {"__array__", (PyCFunction)(void (*)(void))dmc_tensor_array, METH_VARARGS | METH_KEYWORDS, DMC_TENSOR_ARRAY_DOC},
        {0},
    };
    static PyGetSetDef members[] = {
        {"shape", get_shape, NULL, "Extents; the first is the number of rows.", NULL},
        {"dtype", get_dtype, NULL, "Element type.", NULL},
        {"name", get_name, NULL, "Name of the field; \"\" for the unnamed one.", NULL},
        {"nbytes", get_nbytes, NULL, "Bytes of all elements.", NULL},
        {0},
    };
    static PyType_Slot slots[] = {
        {Py_tp_dealloc, tensor_dealloc},
        {Py_tp_doc, (void *)tensor_doc},
        {Py_tp_methods, methods},
        {Py_tp_getset, members},
        {Py_tp_repr, tensor_repr},
        {Py_bf_getbuffer, tensor_get_buffer},
        {Py_bf_releasebuffer, dmc_tensor_release_buffer},
        {0, NULL},
    };
    static PyType_Spec spec = {"damacy.Tensor", sizeof(struct tensor_object), 0,
                               Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION, slots};
    return (PyTypeObject *)PyType_FromSpec(&spec);
}
