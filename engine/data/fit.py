"""Do these arrays fit this model? Matches them to inputs by name, then checks length, shape, type and values."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from engine.data.npz import CHUNK_BYTES, open_arrays
from engine.data.samples import Column, Layout, Samples, release
from engine.errors import DataRejected
from engine.report import TensorInfo
from engine.signature import STRING, Signature
from engine.words import shown

LABEL_NAMES = ("labels", "label", "y", "targets", "target")
FEEDABLE = frozenset(
    ["bool", "float16", "float32", "float64"] + [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
)
Arrays = Mapping[str, np.ndarray]


def open_samples(path: Path, signature: Signature, labels_name: str | None, folder: Path) -> Samples:
    """The samples in an .npz, checked; `folder` takes arrays that have to be inflated. Raises DataRejected."""
    return fit_samples(open_arrays(path, folder), signature, labels_name)


def fit_samples(arrays: Arrays, signature: Signature, labels_name: str | None) -> Samples:
    """Samples made of these arrays, checked."""
    label_key = _label_key(arrays, signature, labels_name)
    matched = _match(arrays, signature, label_key)
    columns = {tensor.name: _column(tensor, key, arrays[key]) for tensor, key in matched}
    counted = [key for tensor, key in matched if columns[tensor.name].layout is not Layout.CONSTANT]
    counted += [] if label_key is None else [label_key]
    count = common_length(arrays, counted) if counted else 1
    per_run = _rows_per_run(signature, columns)
    _check_symbols(signature, columns)
    rows = np.arange(count // (per_run or 1) * (per_run or 1))
    if not len(rows):
        detail = f"The data set has {count} samples; one run of the model takes {per_run or 1}."
        raise DataRejected("dataset_too_few_samples", detail, "Upload more samples.")
    for tensor, key in matched:
        _check_values(key, columns[tensor.name])
    notes = _notes(arrays, matched, label_key)
    return Samples(columns, rows, None if label_key is None else arrays[label_key], per_run, notes=notes)


# ── names ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _label_key(arrays: Arrays, signature: Signature, labels_name: str | None) -> str | None:
    if labels_name is not None:
        if labels_name not in arrays:
            detail = f"The data set has no array {shown(labels_name)} for the labels; it has {_listed(arrays)}."
            raise DataRejected("labels_missing", detail, "Name the array that holds the labels, or leave the name out.")
        return labels_name
    inputs = signature.input_names()
    return next((name for name in LABEL_NAMES if name in arrays and name not in inputs), None)


def _match(arrays: Arrays, signature: Signature, label_key: str | None) -> list[tuple[TensorInfo, str]]:
    """Each input with the name of its array."""
    inputs = signature.inputs
    candidates = [name for name in arrays if name != label_key]
    if len(inputs) == 1 and inputs[0].name not in candidates and len(candidates) == 1:
        return [(inputs[0], candidates[0])]
    missing = [tensor.name for tensor in inputs if tensor.name not in candidates]
    if missing:
        detail = f"The data set has no array for input {shown(missing[0])}; it has {_listed(arrays)}."
        wanted = ", ".join(f"{tensor.name}=…" for tensor in inputs)
        raise DataRejected("dataset_names", detail, f"Name the arrays as the inputs: numpy.savez(path, {wanted}).")
    return [(tensor, tensor.name) for tensor in inputs]


def _notes(arrays: Arrays, matched: list[tuple[TensorInfo, str]], label_key: str | None) -> tuple[str, ...]:
    renamed = [
        f"The array {shown(key)} was taken for the input {shown(tensor.name)}, since there is but one of each."
        for tensor, key in matched
        if key != tensor.name
    ]
    left = [name for name in arrays if name != label_key and name not in {key for _, key in matched}]
    return (*renamed, f"No input is called {_listed(left)}; it was not read.") if left else tuple(renamed)


def _listed(arrays: Collection[str]) -> str:
    names = [shown(name) for name in list(arrays)[:8]]
    return ", ".join(names) + (" and more" if len(arrays) > len(names) else "")


# ── shape and type ───────────────────────────────────────────────────────────────────────────────────────────────────


def _column(tensor: TensorInfo, key: str, array: np.ndarray) -> Column:
    _check_dtype(tensor, key, array)
    layout = _layout(tensor, key, array)
    if tensor.shape is not None:
        fixed = tensor.shape[1:] if layout is Layout.BATCHED else tensor.shape
        sizes = array.shape if layout is Layout.CONSTANT else array.shape[1:]
        if any(isinstance(want, int) and want != have for want, have in zip(fixed, sizes, strict=True)):
            raise _misshaped(tensor, key, array)
    return Column(array, tensor.dtype, layout)


def _layout(tensor: TensorInfo, key: str, array: np.ndarray) -> Layout:
    if tensor.shape is None:
        return Layout.BATCHED if array.ndim else Layout.CONSTANT
    if array.ndim == len(tensor.shape) + 1:
        return Layout.WHOLE
    if array.ndim != len(tensor.shape):
        raise _misshaped(tensor, key, array)
    return Layout.BATCHED if array.ndim else Layout.CONSTANT


def _misshaped(tensor: TensorInfo, key: str, array: np.ndarray) -> DataRejected:
    wanted = [("N" if axis == 0 else size or "?") for axis, size in enumerate(tensor.shape or [])]
    words = ", ".join(map(str, wanted))
    detail = f"Array {shown(key)} has the shape {array.shape}; input {shown(tensor.name)} takes ({words})."
    return DataRejected("dataset_shape", detail, _shape_remedy(wanted, array))


def _shape_remedy(wanted: list[int | str], array: np.ndarray) -> str:
    if len(wanted) == 4 and array.ndim == 4 and wanted[1] == array.shape[3]:
        return "The channels seem to come last: transpose with x.transpose(0, 3, 1, 2)."
    if len(wanted) == array.ndim + 1 and len(wanted) > 1 and wanted[1] == 1:
        return "Add the missing axis with x[:, None]."
    return f"Reshape it to ({', '.join(map(str, wanted))}), one sample after another along axis 0."


def _check_dtype(tensor: TensorInfo, key: str, array: np.ndarray) -> None:
    if tensor.dtype == STRING:
        fits = array.dtype.kind == "U"
    else:
        check_feedable(tensor)
        fits = array.dtype.kind in _kinds(np.dtype(tensor.dtype)) and array.dtype.kind != "U"
    if not fits:
        detail = f"Array {shown(key)} is {array.dtype.name}; input {shown(tensor.name)} takes {tensor.dtype}."
        wanted = "str" if tensor.dtype == STRING else tensor.dtype
        remedy = f"Convert it as the model was trained, then store it as {key}.astype('{wanted}')."
        raise DataRejected("dataset_dtype", detail, remedy)


def _kinds(dtype: np.dtype) -> str:
    """Kinds of array that may be cast: integers of either sign for one another (their values are checked later)."""
    return {"i": "iu", "u": "iu"}.get(dtype.kind, dtype.kind)


def is_feedable(tensor: TensorInfo) -> bool:
    """Whether an .npz array can hold values of this input."""
    return tensor.dtype == STRING or tensor.dtype in FEEDABLE


def check_feedable(tensor: TensorInfo) -> None:
    """Refuse an input that no array can feed."""
    if not is_feedable(tensor):
        detail = f"Input {shown(tensor.name)} is of the type {tensor.dtype}, which no .npz array can hold."
        raise DataRejected(
            "input_type_unsupported", detail, "Export the model with inputs of an ordinary numeric type."
        )


# ── length ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def common_length(arrays: Arrays, names: Sequence[str]) -> int:
    """Number of samples; these arrays must agree on it."""
    first = names[0]
    for name in names:
        if arrays[name].ndim == 0 or len(arrays[name]) != len(arrays[first]):
            shapes = f"{arrays[first].shape} and {arrays[name].shape}"
            detail = f"Arrays {shown(first)} and {shown(name)} differ in length: their shapes are {shapes}."
            raise DataRejected("dataset_length", detail, "Give every array one entry per sample along axis 0.")
    return len(arrays[first])


def _rows_per_run(signature: Signature, columns: Mapping[str, Column]) -> int | None:
    """How many rows a run must take; None where the model leaves it open."""
    demands: dict[int, str] = {}
    for tensor in signature.inputs:
        layout = columns[tensor.name].layout
        if layout is Layout.WHOLE:
            demands.setdefault(1, tensor.name)
        elif layout is Layout.BATCHED and tensor.shape and isinstance(tensor.shape[0], int):
            demands.setdefault(tensor.shape[0], tensor.name)
    if len(demands) > 1:
        (one, first), (two, second) = list(demands.items())[:2]
        detail = f"A run takes {one} rows of input {shown(first)} but {two} of input {shown(second)}."
        remedy = f"Stack whole inputs along a new first axis, also for {shown(second)}: one entry per run."
        raise DataRejected("dataset_shape", detail, remedy)
    return next(iter(demands), None)


def _check_symbols(signature: Signature, columns: Mapping[str, Column]) -> None:
    """A dimension that has a name has one size, whichever input it stands in."""
    sizes: dict[str, tuple[int, str]] = {}
    for tensor in signature.inputs:
        column = columns[tensor.name]
        skipped = 1 if column.layout is Layout.BATCHED else 0
        actual = column.array.shape[0 if column.layout is Layout.CONSTANT else 1 :]
        for name, size in zip((tensor.shape or [])[skipped:], actual, strict=False):
            if not isinstance(name, str):
                continue
            seen, other = sizes.setdefault(name, (size, tensor.name))
            if seen != size:
                detail = f"Dimension {shown(name)} is {seen} in {shown(other)} but {size} in {shown(tensor.name)}."
                raise DataRejected("dataset_shape", detail, "Give both arrays the same size there.")


# ── values ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _check_values(key: str, column: Column) -> None:
    """No NaN, no infinity, no integer that the model's type cannot hold; read piece by piece."""
    source, target = column.array.dtype, column.dtype
    if source.kind == "f":
        for start, piece in _pieces(column.array):
            _check_finite(key, start, piece, np.dtype(target))
    elif source.kind in "iu" and not np.can_cast(source, target, "safe"):
        limits = np.iinfo(target)
        for _, piece in _pieces(column.array):
            if piece.min() < limits.min or piece.max() > limits.max:
                detail = f"Array {shown(key)} holds values outside of {target} ({limits.min} to {limits.max})."
                raise DataRejected("dataset_dtype", detail, f"Bring the values into the range of {target}.")


def _pieces(array: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Runs of rows of a few megabytes, with the number of their first row."""
    whole = np.atleast_1d(array)
    rows = max(1, CHUNK_BYTES // max(whole[:1].nbytes, 1))
    for start in range(0, len(whole), rows):
        if whole[start : start + rows].size:
            yield start, np.asarray(whole[start : start + rows])
            release(array)


def _check_finite(key: str, start: int, piece: np.ndarray, target: np.dtype) -> None:
    with np.errstate(over="ignore"):
        finite = np.isfinite(piece.astype(target, copy=False))
    if not finite.all():
        row = start + int(np.argmin(finite.reshape(len(piece), -1).all(axis=1)))
        detail = f"Array {shown(key)} holds NaN or infinity (as {target}), first in row {row}."
        raise DataRejected("dataset_not_finite", detail, "Remove those samples or mend the values before saving.")
