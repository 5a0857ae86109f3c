/* Batch: what pop gives. A mapping of names to tensors; with one field it is also that tensor for DLPack and buffers. */
#include "core.h"

#include <string.h>

PyObject *dmc_batch_object_create(struct damacy_batch *native)
{
    allocfunc allocate = (allocfunc)PyType_GetSlot(dmc_core.batch, Py_tp_alloc);
    struct dmc_batch_object *self = (struct dmc_batch_object *)allocate(dmc_core.batch, 0);
    if (!self) {
        damacy_release(native);
        return NULL;
    }
    self->native = native;
    return (PyObject *)self;
}

int dmc_batch_describe(struct dmc_batch_object *batch, struct damacy_batch_info *info)
{
    struct damacy_error error;
    if (!batch->native) {
        dmc_raise_text(DAMACY_INVAL, "pop",
                       "this batch was released; what np.from_dlpack or torch.from_dlpack took from it before stays valid");
        return -1;
    }
    if (damacy_batch_info(batch->native, info, &error) == DAMACY_OK)
        return 0;
    dmc_raise(&error);
    return -1;
}

static void release_native(struct dmc_batch_object *self)
{
    struct damacy_batch *native = self->native;
    self->native = NULL;
    damacy_release(native);
}

static void batch_dealloc(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    release_native((struct dmc_batch_object *)object);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(object);
    Py_DECREF(type);
}

/* The handle of an event: a number, or what torch and cupy call it. */
static int event_handle(PyObject *event, void **handle)
{
    static const char *const names[] = {"cuda_event", "ptr", "handle"};
    PyObject *number = NULL;
    for (size_t i = 0; !PyLong_Check(event) && !number && i < sizeof names / sizeof *names; i++)
        if (PyObject_HasAttrString(event, names[i]) && !(number = PyObject_GetAttrString(event, names[i])))
            return -1;
    *handle = PyLong_AsVoidPtr(number ? number : event);
    Py_XDECREF(number);
    if (!*handle && !PyErr_Occurred())
        dmc_raise_text(DAMACY_INVAL, "pop", "the event has no handle: record it first");
    return PyErr_Occurred() ? -1 : 0;
}

static PyObject *batch_release(PyObject *object, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"event", NULL};
    struct dmc_batch_object *self = (struct dmc_batch_object *)object;
    PyObject *event = Py_None;
    void *handle;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|$O:release", names, &event))
        return NULL;
    if (event != Py_None && self->native) {
        struct damacy_error error;
        if (event_handle(event, &handle) < 0)
            return NULL;
        struct damacy_batch *native = self->native;
        if (damacy_release_event(native, handle, &error) != DAMACY_OK)
            return dmc_raise(&error);
        self->native = NULL;
        Py_RETURN_NONE;
    }
    release_native(self);
    Py_RETURN_NONE;
}

/* --- mapping --- */

static PyObject *field_name(const struct damacy_batch_info *info, uint32_t field)
{
    return PyUnicode_FromString(info->tensors[field].name);
}

/* keys, values and items as lists. */
static PyObject *list_of(PyObject *object, bool keys, bool values)
{
    struct dmc_batch_object *self = (struct dmc_batch_object *)object;
    struct damacy_batch_info info;
    if (dmc_batch_describe(self, &info) < 0)
        return NULL;
    PyObject *list = PyList_New(0);
    for (uint32_t f = 0; list && f < info.field_count; f++) {
        PyObject *key = keys ? field_name(&info, f) : NULL;
        PyObject *value = values ? dmc_tensor_create(self, f) : NULL;
        PyObject *item = NULL;
        if ((key || !keys) && (value || !values))
            item = keys && values ? PyTuple_Pack(2, key, value) : (Py_XINCREF(keys ? key : value), keys ? key : value);
        if (!item || PyList_Append(list, item) < 0)
            Py_CLEAR(list);
        Py_XDECREF(key);
        Py_XDECREF(value);
        Py_XDECREF(item);
    }
    return list;
}

static PyObject *batch_keys(PyObject *self, PyObject *unused)
{
    return (void)unused, list_of(self, true, false);
}
static PyObject *batch_values(PyObject *self, PyObject *unused)
{
    return (void)unused, list_of(self, false, true);
}
static PyObject *batch_items(PyObject *self, PyObject *unused)
{
    return (void)unused, list_of(self, true, true);
}

