"""Rows of arrays that fit a model's inputs.

Three kinds of column, told apart by the rank of the array against the rank of the input:

    same rank       axis 0 of the input is its batch axis; a run takes some rows, as many as a fixed axis says
    one more        a row is the whole input (no batch axis, or a state); a run takes one row
    scalar array    one value that every run gets
"""

import mmap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np

from engine.errors import DataRejected
from engine.signature import STRING

MOST_CALIBRATION_ROWS = 1000
FEWEST_JUDGED_ROWS = 300  #: which can just rule out a loss of one point in a hundred

Feeds = dict[str, np.ndarray]


class Layout(StrEnum):
    BATCHED = "batched"  #: axis 0 of array and input is the batch
    WHOLE = "whole"  #: one row is the whole input
    CONSTANT = "constant"  #: the array is the whole input of every run


@dataclass(frozen=True)
class Column:
    """The array behind one input."""

    array: np.ndarray
    dtype: str  #: what the model takes, a NumPy name, or `string`
    layout: Layout

    def feed(self, rows: np.ndarray) -> np.ndarray:
        """The input's value for a run on these rows, as the model takes it."""
        if self.layout is Layout.CONSTANT:
            return cast(self.array, self.dtype)
        chosen = self.array[rows]
        return cast(chosen if self.layout is Layout.BATCHED else chosen[0], self.dtype)


@dataclass(frozen=True)
class Samples:
    """Rows that fit a model. `rows_per_run` is what the model insists on; None where any number will do."""

    columns: Mapping[str, Column]
    rows: np.ndarray  #: indices into the columns
    label_array: np.ndarray | None
    rows_per_run: int | None
    synthetic: bool = False
    notes: tuple[str, ...] = ()  #: for the user: how arrays were taken where their names left a choice

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def labels(self) -> np.ndarray | None:
        """Labels in the order of the rows, or None."""
        return None if self.label_array is None else np.asarray(self.label_array[self.rows])

    @property
    def whole(self) -> bool:
        """A run gives the outputs of one sample, without a batch axis in front."""
        return any(column.layout is Layout.WHOLE for column in self.columns.values())

    def run_rows(self, batch_size: int) -> int:
        """Rows that one run takes when asked for this batch size."""
        return self.rows_per_run or batch_size

    def batches(self, batch_size: int) -> Iterator[Feeds]:
        """Feeds for one run after another, in the rows' order; the last may be smaller where the model allows it."""
        step = self.run_rows(batch_size)
        for start in range(0, len(self.rows), step):
            yield {name: column.feed(self.rows[start : start + step]) for name, column in self.columns.items()}
            for column in self.columns.values():
                release(column.array)

    def first(self, count: int) -> "Samples":
        """The first rows, at least one run of them."""
        unit = self.rows_per_run or 1
        return replace(self, rows=self.rows[: max(count // unit, 1) * unit])

    def split(self, seed: int, *, for_training: bool = False) -> tuple["Samples", "Samples"]:
        """Rows to learn from and rows to judge by; disjoint, and the same for the same seed.

        A third is learned from, up to a thousand rows; for training, which wants more, two thirds.
        """
        unit = self.rows_per_run or 1
        runs = np.random.default_rng(seed).permutation(len(self.rows) // unit)
        if len(runs) < 2:
            detail = (
                f"The data set has {len(self.rows)} samples; a split into calibration and evaluation needs {2 * unit}."
            )
            raise DataRejected(
                "dataset_too_few_samples", detail, "Upload more samples, or a second set for evaluation."
            )
        few = min(max(len(runs) // 3, 1), max(MOST_CALIBRATION_ROWS // unit, 1))
        learned = max(len(runs) - max(len(runs) // 3, FEWEST_JUDGED_ROWS // unit), few) if for_training else few
        return self._runs(runs[:learned], unit), self._runs(runs[learned:], unit)

    def _runs(self, runs: np.ndarray, unit: int) -> "Samples":
        grouped = self.rows[: len(self.rows) // unit * unit].reshape(-1, unit)
        return replace(self, rows=grouped[np.sort(runs)].ravel())


def release(array: np.ndarray) -> None:
    """Forget the pages of a memory-mapped array, which would stay resident; they are read again where needed."""
    if isinstance(array.base, mmap.mmap):
        array.base.madvise(mmap.MADV_DONTNEED)


def cast(values: np.ndarray, dtype: str) -> np.ndarray:
    if dtype == STRING:
        return values.astype(object)
    return np.asarray(values, np.dtype(dtype), order="C")
