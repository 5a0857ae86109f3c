/* What push_arrays() keeps: uris, and for each sample which of them and where its box begins. Numbers are copied, so that the
 * caller may shuffle its arrays for the next epoch at once. Pushing makes no Python object and holds no lock of the
 * interpreter. */
#include "core.h"

#include <string.h>

#define PUSH_SAMPLES 256

struct array_field {
    PyObject *owners; /* list of the objects that own the uris' bytes */
    const char **uris;
    size_t uri_count;
    int64_t *index;  /* per sample */
    int64_t *begins; /* per sample and axis */
};

struct array_source {
    PyObject_HEAD size_t count, position;
    uint32_t field_count;
    struct array_field *fields;
    uint64_t *tags; /* NULL: the position */
    /* what one call of damacy_push() gets */
    struct damacy_sample *samples;
    struct damacy_region *regions;
    struct damacy_interval *intervals;
};

static void source_dealloc(PyObject *object)
{
    struct array_source *self = (struct array_source *)object;
    PyTypeObject *type = Py_TYPE(object);
    for (uint32_t f = 0; self->fields && f < self->field_count; f++) {
        Py_XDECREF(self->fields[f].owners);
        PyMem_Free(self->fields[f].uris);
        PyMem_Free(self->fields[f].index);
        PyMem_Free(self->fields[f].begins);
    }
    PyMem_Free(self->fields);
    PyMem_Free(self->tags);
    PyMem_Free(self->samples);
    PyMem_Free(self->regions);
    PyMem_Free(self->intervals);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(object);
    Py_DECREF(type);
}

/* --- reading the arguments --- */

/* Widen `count` packed integers of `bytes` each. */
static void widen(const char *from, size_t bytes, bool is_signed, size_t count, int64_t *to)
{
    for (size_t i = 0; i < count; i++, from += bytes) {
        uint64_t bits = 0;
        memcpy(&bits, from, bytes); /* little-endian, as all that this library is built for */
        unsigned shift = (unsigned)(64 - 8 * bytes);
        to[i] = is_signed ? (int64_t)(bits << shift) >> shift : (int64_t)bits;
    }
}

/* Integers of any type from a buffer with `ndim` axes, as int64. NULL with an exception. */
static int64_t *read_integers(PyObject *object, const char *what, int ndim, Py_ssize_t shape[2])
{
    Py_buffer view;
    if (PyObject_GetBuffer(object, &view, PyBUF_FULL_RO) < 0) {
        if (PyErr_ExceptionMatches(PyExc_TypeError)) {
            PyErr_Clear();
            PyErr_Format(PyExc_TypeError, "%s is %R, expected a NumPy array of integers", what, (PyObject *)Py_TYPE(object));
        }
        return NULL;
    }
    const char *format = view.format ? view.format : "B";
    if (*format == '@' || *format == '=' || *format == '<')
        format++;
    bool is_signed = *format && strchr("bhilqn", *format), is_unsigned = *format && strchr("BHILQN", *format);
    char *packed = NULL;
    int64_t *numbers = NULL;
    if (!(is_signed || is_unsigned) || format[1] || view.itemsize > 8) {
        dmc_raise_text(DAMACY_INVAL, "push",
                       "%s has elements of format '%s', expected integers; astype(int) makes them of whole numbers", what,
                       view.format ? view.format : "");
    } else if (view.ndim != ndim) {
        dmc_raise_text(DAMACY_INVAL, "push", "%s has %d axes, expected %d", what, view.ndim, ndim);
    } else {
        memcpy(shape, view.shape, (size_t)ndim * sizeof *shape);
        size_t count = (size_t)(view.len / view.itemsize);
        packed = PyMem_Malloc((size_t)view.len + 1);
        numbers = PyMem_Malloc(count * sizeof *numbers + 1);
        if (!packed || !numbers)
            PyErr_NoMemory();
        if (!packed || !numbers || PyBuffer_ToContiguous(packed, &view, view.len, 'C') < 0) {
            PyMem_Free(numbers);
            numbers = NULL;
        } else {
            widen(packed, (size_t)view.itemsize, is_signed, count, numbers);
        }
    }
    PyMem_Free(packed);
    PyBuffer_Release(&view);
    return numbers;
}

