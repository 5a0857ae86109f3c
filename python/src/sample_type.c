/* Sample: which crop. A C type because one is made for each crop: parsing takes about a microsecond, and pushing it costs no
 * Python.
 *
 * Immutable and final, so its regions may be lent to the library while a reference is held, and dropping one runs no Python
 * code. */
#include "core.h"

#include <stdio.h>
#include <string.h>

PyObject *dmc_uri_bytes(PyObject *uri, const char **text, size_t *bytes)
{
    PyObject *path = NULL, *owner;
    Py_ssize_t length;
    if (PyUnicode_CheckExact(uri)) {
        owner = uri;
        Py_INCREF(owner);
    } else if (!(owner = path = PyOS_FSPath(uri))) {
        return NULL;
    }
    *text = PyUnicode_Check(owner) ? PyUnicode_AsUTF8AndSize(owner, &length) : NULL;
    if (!*text) { /* surrogates stand for bytes that are no UTF-8, as os.fsencode has it; or it is bytes */
        PyErr_Clear();
        PyObject *encoded = PyUnicode_Check(owner) ? PyUnicode_EncodeFSDefault(owner) : owner;
        if (encoded == owner)
            Py_INCREF(encoded);
        Py_DECREF(owner);
        owner = encoded;
        char *buffer;
        if (!owner || PyBytes_AsStringAndSize(owner, &buffer, &length) < 0) {
            Py_XDECREF(owner);
            return NULL;
        }
        *text = buffer;
    }
    if (strlen(*text) != (size_t)length) {
        Py_DECREF(owner);
        return dmc_raise_text(DAMACY_INVAL, "push", "a uri with a zero byte inside");
    }
    *bytes = (size_t)length;
    return owner;
}

/* What `value` is said to be has to be an integer of 64 bits. `place` says which it is, such as "the tag". An __index__ of the
 * caller's that raises something keeps its exception. */
static int not_an_integer(PyObject *value, const char *place, const char *range)
{
    if (PyErr_ExceptionMatches(PyExc_TypeError) && !PyIndex_Check(value)) {
        PyErr_Clear();
        PyErr_Format(PyExc_TypeError, "%s is %R, expected an integer", place, value);
    } else if (PyErr_ExceptionMatches(PyExc_OverflowError)) {
        PyErr_Clear();
        PyObject *text = PyObject_Repr(value);
        const char *shown = text ? PyUnicode_AsUTF8AndSize(text, NULL) : NULL;
        if (shown)
            dmc_raise_text(DAMACY_INVAL, "push", "%s is %s, expected %s", place, shown, range);
        Py_XDECREF(text);
    }
    return -1;
}

static int parse_tag(PyObject *value, uint64_t *tag)
{
    PyObject *number = PyNumber_Index(value);
    if (number) {
        *tag = PyLong_AsUnsignedLongLong(number);
        Py_DECREF(number);
    }
    return PyErr_Occurred() ? not_an_integer(value, "the tag", "0 to 2**64 - 1") : 0;
}

static int parse_bound(PyObject *value, Py_ssize_t axis, const char *which, int64_t *bound)
{
    *bound = PyLong_AsLongLong(value); /* asks __index__ of what is no int, so NumPy's integers are fine and floats are not */
    if (*bound != -1 || !PyErr_Occurred())
        return 0;
    char place[64];
    snprintf(place, sizeof place, "the %s of the box in axis %zd", which, axis);
    return not_an_integer(value, place, "what fits 64 bits");
}

static int wrong_slice(PyObject *slice, Py_ssize_t axis)
{
    PyObject *text = PyObject_Repr(slice);
    const char *shown = text ? PyUnicode_AsUTF8AndSize(text, NULL) : NULL;
    if (shown)
        dmc_raise_text(DAMACY_INVAL, "push",
                       "axis %zd of the box is %s: a slice of a box needs an end, and no step; damacy.open(uri).shape says how "
                       "long the array is",
                       axis, shown);
    Py_XDECREF(text);
    return -1;
}

