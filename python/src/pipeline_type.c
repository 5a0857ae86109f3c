/* Pipeline: what Python programs hold. Waiting happens in the C library without the interpreter's lock, in slices, so that
 * signals (Ctrl-C) are looked at in between, sources that another thread pushes are noticed, and close() from another thread
 * is, too.
 *
 * Closing: `native` becomes NULL, after which no thread enters the library; close() then waits for those that are in it
 * (`users`), who stay for a slice at most, and destroys. In a forked child everything says Forked and nothing is destroyed. */
#include "core.h"

#include <math.h>
#include <string.h>
#include <time.h>

#define SLICE_NS 50000000u    /* how long a wait goes on without looking at signals */
#define LONELY_NS 5000000000u /* a wait that nothing that was pushed can end is told of after so long */
#define BUSY_SLICE_NS                                                                                                          \
    5000000u /* the same while another thread pulls: it may leave with its batch, and somebody has to go on pulling */

static struct dmc_pipeline_object *as_pipeline(PyObject *object)
{
    return (struct dmc_pipeline_object *)object;
}

static void sleep_ns(long ns)
{
    nanosleep(&(struct timespec){.tv_nsec = ns}, NULL);
}

/* --- create --- */

/* Names, ranks and shapes, which sources need. */
static int copy_fields(struct dmc_pipeline_object *self, const struct damacy_config *config)
{
    size_t extents = 0;
    for (uint32_t f = 0; f < config->field_count; f++)
        extents += config->fields[f].rank;
    size_t count = config->field_count;
    /* shapes first: the widest members */
    self->shapes = PyMem_Malloc(count * (sizeof *self->shapes + sizeof *self->ranks) + extents * sizeof(int64_t));
    self->block.scratch = PyMem_Calloc(DMC_BLOCK_SAMPLES * count, sizeof *self->block.scratch);
    self->names = PyTuple_New((Py_ssize_t)count);
    if (!self->shapes || !self->block.scratch || !self->names) {
        PyErr_NoMemory();
        return -1;
    }
    int64_t *extent = (int64_t *)(self->shapes + count);
    self->ranks = (uint32_t *)(extent + extents);
    for (uint32_t f = 0; f < count; f++) {
        const struct damacy_field *field = &config->fields[f];
        PyObject *name = PyUnicode_FromString(field->name);
        if (!name)
            return -1;
        PyUnicode_InternInPlace(&name); /* samples mostly carry the interned name, too: then comparing is one look */
        PyTuple_SetItem(self->names, f, name);
        self->ranks[f] = field->rank;
        self->shapes[f] = extent;
        memcpy(extent, field->sample_shape, field->rank * sizeof *extent);
        extent += field->rank;
    }
    self->field_count = config->field_count;
    self->samples_per_batch = config->samples_per_batch;
    return 0;
}

static int create_native(struct dmc_pipeline_object *self, const struct damacy_config *config)
{
    struct damacy_tuning tuning = DAMACY_TUNING_INIT;
    struct damacy_error error;
    enum damacy_status status = damacy_tuning_defaults(config, &tuning, &error);
    self->lookahead_samples = tuning.lookahead_samples;
    if (status == DAMACY_OK && copy_fields(self, config) < 0)
        return -1;
    if (status == DAMACY_OK) {
        Py_BEGIN_ALLOW_THREADS status = damacy_create(config, &self->native, &error);
        Py_END_ALLOW_THREADS
    }
    if (status == DAMACY_OK)
        return 0;
    dmc_raise(&error);
    return -1;
}

static PyObject *pipeline_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"config", NULL};
    PyObject *config;
    struct dmc_native_config native;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O:Pipeline", names, &config))
        return NULL;
    PyObject *tuple = PyObject_GetAttrString(config, "_native");
    if (!tuple || !PyTuple_Check(tuple)) {
        Py_XDECREF(tuple);
        PyErr_Clear();
        PyErr_Format(PyExc_TypeError, "config is %R, expected a damacy.Config", config);
        return NULL;
    }
    allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    struct dmc_pipeline_object *self = as_pipeline(allocate(type, 0));
    if (self) {
        self->forks = dmc_python_forks();
        self->unflushed = true; /* so that batches() ends where nothing ever comes */
        Py_INCREF(config);
        self->config = config;
        int result = dmc_native_config_parse(tuple, &native);
        if (result == 0)
            result = create_native(self, &native.config);
        PyMem_Free(native.fields);
        if (result < 0)
            Py_CLEAR(self);
    }
    Py_DECREF(tuple);
    return (PyObject *)self;
}

