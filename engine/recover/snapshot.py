"""A training on disk: all that it needs to go on as if it had never been interrupted.

One .npz without pickles, written under another name and renamed, so that it is whole or not there. `key` says which
training it belongs to and names its file; one of another model, data or options is not gone on with. A job may train
more than once: of its trainings the last few are kept.
"""

import json
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from engine.recover.adam import State
from engine.recover.course import Course

MOST_KEPT = 3  #: trainings of a job
NAME = "training-{}.npz"
NOTE, WEIGHTS, BEST, MOMENTA = "note", "weights", "best", "momenta"


@dataclass(frozen=True)
class Snapshot:
    course: Course
    weights: State
    best: State
    momenta: State


def snapshot_at(folder: Path, key: str) -> Path:
    """Where the training of this key lies among others of its job."""
    return folder / NAME.format(key[:16])


def write_snapshot(snapshot: Snapshot, key: str, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".draft")
    note = json.dumps({"key": key, "course": asdict(snapshot.course)})
    groups = {WEIGHTS: snapshot.weights, BEST: snapshot.best, MOMENTA: snapshot.momenta}
    named = {f"{group}:{name}": value for group, values in groups.items() for name, value in values.items()}
    names = np.array(list(named), dtype=str)
    with draft.open("wb") as file:
        np.savez(file, np.array(note), names, *named.values(), allow_pickle=False)
    draft.rename(path)
    _forget_old(path.parent)


def _forget_old(folder: Path) -> None:
    newest_first = sorted(folder.glob(NAME.format("*")), key=lambda path: path.stat().st_mtime_ns, reverse=True)
    for path in newest_first[MOST_KEPT:]:
        path.unlink()


def read_snapshot(path: Path, key: str) -> Snapshot | None:
    """What was written for this training; None where there is nothing, or it is another's or broken."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            note = json.loads(str(stored["arr_0"]))
            if note["key"] != key:
                return None
            values = {str(name): stored[f"arr_{index}"] for index, name in enumerate(stored["arr_1"], start=2)}
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return None
    return Snapshot(Course.of(note["course"]), *(_group(values, group) for group in (WEIGHTS, BEST, MOMENTA)))


def _group(values: Mapping[str, np.ndarray], group: str) -> dict[str, Any]:
    return {name.partition(":")[2]: value for name, value in values.items() if name.startswith(f"{group}:")}
