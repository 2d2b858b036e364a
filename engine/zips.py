"""Zip archives from strangers: the members are checked before any is opened, and each is extracted by itself.

Refused are unreadable and encrypted archives, odd compression, names that leave the folder or look alike, links,
members that overlap, a central directory that disagrees with the members, and bombs.
"""

import os
import shutil
import stat
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from engine.errors import EngineError
from engine.words import shown

MOST_MEMBERS = 10_000
DIRECTORY_LIMIT = 16 << 20
BOMB_SIZE = 64 << 20
BOMB_RATIO = 100
LOCAL_HEADER = struct.Struct("<4s5H3I2H")
END_RECORD, END_RECORD_64 = b"PK\x05\x06", b"PK\x06\x06"
UNREADABLE = (
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    NotImplementedError,
    EOFError,
    zlib.error,
    struct.error,
    ValueError,
)


@dataclass(frozen=True)
class Member:
    """One file in an archive that was found to be harmless."""

    info: zipfile.ZipInfo
    data_offset: int  #: where its bytes begin in the archive

    @property
    def name(self) -> str:
        return self.info.filename

    @property
    def size_bytes(self) -> int:
        return self.info.file_size

    @property
    def stored(self) -> bool:
        return self.info.compress_type == zipfile.ZIP_STORED


@dataclass(frozen=True)
class Archive:
    """An open archive whose members were checked."""

    path: Path
    members: list[Member]
    _zip: zipfile.ZipFile
    _rejected: type[EngineError]

    def head(self, member: Member, count: int) -> bytes:
        """The first bytes of a member."""
        with self._guarded(), self._zip.open(member.info) as source:
            return source.read(count)

    def extract(self, member: Member, target: Path) -> Path:
        """Write a member to a file of our own name, streaming; its size and checksum must be as declared."""
        with self._guarded(), self._zip.open(member.info) as source, target.open("xb") as sink:
            shutil.copyfileobj(source, sink, 1 << 20)
        if target.stat().st_size != member.size_bytes:
            raise _unreadable(self._rejected, f"member {shown(member.name)} is shorter than declared")
        return target

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except UNREADABLE as error:
            raise _unreadable(self._rejected, str(error)) from error


@contextmanager
def open_archive(path: Path, rejected: type[EngineError]) -> Iterator[Archive]:
    """Open a zip file and check all its members, or raise `rejected`."""
    with path.open("rb") as file:
        try:
            archive = _directory(file)
            offsets = [_data_offset(file, info) for info in archive.infolist()]
        except UNREADABLE as error:
            raise _unreadable(rejected, str(error)) from error
        members = [Member(info, offset) for info, offset in zip(archive.infolist(), offsets, strict=True)]
        fault = _fault(members)
        if fault is not None:
            code, detail = fault
            raise rejected(code, f"The archive {detail}.", "Write the archive again with an ordinary zip tool.")
        yield Archive(path, members, archive, rejected)


def _unreadable(rejected: type[EngineError], why: str) -> EngineError:
    return rejected(
        "archive_unreadable", f"The archive is broken: {why}.", "Write it again, then upload the whole file."
    )


def _directory(file: IO[bytes]) -> zipfile.ZipFile:
    """Read the central directory, once it is known to be small."""
    length = file.seek(0, os.SEEK_END)
    file.seek(max(0, length - (1 << 16) - 128))
    tail = file.read()
    end = tail.rfind(END_RECORD)
    if end < 0 or len(tail) < end + 22:
        raise zipfile.BadZipFile("it has no central directory")
    size = struct.unpack_from("<I", tail, end + 12)[0]
    end_64 = end - 20 - 56
    if end_64 >= 0 and tail[end_64 : end_64 + 4] == END_RECORD_64:
        size = struct.unpack_from("<Q", tail, end_64 + 40)[0]
    if size > DIRECTORY_LIMIT:
        raise zipfile.BadZipFile(f"its central directory declares {size} bytes")
    return zipfile.ZipFile(file)


def _data_offset(file: IO[bytes], info: zipfile.ZipInfo) -> int:
    """Where a member's bytes begin, by its own header, which must agree with the central directory."""
    file.seek(info.header_offset)
    header = LOCAL_HEADER.unpack(file.read(LOCAL_HEADER.size))
    magic, method, name_length, extra_length = header[0], header[3], header[9], header[10]
    if magic != b"PK\x03\x04" or method != info.compress_type:
        raise zipfile.BadZipFile(f"the header of {shown(info.filename)} disagrees with the central directory")
    return info.header_offset + LOCAL_HEADER.size + name_length + extra_length


def _fault(members: list[Member]) -> tuple[str, str] | None:
    """Code and words of the first thing that is wrong with the members, if any."""
    if len(members) > MOST_MEMBERS:
        return "archive_unsafe", f"has {len(members)} members; at most {MOST_MEMBERS} are read"
    seen: set[str] = set()
    for member in members:
        words = _unsafe(member)
        if words is not None:
            return "archive_unsafe", f"has a member {shown(member.name)} that {words}"
        if _is_bomb(member):
            return "archive_bomb", f"has a member {shown(member.name)} that inflates to {member.size_bytes} bytes"
        alike = unicodedata.normalize("NFC", member.name).casefold()
        if alike in seen:
            return "archive_unsafe", f"has two members named {shown(member.name)}"
        seen.add(alike)
    return _overlap(members)


def _unsafe(member: Member) -> str | None:
    info = member.info
    name = info.orig_filename
    kind = stat.S_IFMT(info.external_attr >> 16)
    if "\0" in name or "\\" in name or name.startswith("/") or ".." in PurePosixPath(name).parts or name[1:2] == ":":
        return "has an unsafe name"
    if info.flag_bits & 0x1:
        return "is encrypted"
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "uses a compression other than stored or deflate"
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is not a regular file"
    if member.stored and info.compress_size != info.file_size:
        return "declares two different sizes"
    return None


def _is_bomb(member: Member) -> bool:
    return member.size_bytes > BOMB_SIZE and member.size_bytes > BOMB_RATIO * max(member.info.compress_size, 1)


def _overlap(members: list[Member]) -> tuple[str, str] | None:
    end = 0
    for member in sorted(members, key=lambda member: member.info.header_offset):
        if member.info.header_offset < end:
            return "archive_unsafe", f"has a member {shown(member.name)} that overlaps another"
        end = member.data_offset + member.info.compress_size
    return None
