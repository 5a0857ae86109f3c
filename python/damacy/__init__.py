"""damacy: batches of nD crops out of many Zarr arrays, as DLPack tensors.

Say what a batch looks like, which crops you want, and take batches:

>>> import damacy, numpy as np
>>> config = damacy.Config(samples_per_batch=4, sample_shape=(8, 8), dtype="f32")
>>> with damacy.Pipeline(config) as pipeline:
...     pipeline.push(damacy.Sample(uri=example, aabb=[(y, y + 8), (0, 8)]) for y in range(6))
...     for batch in pipeline.batches():
...         with batch as tensor:
...             print(np.from_dlpack(tensor).shape)  # zero copy; torch.from_dlpack and jax.dlpack.from_dlpack alike
(4, 8, 8)
(2, 8, 8)

What is at a uri, and how it is stored, is what open() says:

>>> damacy.open(example).shape
(32, 32)

Nothing here starts a Python thread: samples are pulled from what you push in the threads that wait for batches, and everything else
is done by the C library's own threads, without the interpreter's lock.
"""

from ._config import Config, Field
from ._codecs import register_codec, unregister_codec
from ._core import Batch, BatchIterator, Pipeline, Sample, Tensor, __version__, set_log_quiet
from ._describe import Axis, Node, open, open_many
from ._errors import (
    BudgetExceeded,
    CudaError,
    DamacyError,
    DecodeError,
    DtypeMismatch,
    Forked,
    InternalError,
    InvalidArgument,
    NotFound,
    OutOfMemory,
    PoolStarved,
    RankMismatch,
    ShutdownError,
    StorageError,
    Timeout,
    TryAgain,
    Unsupported,
)
from ._log import set_log_level
from ._types import BatchInfo, Dtype, Metric, Pending, Row, Stats, Status, TensorInfo

__all__ = [
    "Axis",
    "Batch",
    "BatchInfo",
    "BatchIterator",
    "BudgetExceeded",
    "Config",
    "CudaError",
    "DamacyError",
    "DecodeError",
    "Dtype",
    "DtypeMismatch",
    "Field",
    "Forked",
    "InternalError",
    "InvalidArgument",
    "Metric",
    "Node",
    "NotFound",
    "OutOfMemory",
    "Pending",
    "Pipeline",
    "PoolStarved",
    "RankMismatch",
    "Row",
    "Sample",
    "ShutdownError",
    "Stats",
    "Status",
    "StorageError",
    "Tensor",
    "TensorInfo",
    "Timeout",
    "TryAgain",
    "Unsupported",
    "__version__",
    "open",
    "open_many",
    "register_codec",
    "set_log_level",
    "set_log_quiet",
    "unregister_codec",
]