/* --- close --- */

static void close_pipeline(struct dmc_pipeline_object *self)
{
    struct damacy *native = self->native;
    self->native = NULL;
    if (native && self->forks == dmc_python_forks()) {
        Py_BEGIN_ALLOW_THREADS while (atomic_load(&self->users)) sleep_ns(200000);
        damacy_destroy(native);
        Py_END_ALLOW_THREADS
    }
    dmc_block_clear(&self->block);
    dmc_queue_clear(&self->queue);
}

static int pipeline_traverse(PyObject *object, visitproc visit, void *arg)
{
    struct dmc_pipeline_object *self = as_pipeline(object);
    Py_VISIT(Py_TYPE(object));
    Py_VISIT(self->config);
    for (size_t i = 0; i < self->queue.count; i++)
        Py_VISIT(self->queue.items[(self->queue.begin + i) % self->queue.capacity]);
    return 0;
}

static int pipeline_clear(PyObject *object)
{
    struct dmc_pipeline_object *self = as_pipeline(object);
    close_pipeline(self);
    Py_CLEAR(self->config);
    return 0;
}

static void pipeline_dealloc(PyObject *object)
{
    struct dmc_pipeline_object *self = as_pipeline(object);
    PyTypeObject *type = Py_TYPE(object);
    PyObject_GC_UnTrack(object);
    pipeline_clear(object);
    Py_XDECREF(self->names);
    PyMem_Free(self->shapes);
    PyMem_Free(self->block.scratch);
    PyMem_Free(self->ragged);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(object);
    Py_DECREF(type);
}

int dmc_pipeline_check(struct dmc_pipeline_object *self)
{
    if (self->forks != dmc_python_forks())
        dmc_raise_text(DAMACY_FORKED, "pop", "this pipeline was inherited through fork(); make one in the child");
    else if (!self->native)
        dmc_raise_text(DAMACY_SHUTDOWN, "pop", "the pipeline is closed");
    else
        return 0;
    return -1;
}

/* --- counting, for `pending` --- */

void dmc_pipeline_note_taken(struct dmc_pipeline_object *self, size_t count)
{
    if (!count)
        return;
    self->unflushed = true;
    self->taken_samples += count;
    uint64_t open = self->open_samples + count;
    self->closed_batches += open / self->samples_per_batch;
    self->open_samples = (uint32_t)(open % self->samples_per_batch);
}

/* Room for one more ragged batch, moved to the front. */
static int reserve_ragged(struct dmc_pipeline_object *self)
{
    if (self->ragged_end < self->ragged_capacity)
        return 0;
    size_t count = self->ragged_end - self->ragged_begin, capacity = count < 8 ? 16 : 2 * count;
    struct dmc_ragged *ragged = PyMem_Malloc(capacity * sizeof *ragged);
    if (!ragged) {
        PyErr_NoMemory();
        return -1;
    }
    if (count)
        memcpy(ragged, self->ragged + self->ragged_begin, count * sizeof *ragged);
    PyMem_Free(self->ragged);
    self->ragged = ragged;
    self->ragged_begin = 0;
    self->ragged_end = count;
    self->ragged_capacity = capacity;
    return 0;
}

int dmc_pipeline_flush_now(struct dmc_pipeline_object *self)
{
    struct damacy_error error;
    if (dmc_pipeline_check(self) < 0 || reserve_ragged(self) < 0)
        return -1;
    if (damacy_flush(self->native, &error) != DAMACY_OK) {
        dmc_raise(&error);
        return -1;
    }
    self->unflushed = false;
    if (self->open_samples) {
        self->ragged[self->ragged_end++] =
            (struct dmc_ragged){self->closed_batches++, self->samples_per_batch - self->open_samples};
        self->open_samples = 0;
    }
    return 0;
}

/* Batches come in order, so the n-th that came out, delivered or raised, is batch n. */
static void note_popped(struct dmc_pipeline_object *self)
{
    uint64_t batch_id = self->popped_batches++;
    self->delivered_samples += self->samples_per_batch;
    if (self->ragged_begin < self->ragged_end && self->ragged[self->ragged_begin].batch_id == batch_id)
        self->delivered_samples -= self->ragged[self->ragged_begin++].missing;
}

/* --- pop --- */