static int read_uris(struct array_field *field, PyObject *uris)
{
    if (PyUnicode_Check(uris) || PyBytes_Check(uris)) {
        PyErr_SetString(PyExc_TypeError, "uris is a text, expected a sequence of them");
        return -1;
    }
    PyObject *list = PySequence_List(uris);
    field->owners = list;
    if (!list)
        return -1;
    Py_ssize_t count = PyList_Size(list);
    field->uris = PyMem_Calloc((size_t)count + 1, sizeof *field->uris);
    if (!field->uris) {
        PyErr_NoMemory();
        return -1;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        size_t bytes;
        PyObject *owner = dmc_uri_bytes(PyList_GetItem(list, i), &field->uris[i], &bytes);
        if (!owner || PyList_SetItem(list, i, owner) < 0) /* the list keeps the bytes */
            return -1;
    }
    field->uri_count = (size_t)count;
    return 0;
}

static int wrong_count(const char *what, Py_ssize_t found, size_t expected)
{
    dmc_raise_text(DAMACY_INVAL, "push", "%s has %zd rows, expected %zu, one for each sample", what, found, expected);
    return -1;
}

/* The first field decides how many samples there are. */
static int read_field(struct array_source *self, uint32_t f, uint32_t rank, PyObject *uris, PyObject *uri_index,
                      PyObject *begins)
{
    struct array_field *field = &self->fields[f];
    Py_ssize_t shape[2];
    if (read_uris(field, uris) < 0 || !(field->index = read_integers(uri_index, "uri_index", 1, shape)))
        return -1;
    if (f == 0)
        self->count = (size_t)shape[0];
    if ((size_t)shape[0] != self->count)
        return wrong_count("uri_index", shape[0], self->count);
    if (!(field->begins = read_integers(begins, "begins", 2, shape)))
        return -1;
    if ((size_t)shape[0] != self->count)
        return wrong_count("begins", shape[0], self->count);
    if (shape[1] != (Py_ssize_t)rank) {
        dmc_raise_text(DAMACY_RANK, "push", "begins has %zd columns, the sample shape has %u axes", shape[1], rank);
        return -1;
    }
    for (size_t i = 0; i < self->count; i++)
        if ((uint64_t)field->index[i] >= field->uri_count) {
            dmc_raise_text(DAMACY_INVAL, "push", "uri_index[%zu] is %lld, expected a position in uris, which are %zu", i,
                           (long long)field->index[i], field->uri_count);
            return -1;
        }
    return 0;
}

/* `value[name]` if it is a mapping, else `value`. New reference. */
static PyObject *of_field(PyObject *value, PyObject *name)
{
    if (PyDict_Check(value))
        return PyObject_GetItem(value, name);
    Py_INCREF(value);
    return value;
}

