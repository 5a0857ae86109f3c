/* The queue of sources, and pulling from it.
 *
 * No thread is started for this: who waits for a batch pulls, and only one at a time (pipeline->pulling). An iterator is asked
 * for no more samples than there is room for, so that an infinite generator is never ahead by more than the lookahead; they go
 * into the library in blocks, because each push takes its lock and may wake the prefetcher.
 *
 * Asking an iterator runs foreign code, in which anything may happen: other threads run, the pipeline is used, or closed. So
 * what is needed afterwards is held by references, and `native` is looked at again. */
#include "core.h"

#include <string.h>
#include <time.h>

/* An iterator that is slower than this does not hold up what it gave before, nor a batch that is ready. */
#define GATHER_NS 200000u
#define PULL_NS 1000000u
#define PULL_NS_MAX 50000000u /* then the caller looks at signals and at its deadline */

uint64_t dmc_python_clock_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* --- the queue --- */

int dmc_queue_append(struct dmc_queue *queue, PyObject *item)
{
    if (queue->count == queue->capacity) {
        size_t capacity = queue->capacity ? 2 * queue->capacity : 8;
        PyObject **items = PyMem_Malloc(capacity * sizeof *items);
        if (!items) {
            PyErr_NoMemory();
            return -1;
        }
        for (size_t i = 0; i < queue->count; i++)
            items[i] = queue->items[(queue->begin + i) % queue->capacity];
        PyMem_Free(queue->items);
        *queue = (struct dmc_queue){items, capacity, 0, queue->count};
    }
    Py_INCREF(item);
    queue->items[(queue->begin + queue->count++) % queue->capacity] = item;
    return 0;
}

/* Borrowed; NULL if there is none. */
static PyObject *queue_head(const struct dmc_queue *queue)
{
    return queue->count ? queue->items[queue->begin] : NULL;
}

/* Drop the head, if it still is this one. */
static void queue_drop(struct dmc_queue *queue, PyObject *item)
{
    if (queue_head(queue) != item)
        return;
    queue->begin = (queue->begin + 1) % queue->capacity;
    queue->count--;
    Py_DECREF(item);
}

void dmc_queue_clear(struct dmc_queue *queue)
{
    struct dmc_queue old = *queue;
    *queue = (struct dmc_queue){0}; /* first, since dropping an iterator may run code that looks here */
    for (size_t i = 0; i < old.count; i++)
        Py_DECREF(old.items[(old.begin + i) % old.capacity]);
    PyMem_Free(old.items);
}

/* --- the block --- */

void dmc_block_clear(struct dmc_block *block)
{
    uint32_t begin = block->begin, end = block->end;
    block->begin = block->end = 0;
    for (uint32_t i = begin; i < end; i++)
        Py_DECREF(block->objects[i]);
}

static bool same_name(PyObject *left, PyObject *right)
{
    return left == right || PyUnicode_Compare(left, right) == 0;
}

/* "the fields ('image', 'label')"; NULL and ('',) are the single field that goes without a name. */
static PyObject *fields_text(PyObject *names)
{
    PyObject *first = names && PyTuple_Size(names) == 1 ? PyTuple_GetItem(names, 0) : NULL;
    if (!names || (first && PyUnicode_GetLength(first) == 0))
        return PyUnicode_FromString("a single field without a name");
    return PyUnicode_FromFormat("the fields %R", names);
}

static int wrong_fields(const struct dmc_pipeline_object *pipeline, const struct dmc_sample_object *sample)
{
    PyObject *own = fields_text(sample->names), *wanted = own ? fields_text(pipeline->names) : NULL;
    const char *own_text = wanted ? PyUnicode_AsUTF8AndSize(own, NULL) : NULL;
    const char *wanted_text = own_text ? PyUnicode_AsUTF8AndSize(wanted, NULL) : NULL;
    if (wanted_text)
        dmc_raise_text(DAMACY_INVAL, "push", "the sample has %s, the configuration has %s", own_text, wanted_text);
    Py_XDECREF(own);
    Py_XDECREF(wanted);
    return -1;
}

/* The sample's regions in the order of the configuration: its own, or those in `scratch`. NULL with an exception. */
static const struct damacy_region *ordered_regions(const struct dmc_pipeline_object *pipeline,
                                                   const struct dmc_sample_object *sample, struct damacy_region *scratch)
{
    uint32_t count = pipeline->field_count;
    if (!sample->names && count == 1)
        return sample->regions;
    bool in_order = sample->names && sample->field_count == count;
    for (uint32_t f = 0; in_order && f < count; f++)
        in_order = same_name(PyTuple_GetItem(sample->names, f), PyTuple_GetItem(pipeline->names, f));
    if (in_order)
        return sample->regions;
    bool found = sample->names && sample->field_count == count;
    for (uint32_t f = 0; found && f < count; f++) {
        found = false;
        for (uint32_t i = 0; !found && i < count; i++)
            if (same_name(PyTuple_GetItem(sample->names, i), PyTuple_GetItem(pipeline->names, f))) {
                scratch[f] = sample->regions[i];
                found = true;
            }
    }
    return found ? scratch : (wrong_fields(pipeline, sample), NULL);
}