static int parse_slice(PyObject *slice, Py_ssize_t axis, struct damacy_interval *interval)
{
    PyObject *start = PyObject_GetAttrString(slice, "start"), *stop = PyObject_GetAttrString(slice, "stop");
    PyObject *step = PyObject_GetAttrString(slice, "step");
    int result = -1;
    if (start && stop && step) {
        bool single = step == Py_None || (PyLong_Check(step) && PyLong_AsLong(step) == 1);
        PyErr_Clear();
        interval->begin = 0;
        if (!single || stop == Py_None)
            wrong_slice(slice, axis);
        else
            result = start == Py_None ? 0 : parse_bound(start, axis, "begin", &interval->begin);
        if (result == 0)
            result = parse_bound(stop, axis, "end", &interval->end);
    }
    Py_XDECREF(start);
    Py_XDECREF(stop);
    Py_XDECREF(step);
    return result;
}

static int not_a_pair(PyObject *item, Py_ssize_t axis)
{
    PyErr_Format(PyExc_TypeError, "axis %zd of the box is %R, expected a pair (begin, end) or a slice%s", axis, item,
                 PyIndex_Check(item) ? "; no axis goes away: a single index i is (i, i + 1)" : "");
    return -1;
}

static int parse_interval(PyObject *item, Py_ssize_t axis, struct damacy_interval *interval)
{
    if (PyTuple_CheckExact(item) && PyTuple_Size(item) == 2) /* by far the most common */
        return parse_bound(PyTuple_GetItem(item, 0), axis, "begin", &interval->begin) < 0
                   ? -1
                   : parse_bound(PyTuple_GetItem(item, 1), axis, "end", &interval->end);
    if (PySlice_Check(item))
        return parse_slice(item, axis, interval);
    if (!PySequence_Check(item) || PyUnicode_Check(item) || PyBytes_Check(item))
        return not_a_pair(item, axis);
    if (PySequence_Size(item) != 2) {
        PyErr_Clear();
        return not_a_pair(item, axis);
    }
    PyObject *begin = PySequence_GetItem(item, 0), *end = PySequence_GetItem(item, 1);
    int result = begin && end && parse_bound(begin, axis, "begin", &interval->begin) == 0
                     ? parse_bound(end, axis, "end", &interval->end)
                     : -1;
    Py_XDECREF(begin);
    Py_XDECREF(end);
    return result;
}

/* A box as a tuple or list, which the fast paths know. New reference. */
static PyObject *box_sequence(PyObject *aabb, Py_ssize_t *rank)
{
    PyObject *box = aabb;
    if (PyTuple_CheckExact(aabb) || PyList_CheckExact(aabb))
        Py_INCREF(box);
    else if (PySlice_Check(aabb))
        box = PyTuple_Pack(1, aabb); /* np.s_[0:16] is a bare slice */
    else if (PySequence_Check(aabb) || PyObject_HasAttrString(aabb, "__iter__"))
        box = PySequence_Tuple(aabb);
    else
        box = PyErr_Format(PyExc_TypeError, "the box is %R, expected a pair (begin, end) or a slice for each axis", aabb);
    if (!box)
        return NULL;
    *rank = PySequence_Size(box);
    if (*rank <= DAMACY_RANK_MAX)
        return box;
    dmc_raise_text(DAMACY_INVAL, "push", "a box of %zd axes, at most %d are allowed", *rank, DAMACY_RANK_MAX);
    Py_DECREF(box);
    return NULL;
}

static int parse_box(PyObject *box, Py_ssize_t rank, struct damacy_interval *intervals)
{
    bool is_tuple = PyTuple_CheckExact(box);
    for (Py_ssize_t a = 0; a < rank; a++) {
        PyObject *item = is_tuple ? PyTuple_GetItem(box, a) : PyList_GetItem(box, a);
        if (!item) /* a list that shrank while an __index__ ran */
            return -1;
        Py_INCREF(item);
        int result = parse_interval(item, a, &intervals[a]);
        Py_DECREF(item);
        if (result < 0)
            return -1;
    }
    return 0;
}

/* One field's parts while a sample is being made. */
struct part {
    PyObject *name;  /* new reference, or NULL */
    PyObject *owner; /* of the uri's bytes */
    const char *uri;
    size_t uri_bytes;
    PyObject *box;
    Py_ssize_t rank;
};

