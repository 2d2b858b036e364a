"""Weight pruning: the smallest weights become zero, wherever they stand.

    w ← 0     for the smallest |w| of each layer: a share of all (`ratio`), or all but N in each M that are summed (N:M)

Runtimes for dense tensors, such as ONNX Runtime, multiply by a zero as fast as by any other number: the model does not
get faster, and the file does not get smaller. What shrinks is the file as it is compressed on its way, and what a
runtime with sparse kernels may make of it (2:4 on NVIDIA GPUs since Ampere). For speed, take `prune_channels`.

Training and quantization behind it keep the zeros: a matrix or kernel that is zero in part, and not as a whole, learns
in what is left of it.
Han et al. 2015; Mishra et al. 2021 (N:M).
"""

import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from engine import words
from engine.graph import all_graphs, all_nodes, constant_of, inlined, is_standard, load, save
from engine.quantize.weights import OPERATORS, Weight, is_large, weights
from engine.recipe import PruneWeights
from engine.steps.base import Skipped, StepContext, Variant
from engine.unpack import FEWEST_ELEMENTS, lift_large_constants

CHUNK_BYTES = 1 << 20
TABLES = ("Gather",)  #: a row of an embedding is not summed up
LAYERS = tuple(operator for operator in OPERATORS if operator not in TABLES)
NOTHING = f"it has no matrix product, convolution or recurrent layer with {FEWEST_ELEMENTS} float weights"


def refuse(model: onnx.ModelProto) -> str | None:
    """Why there is no weight to set to zero, as far as a glance can tell."""
    model = inlined(model)
    if any(True for _ in _layers(model)):
        return None
    constants = (tensor for node in all_nodes(model) if (tensor := constant_of(node)) is not None)
    if any(map(is_large, constants)) and any(is_standard(node, *LAYERS) for node in all_nodes(model)):
        return None
    return NOTHING


def run(step: PruneWeights, model: Path, context: StepContext) -> list[Variant] | Skipped:
    """One file with the same graph, and zeros in its weights."""
    original = load(model)
    reason = refuse(original)
    if reason is not None:
        return Skipped(reason)
    sparse = inlined(original)
    lift_large_constants(sparse)
    zeros = total = 0
    for weight in _layers(sparse):
        values = _pruned(weight, step)
        weight.tensor.CopyFrom(numpy_helper.from_array(values, weight.name))
        zeros, total = zeros + int((values == 0).sum()), total + values.size
    if not total:
        return Skipped(NOTHING)
    path = save(sparse, context.folder / "sparse.onnx")
    return [Variant(path, step, _label(zeros / total, zipped_bytes(model), zipped_bytes(path)))]


def _layers(model: onnx.ModelProto) -> Iterator[Weight]:
    for graph in all_graphs(model.graph):
        yield from (weight for weight in weights(graph) if not weight.read_by(*TABLES))


def _pruned(weight: Weight, step: PruneWeights) -> np.ndarray:
    values = weight.values.copy()
    if step.pattern is None:
        flat = np.abs(values).ravel()
        values.ravel()[np.argsort(flat, kind="stable")[: int(step.ratio * flat.size)]] = 0
        return values
    kept, size = (int(number) for number in step.pattern.split(":"))
    turned = values.transpose(weight.view.order)
    rows = turned.reshape(-1, int(np.prod(turned.shape[weight.view.kept :])))
    whole = rows.shape[1] // size * size  # what is left over at the end of a row stays
    parts = rows[:, :whole].reshape(len(rows), -1, size)
    smallest = np.argsort(np.abs(parts), axis=2, kind="stable")[:, :, : size - kept]
    np.put_along_axis(parts, smallest, 0, axis=2)
    rows[:, :whole] = parts.reshape(len(rows), whole)
    return np.ascontiguousarray(rows.reshape(turned.shape).transpose(np.argsort(weight.view.order)))


def zipped_bytes(path: Path) -> int:
    """Size of the file as zip and gzip compress it."""
    compressor, size = zlib.compressobj(), 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            size += len(compressor.compress(chunk))
    return size + len(compressor.flush())


def _label(share: float, before: int, after: int) -> str:
    smaller = f"zipped {words.size(before)} → {words.size(after)}"
    return f"{words.share(share)} of weights zero, {smaller}; dense kernels take as long as before"