/* One slice of waiting. TIMEOUT: look around and come again. */
static enum damacy_status wait_slice(struct dmc_pipeline_object *self, enum dmc_pull_state state, uint64_t slice_ns,
                                     struct damacy_batch **batch, struct damacy_error *error)
{
    struct damacy *native = self->native;
    enum damacy_status status;
    atomic_fetch_add(&self->users, 1);
    Py_BEGIN_ALLOW_THREADS
        /* With sources left, room is as welcome as a batch. */
        bool sources_left = state == DMC_PULL_FULL || state == DMC_PULL_ENOUGH;
    uint32_t happened = DAMACY_WAIT_POP;
    if (state == DMC_PULL_FULL && slice_ns)
        (void)damacy_wait(native, DAMACY_WAIT_POP | DAMACY_WAIT_PUSH, slice_ns, &happened, NULL);
    if (happened & DAMACY_WAIT_POP || !slice_ns)
        status = damacy_pop(native, sources_left ? 0 : slice_ns, batch, error);
    else
        status = DAMACY_TIMEOUT;
    if (status == DAMACY_END && state == DMC_PULL_BUSY && slice_ns)
        sleep_ns(1000000); /* another thread is about to push more */
    Py_END_ALLOW_THREADS atomic_fetch_sub(&self->users, 1);
    return status;
}

/* Is the error about the call, not about a batch that came out and is used up? A batch's error names the array of a bad sample;
 * that of a lost CUDA device, which every pop repeats from then on, names none. */
static bool is_own(const struct damacy_error *error)
{
    return error->status == DAMACY_CUDA || !error->uri[0];
}

/* Every batch that was closed is out, and no source is left: only another thread can end this wait. -1: the warning is to be an
 * exception. */
static int warn_of_waiting(const struct dmc_pipeline_object *self)
{
    char text[256];
    snprintf(
        text, sizeof text,
        "pop() waits, and nothing is left to come: batch %llu has %lu of %lu samples; push more, call flush() to have it as "
        "it is, or take batches() instead, which ends by itself",
        (unsigned long long)self->popped_batches, (unsigned long)self->open_samples, (unsigned long)self->samples_per_batch);
    return PyErr_WarnEx(PyExc_RuntimeWarning, text, 1);
}

PyObject *dmc_pipeline_pop(struct dmc_pipeline_object *self, uint64_t deadline_ns, bool flush_at_end)
{
    uint64_t warn_ns = deadline_ns == UINT64_MAX && !flush_at_end ? dmc_python_clock_ns() + LONELY_NS : UINT64_MAX;
    for (;;) {
        enum dmc_pull_state state;
        struct damacy_batch *batch = NULL;
        struct damacy_error error;
        if (dmc_pipeline_check(self) < 0 || dmc_pull(self, flush_at_end, deadline_ns, &state) < 0 ||
            dmc_pipeline_check(self) < 0)
            return NULL;
        uint64_t now_ns = dmc_python_clock_ns();
        uint64_t left_ns = deadline_ns > now_ns ? deadline_ns - now_ns : 0;
        uint64_t slice_ns = state == DMC_PULL_BUSY ? BUSY_SLICE_NS : SLICE_NS;
        enum damacy_status status = wait_slice(self, state, left_ns < slice_ns ? left_ns : slice_ns, &batch, &error);
        if (status == DAMACY_OK) {
            note_popped(self);
            return dmc_batch_object_create(batch);
        }
        bool more = self->queue.count || self->block.end || self->pulling;
        if (status == DAMACY_END && !more)
            return NULL;
        if (status != DAMACY_TIMEOUT && status != DAMACY_END) {
            if (!is_own(&error))
                note_popped(self);
            return dmc_raise(&error);
        }
        if (PyErr_CheckSignals() < 0)
            return NULL;
        if (now_ns >= warn_ns && !more && self->popped_batches == self->closed_batches) {
            warn_ns = UINT64_MAX;
            if (warn_of_waiting(self) < 0)
                return NULL;
        }
        if (left_ns == 0) {
            if (status == DAMACY_TIMEOUT)
                return dmc_raise(&error);
            return dmc_raise_text(DAMACY_TIMEOUT, "pop", "no batch was ready in time");
        }
    }
}

/* --- methods --- */

