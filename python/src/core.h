/* The native module's own header: damacy for Python, against the limited API of 3.11.
 *
 *     module.c          the module, and its few functions
 *     native_config.c   a Config's tuple -> struct damacy_config
 *     errors.c          struct damacy_error -> exceptions
 *     sample_type.c     Sample
 *     array_source.c    what push_arrays() keeps
 *     sources.c         the queue of sources, and pulling from it
 *     pipeline_type.c   Pipeline: waiting, popping, closing
 *     iterator_type.c   what Pipeline.batches() returns
 *     batch_type.c      Batch: a mapping of names to tensors
 *     tensor_type.c     Tensor: DLPack and the buffer protocol
 *     dlpack_capsule.c  managed tensors in capsules
 *     reports.c         BatchInfo and Stats
 *     describe.c        open(): what is at a uri
 *     codec_function.c  codecs decoded by Python functions
 *     command.c         the command-line tool
 *
 * All of Python's objects here are guarded by the interpreter's lock. It is released only around calls of the C library that
 * may wait, and those touch no Python object. State is global: the module refuses sub-interpreters (m_size -1). */
#ifndef DMC_PYTHON_CORE_H
#define DMC_PYTHON_CORE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "damacy/damacy.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define DMC_STATUS_COUNT (DAMACY_INTERNAL + 1)

/* What the module looks up once. Filled when it is imported, constant afterwards. */
struct core {
    PyObject *exceptions[DMC_STATUS_COUNT]; /* NULL: no error */
    PyObject *statuses[DMC_STATUS_COUNT];
    PyObject *dtypes[DAMACY_DTYPE_COUNT];
    PyObject *batch_info, *tensor_info, *row, *stats, *metric, *pending; /* classes of damacy._types */
    PyTypeObject *sample, *array_source, *pipeline, *iterator, *batch, *tensor;
};
extern struct core dmc_core;

unsigned dmc_python_forks(void); /* module.c */

