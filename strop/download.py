"""Files on their way from the service: received under another name, checked, then renamed, so a right name means whole.

A broken download goes on where it stopped (`Range`), unless the file has changed meanwhile (`If-Range`). What was
received before giving up stays beside the target, named by its digest, and the next attempt goes on from there. Who
wants it renames it first, so that two downloads never write to one file.
"""

import os
import re
import secrets
import shutil
import zipfile
from base64 import b64decode
from glob import escape
from pathlib import Path

import httpx2

from strop.errors import DigestMismatch, StropError, Unreachable
from strop.transport import Transport
from strop.upload import Progress, sha256_of

SHA256 = re.compile(r"[0-9a-f]{64}")
ZIP = b"PK\x03\x04"
REPR_DIGEST = re.compile(r"sha-256=:([A-Za-z0-9+/=]+):")


def download(transport: Transport, path: str, target: Path, on_progress: Progress | None = None) -> Path:
    """Fetch one file of the service; raises DigestMismatch rather than leave wrong bytes."""
    part = Part(target)
    try:
        _receive_all(transport, path, part, on_progress)
    except BaseException:
        part.leave()
        raise
    part.finish()
    return target


def unpacked(model: Path) -> Path:
    """Put the weights beside a model that arrived as a zip, since one file cannot hold it; any other stays as it is."""
    with model.open("rb") as file:
        if model.suffix.lower() == ".zip" or file.read(4) != ZIP:
            return model
    with zipfile.ZipFile(model) as archive:
        names = sorted(archive.namelist(), key=lambda name: name.endswith(".onnx"))  # weights come first
        parts = [(_extract(archive, name, model), name) for name in names]
    for part, name in parts:
        part.replace(model if name.endswith(".onnx") else model.with_name(name))
    return model


def _extract(archive: zipfile.ZipFile, name: str, model: Path) -> Path:
    if Path(name).name != name:
        raise StropError(f"the zip of {model} holds {name}, which is no plain name of a file")
    part = model.with_name(f".{name}.{secrets.token_hex(4)}.part")
    with archive.open(name) as source, part.open("wb") as target:
        shutil.copyfileobj(source, target, 1 << 20)
    return part


class Part:
    """What has been received so far of a file, and of which file."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.path = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
        self.sha256: str | None = None
        self._claim()

    @property
    def received(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def _left(self, sha256: str) -> Path:
        return self.target.with_name(f".{self.target.name}.{sha256}.left")

    def _claim(self) -> None:
        """Go on with what an earlier download left, if nobody else does."""
        for left in self.target.parent.glob(f".{escape(self.target.name)}.*.left"):
            sha256 = left.name.rsplit(".", 2)[1]
            try:
                left.rename(self.path)
            except FileNotFoundError:
                continue
            os.truncate(self.path, max(0, self.received - 1))  # so that there is always a byte to ask for
            self.sha256 = sha256
            return

    def begin(self, sha256: str | None) -> None:
        """Start over, with a file of this digest where it is known."""
        self.path.write_bytes(b"")
        self.sha256 = sha256

    def leave(self) -> None:
        """Keep what can be gone on with; forget the rest."""
        if self.sha256 and self.received:
            self.path.replace(self._left(self.sha256))
        else:
            self.path.unlink(missing_ok=True)

    def finish(self) -> None:
        received = sha256_of(self.path).hex()
        if self.sha256 and received != self.sha256:
            self.path.unlink()
            raise DigestMismatch(self.target.name, self.sha256, received)
        self.path.replace(self.target)


def _receive_all(transport: Transport, path: str, part: Part, on_progress: Progress | None) -> None:
    backoff = transport.backoff()
    while True:
        before = part.received
        try:
            return _receive(transport, path, part, on_progress)
        except httpx2.TransportError as error:
            if part.received > before:
                backoff = transport.backoff()
            if not backoff.pause():
                raise Unreachable(transport.url, f"the download broke after {part.received} bytes") from error


def _receive(transport: Transport, path: str, part: Part, on_progress: Progress | None) -> None:
    headers = {"Accept-Encoding": "identity"}
    if part.received and part.sha256:
        headers |= {"Range": f"bytes={part.received}-", "If-Range": f'"{part.sha256}"'}
    with transport.stream(path, headers) as answer:
        if not _continues(answer, part):
            part.begin(_digest(answer))
        total = part.received + int(answer.headers["Content-Length"]) if "Content-Length" in answer.headers else None
        with part.path.open("ab", buffering=0) as file:
            for chunk in answer.iter_raw():
                file.write(chunk)
                if on_progress:
                    on_progress(file.tell(), total)


def _continues(answer: httpx2.Response, part: Part) -> bool:
    return answer.status_code == 206 and answer.headers.get("Content-Range", "").startswith(f"bytes {part.received}-")


def _digest(answer: httpx2.Response) -> str | None:
    """SHA-256 of the whole file as the service states it."""
    if match := REPR_DIGEST.search(answer.headers.get("Repr-Digest", "")):
        return b64decode(match[1]).hex()
    match = SHA256.fullmatch(answer.headers.get("ETag", "").strip('"'))
    return match[0] if match else None
