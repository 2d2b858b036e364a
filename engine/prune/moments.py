"""What the readers of channels see on calibration samples: mean and second moments of each channel, and of pairs.

    mean_c = E[x_c]        second_cd = E[x_c x_d]        over samples and positions

Samples stream through ONNX Runtime one by one, and only sums are kept.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from engine.graph import copied, replace_list
from engine.prune.walk import Reader, Walk
from engine.quantize.calibrate import Calibrator

ROWS_PER_RUN = 512  #: positions of one sample that are looked at, evenly spaced
MOST_CHANNELS = 3072  #: for pairs; of more, only each channel for itself
MOST_BYTES = 256 << 20  #: of sums in one pass over the samples

Key = tuple[str, int]  #: a tensor and the axis along which its channels lie


@dataclass
class Moments:
    """Sums over rows, each of which holds one value for each channel."""

    mean: NDArray[np.float64]
    second: NDArray[np.float64]  #: (channels, channels), or only its diagonal (channels,)
    rows: int = 0

    @classmethod
    def of(cls, channels: int) -> "Moments":
        shape = (channels, channels) if channels <= MOST_CHANNELS else (channels,)
        return cls(np.zeros(channels), np.zeros(shape))

    def add(self, rows: NDArray[np.float64]) -> None:
        """Take in more rows, each weighing the same."""
        total = self.rows + len(rows)
        keep, share = self.rows / total, 1 / total
        self.mean = self.mean * keep + rows.sum(0) * share
        self.second = self.second * keep + (rows.T @ rows if self.has_pairs else (rows**2).sum(0)) * share
        self.rows = total

    @property
    def has_pairs(self) -> bool:
        return self.second.ndim == 2

    @property
    def power(self) -> NDArray[np.float64]:
        """E[x²] of each channel."""
        return np.diagonal(self.second) if self.has_pairs else self.second


def key_of(reader: Reader) -> Key:
    return reader.tensor, reader.axis


def moments(walk: Walk, calibrator: Calibrator, readers: Sequence[Reader]) -> dict[Key, Moments]:
    """The moments of all that these readers read."""
    found: dict[Key, Moments] = {}
    for keys in _portions(walk, sorted({key_of(reader) for reader in readers})):
        sums = {key: Moments.of(_width(walk, key)) for key in keys}
        for values in calibrator.run(*_giving(walk, [name for name, _ in keys])):
            for (_, axis), total, value in zip(keys, sums.values(), values, strict=True):
                total.add(_rows(value, axis))
        found |= sums
    return found


def _width(walk: Walk, key: Key) -> int:
    name, axis = key
    ids = (walk.axes[name] or [])[axis]
    return len(ids) if isinstance(ids, np.ndarray) else 0


def _portions(walk: Walk, keys: Sequence[Key]) -> Iterator[list[Key]]:
    portion: list[Key] = []
    size = 0
    for key in keys:
        added = min(_width(walk, key), MOST_CHANNELS) ** 2 * 8
        if portion and size + added > MOST_BYTES:
            yield portion
            portion, size = [], 0
        portion.append(key)
        size += added
    if portion:
        yield portion


def _giving(walk: Walk, names: list[str]) -> tuple[onnx.ModelProto, list[str]]:
    """The graph with these tensors as its outputs."""
    graph = copied(walk.model)
    elements = (walk.elements.get(name, onnx.TensorProto.FLOAT) for name in names)
    values = [onnx.helper.make_tensor_value_info(name, kind, None) for name, kind in zip(names, elements, strict=True)]
    replace_list(graph.graph.output, {value.name: value for value in values}.values())
    return graph, names


def _rows(value: np.ndarray, axis: int) -> NDArray[np.float64]:
    """(positions, channels) of one run."""
    rows = np.moveaxis(value, axis, -1).reshape(-1, value.shape[axis])
    step = max(len(rows) // ROWS_PER_RUN, 1) | 1  # odd, so that it does not fall in step with image rows
    return rows[::step].astype(np.float64)
