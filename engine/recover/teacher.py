"""What the teacher says of a lesson: asked once for all samples, or anew at each step.

Once is cheaper, for each step then costs the student alone; the answers wait in memory-mapped files. Anew is needed
where inputs are varied, where answers would fill the disk, and where an output has no row for each sample.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from engine.data import Feeds
from engine.measure.session import open_session, session_options
from engine.recover.lessons import Lessons

MOST_WRITTEN_BYTES = 1 << 30
MOST_KEPT_BYTES, MOST_KEPT_OUTPUTS = 64 << 20, 2  #: that later trainings find again, too
ROWS_AT_ONCE = 32

Answers = dict[str, Tensor]


class Teacher(Protocol):
    def answers(self, positions: np.ndarray, feeds: Feeds) -> Answers:
        """Its outputs for one run, by name."""
        ...


@dataclass(frozen=True)
class LiveTeacher:
    """Runs the graph at each step, on the inputs as the student gets them."""

    session: Any
    names: Sequence[str]

    @classmethod
    def open(cls, path: Path, names: Sequence[str], threads: int) -> "LiveTeacher":
        """Its threads sleep between steps, when the student needs the cores."""
        options = session_options(threads)
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        return cls(open_session(path, "cpu", options), names)

    def arrays(self, feeds: Feeds) -> dict[str, np.ndarray]:
        """Its outputs as they are."""
        return dict(zip(self.names, self.session.run(list(self.names), feeds), strict=True))

    def answers(self, positions: np.ndarray, feeds: Feeds) -> Answers:  # noqa: ARG002 - another teacher looks them up
        return {name: torch.from_numpy(value) for name, value in self.arrays(feeds).items()}


@dataclass(frozen=True)
class WrittenTeacher:
    """Its answers to all samples, a row for each, memory-mapped."""

    files: Mapping[str, np.ndarray]

    def answers(self, positions: np.ndarray, feeds: Feeds) -> Answers:  # noqa: ARG002 - they are known already
        return {name: torch.from_numpy(np.array(file[positions])) for name, file in self.files.items()}


def bytes_of_answers(examples: Mapping[str, np.ndarray], rows: int, samples: int) -> int | None:
    """What outputs of all samples would take on the disk, by those of a run on so many rows; None if not by row."""
    if not all(value.ndim and value.shape[0] == rows for value in examples.values()):
        return None
    return sum(value.nbytes for value in examples.values()) // rows * samples


def write_answers(
    teacher: LiveTeacher,
    lessons: Lessons,
    folder: Path,
    key: str,
    pause: Callable[[], None],
    *,
    rows_at_once: int = ROWS_AT_ONCE,
) -> WrittenTeacher:
    """Run all samples once; answers of this key that lie in the folder are taken as they are, those of others go."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = {name: folder / f"answers-{key}-{index}.npy" for index, name in enumerate(teacher.names)}
    for other in set(folder.glob("answers-*.npy")) - set(paths.values()):
        other.unlink()
    if not all(path.exists() for path in paths.values()):
        _write(teacher, lessons, paths, pause, rows_at_once)
    return WrittenTeacher({name: np.load(path, mmap_mode="r") for name, path in paths.items()})


def _write(
    teacher: LiveTeacher, lessons: Lessons, paths: Mapping[str, Path], pause: Callable[[], None], rows_at_once: int
) -> None:
    """Under other names until they are whole."""
    drafts = {name: path.with_name(f"{path.name}.draft") for name, path in paths.items()}
    files: dict[str, np.ndarray] = {}
    for positions in lessons.in_runs(np.arange(len(lessons.samples)), rows_at_once):
        pause()
        for name, value in teacher.arrays(lessons.feeds(positions)).items():
            if name not in files:
                shape = (len(lessons.samples), *value.shape[1:])
                files[name] = np.lib.format.open_memmap(drafts[name], "w+", value.dtype, shape)
            files[name][positions] = value
    for name, draft in drafts.items():
        draft.rename(paths[name])
