"""Samples for another process: a note of where the arrays lie, instead of the arrays."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from engine.data.samples import Column, Layout, Samples


@dataclass(frozen=True)
class Place:
    """Where the elements of an array lie in a file."""

    path: str
    offset: int
    dtype: str
    shape: list[int]
    order: str

    def open(self) -> np.ndarray:
        shape = tuple(self.shape)
        if 0 in shape:
            return np.empty(shape, self.dtype)
        return np.memmap(self.path, np.dtype(self.dtype), "r", self.offset, shape, "F" if self.order == "F" else "C")


def save_samples(samples: Samples, folder: Path) -> Path:
    """Write a note that `load_samples` opens in another process; arrays that live in memory are written beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    columns = [
        {
            "name": name,
            "dtype": column.dtype,
            "layout": column.layout,
            "place": asdict(_place(column.array, folder, index)),
        }
        for index, (name, column) in enumerate(samples.columns.items())
    ]
    labels = samples.label_array
    note = {
        "columns": columns,
        "labels": None if labels is None else asdict(_place(labels, folder, len(columns))),
        "rows": asdict(_place(samples.rows, folder, len(columns) + 1)),
        "rows_per_run": samples.rows_per_run,
        "synthetic": samples.synthetic,
    }
    path = folder / "samples.json"
    path.write_text(json.dumps(note))
    return path


def load_samples(path: Path) -> Samples:
    """Open what `save_samples` wrote. The note is our own, so nothing is checked again."""
    note = json.loads(path.read_text())
    columns = {
        column["name"]: Column(Place(**column["place"]).open(), column["dtype"], Layout(column["layout"]))
        for column in note["columns"]
    }
    labels = None if note["labels"] is None else Place(**note["labels"]).open()
    rows = Place(**note["rows"]).open()
    return Samples(columns, rows, labels, note["rows_per_run"], note["synthetic"])


def _place(array: np.ndarray, folder: Path, index: int) -> Place:
    if isinstance(array, np.memmap) and array.filename is not None:
        order = "C" if array.flags.c_contiguous else "F"
        return Place(str(Path(array.filename).absolute()), array.offset, array.dtype.str, list(array.shape), order)
    path = folder / f"column-{index}.bin"
    path.write_bytes(np.ascontiguousarray(array).tobytes())
    return Place(str(path.absolute()), 0, array.dtype.str, list(array.shape), "C")
