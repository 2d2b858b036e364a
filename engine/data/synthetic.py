"""Made-up inputs for a model whose user uploaded no data: valid for any signature, good for timing, blind to accuracy.

Floats are normal, integers 0 or 1 so that an embedding is never indexed outside of its table, masks all ones so that no
softmax runs over nothing, a sampling rate one that speech models know. A dimension of the same name gets the same size
everywhere.
"""

import numpy as np

from engine.data.fit import check_feedable
from engine.data.samples import Column, Layout, Samples
from engine.report import TensorInfo
from engine.signature import STRING, Signature

Shape = list[int | str | None]
SEQUENCE, IMAGE, OTHER = 32, 224, 16
SAMPLE_RATE, SAMPLE_RATE_NAMES = 16_000, ("sr", "sample_rate", "sampling_rate")
SIZES_BY_WORD = {"past": 0, "batch": 1, "height": IMAGE, "width": IMAGE, "channel": 3}


def synthetic_samples(signature: Signature, count: int, seed: int) -> Samples:
    """At least one run's worth of samples that the model accepts."""
    generator = np.random.default_rng(seed)
    per_run, layout = _batching(signature)
    rows = max(count // (per_run or 1), 1) * (per_run or 1)
    sizes: dict[str, int] = {}
    columns = {tensor.name: _column(tensor, rows, layout, sizes, generator) for tensor in signature.inputs}
    return Samples(columns, np.arange(rows), None, per_run, synthetic=True)


def _batching(signature: Signature) -> tuple[int | None, Layout]:
    """Rows per run, and whether axis 0 is the batch axis of the inputs that have axes."""
    shapes = [tensor.shape or [] for tensor in signature.inputs]
    leading = {shape[0] for shape in shapes if shape}
    inner = {size for shape in shapes for size in shape[1:] if isinstance(size, str)}
    fixed = {size for size in leading if isinstance(size, int)}
    if leading & inner:
        return 1, Layout.WHOLE  # a batch axis that stands elsewhere in another input, as in the state of an LSTM
    if not fixed:
        return None, Layout.BATCHED
    out = {tensor.shape[0] for tensor in signature.outputs if tensor.shape}
    size = min(fixed)
    if len(leading) == 1 and size > 0 and (size == 1 or out == {size}):
        return size, Layout.BATCHED
    return 1, Layout.WHOLE


def _column(
    tensor: TensorInfo, rows: int, layout: Layout, sizes: dict[str, int], generator: np.random.Generator
) -> Column:
    check_feedable(tensor)
    declared = tensor.shape or []
    if not declared:
        return Column(_values(tensor, (), generator), tensor.dtype, Layout.CONSTANT)
    skipped = 1 if layout is Layout.BATCHED else 0
    rank = len(declared)
    shape = (rows, *(_size(size, rank, axis + skipped, sizes) for axis, size in enumerate(declared[skipped:])))
    return Column(_values(tensor, shape, generator), tensor.dtype, layout)


def _size(size: int | str | None, rank: int, axis: int, sizes: dict[str, int]) -> int:
    if isinstance(size, int):
        return size
    guess = _guess(size or "", rank, axis)
    return sizes.setdefault(size, guess) if size else guess


def _guess(name: str, rank: int, axis: int) -> int:
    lowered = name.lower()
    for word, size in SIZES_BY_WORD.items():
        if word in lowered:
            return size
    if axis == 0:
        return 1
    if rank == 4:
        return 3 if axis == 1 else IMAGE
    return SEQUENCE if rank in (2, 3) else OTHER


def _values(tensor: TensorInfo, shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray:
    if tensor.dtype == STRING:
        return np.full(shape, "a")
    kind = np.dtype(tensor.dtype).kind
    if "mask" in tensor.name.lower():
        return np.ones(shape, tensor.dtype)
    if tensor.name.lower() in SAMPLE_RATE_NAMES and not tensor.shape:
        return np.full(shape, SAMPLE_RATE, tensor.dtype)
    if kind == "f":
        return generator.standard_normal(shape, np.float32).astype(tensor.dtype)
    return generator.integers(0, 2, shape).astype(tensor.dtype)