static void free_parts(struct part *parts, Py_ssize_t count)
{
    for (Py_ssize_t i = 0; i < count; i++) {
        Py_XDECREF(parts[i].name);
        Py_XDECREF(parts[i].owner);
        Py_XDECREF(parts[i].box);
    }
}

static int parse_part(struct part *part, PyObject *uri, PyObject *aabb)
{
    part->owner = dmc_uri_bytes(uri, &part->uri, &part->uri_bytes);
    part->box = part->owner ? box_sequence(aabb, &part->rank) : NULL;
    return part->box ? 0 : -1;
}

/* The regions, boxes and uris of all fields in one block. */
static int fill_sample(struct dmc_sample_object *self, const struct part *parts, Py_ssize_t count)
{
    size_t bytes = (size_t)count * sizeof *self->regions;
    for (Py_ssize_t i = 0; i < count; i++)
        bytes += (size_t)parts[i].rank * sizeof(struct damacy_interval) + parts[i].uri_bytes + 1;
    self->regions = PyMem_Malloc(bytes);
    if (!self->regions) {
        PyErr_NoMemory();
        return -1;
    }
    self->field_count = (uint32_t)count;
    struct damacy_interval *intervals = (struct damacy_interval *)(self->regions + count);
    for (Py_ssize_t i = 0; i < count; i++) {
        self->regions[i] = (struct damacy_region){.rank = (uint32_t)parts[i].rank, .aabb = intervals};
        if (parse_box(parts[i].box, parts[i].rank, intervals) < 0)
            return -1;
        intervals += parts[i].rank;
    }
    char *uris = (char *)intervals;
    for (Py_ssize_t i = 0; i < count; i++) {
        memcpy(uris, parts[i].uri, parts[i].uri_bytes + 1);
        self->regions[i].uri = uris;
        uris += parts[i].uri_bytes + 1;
    }
    return 0;
}

/* Sample(uri={...}, aabb={...}): the boxes by the same names, or one box for all. */
static int parse_fields(struct dmc_sample_object *self, PyObject *uris, PyObject *aabb)
{
    PyObject *items = PyMapping_Items(uris);
    Py_ssize_t count = items ? PySequence_Size(items) : -1;
    bool own_boxes =
        PyDict_Check(aabb) || (!PyTuple_Check(aabb) && !PyList_Check(aabb) && PyObject_HasAttrString(aabb, "keys"));
    struct part *parts = NULL;
    int result = -1;
    if (count < 0)
        goto out;
    if (count == 0 || (own_boxes && PyObject_Size(aabb) != count)) {
        if (!PyErr_Occurred())
            dmc_raise_text(DAMACY_INVAL, "push", "uri and aabb of a sample name different fields, or none");
        goto out;
    }
    parts = PyMem_Calloc((size_t)count, sizeof *parts);
    self->names = parts ? PyTuple_New(count) : NULL;
    if (!self->names) {
        PyErr_NoMemory();
        goto out;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *item = PySequence_GetItem(items, i), *name = NULL, *uri = NULL;
        bool whole = item && PyArg_ParseTuple(item, "UO", &name, &uri);
        if (whole) {
            Py_INCREF(name);
            PyTuple_SetItem(self->names, i, name);
            PyObject *box = own_boxes ? PyObject_GetItem(aabb, name) : (Py_INCREF(aabb), aabb);
            if (!box && PyErr_ExceptionMatches(PyExc_KeyError)) {
                PyErr_Clear();
                const char *text = PyUnicode_AsUTF8AndSize(name, NULL);
                dmc_raise_text(DAMACY_INVAL, "push", "the sample has a uri but no box for field '%s'", text ? text : "?");
            }
            whole = box && parse_part(&parts[i], uri, box) == 0;
            Py_XDECREF(box);
        }
        Py_XDECREF(item);
        if (!whole)
            goto out;
    }
    result = fill_sample(self, parts, count);
out:
    if (parts)
        free_parts(parts, count);
    PyMem_Free(parts);
    Py_XDECREF(items);
    return result;
}

