"""What an attempt leaves for later ones on this machine, such as a table of trials, or a training half done.

A worker that is killed cannot save anything. So whatever the child puts whole into `work/kept` is linked aside within a
second, into a folder of the job, and the next attempt finds it in its own `work/kept`. Links cost no copies, and the
child renames its files into place, so a linked one never changes.

    aside/<job>               while the job may still be attempted
    aside/of-<model>-<data>   once it has ended, for searches on the same files: for a day, if the model stays

Only a child at a job on the very same files ever reads it, and decides by keys of its own what of it is of use.
"""

import os
import shutil
import stat
import time
import uuid
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from engine.protocol import KEPT
from workers.workplace import Workplace

MOST_FILES = 24
OF = "of-"
MOST_HANDED_ON, DAY_SECONDS = 8, 86_400
MOST_BYTES_HANDED_ON = 4 << 30  #: of one search


@dataclass(frozen=True)
class Aside:
    """The folder of one job, and the one that jobs on the same files leave to each other."""

    folder: Path
    handed_on: Path | None = None

    @classmethod
    def of(cls, workplace: Workplace, job_id: str, origin: str | None = None) -> "Aside":
        """`origin` names the files that the job works on, the model first."""
        return cls(workplace.aside / job_id, workplace.aside / f"{OF}{origin}" if origin else None)

    def take(self, attempt: Path) -> None:
        """Link what is new in the attempt's folder, and let go of what the child let go of.

        A file system without links gets by without.
        """
        found = _files(attempt / "work" / KEPT)
        for path in found:
            mine = self.folder / path.name
            if not _is_same(mine, path):
                _link(path, mine)
        if found:
            for name in {path.name for path in _files(self.folder)} - {path.name for path in found}:
                (self.folder / name).unlink(missing_ok=True)

    def give(self, attempt: Path) -> None:
        """Put what was taken into the folder of a new attempt, or else what an ended job on the same files had."""
        for path in _files(self.folder) or (_files(self.handed_on) if self.handed_on else []):
            _link(path, attempt / "work" / KEPT / path.name)

    def hand_on(self) -> None:
        """The job has ended: what it had serves others, in the place of what was there."""
        if self.handed_on is None or not self.folder.exists() or _size_bytes(self.folder) > MOST_BYTES_HANDED_ON:
            return
        shutil.rmtree(self.handed_on, ignore_errors=True)
        try:
            self.folder.rename(self.handed_on)
            os.utime(self.handed_on)
        except OSError:  # another job has just handed on what it had of the same files
            shutil.rmtree(self.folder, ignore_errors=True)


def forget_all_but(workplace: Workplace, job_ids: Collection[str], models: Collection[str]) -> None:
    """Of jobs that may still be attempted, and of late ones on these models, by their digests."""
    late = []
    for folder in workplace.aside.iterdir():
        if folder.name.startswith(OF) and _model_of(folder) in models:
            late.append(folder)
        elif folder.name not in job_ids:
            shutil.rmtree(folder, ignore_errors=True)
    is_short = shutil.disk_usage(workplace.aside).free < 2 * workplace.settings.min_free_bytes
    for folder in late if is_short else _outdated(late):
        shutil.rmtree(folder, ignore_errors=True)


def _model_of(folder: Path) -> str:
    return folder.name.removeprefix(OF).partition("-")[0]


def _outdated(late: list[Path]) -> list[Path]:
    newest_first = sorted(late, key=_handed_on_at, reverse=True)
    yesterday = time.time() - DAY_SECONDS
    return [
        folder
        for place, folder in enumerate(newest_first)
        if place >= MOST_HANDED_ON or _handed_on_at(folder) < yesterday
    ]


def _handed_on_at(folder: Path) -> float:
    try:
        return folder.stat().st_mtime
    except FileNotFoundError:  # another job's take its place just now
        return time.time()


def _files(folder: Path) -> list[Path]:
    """Whole files; never a link that a child may have made to somewhere else."""
    if folder.is_symlink() or not folder.is_dir():
        return []
    found = [path for path in folder.iterdir() if not path.name.endswith(".draft")]
    return [path for path in found if _is_file(path)][:MOST_FILES]


def _is_file(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except FileNotFoundError:  # the child has just let go of it
        return False


def _is_same(mine: Path, path: Path) -> bool:
    try:
        return mine.samefile(path)
    except FileNotFoundError:
        return False


def _size_bytes(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.iterdir())


def _link(path: Path, target: Path) -> None:
    """Replace what lies there in one step."""
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f"{uuid.uuid4().hex}.draft")
    try:
        os.link(path, draft, follow_symlinks=False)
        draft.replace(target)
    except OSError:  # the child has just replaced it, or the disk knows no links: the next second will do, or none
        draft.unlink(missing_ok=True)