static PyObject *batch_iter(PyObject *self)
{
    PyObject *keys = list_of(self, true, false), *iterator = keys ? PyObject_GetIter(keys) : NULL;
    Py_XDECREF(keys);
    return iterator;
}

static Py_ssize_t batch_length(PyObject *self)
{
    struct damacy_batch_info info;
    return dmc_batch_describe((struct dmc_batch_object *)self, &info) < 0 ? -1 : (Py_ssize_t)info.field_count;
}

/* Index of a field; -2 with an exception, -1 if there is none of that name. */
static int find_field(PyObject *self, PyObject *name, const struct damacy_batch_info *info)
{
    (void)self;
    for (uint32_t f = 0; PyUnicode_Check(name) && f < info->field_count; f++) {
        PyObject *own = field_name(info, f);
        if (!own)
            return -2;
        int order = PyUnicode_Compare(own, name);
        Py_DECREF(own);
        if (order == 0)
            return (int)f;
    }
    return -1;
}

static PyObject *batch_subscript(PyObject *self, PyObject *name)
{
    struct damacy_batch_info info;
    if (dmc_batch_describe((struct dmc_batch_object *)self, &info) < 0)
        return NULL;
    int field = find_field(self, name, &info);
    if (field >= 0)
        return dmc_tensor_create((struct dmc_batch_object *)self, (uint32_t)field);
    if (field == -1) {
        PyObject *keys = list_of(self, true, false);
        if (keys)
            PyErr_Format(PyExc_KeyError, "there is no field %R, but %R", name, keys);
        Py_XDECREF(keys);
    }
    return NULL;
}

static int batch_contains(PyObject *self, PyObject *name)
{
    struct damacy_batch_info info;
    if (dmc_batch_describe((struct dmc_batch_object *)self, &info) < 0)
        return -1;
    int field = find_field(self, name, &info);
    return field == -2 ? -1 : field >= 0;
}

/* --- as a single tensor --- */

static int only_field(struct dmc_batch_object *self)
{
    struct damacy_batch_info info;
    if (dmc_batch_describe(self, &info) < 0)
        return -1;
    if (info.field_count == 1)
        return 0;
    PyErr_SetString(PyExc_BufferError, "a batch of several fields is no single tensor; take one by its name");
    return -1;
}

static PyObject *batch_dlpack(PyObject *self, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    struct dmc_batch_object *batch = (struct dmc_batch_object *)self;
    return only_field(batch) < 0 ? NULL : dmc_dlpack_capsule(batch, 0, args, count, names);
}

static PyObject *batch_dlpack_device(PyObject *self, PyObject *unused)
{
    (void)unused;
    return only_field((struct dmc_batch_object *)self) < 0 ? NULL : dmc_dlpack_device((struct dmc_batch_object *)self);
}

static int batch_get_buffer(PyObject *self, Py_buffer *view, int flags)
{
    struct dmc_batch_object *batch = (struct dmc_batch_object *)self;
    view->obj = NULL;
    return only_field(batch) < 0 ? -1 : dmc_tensor_get_buffer(self, batch, 0, view, flags);
}

/* --- with, info --- */

static PyObject *batch_enter(PyObject *self, PyObject *unused)
{
    (void)unused;
    struct damacy_batch_info info;
    if (dmc_batch_describe((struct dmc_batch_object *)self, &info) < 0)
        return NULL;
    if (info.field_count == 1 && !*info.tensors[0].name)
        return dmc_tensor_create((struct dmc_batch_object *)self, 0);
    PyObject *items = list_of(self, true, true), *dict = items ? PyDict_New() : NULL;
    if (dict && PyDict_MergeFromSeq2(dict, items, 1) < 0)
        Py_CLEAR(dict);
    Py_XDECREF(items);
    return dict;
}

static PyObject *batch_exit(PyObject *self, PyObject *args)
{
    (void)args;
    release_native((struct dmc_batch_object *)self);
    Py_RETURN_NONE;
}

static PyObject *get_info(PyObject *self, void *closure)
{
    (void)closure;
    struct damacy_batch_info info;
    return dmc_batch_describe((struct dmc_batch_object *)self, &info) < 0 ? NULL : dmc_batch_info_create(&info);
}

static PyObject *get_released(PyObject *self, void *closure)
{
    (void)closure;
    return PyBool_FromLong(!((struct dmc_batch_object *)self)->native);
}