static PyObject *sample_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"uri", "aabb", "tag", NULL};
    PyObject *uri, *aabb, *tag = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO|O:Sample", names, &uri, &aabb, &tag))
        return NULL;
    allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    struct dmc_sample_object *self = (struct dmc_sample_object *)allocate(type, 0);
    if (!self)
        return NULL;
    int result = tag ? parse_tag(tag, &self->tag) : 0;
    if (result == 0 &&
        (PyDict_Check(uri) || (!PyUnicode_Check(uri) && PyMapping_Check(uri) && PyObject_HasAttrString(uri, "items")))) {
        result = parse_fields(self, uri, aabb);
    } else if (result == 0) {
        struct part part = {0};
        result = parse_part(&part, uri, aabb) == 0 ? fill_sample(self, &part, 1) : -1;
        free_parts(&part, 1);
    }
    if (result == 0)
        return (PyObject *)self;
    Py_DECREF(self);
    return NULL;
}

static void sample_dealloc(PyObject *object)
{
    struct dmc_sample_object *self = (struct dmc_sample_object *)object;
    PyTypeObject *type = Py_TYPE(object);
    Py_XDECREF(self->names);
    PyMem_Free(self->regions);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(object);
    Py_DECREF(type);
}

/* --- looking at it --- */

static PyObject *region_uri(const struct damacy_region *region)
{
    return PyUnicode_DecodeFSDefault(region->uri);
}

static PyObject *region_uri_shown(const struct damacy_region *region)
{
    char shown[DAMACY_URI_BYTES_MAX + 1];
    damacy_uri_shown(region->uri, shown, sizeof shown);
    return PyUnicode_DecodeFSDefault(shown);
}

static PyObject *region_box(const struct damacy_region *region)
{
    PyObject *box = PyTuple_New(region->rank);
    for (uint32_t a = 0; box && a < region->rank; a++) {
        PyObject *pair = Py_BuildValue("LL", (long long)region->aabb[a].begin, (long long)region->aabb[a].end);
        if (!pair || PyTuple_SetItem(box, a, pair) < 0)
            Py_CLEAR(box);
    }
    return box;
}

/* The single region's value, or a dict by name. */
static PyObject *by_name(const struct dmc_sample_object *self, PyObject *(*make)(const struct damacy_region *))
{
    if (!self->names)
        return make(&self->regions[0]);
    PyObject *dict = PyDict_New();
    for (uint32_t f = 0; dict && f < self->field_count; f++) {
        PyObject *value = make(&self->regions[f]);
        if (!value || PyDict_SetItem(dict, PyTuple_GetItem(self->names, f), value) < 0)
            Py_CLEAR(dict);
        Py_XDECREF(value);
    }
    return dict;
}

static PyObject *get_uri(PyObject *self, void *closure)
{
    (void)closure;
    return by_name((struct dmc_sample_object *)self, region_uri);
}

static PyObject *get_aabb(PyObject *self, void *closure)
{
    (void)closure;
    return by_name((struct dmc_sample_object *)self, region_box);
}

static PyObject *get_tag(PyObject *self, void *closure)
{
    (void)closure;
    return PyLong_FromUnsignedLongLong(((struct dmc_sample_object *)self)->tag);
}

/* `shown`: for people, without what may be secret in a uri. */
static PyObject *as_tuple(PyObject *self, bool shown)
{
    PyObject *uri = by_name((struct dmc_sample_object *)self, shown ? region_uri_shown : region_uri),
             *aabb = get_aabb(self, NULL), *tag = get_tag(self, NULL), *tuple = NULL;
    if (uri && aabb && tag)
        tuple = PyTuple_Pack(3, uri, aabb, tag);
    Py_XDECREF(uri);
    Py_XDECREF(aabb);
    Py_XDECREF(tag);
    return tuple;
}

static PyObject *sample_repr(PyObject *self)
{
    PyObject *tuple = as_tuple(self, true);
    if (!tuple)
        return NULL;
    PyObject *text = PyUnicode_FromFormat("Sample(uri=%R, aabb=%R, tag=%R)", PyTuple_GetItem(tuple, 0),
                                          PyTuple_GetItem(tuple, 1), PyTuple_GetItem(tuple, 2));
    Py_DECREF(tuple);
    return text;
}

