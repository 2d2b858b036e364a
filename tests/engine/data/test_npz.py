"""Archives from strangers: what is refused, with which code, and that nothing is ever unpickled."""

import io
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from engine.data import open_arrays
from engine.data.npz import HEADER_LIMIT
from engine.errors import DataRejected

GOOD = np.arange(12, dtype=np.float32).reshape(4, 3)


class Canary:
    """Unpickling this creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return (open, (str(self.path), "w"))


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def header(text: str, body: bytes = b"", version: int = 1) -> bytes:
    size = struct.pack("<H" if version == 1 else "<I", len(text))
    return b"\x93NUMPY" + bytes([version, 0]) + size + text.encode() + body


def archive(path: Path, *members: tuple[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as target:
        for name, content in members:
            target.writestr(name, content)
    return path


def refusal(path: Path, folder: Path) -> DataRejected:
    with pytest.raises(DataRejected) as caught:
        open_arrays(path, folder)
    assert caught.value.remedy
    return caught.value


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize(
    "array",
    [
        GOOD,
        np.asfortranarray(GOOD),
        GOOD.astype(">f8"),
        np.array(7),
        np.zeros((0, 3), np.float16),
        np.array(["a", "bc"]),
    ],
    ids=["plain", "fortran", "big-endian", "scalar", "empty", "text"],
)
def test_what_numpy_saves_is_read_back(save: Callable[..., None], array: np.ndarray, tmp_path: Path) -> None:
    save(tmp_path / "data.npz", x=array)
    (name, read), *_ = open_arrays(tmp_path / "data.npz", tmp_path / "work").items()
    assert name == "x"
    np.testing.assert_array_equal(read, array)


def test_stored_arrays_are_mapped_in_place_and_deflated_ones_from_the_work_folder(tmp_path: Path) -> None:
    np.savez(tmp_path / "stored.npz", x=GOOD)
    np.savez_compressed(tmp_path / "deflated.npz", x=GOOD)
    for name, home in (("stored.npz", tmp_path), ("deflated.npz", tmp_path / "work")):
        array = open_arrays(tmp_path / name, tmp_path / "work")["x"]
        assert isinstance(array, np.memmap)
        assert Path(str(array.filename)).parent == home


def test_two_archives_can_share_a_work_folder(tmp_path: Path) -> None:
    for number in (1, 2):
        np.savez_compressed(tmp_path / f"{number}.npz", x=np.full(3, number))
    first, second = (open_arrays(tmp_path / f"{number}.npz", tmp_path / "work")["x"] for number in (1, 2))
    assert first.tolist() == [1, 1, 1]
    assert second.tolist() == [2, 2, 2]


def test_objects_are_never_unpickled(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    np.savez(tmp_path / "data.npz", x=np.array([Canary(canary)], dtype=object))
    error = refusal(tmp_path / "data.npz", tmp_path / "work")
    assert error.code == "dataset_object_array"
    assert "x" in error.detail
    assert not canary.exists()


LONG_HEADER = "{'descr': '<f4', 'fortran_order': False, 'shape': (4, 3), }" + " " * HEADER_LIMIT
LIES = {
    "lies about its shape": header("{'descr': '<f4', 'fortran_order': False, 'shape': (9, 9), }", b"\0" * 48),
    "more elements than bytes": header("{'descr': '<f8', 'fortran_order': False, 'shape': (2305843009213693952,), }"),
    "negative shape": header("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }"),
    "no tuple": header("{'descr': '<f4', 'fortran_order': False, 'shape': 3, }"),
    "true as size": header("{'descr': '<f4', 'fortran_order': False, 'shape': (True,), }", b"\0" * 4),
    "header of 4 GiB": b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + b" " * 64,
    "header too long": header(LONG_HEADER, b"\0" * 48),
    "nested brackets": header("(" * 2000, version=2),
    "code as header": header("__import__('os').system('true')"),
    "missing key": header("{'descr': '<f4', 'shape': (1,), }", b"\0" * 4),
    "cut off": npy(GOOD)[:-4],
    "trailing bytes": npy(GOOD) + b"\0",
}
ODD_TYPES = {
    "structured": npy(np.zeros(2, dtype=[("a", "f4"), ("b", "i4")])),
    "complex": npy(np.zeros(2, np.complex64)),
    "dates": npy(np.zeros(2, "datetime64[s]")),
}
NO_ARRAYS = {
    "pickle": pickle.dumps([1, 2]),
    "version 9": b"\x93NUMPY\x09\x00\x10\x00" + b" " * 16,
    "empty": b"",
}
MEMBERS = {
    **{case: (content, "dataset_header_lies") for case, content in LIES.items()},
    **{case: (content, "dataset_dtype") for case, content in ODD_TYPES.items()},
    **{case: (content, "dataset_not_npz") for case, content in NO_ARRAYS.items()},
}


@pytest.mark.parametrize("case", MEMBERS)
@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_arrays_that_lie_are_refused(case: str, compression: int, tmp_path: Path) -> None:
    content, code = MEMBERS[case]
    path = archive(tmp_path / "data.npz", ("x.npy", content), compression=compression)
    assert refusal(path, tmp_path / "work").code == code


@pytest.mark.parametrize("content", [b"", b"hello", b"\x80\x04K\x01.", npy(GOOD), b"PK\x03\x04" + b"\0" * 30])
def test_other_files_are_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    path.write_bytes(content)
    assert refusal(path, tmp_path / "work").code in ("dataset_not_npz", "archive_unreadable")


def test_members_that_are_no_arrays_are_refused(tmp_path: Path) -> None:
    path = archive(tmp_path / "data.npz", ("readme.txt", b"hello"))
    assert refusal(path, tmp_path / "work").code == "dataset_not_npz"


def test_an_archive_without_arrays_is_refused(tmp_path: Path) -> None:
    assert refusal(archive(tmp_path / "data.npz"), tmp_path / "work").code == "dataset_not_npz"