PyObject *dmc_array_source_create(struct dmc_pipeline_object *pipeline, PyObject *uris, PyObject *uri_index, PyObject *begins,
                                  PyObject *tags)
{
    allocfunc allocate = (allocfunc)PyType_GetSlot(dmc_core.array_source, Py_tp_alloc);
    struct array_source *self = (struct array_source *)allocate(dmc_core.array_source, 0);
    if (!self)
        return NULL;
    uint32_t ranks = 0;
    for (uint32_t f = 0; f < pipeline->field_count; f++)
        ranks += pipeline->ranks[f];
    self->field_count = pipeline->field_count;
    self->fields = PyMem_Calloc(self->field_count, sizeof *self->fields);
    self->samples = PyMem_Calloc(PUSH_SAMPLES, sizeof *self->samples);
    self->regions = PyMem_Calloc((size_t)PUSH_SAMPLES * self->field_count, sizeof *self->regions);
    self->intervals = PyMem_Calloc((size_t)PUSH_SAMPLES * ranks, sizeof *self->intervals);
    bool whole = self->fields && self->samples && self->regions && self->intervals;
    if (!whole)
        PyErr_NoMemory();
    for (uint32_t f = 0; whole && f < self->field_count; f++) {
        PyObject *name = PyTuple_GetItem(pipeline->names, f);
        PyObject *own_uris = of_field(uris, name), *own_index = own_uris ? of_field(uri_index, name) : NULL;
        PyObject *own_begins = own_index ? of_field(begins, name) : NULL;
        whole = own_begins && read_field(self, f, pipeline->ranks[f], own_uris, own_index, own_begins) == 0;
        Py_XDECREF(own_uris);
        Py_XDECREF(own_index);
        Py_XDECREF(own_begins);
    }
    if (whole && tags != Py_None) {
        Py_ssize_t shape[2];
        self->tags = (uint64_t *)read_integers(tags, "tags", 1, shape);
        whole = self->tags && ((size_t)shape[0] == self->count || wrong_count("tags", shape[0], self->count) == 0);
    }
    if (whole)
        return (PyObject *)self;
    Py_DECREF(self);
    return NULL;
}

/* --- pushing --- */

static size_t fill_block(struct array_source *self, const uint32_t *ranks, int64_t *const *shapes)
{
    size_t count = self->count - self->position;
    if (count > PUSH_SAMPLES)
        count = PUSH_SAMPLES;
    struct damacy_region *region = self->regions;
    struct damacy_interval *interval = self->intervals;
    for (size_t s = 0; s < count; s++) {
        size_t position = self->position + s;
        self->samples[s] = (struct damacy_sample){region, self->tags ? self->tags[position] : position};
        for (uint32_t f = 0; f < self->field_count; f++) {
            const struct array_field *field = &self->fields[f];
            *region++ = (struct damacy_region){field->uris[field->index[position]], ranks[f], interval};
            for (uint32_t a = 0; a < ranks[f]; a++, interval++) {
                interval->begin = field->begins[position * ranks[f] + a];
                if (__builtin_add_overflow(interval->begin, shapes[f][a], &interval->end))
                    interval->end = interval->begin; /* which push refuses */
            }
        }
    }
    return count;
}

int dmc_array_source_push(struct dmc_pipeline_object *pipeline, PyObject *source)
{
    struct array_source *self = (struct array_source *)source;
    while (self->position < self->count) {
        struct damacy *native = pipeline->native;
        struct damacy_samples rest;
        struct damacy_error error;
        enum damacy_status status;
        size_t count;
        if (!native)
            return dmc_pipeline_check(pipeline);
        atomic_fetch_add(&pipeline->users, 1);
        Py_BEGIN_ALLOW_THREADS count = fill_block(self, pipeline->ranks, pipeline->shapes);
        status = damacy_push(native, (struct damacy_samples){self->samples, count}, &rest, &error);
        Py_END_ALLOW_THREADS atomic_fetch_sub(&pipeline->users, 1);
        self->position += count - rest.count;
        dmc_pipeline_note_taken(pipeline, count - rest.count);
        if (status == DAMACY_AGAIN)
            return 1;
        if (status != DAMACY_OK) {
            self->position += rest.count > 0; /* the bad one is behind; those after it come with the next pull */
            dmc_raise(&error);
            return -1;
        }
    }
    return 0;
}

PyTypeObject *dmc_array_source_type_create(void)
{
    static PyType_Slot slots[] = {{Py_tp_dealloc, source_dealloc}, {0, NULL}};
    static PyType_Spec spec = {"damacy._core._ArraySource", sizeof(struct array_source), 0,
                               Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION, slots};
    return (PyTypeObject *)PyType_FromSpec(&spec);
}
