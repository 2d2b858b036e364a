"""Files on their way to the service, hashed first so that the service can tell whether they arrived whole."""

import hashlib
import tempfile
from base64 import b64encode
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

from strop.errors import Rejected
from strop.models import FileBody, Problem
from strop.transport import Transport

#: Called with the bytes done and the bytes in all, where known.
Progress: TypeAlias = Callable[[int, int | None], None]

CHUNK_BYTES = 1 << 20
INSPECTION_WAIT_SECONDS = 30


class FileContent:
    """The bytes of a file, read anew each time they are sent."""

    def __init__(self, path: Path, on_progress: Progress | None) -> None:
        self._path = path
        self._on_progress = on_progress
        self.size_bytes = path.stat().st_size

    def __iter__(self) -> Iterator[bytes]:
        sent = 0
        with self._path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                yield chunk
                sent += len(chunk)
                if self._on_progress:
                    self._on_progress(sent, self.size_bytes)


def upload(transport: Transport, door: str, path: Path, name: str, on_progress: Progress | None = None) -> FileBody:
    """Stream one file to a door; the answer may still be under inspection."""
    content = FileContent(path, on_progress)
    headers = {
        "Content-Type": "application/octet-stream",
        "Content-Length": str(content.size_bytes),
        "Repr-Digest": f"sha-256=:{b64encode(sha256_of(path)).decode()}:",
        "Prefer": f"wait={INSPECTION_WAIT_SECONDS}",
    }
    return FileBody.parse(transport.upload(door, content, params={"name": name}, headers=headers).json())


def inspected(transport: Transport, door: str, file: FileBody) -> FileBody:
    """The file once it has been inspected; refused files raise Rejected."""
    while file.inspecting:
        answer = transport.get(f"{door}/{file.id}", headers={"Prefer": f"wait={INSPECTION_WAIT_SECONDS}"})
        file = FileBody.parse(answer.json())
    if file.rejected:
        raise Rejected(Problem.parse(file.error or {"title": f"{file.name} was refused"}))
    return file


@contextmanager
def saved_arrays(arrays: Mapping[str, Any]) -> Generator[Path]:
    """Arrays as a temporary .npz; only who passes arrays needs numpy."""
    import numpy as np

    with tempfile.TemporaryDirectory(prefix="strop-") as folder:
        path = Path(folder, "data.npz")
        np.savez(path, allow_pickle=False, **dict(arrays))
        yield path


def sha256_of(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
