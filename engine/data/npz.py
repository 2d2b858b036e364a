"""NumPy archives from strangers, opened without trusting a byte of them.

`numpy.load` on an .npz may unpickle, believes the header and inflates whole arrays into memory. Here each NPY header is
parsed from at most 4 KiB, its dtype must be on a list, and its shape must account for every byte. Arrays come back
memory-mapped: stored members in place, deflated ones from a file in the work folder.
"""

import ast
import math
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engine.errors import DataRejected
from engine.words import shown
from engine.zips import Archive, Member, open_archive

HEADER_LIMIT = 4096
CHUNK_BYTES = 4 << 20
MOST_DIMENSIONS = 32
DTYPE = re.compile(r"[<>|=]?(?:b1|[iu][1248]|f[248]|U[0-9]{1,6})")
REMEDY = "Write it again with numpy.savez(path, name=array, …), each array of a plain numeric dtype."


@dataclass(frozen=True)
class Header:
    """What an NPY header declares, checked."""

    dtype: np.dtype
    shape: tuple[int, ...]
    fortran: bool
    length: int  #: bytes before the first element


def open_arrays(path: Path, folder: Path) -> dict[str, np.ndarray]:
    """All arrays of the archive by name, memory-mapped; `folder` takes what has to be inflated. Raises DataRejected."""
    with path.open("rb") as file:
        if file.read(4) not in (b"PK\x03\x04", b"PK\x05\x06"):
            raise DataRejected("dataset_not_npz", "The file is not an .npz archive.", REMEDY)
    folder.mkdir(parents=True, exist_ok=True)
    with open_archive(path, DataRejected) as archive:
        arrays = {
            _array_name(member): _map(archive, member, folder, index) for index, member in enumerate(archive.members)
        }
    if not arrays:
        raise DataRejected("dataset_not_npz", "The archive holds no array.", REMEDY)
    return arrays


def _array_name(member: Member) -> str:
    if not member.name.endswith(".npy"):
        raise DataRejected("dataset_not_npz", f"Member {shown(member.name)} is not a .npy array.", REMEDY)
    return member.name.removesuffix(".npy")


def _map(archive: Archive, member: Member, folder: Path, index: int) -> np.ndarray:
    name = _array_name(member)
    header = parse_header(archive.head(member, HEADER_LIMIT), name)
    declared = header.length + header.dtype.itemsize * math.prod(header.shape)
    if declared != member.size_bytes:
        detail = f"Array {shown(name)} declares {declared} bytes but has {member.size_bytes}."
        raise DataRejected("dataset_header_lies", detail, REMEDY)
    if 0 in header.shape:
        return np.empty(header.shape, header.dtype)
    if member.stored:
        return _memmap(archive.path, member.data_offset, header)
    return _memmap(archive.extract(member, _free_path(folder, index)), 0, header)


def _free_path(folder: Path, index: int) -> Path:
    """A name of our own that no other archive in this folder has taken."""
    attempt = 0
    while (path := folder / f"array-{attempt}-{index}.npy").exists():
        attempt += 1
    return path


def _memmap(path: Path, start: int, header: Header) -> np.ndarray:
    order = "F" if header.fortran else "C"
    return np.memmap(path, header.dtype, mode="r", offset=start + header.length, shape=header.shape, order=order)


def parse_header(head: bytes, name: str) -> Header:
    """Read an NPY header from an array's first bytes; nothing in it is evaluated but plain literals."""
    if head[:6] != b"\x93NUMPY" or len(head) < 12 or head[6] not in (1, 2, 3):
        raise DataRejected("dataset_not_npz", f"Array {shown(name)} does not begin with an NPY header.", REMEDY)
    start = 10 if head[6] == 1 else 12
    length = start + int.from_bytes(head[8:start], "little")
    if length > min(HEADER_LIMIT, len(head)):
        detail = f"The header of array {shown(name)} declares {length} bytes; at most {HEADER_LIMIT} are read."
        raise DataRejected("dataset_header_lies", detail, REMEDY)
    fields = _literal(head[start:length], name)
    return Header(_dtype(fields["descr"], name), _shape(fields["shape"], name), fields["fortran_order"] is True, length)


def _literal(text: bytes, name: str) -> dict[str, object]:
    try:
        fields = ast.literal_eval(text.decode("latin-1").strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
        raise _unreadable_header(name) from error
    if not isinstance(fields, dict) or set(fields) != {"descr", "fortran_order", "shape"}:
        raise _unreadable_header(name)
    return fields


def _unreadable_header(name: str) -> DataRejected:
    return DataRejected("dataset_header_lies", f"The header of array {shown(name)} cannot be read.", REMEDY)


def _dtype(descr: object, name: str) -> np.dtype:
    if isinstance(descr, str) and descr.lstrip("|<>=").startswith("O"):
        detail = f"Array {shown(name)} holds Python objects, which are never loaded."
        raise DataRejected("dataset_object_array", detail, REMEDY)
    if not isinstance(descr, str) or not DTYPE.fullmatch(descr):
        detail = f"Array {shown(name)} has the type {shown(str(descr))}, which no model takes."
        raise DataRejected("dataset_dtype", detail, "Convert it first, for instance with x.astype('float32').")
    return np.dtype(descr)


def _shape(shape: object, name: str) -> tuple[int, ...]:
    if not isinstance(shape, tuple) or len(shape) > MOST_DIMENSIONS:
        raise _unreadable_header(name)
    sizes = tuple(size for size in shape if type(size) is int and 0 <= size < 1 << 62)
    if len(sizes) != len(shape):
        raise _unreadable_header(name)
    return sizes
