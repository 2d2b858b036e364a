"""From a child's folder into the storage. Nothing that the child left is trusted.

Every path is walked one component at a time without following links; a file must be regular, have one name, keep within
its size, and be one that is expected. By then the child and all its descendants are dead, so nothing changes under us.
"""

import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from app.storage import Storage
from engine.protocol import CANDIDATES, MODEL, REPORT_HTML, REPORT_JSON, REPORT_TEXT
from engine.report import Report
from workers.attempt import digest

REPORTS = {REPORT_JSON, REPORT_HTML, REPORT_TEXT}
REPORT_BYTES = 64 << 20
MOST_CANDIDATES = 1000
_CHECKPOINT = re.compile(r"work/out/\d{1,6}")
_WEIGHTS = r"\.[0-9a-f]{16}\.data"  # beside a model that one file cannot hold
_MODEL = re.compile(rf"{re.escape(MODEL)}({_WEIGHTS})?")
_CANDIDATE = re.compile(rf"t\d{{2,6}}\.onnx({_WEIGHTS})?")
_PATH = re.compile(r"work(/[A-Za-z0-9_-][A-Za-z0-9._-]*)+")
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Unacceptable(Exception):
    """The child's output is refused; the message says why."""


@dataclass(frozen=True)
class Output:
    """A checked file, ready to be stored and named by its digest."""

    name: str
    path: Path
    sha256: str


@dataclass(frozen=True)
class Result:
    outputs: list[Output]
    report: Report


def collect(attempt: Path, checkpoint: str, *, max_bytes: int) -> Result:
    """The files of a checkpoint. Raises Unacceptable."""
    if not _CHECKPOINT.fullmatch(checkpoint):
        raise Unacceptable("it announced a folder outside its place")
    folder = attempt / checkpoint
    with _opened(attempt, checkpoint) as handle:
        names = set(os.listdir(handle))  # noqa: PTH208 - a handle, not a path
        if not names >= {MODEL, REPORT_JSON}:
            raise Unacceptable("the model or the report is missing")
        models = {name for name in names if _MODEL.fullmatch(name)}
        if unexpected := names - models - REPORTS - {CANDIDATES}:
            raise Unacceptable(f"{len(unexpected)} unexpected files")
        for name in names - {CANDIDATES}:
            _check(handle, name, max_bytes if name in models else REPORT_BYTES)
    if CANDIDATES in names:
        names.remove(CANDIDATES)
        names |= _candidates(attempt, f"{checkpoint}/{CANDIDATES}", max_bytes)
    report = _report(folder / REPORT_JSON)
    return Result([Output(name, folder / name, digest(folder / name)) for name in sorted(names)], report)


def collect_file(attempt: Path, name: str, *, max_bytes: int) -> Output:
    """A single file in the child's work folder, such as a rewritten model. Raises Unacceptable."""
    if not _PATH.fullmatch(name):
        raise Unacceptable("it named a file outside its place")
    folder, _, file = name.rpartition("/")
    with _opened(attempt, folder) as handle:
        _check(handle, file, max_bytes)
    return Output(name, attempt / name, digest(attempt / name))


def store(storage: Storage, outputs: list[Output]) -> None:
    for output in outputs:
        storage.put(output.path, output.sha256)


def _candidates(attempt: Path, path: str, max_bytes: int) -> set[str]:
    with _opened(attempt, path) as handle:
        names = os.listdir(handle)  # noqa: PTH208 - a handle, not a path
        if len(names) > MOST_CANDIDATES:
            raise Unacceptable(f"more than {MOST_CANDIDATES} candidates")
        for name in names:
            if not _CANDIDATE.fullmatch(name):
                raise Unacceptable("a candidate with an unexpected name")
            _check(handle, name, max_bytes)
    return {f"{CANDIDATES}/{name}" for name in names}


def _report(path: Path) -> Report:
    try:
        return Report.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise Unacceptable("the report does not follow its schema") from error


@contextmanager
def _opened(root: Path, path: str) -> Iterator[int]:
    """A handle of a folder below root, reached without following a link."""
    handle = os.open(root, _FOLDER)
    try:
        for part in path.split("/"):
            below = os.open(part, _FOLDER, dir_fd=handle)
            os.close(handle)
            handle = below
        yield handle
    except OSError as error:
        raise Unacceptable("a folder is missing, or is a link") from error
    finally:
        os.close(handle)


def _check(folder: int, name: str, max_bytes: int) -> None:
    try:
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except OSError as error:
        raise Unacceptable("a file is missing") from error
    if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
        raise Unacceptable("a file is a link or a device")
    if status.st_size > max_bytes:
        raise Unacceptable(f"a file is larger than {max_bytes} bytes")