static PyObject *batch_repr(PyObject *self)
{
    struct dmc_batch_object *batch = (struct dmc_batch_object *)self;
    struct damacy_batch_info info;
    if (!batch->native || damacy_batch_info(batch->native, &info, NULL) != DAMACY_OK)
        return PyUnicode_FromString("<damacy.Batch, released>");
    PyObject *tensors = list_of(self, false, true);
    PyObject *text =
        tensors ? PyUnicode_FromFormat("<damacy.Batch %llu: %R>", (unsigned long long)info.batch_id, tensors) : NULL;
    Py_XDECREF(tensors);
    return text;
}

PyDoc_STRVAR(batch_doc,
             "A finished batch. Release it, or leave a `with`, to give its buffer back; use after that raises.\n\n"
             "`with batch as t` gives the tensor, or for named fields a dict of them. The batch itself is a mapping of names "
             "to tensors;\n"
             "with a single field it also supports DLPack and the buffer protocol directly.\n\n"
             ">>> with damacy.Pipeline(damacy.Config(samples_per_batch=1, sample_shape=(8, 8), dtype=\"u16\")) as pipeline:\n"
             "...     pipeline.push(damacy.Sample(example, [(0, 8), (0, 8)], tag=3))\n"
             "...     batch = pipeline.pop()\n"
             "...     info = batch.info\n"
             "...     with batch as t:\n"
             "...         x = np.from_dlpack(t)\n"
             ">>> x.shape, info.tags, batch.released  # x stays valid\n"
             "((1, 8, 8), (3,), True)\n");

PyTypeObject *dmc_batch_type_create(void)
{
    static PyMethodDef methods[] = {
        {"release", (PyCFunction)(void (*)(void))batch_release, METH_VARARGS | METH_KEYWORDS,
         "release($self, /, *, event=None)\n--\n\nGive the buffer back; it is used again when every tensor made from it is "
         "gone. "
         "Twice does no harm.\n\n"
         "event: on a CUDA device, a recorded event (torch.cuda.Event, cupy.cuda.Event, or a handle): the buffer is used again "
         "after "
         "it has fired; nothing waits here. Without one, what the consumer's stream has been given by now is waited for."},
        {"keys", batch_keys, METH_NOARGS, "keys($self, /)\n--\n\nNames of the fields."},
        {"values", batch_values, METH_NOARGS, "values($self, /)\n--\n\nThe tensors."},
        {"items", batch_items, METH_NOARGS, "items($self, /)\n--\n\nPairs of name and tensor."},
        {"__enter__", batch_enter, METH_NOARGS, "__enter__($self, /)\n--\n\nThe tensor, or a dict of them by name."},
        {"__exit__", batch_exit, METH_VARARGS, "__exit__($self, /, *exception)\n--\n\nRelease."},
        {"__dlpack__", (PyCFunction)(void (*)(void))batch_dlpack, METH_FASTCALL | METH_KEYWORDS,
         "__dlpack__($self, /, *, stream=None, max_version=None, dl_device=None, copy=None)\n--\n\nExport the single field."},
        {"__dlpack_device__", batch_dlpack_device, METH_NOARGS,
         "__dlpack_device__($self, /)\n--\n\n(1, 0): the CPU; (2, n): CUDA device n."},
        {"__array__", (PyCFunction)(void (*)(void))dmc_tensor_array, METH_VARARGS | METH_KEYWORDS, DMC_TENSOR_ARRAY_DOC},
        {0},
    };
    static PyGetSetDef members[] = {
        {"info", get_info, NULL, "What is in the batch, as a BatchInfo, which stays when the batch is released.", NULL},
        {"released", get_released, NULL, "Whether it was released.", NULL},
        {0},
    };
    static PyType_Slot slots[] = {
        {Py_tp_dealloc, batch_dealloc},
        {Py_tp_doc, (void *)batch_doc},
        {Py_tp_methods, methods},
        {Py_tp_getset, members},
        {Py_tp_repr, batch_repr},
        {Py_tp_iter, batch_iter},
        {Py_mp_subscript, batch_subscript},
        {Py_mp_length, batch_length},
        {Py_sq_contains, batch_contains},
        {Py_bf_getbuffer, batch_get_buffer},
        {Py_bf_releasebuffer, dmc_tensor_release_buffer},
        {0, NULL},
    };
    static PyType_Spec spec = {"damacy.Batch", sizeof(struct dmc_batch_object), 0,
                               Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION, slots};
    return (PyTypeObject *)PyType_FromSpec(&spec);
}
