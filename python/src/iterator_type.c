/* What Pipeline.batches() returns. A type of its own, not a generator: a generator is over once it raised, this goes on. */
#include "core.h"

struct iterator_object {
    PyObject_HEAD struct dmc_pipeline_object *pipeline;
    Py_ssize_t left; /* -1: to the end */
};

PyObject *dmc_iterator_create(struct dmc_pipeline_object *pipeline, Py_ssize_t count)
{
    allocfunc allocate = (allocfunc)PyType_GetSlot(dmc_core.iterator, Py_tp_alloc);
    struct iterator_object *self = (struct iterator_object *)allocate(dmc_core.iterator, 0);
    if (!self)
        return NULL;
    Py_INCREF(pipeline);
    self->pipeline = pipeline;
    self->left = count;
    return (PyObject *)self;
}

static int iterator_traverse(PyObject *object, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(object));
    Py_VISIT(((struct iterator_object *)object)->pipeline);
    return 0;
}

static int iterator_clear(PyObject *object)
{
    Py_CLEAR(((struct iterator_object *)object)->pipeline);
    return 0;
}

static void iterator_dealloc(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    PyObject_GC_UnTrack(object);
    iterator_clear(object);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(object);
    Py_DECREF(type);
}

static PyObject *iterator_self(PyObject *self)
{
    Py_INCREF(self);
    return self;
}

static PyObject *iterator_next(PyObject *object)
{
    struct iterator_object *self = (struct iterator_object *)object;
    if (self->left == 0 || !self->pipeline)
        return NULL;
    PyObject *batch = dmc_pipeline_pop(self->pipeline, UINT64_MAX, true);
    if (batch && self->left > 0)
        self->left--;
    return batch;
}

PyTypeObject *dmc_iterator_type_create(void)
{
    static PyType_Slot slots[] = {
        {Py_tp_dealloc, iterator_dealloc},
        {Py_tp_traverse, iterator_traverse},
        {Py_tp_clear, iterator_clear},
        {Py_tp_iter, iterator_self},
        {Py_tp_iternext, iterator_next},
        {Py_tp_doc, (void *)"The batches of a Pipeline."},
        {0, NULL},
    };
    static PyType_Spec spec = {"damacy.BatchIterator", sizeof(struct iterator_object), 0,
                               Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION, slots};
    return (PyTypeObject *)PyType_FromSpec(&spec);
}
