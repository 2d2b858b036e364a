"""Run all samples through a session and stream each output into a memory-mapped .npy.

An output with one entry per row of the batch is laid out row after row, any other one is stacked run by run. What is
not a tensor of numbers, or changes its shape from run to run, is left out, with the reason.
"""

from pathlib import Path
from typing import Any

import numpy as np

from engine.data import Samples, load_samples
from engine.measure.session import output_names


def collect_outputs(session: Any, note: Path, *, batch_size: int, folder: Path) -> dict[str, Any]:
    samples = load_samples(note)
    names = output_names(session)
    columns = [Column(name, folder / f"output-{index}.npy") for index, name in enumerate(names)]
    step = samples.run_rows(batch_size)
    for start, feeds in zip(range(0, len(samples), step), samples.batches(batch_size), strict=True):
        rows = min(step, len(samples) - start)
        for column, value in zip(columns, session.run(names, feeds), strict=True):
            column.add(value, start=start, rows=rows, samples=samples, step=step)
    return {
        "outputs": [[column.name, str(column.path)] for column in columns if not column.refused],
        "refused": {column.name: column.refused for column in columns if column.refused},
    }


class Column:
    """One output of all samples, on disk."""

    def __init__(self, name: str, path: Path) -> None:
        self.name = name
        self.path = path
        self.refused = ""
        self._file: np.memmap | None = None
        self._by_row = False

    def add(self, value: object, *, start: int, rows: int, samples: Samples, step: int) -> None:
        if self.refused:
            return
        if not isinstance(value, np.ndarray) or value.dtype.kind not in "biuf":
            self.refused = "not a tensor of numbers"
            return
        if self._file is None:
            self._by_row = not samples.whole and value.ndim > 0 and value.shape[0] == rows
            self._file = self._open(value, len(samples) if self._by_row else -(-len(samples) // step))
        place = slice(start, start + rows) if self._by_row else start // step
        if self._file[place].shape != value.shape:
            self.refused = f"its shape changes from run to run, {value.shape} is new"
        else:
            self._file[place] = value

    def _open(self, value: np.ndarray, length: int) -> np.memmap:
        shape = (length, *(value.shape[1:] if self._by_row else value.shape))
        return np.lib.format.open_memmap(self.path, "w+", value.dtype, shape)