static PyObject *pipeline_push(PyObject *object, PyObject *source)
{
    struct dmc_pipeline_object *self = as_pipeline(object);
    if (dmc_pipeline_check(self) < 0)
        return NULL;
    PyObject *item = source;
    if (Py_TYPE(source) == dmc_core.sample) {
        if (dmc_push_directly(self, source))
            Py_RETURN_NONE;
        Py_INCREF(item);
    } else if (!(item = PyObject_GetIter(source))) {
        return NULL;
    }
    int result = dmc_queue_append(&self->queue, item);
    Py_DECREF(item);
    if (result < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *pipeline_push_arrays(PyObject *object, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"uris", "uri_index", "begins", "tags", NULL};
    struct dmc_pipeline_object *self = as_pipeline(object);
    PyObject *uris, *uri_index, *begins, *tags = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOO|O:push_arrays", names, &uris, &uri_index, &begins, &tags) ||
        dmc_pipeline_check(self) < 0)
        return NULL;
    PyObject *source = dmc_array_source_create(self, uris, uri_index, begins, tags);
    int result = source ? dmc_queue_append(&self->queue, source) : -1;
    Py_XDECREF(source);
    if (result < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *pipeline_pop(PyObject *object, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"timeout", NULL};
    struct dmc_pipeline_object *self = as_pipeline(object);
    PyObject *timeout = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O:pop", names, &timeout))
        return NULL;
    uint64_t deadline_ns = UINT64_MAX;
    if (timeout != Py_None) {
        double seconds = PyFloat_AsDouble(timeout);
        if (seconds == -1 && PyErr_Occurred()) {
            if (PyErr_ExceptionMatches(PyExc_TypeError))
                PyErr_Format(PyExc_TypeError, "timeout is %R, expected seconds, or None", timeout);
            return NULL;
        }
        if (!(seconds >= 0))
            return dmc_raise_text(DAMACY_INVAL, "pop", "timeout is %g, expected seconds, or None", seconds);
        if (seconds < 1e9)
            deadline_ns = dmc_python_clock_ns() + (uint64_t)(seconds * 1e9);
    }
    PyObject *batch = dmc_pipeline_pop(self, deadline_ns, false);
    if (batch || PyErr_Occurred())
        return batch;
    Py_RETURN_NONE;
}

static PyObject *pipeline_batches(PyObject *object, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"count", NULL};
    PyObject *count = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O:batches", names, &count) || dmc_pipeline_check(as_pipeline(object)) < 0)
        return NULL;
    Py_ssize_t number = -1;
    if (count != Py_None) {
        number = PyNumber_AsSsize_t(count, PyExc_OverflowError);
        if (number == -1 && PyErr_Occurred())
            return NULL;
        if (number < 0)
            return dmc_raise_text(DAMACY_INVAL, "pop", "the number of batches is %zd, expected 0 or more, or None", number);
    }
    return dmc_iterator_create(as_pipeline(object), number);
}

static PyObject *pipeline_iter(PyObject *object)
{
    return dmc_pipeline_check(as_pipeline(object)) < 0 ? NULL : dmc_iterator_create(as_pipeline(object), -1);
}