static PyObject *sample_compare(PyObject *self, PyObject *other, int operation)
{
    if (Py_TYPE(self) != Py_TYPE(other) || (operation != Py_EQ && operation != Py_NE))
        Py_RETURN_NOTIMPLEMENTED;
    PyObject *left = as_tuple(self, false), *right = left ? as_tuple(other, false) : NULL;
    PyObject *result = right ? PyObject_RichCompare(left, right, operation) : NULL;
    Py_XDECREF(left);
    Py_XDECREF(right);
    return result;
}

/* A sum over the fields: samples that name them in another order are equal. */
static Py_hash_t sample_hash(PyObject *object)
{
    const struct dmc_sample_object *self = (struct dmc_sample_object *)object;
    uint64_t hash = self->tag * 0x9e3779b97f4a7c15u;
    for (uint32_t f = 0; f < self->field_count; f++) {
        uint64_t own = 0xcbf29ce484222325u; /* FNV-1a */
        for (const char *c = self->regions[f].uri; *c; c++)
            own = (own ^ (uint8_t)*c) * 0x100000001b3u;
        for (uint32_t a = 0; a < self->regions[f].rank; a++)
            own = (own ^ (uint64_t)self->regions[f].aabb[a].begin) * 0x100000001b3u;
        hash += own;
    }
    return hash == UINT64_MAX ? 0 : (Py_hash_t)hash; /* -1 means an exception */
}

static PyObject *sample_reduce(PyObject *self, PyObject *unused)
{
    (void)unused;
    PyObject *tuple = as_tuple(self, false);
    return tuple ? Py_BuildValue("ON", (PyObject *)Py_TYPE(self), tuple) : NULL;
}

PyDoc_STRVAR(sample_doc,
             "Sample(uri, aabb, tag=0)\n"
             "--\n\n"
             "One crop: the array and the box in it.\n\n"
             "uri: path or file:// uri of a Zarr array; str or os.PathLike.\n"
             "aabb: for each axis of the array (begin, end), half-open, or a slice; np.s_[0:16, 8:24] will do.\n"
             "tag: a number from 0 to 2**64 - 1 that comes back in Batch.info.\n\n"
             "For several fields, uri maps their names to arrays; aabb maps them to boxes, or is one box for all.\n\n"
             ">>> Sample(\"/data/brain.zarr\", np.s_[0:16, 8:24], tag=7)\n"
             "Sample(uri='/data/brain.zarr', aabb=((0, 16), (8, 24)), tag=7)\n"
             ">>> Sample({\"image\": \"a\", \"label\": \"b\"}, [(0, 4)]).aabb\n"
             "{'image': ((0, 4),), 'label': ((0, 4),)}\n");

PyTypeObject *dmc_sample_type_create(void)
{
    static PyMethodDef methods[] = {{"__reduce__", sample_reduce, METH_NOARGS, "For pickle."}, {0}};
    static PyGetSetDef members[] = {
        {"uri", get_uri, NULL, "The array; a dict by name of field if fields are named.", NULL},
        {"aabb", get_aabb, NULL, "The box as a tuple of (begin, end); a dict by name of field if fields are named.", NULL},
        {"tag", get_tag, NULL, "The number that comes back.", NULL},
        {0},
    };
    static PyType_Slot slots[] = {
        {Py_tp_new, sample_new},
        {Py_tp_dealloc, sample_dealloc},
        {Py_tp_doc, (void *)sample_doc},
        {Py_tp_methods, methods},
        {Py_tp_getset, members},
        {Py_tp_repr, sample_repr},
        {Py_tp_richcompare, sample_compare},
        {Py_tp_hash, sample_hash},
        {0, NULL},
    };
    static PyType_Spec spec = {"damacy.Sample", sizeof(struct dmc_sample_object), 0, Py_TPFLAGS_DEFAULT, slots};
    return (PyTypeObject *)PyType_FromSpec(&spec);
}