/* errors.c. `raise` functions set an exception and return NULL or -1, so that callers can return at once. */
PyObject *dmc_make_exception(const struct damacy_error *error); /* new reference */
PyObject *dmc_raise(const struct damacy_error *error);
PyObject *dmc_raise_text(enum damacy_status status, const char *stage, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* native_config.c: all memory is one block; free with PyMem_Free(native->fields). */
struct dmc_native_config {
    struct damacy_config config;
    struct damacy_field *fields;
};
int dmc_native_config_parse(PyObject *tuple, struct dmc_native_config *native);
PyObject *dmc_tuning_dict(const struct damacy_tuning *tuning);

/* sample_type.c */
struct dmc_sample_object {
    PyObject_HEAD uint64_t tag;
    uint32_t field_count;
    PyObject *names;               /* tuple of str; NULL: the single unnamed field */
    struct damacy_region *regions; /* one block with boxes and uris */
};
PyTypeObject *dmc_sample_type_create(void);
/* The bytes of a uri: str or os.PathLike. New reference to an object that owns *text. */
PyObject *dmc_uri_bytes(PyObject *uri, const char **text, size_t *bytes);

/* tensor_type.c, batch_type.c */
struct dmc_batch_object {
    PyObject_HEAD struct damacy_batch *native; /* NULL: released */
};
PyTypeObject *dmc_batch_type_create(void);
PyObject *dmc_batch_object_create(struct damacy_batch *native); /* takes over `native`, also on failure */
/* The batch, described; -1 with an exception when it was released. */
int dmc_batch_describe(struct dmc_batch_object *batch, struct damacy_batch_info *info);
PyTypeObject *dmc_tensor_type_create(void);
PyObject *dmc_tensor_create(struct dmc_batch_object *batch, uint32_t field);
int dmc_tensor_get_buffer(PyObject *exporter, struct dmc_batch_object *batch, uint32_t field, Py_buffer *view, int flags);
void dmc_tensor_release_buffer(PyObject *exporter, Py_buffer *view);
/* __array__ of what has a buffer. */
PyObject *dmc_tensor_array(PyObject *exporter, PyObject *args, PyObject *kwargs);
#define DMC_TENSOR_ARRAY_DOC "__array__($self, /, dtype=None, copy=None)\n--\n\nFor np.asarray: the same memory."

/* dlpack_capsule.c */
PyObject *dmc_dlpack_capsule(struct dmc_batch_object *batch, uint32_t field, PyObject *const *args, Py_ssize_t count,
                             PyObject *names); /* arguments as METH_FASTCALL | METH_KEYWORDS has them */
PyObject *dmc_dlpack_device(struct dmc_batch_object *batch);
/* "cpu" or "cuda:1". */
PyObject *dmc_device_name(enum damacy_device_type device, int32_t ordinal);

/* reports.c */
PyObject *dmc_batch_info_create(const struct damacy_batch_info *info);
PyObject *dmc_stats_create(const struct damacy_stats *stats);
PyObject *dmc_remote_stats_create(const struct damacy_remote_stats *stats);

/* --- the pipeline and its sources --- */

/* Samples that were taken from a source and are on their way into the library: pushed together, in one call. What the lookahead
 * refuses waits here for the next pull, ahead of everything else. */
#define DMC_BLOCK_SAMPLES 64
struct dmc_block {
    uint32_t begin, end;
    PyObject *objects[DMC_BLOCK_SAMPLES]; /* Samples, which own what `samples` points to */
    struct damacy_sample samples[DMC_BLOCK_SAMPLES];
    struct damacy_region *scratch; /* DMC_BLOCK_SAMPLES x field_count: for samples that name their fields in another order */
};

/* A growing ring of what was pushed: iterators, Samples, array sources; None is a flush. */
struct dmc_queue {
    PyObject **items;
    size_t capacity, begin, count;
};

/* Batches that a flush closed early: what they lack of samples_per_batch. */
struct dmc_ragged {
    uint64_t batch_id;
    uint32_t missing;
};

struct dmc_pipeline_object {
    PyObject_HEAD
        /* constant */
        PyObject *config;
    PyObject *names; /* tuple of str */
    unsigned forks;  /* dmc_python_forks() of the process that made it */
    uint32_t field_count;
    uint32_t samples_per_batch;
    uint32_t lookahead_samples;
    uint32_t *ranks;
    int64_t **shapes; /* per field; in the block of `ranks` */
    /* the interpreter's lock */
    struct damacy *native; /* NULL: closed */
    bool pulling;          /* a thread is in dmc_pull() */
    bool unflushed;        /* something was pushed since the last flush, or there was none yet */
    struct dmc_queue queue;
    struct dmc_block block;
    uint64_t taken_samples;
    uint64_t closed_batches, popped_batches; /* closed: also the batch_id of the open one */
    uint32_t open_samples;
    struct dmc_ragged *ragged; /* in order; those popped are dropped */
    size_t ragged_begin, ragged_end, ragged_capacity;
    uint64_t delivered_samples;
    /* threads that are inside the C library without the interpreter's lock; pairs with close() */
    _Atomic uint32_t users;
};
PyTypeObject *dmc_pipeline_type_create(void);
PyTypeObject *dmc_iterator_type_create(void);
PyObject *dmc_iterator_create(struct dmc_pipeline_object *pipeline, Py_ssize_t count); /* -1: to the end */

/* The next batch. NULL without an exception: END. */
PyObject *dmc_pipeline_pop(struct dmc_pipeline_object *pipeline, uint64_t deadline_ns, bool flush_at_end);
/* 0 if it may be used; -1 with ShutdownError or Forked. */
int dmc_pipeline_check(struct dmc_pipeline_object *pipeline);
/* Something was pushed (count samples), or flushed: for Pipeline.pending. */
void dmc_pipeline_note_taken(struct dmc_pipeline_object *pipeline, size_t count);
int dmc_pipeline_flush_now(struct dmc_pipeline_object *pipeline);

/* sources.c */
int dmc_queue_append(struct dmc_queue *queue, PyObject *item); /* takes a reference of its own */
void dmc_queue_clear(struct dmc_queue *queue);
void dmc_block_clear(struct dmc_block *block);

enum dmc_pull_state {
    DMC_PULL_FULL,   /* the lookahead has no room */
    DMC_PULL_EMPTY,  /* no sources are left */
    DMC_PULL_ENOUGH, /* it took long: look at what is ready, at signals and at the time first */
    DMC_PULL_BUSY,   /* another thread is pulling */
};
/* Move samples from the sources into the library while there is room. -1: a source, or a sample, raised. */
int dmc_pull(struct dmc_pipeline_object *pipeline, bool flush_at_end, uint64_t deadline_ns, enum dmc_pull_state *state);
/* Try to hand a Sample over at once. 1: taken; 0: it has to queue; -1: raised. */
int dmc_push_directly(struct dmc_pipeline_object *pipeline, PyObject *sample);

/* array_source.c */
PyTypeObject *dmc_array_source_type_create(void);
PyObject *dmc_array_source_create(struct dmc_pipeline_object *pipeline, PyObject *uris, PyObject *uri_index, PyObject *begins,
                                  PyObject *tags);
/* Push what fits. 1: the lookahead is full; 0: used up; -1: a sample raised, and is behind. */
int dmc_array_source_push(struct dmc_pipeline_object *pipeline, PyObject *source);

uint64_t dmc_python_clock_ns(void);

/* --- functions of the module --- */

/* describe.c: (uris, storage_options or None, timeout_ns, shallow, wells) -> [dict or exception, ...] */
PyObject *dmc_open(PyObject *module, PyObject *args);

/* codec_function.c. dmc_codecs_begin(): once, when the module is imported. */
PyObject *dmc_register_codec(PyObject *module, PyObject *args);
PyObject *dmc_unregister_codec(PyObject *module, PyObject *name);
int dmc_codecs_begin(void);

/* command.c: (argv) -> exit status */
PyObject *dmc_command(PyObject *module, PyObject *args);

#endif