/* Put a new item, which is given away, at the block's end. -1: it is no sample for this pipeline. */
static int block_add(struct dmc_pipeline_object *pipeline, PyObject *item)
{
    struct dmc_block *block = &pipeline->block;
    if (Py_TYPE(item) != dmc_core.sample) {
        PyErr_Format(PyExc_TypeError, "a source of samples gave %R, expected a damacy.Sample", item);
        Py_DECREF(item);
        return -1;
    }
    const struct dmc_sample_object *sample = (struct dmc_sample_object *)item;
    const struct damacy_region *regions =
        ordered_regions(pipeline, sample, &block->scratch[(size_t)block->end * pipeline->field_count]);
    if (!regions) {
        Py_DECREF(item);
        return -1;
    }
    block->objects[block->end] = item;
    block->samples[block->end++] = (struct damacy_sample){regions, sample->tag};
    return 0;
}

/* 0: all pushed; 1: the lookahead is full, the rest stays; -1: the first of the rest was refused, and is dropped. With the
 * interpreter's lock: a push never waits, and letting go of the lock for each would cost more than it takes. */
static int block_push(struct dmc_pipeline_object *pipeline)
{
    struct dmc_block *block = &pipeline->block;
    struct damacy_samples all = {&block->samples[block->begin], block->end - block->begin}, rest;
    struct damacy_error error;
    if (!all.count)
        return 0;
    enum damacy_status status = damacy_push(pipeline->native, all, &rest, &error);
    size_t taken = all.count - rest.count;
    size_t gone = taken + (status != DAMACY_OK && status != DAMACY_AGAIN);
    dmc_pipeline_note_taken(pipeline, taken);
    for (; gone; gone--)
        Py_DECREF(block->objects[block->begin++]); /* Samples: this runs no foreign code */
    if (block->begin == block->end)
        block->begin = block->end = 0;
    if (status == DAMACY_OK)
        return 0;
    return status == DAMACY_AGAIN ? 1 : (dmc_raise(&error), -1);
}

int dmc_push_directly(struct dmc_pipeline_object *pipeline, PyObject *sample)
{
    struct dmc_block *block = &pipeline->block;
    if (pipeline->pulling || pipeline->queue.count || block->end)
        return 0;
    const struct damacy_region *regions = ordered_regions(pipeline, (struct dmc_sample_object *)sample, block->scratch);
    if (!regions) {
        PyErr_Clear(); /* a bad sample is told by the pop that comes to it */
        return 0;
    }
    struct damacy_sample native = {regions, ((struct dmc_sample_object *)sample)->tag};
    if (damacy_push(pipeline->native, (struct damacy_samples){&native, 1}, NULL, NULL) != DAMACY_OK)
        return 0;
    dmc_pipeline_note_taken(pipeline, 1);
    return 1;
}

/* --- pulling --- */

/* Is it worth while to ask a source? Not for single places in the lookahead as they become free: what runs only now and then
 * runs slowly, having been driven from the caches by the workers, so samples are made many at a time. */
static bool welcome(const struct dmc_pipeline_object *pipeline)
{
    return damacy_wait(pipeline->native, DAMACY_WAIT_PUSH, 0, NULL, NULL) == DAMACY_OK;
}

/* Samples that the lookahead will take. */
static uint32_t room(const struct dmc_pipeline_object *pipeline)
{
    struct damacy_stats stats = DAMACY_STATS_INIT;
    if (damacy_stats_get(pipeline->native, &stats, NULL) != DAMACY_OK || stats.lookahead_samples >= pipeline->lookahead_samples)
        return 0;
    uint64_t samples = pipeline->lookahead_samples - stats.lookahead_samples;
    return samples < DMC_BLOCK_SAMPLES ? (uint32_t)samples : DMC_BLOCK_SAMPLES;
}

static bool batch_ready(const struct dmc_pipeline_object *pipeline)
{
    return damacy_wait(pipeline->native, DAMACY_WAIT_POP, 0, NULL, NULL) == DAMACY_OK;
}