static PyObject *pipeline_flush(PyObject *object, PyObject *unused)
{
    (void)unused;
    struct dmc_pipeline_object *self = as_pipeline(object);
    if (dmc_pipeline_check(self) < 0)
        return NULL;
    bool behind = self->queue.count || self->block.end || self->pulling;
    if ((behind ? dmc_queue_append(&self->queue, Py_None) : dmc_pipeline_flush_now(self)) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *pipeline_stats(PyObject *object, PyObject *unused)
{
    (void)unused;
    struct damacy_stats stats = DAMACY_STATS_INIT;
    struct damacy_error error;
    if (dmc_pipeline_check(as_pipeline(object)) < 0)
        return NULL;
    if (damacy_stats_get(as_pipeline(object)->native, &stats, &error) != DAMACY_OK)
        return dmc_raise(&error);
    return dmc_stats_create(&stats);
}

static PyObject *pipeline_remote_stats(PyObject *object, PyObject *unused)
{
    (void)unused;
    struct damacy_remote_stats stats = DAMACY_REMOTE_STATS_INIT;
    struct damacy_error error;
    PyObject *result = NULL;
    if (dmc_pipeline_check(as_pipeline(object)) < 0)
        return NULL;
    enum damacy_status status = damacy_remote_stats_get(as_pipeline(object)->native, &stats, &error);
    if (status == DAMACY_OK && stats.server_count) { /* now it is known how many there are */
        stats.server_capacity = stats.server_count;
        stats.servers = PyMem_Calloc(stats.server_capacity, sizeof *stats.servers);
        if (!stats.servers)
            return PyErr_NoMemory();
        status = damacy_remote_stats_get(as_pipeline(object)->native, &stats, &error);
    }
    if (status == DAMACY_OK)
        result = dmc_remote_stats_create(&stats);
    else
        dmc_raise(&error);
    PyMem_Free(stats.servers);
    return result;
}

static PyObject *pipeline_stats_reset(PyObject *object, PyObject *unused)
{
    (void)unused;
    struct damacy_error error;
    if (dmc_pipeline_check(as_pipeline(object)) < 0)
        return NULL;
    if (damacy_stats_reset(as_pipeline(object)->native, &error) != DAMACY_OK)
        return dmc_raise(&error);
    Py_RETURN_NONE;
}

static PyObject *pipeline_close(PyObject *object, PyObject *unused)
{
    (void)unused;
    close_pipeline(as_pipeline(object));
    Py_RETURN_NONE;
}

static PyObject *pipeline_enter(PyObject *object, PyObject *unused)
{
    (void)unused;
    if (dmc_pipeline_check(as_pipeline(object)) < 0)
        return NULL;
    Py_INCREF(object);
    return object;
}

static PyObject *pipeline_exit(PyObject *object, PyObject *args)
{
    return (void)args, pipeline_close(object, NULL);
}

static PyObject *get_config(PyObject *object, void *closure)
{
    (void)closure;
    Py_INCREF(as_pipeline(object)->config);
    return as_pipeline(object)->config;
}

static PyObject *get_device(PyObject *object, void *closure)
{
    (void)closure;
    enum damacy_device_type type;
    int32_t ordinal;
    struct damacy_error error;
    if (dmc_pipeline_check(as_pipeline(object)) < 0)
        return NULL;
    if (damacy_get_device(as_pipeline(object)->native, &type, &ordinal, &error) != DAMACY_OK)
        return dmc_raise(&error);
    return dmc_device_name(type, ordinal);
}

static PyObject *get_pending(PyObject *object, void *closure)
{
    (void)closure;
    const struct dmc_pipeline_object *self = as_pipeline(object);
    unsigned long long samples = self->block.end - self->block.begin;
    if (self->native)
        samples += self->taken_samples - self->delivered_samples;
    return PyObject_CallFunction(dmc_core.pending, "nK", (Py_ssize_t)self->queue.count, samples);
}

static PyObject *get_closed(PyObject *object, void *closure)
{
    (void)closure;
    return PyBool_FromLong(!as_pipeline(object)->native);
}

static PyObject *pipeline_repr(PyObject *object)
{
    const struct dmc_pipeline_object *self = as_pipeline(object);
    return PyUnicode_FromFormat(self->native ? "<damacy.Pipeline of %R>" : "<damacy.Pipeline of %R, closed>", self->config);
}

PyDoc_STRVAR(pipeline_doc, "Pipeline(config)\n"
                           "--\n\n"
                           "Samples in, batches out, in the order of pushing.\n\n"
                           "Leave a `with`, or close(), to stop its threads and free its memory. Any thread may call anything; "
                           "several may pop at once.\n\n"
                           ">>> config = damacy.Config(samples_per_batch=2, sample_shape=(4, 4), dtype=\"native\")\n"
                           ">>> with damacy.Pipeline(config) as pipeline:\n"
                           "...     pipeline.push(damacy.Sample(example, np.s_[y:y + 4, 0:4], tag=y) for y in range(4))\n"
                           "...     for batch in pipeline.batches():\n"
                           "...         with batch as tensor:\n"
                           "...             print(batch.info.tags, tensor.dtype, np.asarray(tensor).shape)\n"
                           "(0, 1) u16 (2, 4, 4)\n"
                           "(2, 3) u16 (2, 4, 4)\n");

PyDoc_STRVAR(push_doc, "push($self, samples, /)\n--\n\n"
                       "Queue an iterable of Samples, or one Sample, and return at once.\n\n"
                       "The iterable may be infinite: pop() and batches() take from it, in the thread that calls them, what "
                       "the lookahead has room for.\n"
                       "What it raises is raised there, and ends this iterable only. A sample that is wrong in itself is "
                       "raised there, too, and left out.");
PyDoc_STRVAR(
    push_arrays_doc,
    "push_arrays($self, /, uris, uri_index, begins, tags=None)\n--\n\n"
    "The same as push() without a Python object for each sample: sample i is the box of uris[uri_index[i]] that begins at\n"
    "begins[i]. Tags are the positions if not given. The arrays are copied. For several fields each of the first three may be "
    "a\n"
    "dict by name.\n\n"
    ">>> with damacy.Pipeline(damacy.Config(samples_per_batch=4, sample_shape=(8, 8), dtype=\"f32\")) as pipeline:\n"
    "...     pipeline.push_arrays([example], np.zeros(4, int), np.array([[0, 0], [1, 0], [2, 0], [3, 5]]))\n"
    "...     pipeline.pop().info.tags\n"
    "(0, 1, 2, 3)\n");
PyDoc_STRVAR(
    pop_doc,
    "pop($self, /, timeout=None)\n--\n\n"
    "Wait for the next Batch, `timeout` seconds at most. None: everything pushed before the last flush was delivered, and\n"
    "nothing was pushed since. Without a flush a last batch that is not full does not come, and pop waits.\n\n"
    "Raises Timeout, PoolStarved if you hold every batch, what a source raised, or, with on_error=\"raise\", what is wrong\n"
    "with a sample of this batch. The next pop goes on behind that.");
PyDoc_STRVAR(
    batches_doc,
    "batches($self, /, count=None)\n--\n\n"
    "An iterator over the next `count` batches, or over all: when the sources end it flushes, and it ends when all was\n"
    "delivered. After an error, its next next() goes on. `for batch in pipeline` is the same as over all.");
PyDoc_STRVAR(
    flush_doc,
    "flush($self, /)\n--\n\nClose the open batch behind what was pushed so far, so that it comes out with the samples it has.");

PyTypeObject *dmc_pipeline_type_create(void)
{
    static PyMethodDef methods[] = {
        {"push", pipeline_push, METH_O, push_doc},
        {"push_arrays", (PyCFunction)(void (*)(void))pipeline_push_arrays, METH_VARARGS | METH_KEYWORDS, push_arrays_doc},
        {"pop", (PyCFunction)(void (*)(void))pipeline_pop, METH_VARARGS | METH_KEYWORDS, pop_doc},
        {"batches", (PyCFunction)(void (*)(void))pipeline_batches, METH_VARARGS | METH_KEYWORDS, batches_doc},
        {"flush", pipeline_flush, METH_NOARGS, flush_doc},
        {"stats", pipeline_stats, METH_NOARGS, "stats($self, /)\n--\n\nWhat it did since it was made, or since stats_reset()."},
        {"remote_stats", pipeline_remote_stats, METH_NOARGS,
         "remote_stats($self, /)\n--\n\nWhat it did over the network since it was made: a dict of counts of the cache on disk, "
         "and of\n"
         "\"servers\", a dict by origin of what each server did. The names are those of `struct damacy_server_stats`."},
        {"stats_reset", pipeline_stats_reset, METH_NOARGS, "stats_reset($self, /)\n--\n\nStart counting anew."},
        {"close", pipeline_close, METH_NOARGS,
         "close($self, /)\n--\n\nStop and free everything but batches and tensors that are still held. Twice does no harm."},
        {"__enter__", pipeline_enter, METH_NOARGS, "__enter__($self, /)\n--\n\nItself."},
        {"__exit__", pipeline_exit, METH_VARARGS, "__exit__($self, /, *exception)\n--\n\nClose."},
        {0},
    };
    static PyGetSetDef members[] = {
        {"config", get_config, NULL, "The Config it was made with.", NULL},
        {"device", get_device, NULL, "Where batches are: \"cpu\", or \"cuda:0\".", NULL},
        {"pending", get_pending, NULL, "What still is to come, as a Pending; false if nothing.", NULL},
        {"closed", get_closed, NULL, "Whether it was closed.", NULL},
        {0},
    };
    static PyType_Slot slots[] = {
        {Py_tp_new, pipeline_new},
        {Py_tp_dealloc, pipeline_dealloc},
        {Py_tp_traverse, pipeline_traverse},
        {Py_tp_clear, pipeline_clear},
        {Py_tp_methods, methods},
        {Py_tp_getset, members},
        {Py_tp_doc, (void *)pipeline_doc},
        {Py_tp_repr, pipeline_repr},
        {Py_tp_iter, pipeline_iter},
        {0, NULL},
    };
    static PyType_Spec spec = {"damacy.Pipeline", sizeof(struct dmc_pipeline_object), 0,
                               Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE, slots};
    return (PyTypeObject *)PyType_FromSpec(&spec);
}
