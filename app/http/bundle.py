"""A zip made while it is sent: no temporary file, and no more memory than one chunk.

The same files give the same bytes, so a bundle is made once to learn its digest, which stands before the bytes, and
once to send them (about 3 s a gigabyte). A broken download goes on in the middle; what lies before is made again.
"""

import hashlib
import io
import zipfile
from collections.abc import Iterator
from functools import lru_cache

from app.storage import Storage

OLDEST_ZIP_DATE = (1980, 1, 1, 0, 0, 0)
DIGESTS_REMEMBERED = 1024

#: Names and SHA-256 of the files of a zip.
Members = tuple[tuple[str, str], ...]


@lru_cache(DIGESTS_REMEMBERED)
def measured(storage: Storage, members: Members) -> tuple[str, int]:
    """SHA-256 and size of the zip; it costs one reading of all files, the first time that it is asked for."""
    digest, size = hashlib.sha256(), 0
    for chunk in zipped(storage, members):
        digest.update(chunk)
        size += len(chunk)
    return digest.hexdigest(), size


def part(storage: Storage, members: Members, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
    """Some of the zip, or all of it."""
    left = measured(storage, members)[1] - offset if length is None else length
    for chunk in zipped(storage, members):
        wanted = chunk[offset : offset + left]
        offset, left = max(offset - len(chunk), 0), left - len(wanted)
        if wanted:
            yield wanted
        if left == 0:
            return


def zipped(storage: Storage, members: Members) -> Iterator[bytes]:
    """The bytes of a zip of these files; the same files give the same bytes."""
    sink = _Sink()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as archive:
        for name, sha256 in members:
            entry = zipfile.ZipInfo(name, OLDEST_ZIP_DATE)
            with archive.open(entry, "w", force_zip64=True) as file:
                for chunk in storage.open(sha256):
                    file.write(chunk)
                    yield sink.take()
    yield sink.take()


class _Sink(io.RawIOBase):
    """A stream that can only be written to, and gives away what it holds."""

    def __init__(self) -> None:
        self._held = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        piece = bytes(data)  # pyrefly: ignore[bad-argument-type] - any buffer
        self._held += piece
        return len(piece)

    def take(self) -> bytes:
        held, self._held = bytes(self._held), bytearray()
        return held
