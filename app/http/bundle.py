"""A zip made while it is sent: no temporary file, and no more memory than one chunk."""

import io
import zipfile
from collections.abc import Iterator, Sequence

from app.storage import Storage

OLDEST_ZIP_DATE = (1980, 1, 1, 0, 0, 0)


def zipped(storage: Storage, members: Sequence[tuple[str, str]]) -> Iterator[bytes]:
    """The bytes of a zip of these (name, SHA-256) pairs; the same pairs give the same bytes."""
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