/* Fill the block, which is empty, from an iterator. -1: it raised, and is dropped, or gave what is no sample. */
static int gather(struct dmc_pipeline_object *pipeline, PyObject *iterator, uint32_t count)
{
    uint64_t begin_ns = dmc_python_clock_ns();
    while (pipeline->block.end < count) {
        PyObject *item = PyIter_Next(iterator);
        if (!item) {
            queue_drop(&pipeline->queue, iterator);
            return PyErr_Occurred() ? -1 : 0;
        }
        if (!pipeline->native) { /* closed meanwhile */
            Py_DECREF(item);
            return 0;
        }
        if (block_add(pipeline, item) < 0)
            return -1;
        if (dmc_python_clock_ns() - begin_ns > GATHER_NS)
            break;
    }
    return 0;
}

/* The same from single Samples at the queue's head. */
static int gather_singles(struct dmc_pipeline_object *pipeline, uint32_t count)
{
    PyObject *head;
    while (pipeline->block.end < count && (head = queue_head(&pipeline->queue)) && Py_TYPE(head) == dmc_core.sample) {
        Py_INCREF(head);
        queue_drop(&pipeline->queue, head);
        if (block_add(pipeline, head) < 0)
            return -1;
    }
    return 0;
}

/* What was gathered before something raised comes before it: push that, and keep the exception. */
static int push_and_raise(struct dmc_pipeline_object *pipeline)
{
    PyObject *type, *value, *trace;
    PyErr_Fetch(&type, &value, &trace);
    if (pipeline->native && block_push(pipeline) < 0)
        PyErr_Clear(); /* two errors at once: the source's is told, being the later one's cause more often than not */
    PyErr_Restore(type, value, trace);
    return -1;
}

static int pull_from(struct dmc_pipeline_object *pipeline, PyObject *source, enum dmc_pull_state *state)
{
    *state = DMC_PULL_EMPTY; /* go on */
    if (source == Py_None) {
        queue_drop(&pipeline->queue, source);
        return dmc_pipeline_flush_now(pipeline);
    }
    if (!welcome(pipeline)) {
        *state = DMC_PULL_FULL;
        return 0;
    }
    if (Py_TYPE(source) == dmc_core.array_source) {
        int result = dmc_array_source_push(pipeline, source);
        if (result == 0)
            queue_drop(&pipeline->queue, source);
        if (result == 1)
            *state = DMC_PULL_FULL;
        return result < 0 ? -1 : 0;
    }
    uint32_t count = room(pipeline);
    if (!count) {
        *state = DMC_PULL_FULL;
        return 0;
    }
    int result = Py_TYPE(source) == dmc_core.sample ? gather_singles(pipeline, count) : gather(pipeline, source, count);
    return result < 0 ? push_and_raise(pipeline) : 0;
}

/* Long enough, given that a source was asked at least once? */
static bool enough(const struct dmc_pipeline_object *pipeline, uint64_t begin_ns, uint64_t deadline_ns)
{
    uint64_t now_ns = dmc_python_clock_ns(), passed_ns = now_ns - begin_ns;
    return passed_ns > PULL_NS_MAX || now_ns >= deadline_ns || (passed_ns > PULL_NS && batch_ready(pipeline));
}

static int pull_all(struct dmc_pipeline_object *pipeline, bool flush_at_end, uint64_t deadline_ns, enum dmc_pull_state *state)
{
    uint64_t begin_ns = dmc_python_clock_ns();
    for (bool asked = false;; asked = true) {
        if (dmc_pipeline_check(pipeline) < 0)
            return -1;
        int pushed = block_push(pipeline);
        if (pushed < 0)
            return -1;
        if (pushed == 1) {
            *state = DMC_PULL_FULL;
            return 0;
        }
        if (asked && enough(pipeline, begin_ns, deadline_ns)) {
            *state = DMC_PULL_ENOUGH;
            return 0;
        }
        PyObject *source = queue_head(&pipeline->queue);
        if (!source) {
            *state = DMC_PULL_EMPTY;
            return flush_at_end && pipeline->unflushed ? dmc_pipeline_flush_now(pipeline) : 0;
        }
        Py_INCREF(source);
        int result = pull_from(pipeline, source, state);
        Py_DECREF(source);
        if (result < 0)
            return -1;
        if (*state == DMC_PULL_FULL)
            return 0;
    }
}

int dmc_pull(struct dmc_pipeline_object *pipeline, bool flush_at_end, uint64_t deadline_ns, enum dmc_pull_state *state)
{
    if (pipeline->pulling) {
        *state = DMC_PULL_BUSY;
        return 0;
    }
    pipeline->pulling = true;
    int result = pull_all(pipeline, flush_at_end, deadline_ns, state);
    pipeline->pulling = false;
    return result;
}
