"""What the readers of channels see on calibration samples: mean and second moments of each channel, and of pairs.

    mean_c = E[x_c]        second_cd = E[x_c x_d]        over samples and evenly spaced positions
    peak_c = max |x_c|                                   over samples and all positions

Samples stream through ONNX Runtime one by one, and only sums are kept.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.graph import copied, drop_unused, give_out
from engine.prune.walk import Key, Reader, Walk
from engine.quantize.calibrate import Calibrator

ROWS_PER_RUN = 512  #: positions of one sample that are looked at, evenly spaced
MOST_CHANNELS = 3072  #: for pairs; of more, only each channel for itself
MOST_BYTES = 256 << 20  #: of sums in one pass over the samples


@dataclass
class Moments:
    """Sums over rows, each of which holds one value for each channel."""

    mean: NDArray[np.float64]
    second: NDArray[np.float64]  #: (channels, channels), or only its diagonal (channels,)
    peak: NDArray[np.float64]  #: (channels,)
    rows: int = 0

    @classmethod
    def of(cls, channels: int) -> "Moments":
        shape = (channels, channels) if channels <= MOST_CHANNELS else (channels,)
        return cls(np.zeros(channels), np.zeros(shape), np.zeros(channels))

    def add(self, every: np.ndarray) -> None:
        """Take in more rows, (positions, channels): sums of some of them, each weighing the same."""
        rows = _some(every)
        total = self.rows + len(rows)
        if not len(rows):
            return
        self.peak = np.maximum(self.peak, np.maximum(every.max(0), -every.min(0)))
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


@dataclass
class Pairs:
    """The same rows of a tensor in the original (wide) and in a narrower model: means and second moments."""

    mean: NDArray[np.float64]  #: (wide,)
    narrow_mean: NDArray[np.float64]  #: (narrow,)
    across: NDArray[np.float64]  #: E[x y], (wide, narrow)
    narrow: NDArray[np.float64]  #: E[y y], (narrow, narrow)
    rows: int = 0

    @classmethod
    def inside(cls, seen: Moments, stays: NDArray[np.bool_]) -> "Pairs":
        """The narrower model taken as one that computes what stays just as before."""
        among = seen.second[np.ix_(stays, stays)]
        return cls(seen.mean, seen.mean[stays], seen.second[:, stays], among, seen.rows)

    @classmethod
    def of(cls, wide: int, narrow: int) -> "Pairs":
        return cls(np.zeros(wide), np.zeros(narrow), np.zeros((wide, narrow)), np.zeros((narrow, narrow)))

    def add(self, every_wide: np.ndarray, every_narrow: np.ndarray) -> None:
        """Take in more rows, each weighing the same; none where the two models chose different ones."""
        wide, narrow = _some(every_wide), _some(every_narrow)
        total = self.rows + len(wide)
        if not len(wide) or len(wide) != len(narrow):
            return
        keep, share = self.rows / total, 1 / total
        self.mean = self.mean * keep + wide.sum(0) * share
        self.narrow_mean = self.narrow_mean * keep + narrow.sum(0) * share
        self.across = self.across * keep + wide.T @ narrow * share
        self.narrow = self.narrow * keep + narrow.T @ narrow * share
        self.rows = total

    def is_finite(self) -> bool:
        """Whether no value of these rows was infinite or not a number."""
        return bool(np.isfinite(self.across).all() and np.isfinite(self.narrow).all())


def moments(walk: Walk, calibrator: Calibrator, readers: Sequence[Reader]) -> dict[Key, Moments]:
    """The moments of all that these readers read; of what held no row, none."""
    widths = {reader.key: len(ids) for reader in readers if (ids := walk.read_by(reader)) is not None}
    found = {key: Moments.of(width) for key, width in widths.items()}
    for keys in _portions(widths):
        for values in _values(calibrator, keys):
            for key, rows in zip(keys, values, strict=True):
                found[key].add(rows)
    return {key: one for key, one in found.items() if one.rows}


def compared(wide: Calibrator, narrow: Calibrator, stays: Mapping[Key, NDArray[np.bool_]]) -> dict[Key, Pairs]:
    """The moments of tensors in two models that run on the same samples, given which channels of each stay."""
    found = {key: Pairs.of(len(mask), int(mask.sum())) for key, mask in stays.items()}
    for keys in _portions({key: len(mask) for key, mask in stays.items()}):
        for before, after in zip(_values(wide, keys), _values(narrow, keys), strict=True):
            for key, one, other in zip(keys, before, after, strict=True):
                found[key].add(one, other)
    return found


def _values(calibrator: Calibrator, keys: Sequence[Key]) -> Iterator[list[NDArray[np.float64]]]:
    """(rows, channels) of these tensors, run after run."""
    names = [name for name, _ in keys]
    graph = copied(calibrator.model)
    give_out(graph, names)
    drop_unused(graph)
    for values in calibrator.run(graph, names):
        yield [_rows(value, axis) for (_, axis), value in zip(keys, values, strict=True)]


def _portions(widths: Mapping[Key, int]) -> Iterator[list[Key]]:
    """Tensors whose sums are not too large together."""
    portion: list[Key] = []
    size = 0
    for key, width in widths.items():
        added = min(width, MOST_CHANNELS) ** 2 * 8
        if portion and size + added > MOST_BYTES:
            yield portion
            portion, size = [], 0
        portion.append(key)
        size += added
    if portion:
        yield portion


def _rows(value: np.ndarray, axis: int) -> NDArray[np.float64]:
    """(positions, channels) of one run."""
    return np.moveaxis(value, axis, -1).reshape(-1, value.shape[axis])


def _some(rows: np.ndarray) -> NDArray[np.float64]:
    """Evenly spaced ones."""
    step = max(len(rows) // ROWS_PER_RUN, 1) | 1  # odd, so that it does not fall in step with image rows
    return rows[::step].astype(np.float64)
