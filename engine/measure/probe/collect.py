"""Run all samples through a session and stream each output into a memory-mapped .npy.

An output with one entry per row of the batch is laid out row after row, any other one is stacked run by run. One whose
shape changes from run to run, as the boxes that a detector finds, is stacked run by run with zeros behind what is
missing. Text becomes numbers, equal ones for equal words; a list of maps, as classical classifiers give, becomes a
table of its values. What is neither is left out, with the reason.
"""

import zlib
from pathlib import Path
from typing import Any

import numpy as np

from engine.data import Samples, load_samples
from engine.measure.session import output_names


def collect_outputs(session: Any, note: Path, *, batch_size: int, folder: Path) -> dict[str, Any]:
    samples = load_samples(note)
    names = output_names(session)
    step = samples.run_rows(batch_size)
    columns = [Column(name, folder / f"output-{index}.npy", samples, step) for index, name in enumerate(names)]
    for start, feeds in zip(range(0, len(samples), step), samples.batches(batch_size), strict=True):
        for column, value in zip(columns, session.run(names, feeds), strict=True):
            column.add(value, start)
    kept = [column for column in columns if not column.refused]
    return {
        "outputs": [[column.name, str(column.path)] for column in kept],
        "ragged": [column.name for column in kept if column.ragged],
        "refused": {column.name: column.refused for column in columns if column.refused},
    }


def as_numbers(value: object) -> np.ndarray | None:
    """What an output says as an array of numbers; None where it cannot be one."""
    if isinstance(value, list) and value and all(isinstance(entry, dict) for entry in value):
        value = np.array([[entry[key] for key in sorted(entry)] for entry in value])
    if not isinstance(value, np.ndarray):
        return None
    if value.dtype.kind in "OU":
        words = [zlib.crc32(str(word).encode()) for word in value.ravel()]
        return np.array(words, np.int64).reshape(value.shape)
    return value if value.dtype.kind in "biuf" else None


class Column:
    """One output of all samples, on disk."""

    def __init__(self, name: str, path: Path, samples: Samples, step: int) -> None:
        self.name = name
        self.path = path
        self.refused = ""
        self.ragged = False  #: its shape changes from run to run
        self._samples, self._step = samples, step
        self._file: np.memmap | None = None
        self._by_row = False

    def add(self, output: object, start: int) -> None:
        value = as_numbers(output)
        if self.refused or value is None:
            self.refused = "not a tensor of numbers"
            return
        rows = min(self._step, len(self._samples) - start)
        if self._file is None:
            self._by_row = not self._samples.whole and value.ndim > 0 and value.shape[0] == rows
            self._file = self._open(value)
        place = slice(start, start + rows) if self._by_row else start // self._step
        if self._file[place].shape == value.shape:
            self._file[place] = value
        elif value.ndim != self._file.ndim - (not self._by_row):
            self.refused = "the number of its axes changes from run to run"
        else:
            self._add_ragged(value, start // self._step)

    def _open(self, value: np.ndarray) -> np.memmap:
        shape = (len(self._samples), *value.shape[1:]) if self._by_row else (self._runs, *value.shape)
        return np.lib.format.open_memmap(self.path, "w+", value.dtype, shape)

    @property
    def _runs(self) -> int:
        return -(-len(self._samples) // self._step)

    def _add_ragged(self, value: np.ndarray, run: int) -> None:
        assert self._file is not None, "the first run opened it"
        before = self._file if not self._by_row else self._as_runs(self._file)
        room = np.maximum(before.shape[1:], value.shape).tolist()
        if tuple(room) != before.shape[1:] or self._by_row:
            larger = self.path.with_suffix(".larger")
            file = np.lib.format.open_memmap(larger, "w+", before.dtype, (self._runs, *room))
            file[(slice(0, run), *(slice(0, size) for size in before.shape[1:]))] = before[:run]
            larger.rename(self.path)
            self._file, self._by_row, self.ragged = file, False, True
        self._file[(run, *(slice(0, size) for size in value.shape))] = value

    def _as_runs(self, by_row: np.ndarray) -> np.ndarray:
        """Rows of full runs, as one entry each."""
        full = len(by_row) // self._step
        return by_row[: full * self._step].reshape(full, self._step, *by_row.shape[1:])
