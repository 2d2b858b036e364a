"""An upload on its way to the disk: counted, hashed and sniffed while it is written, gone if anything goes wrong.

The file lies in the staging folder and is locked as long as its upload lives, so that maintenance and a later start can
tell what a crash left behind (`sweep`).
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from app import errors
from app.errors import Kind, Problem
from app.sniff import HEAD_BYTES

LOOK_AT_DISK_EVERY = 64 << 20
JUST_MADE_SECONDS = 60


class Intake:
    """One file being received. Its methods block on the disk: call them from a thread."""

    def __init__(
        self, path: Path, *, max_bytes: int, min_free_bytes: int, refuse: Callable[[bytes], Kind | None]
    ) -> None:
        self.path = path
        self.size = 0
        self._max_bytes = max_bytes
        self._min_free_bytes = min_free_bytes
        self._refuse = refuse
        self._head: bytes | None = b""
        self._next_look = 0
        self._digest = hashlib.sha256()
        self._file = path.open("xb", buffering=0)
        fcntl.flock(self._file, fcntl.LOCK_EX)

    def announce(self, size: int) -> None:
        """Refuse at once what its sender says is too large."""
        self._check_size(size)
        self._check_disk(size)

    def write(self, chunks: list[bytes]) -> None:
        """Append, or raise the Problem that ends this upload."""
        data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        self._check_size(self.size + len(data))
        self._sniff(data)
        if self.size >= self._next_look:
            self._check_disk(len(data))
            self._next_look = self.size + LOOK_AT_DISK_EVERY
        view = memoryview(data)
        self._digest.update(view)
        while view:
            view = view[self._file.write(view) :]
        self.size += len(data)

    def finish(self) -> str:
        """Everything has come: the SHA-256 of bytes that are now durable."""
        if self.size == 0:
            raise Problem(errors.EMPTY_FILE, "No byte was sent.")
        if self._head:
            self._judge(self._head)
        os.fsync(self._file.fileno())
        return self._digest.hexdigest()

    def close(self) -> None:
        self._file.close()
        self.path.unlink(missing_ok=True)

    def _check_size(self, size: int) -> None:
        if size > self._max_bytes:
            raise Problem(errors.UPLOAD_TOO_LARGE, f"At most {self._max_bytes} bytes are taken.")

    def _check_disk(self, coming: int) -> None:
        if shutil.disk_usage(self.path.parent).free - coming < self._min_free_bytes:
            raise Problem(errors.STORAGE_FULL, "The upload would not leave enough free disk space.")

    def _sniff(self, data: bytes) -> None:
        if self._head is None:
            return
        self._head += data[:HEAD_BYTES]
        if len(self._head) >= HEAD_BYTES:
            self._judge(self._head)
            self._head = None

    def _judge(self, head: bytes) -> None:
        kind = self._refuse(head)
        if kind is not None:
            raise Problem(kind, f"The file begins with the bytes {head[:8].hex(' ')}.")


@contextmanager
def receive(
    folder: Path, *, max_bytes: int, min_free_bytes: int, refuse: Callable[[bytes], Kind | None]
) -> Iterator[Intake]:
    """A file that exists only inside the block; take its bytes into the storage before the end."""
    path = folder / uuid.uuid4().hex
    intake = Intake(path, max_bytes=max_bytes, min_free_bytes=min_free_bytes, refuse=refuse)
    try:
        yield intake
    finally:
        intake.close()


def sweep(folder: Path) -> int:
    """Remove what crashed uploads left: files that nobody holds locked. How many there were."""
    swept = 0
    for path in folder.iterdir():
        with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
            if time.time() - path.stat().st_mtime < JUST_MADE_SECONDS:
                continue
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            path.unlink(missing_ok=True)
            swept += 1
    return swept
