"""Where blobs lie: immutable files named by their SHA-256, in a local folder or in S3.

A blob is complete and durable when `put` returns, whatever crashes afterwards; putting the same content twice is
harmless. "Missing" is the builtin FileNotFoundError, "away" is StorageUnavailable. Whether a blob is still wanted is
not known here (`app.blobs`).

A crash inside `put` may leave an unfinished file `abcdef….x` beside the blob's place, and a crash after it a blob that
no row names; `put_between` lists both.
"""

import errno
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Protocol
from urllib.parse import parse_qs, urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from app.errors import ConfigurationError

CHUNK_BYTES = 1 << 20
PART_BYTES = 16 << 20  # of a multipart upload: 10,000 parts are allowed, so blobs may reach 160 GB
PATIENCE = timedelta(seconds=20)  # with an S3 that does not answer, before a request is told so


class StorageUnavailable(OSError):
    """The storage does not answer, or refuses us; the same call may succeed later."""


class Storage(Protocol):
    def put(self, path: Path, sha256: str) -> None:
        """Take in a local file, which may be removed afterwards; its bytes are durable on return."""

    def open(self, sha256: str, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """The bytes, or a part of them, in chunks; a missing blob is noticed before the first chunk."""

    def fetch(self, sha256: str, destination: Path) -> None:
        """Place the blob at a local path, which must not exist; as a hard link where that is possible."""

    def size(self, sha256: str) -> int:
        """Length in bytes."""

    def delete(self, sha256: str) -> None:
        """Remove the blob; a missing one is no error."""

    def put_between(self, shard: str, after: float, before: float) -> list[str]:
        """Names that begin with these two digits and were last put, or begun to be, then (UTC seconds since 1970)."""

    def check(self) -> None:
        """Raise StorageUnavailable where nothing could be stored now."""


def is_full(error: OSError) -> bool:
    return error.errno in {errno.ENOSPC, errno.EDQUOT}


def open_storage(url: str, home: Path) -> Storage:
    """The storage that `STROP_STORAGE_URL` names: `s3://bucket/prefix?endpoint=…`, or the home folder."""
    if url.startswith("s3://"):
        return S3Storage(url)
    if url:
        raise ConfigurationError(f"STROP_STORAGE_URL is neither empty nor s3://bucket/prefix: {url}")
    return LocalStorage(home / "blobs")


class LocalStorage:
    """`root/ab/abcdef…`, written beside its place and linked there in one atomic step."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.root.mkdir(parents=True, exist_ok=True)

    def put(self, path: Path, sha256: str) -> None:
        target = self._path(sha256)
        target.parent.mkdir(exist_ok=True)
        if not _touch(target):
            self._take_in(path, target)
        _sync_folder(target.parent)
        _sync_folder(self.root)

    def open(self, sha256: str, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        file = self._path(sha256).open("rb")
        left = self.size(sha256) - offset if length is None else length

        def chunks() -> Iterator[bytes]:
            remaining = left
            with file:
                file.seek(offset)
                while remaining > 0 and (chunk := file.read(min(CHUNK_BYTES, remaining))):
                    remaining -= len(chunk)
                    yield chunk

        return chunks()

    def fetch(self, sha256: str, destination: Path) -> None:
        _link_or_copy(self._path(sha256), destination)

    def size(self, sha256: str) -> int:
        return self._path(sha256).stat().st_size

    def delete(self, sha256: str) -> None:
        self._path(sha256).unlink(missing_ok=True)

    def put_between(self, shard: str, after: float, before: float) -> list[str]:
        names = []
        for path in self.root.glob(f"{shard}/{shard}*"):
            with suppress(FileNotFoundError):
                if after < path.stat().st_mtime < before:
                    names.append(path.name)
        return names

    def check(self) -> None:
        if not self.root.is_dir():
            raise StorageUnavailable(errno.ENOENT, "the folder of the blobs is gone")

    def _path(self, sha256: str) -> Path:
        return self.root / sha256[:2] / sha256

    def _take_in(self, path: Path, target: Path) -> None:
        staged = target.with_name(f"{target.name}.{uuid.uuid4().hex}")
        try:
            _link_or_copy(path, staged)
            _touch(staged)
            staged.chmod(0o444)
            _sync_file(staged)
            staged.replace(target)
        finally:
            staged.unlink(missing_ok=True)


class S3Storage:
    """Objects `prefix/ab/abcdef…` of a bucket; credentials come from the usual AWS variables.

    The client starts threads that do not survive a fork, so it is made at the first use, in the process that uses it.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.bucket, self.prefix = parts.netloc, parts.path.strip("/")
        self.endpoint = parse_qs(parts.query).get("endpoint", [None])[0]
        self._store: S3Store | None = None

    def put(self, path: Path, sha256: str) -> None:
        try:
            if self.size(sha256) == path.stat().st_size:
                return
        except FileNotFoundError:
            pass
        try:
            with _as_os_errors():
                obstore.put(self._client(), _key(sha256), path, chunk_size=PART_BYTES, max_concurrency=2)
        except FileNotFoundError as error:
            raise self._no_bucket() from error

    def open(self, sha256: str, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        wanted = self.size(sha256) - offset if length is None else length
        if wanted == 0:
            return iter(())
        with _as_os_errors():
            result = obstore.get(self._client(), _key(sha256), options={"range": (offset, offset + wanted)})
        return (bytes(chunk) for chunk in result.stream(min_chunk_size=CHUNK_BYTES))

    def fetch(self, sha256: str, destination: Path) -> None:
        with destination.open("xb") as file, _as_os_errors():
            for chunk in self.open(sha256):
                file.write(chunk)

    def size(self, sha256: str) -> int:
        with _as_os_errors():
            return obstore.head(self._client(), _key(sha256))["size"]

    def delete(self, sha256: str) -> None:
        with _as_os_errors():
            obstore.delete(self._client(), _key(sha256))

    def put_between(self, shard: str, after: float, before: float) -> list[str]:
        with _as_os_errors():
            objects = [item for batch in obstore.list(self._client(), prefix=shard) for item in batch]
        return [_name(item["path"]) for item in objects if after < item["last_modified"].timestamp() < before]

    def check(self) -> None:
        try:
            with _as_os_errors():
                next(obstore.list(self._client(), chunk_size=1), None)
        except FileNotFoundError as error:
            raise self._no_bucket() from error

    def _no_bucket(self) -> StorageUnavailable:
        return StorageUnavailable(errno.ENOENT, f"there is no bucket {self.bucket}")

    def _client(self) -> S3Store:
        if self._store is None:
            endpoint = self.endpoint or os.environ.get("AWS_ENDPOINT_URL", "")
            plain = endpoint.startswith("http://")  # else the client asks for https whatever AWS_ALLOW_HTTP says
            self._store = S3Store(
                self.bucket,
                prefix=self.prefix or None,
                client_options={"allow_http": plain, "timeout": "120s", "connect_timeout": "5s"},
                retry_config={"retry_timeout": PATIENCE},
                **({"endpoint": self.endpoint} if self.endpoint else {}),
            )
        return self._store


@contextmanager
def _as_os_errors() -> Iterator[None]:
    """What the S3 client raises, as the errors that a folder would raise."""
    try:
        yield
    except BaseError as error:
        summary = str(error).partition("\n")[0]
        raise StorageUnavailable(errno.EIO, summary) from error


def _key(sha256: str) -> str:
    return f"{sha256[:2]}/{sha256}"


def _name(key: str) -> str:
    return key.rpartition("/")[2]


def _touch(path: Path) -> bool:
    """Note that the file is wanted now; False where it is missing."""
    try:
        os.utime(path)
    except FileNotFoundError:
        return False
    except PermissionError:  # it belongs to another user: it stays as old as it is
        pass
    return True


def _link_or_copy(source: Path, destination: Path) -> None:
    try:
        os.link(source, destination)
    except FileNotFoundError:
        raise
    except OSError:  # another file system, or one without hard links
        shutil.copyfile(source, destination)


def _sync_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


_sync_folder = _sync_file
