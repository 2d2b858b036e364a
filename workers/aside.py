"""What an attempt leaves for the next one at the same job on this machine, such as a training half done.

A worker that is killed cannot save anything. So whatever the child puts whole into `work/kept` is linked aside within a
second, into a folder of the job, and the next attempt finds it in its own `work/kept`. Links cost no copies, and the
child renames its files into place, so a linked one never changes. It is the child's own data and nobody else's: only a
child at the same job ever reads it.
"""

import os
import shutil
import stat
import uuid
from dataclasses import dataclass
from pathlib import Path

from engine.protocol import KEPT
from workers.workplace import Workplace

MOST_FILES = 16


@dataclass(frozen=True)
class Aside:
    """The folder of one job."""

    folder: Path

    @classmethod
    def of(cls, workplace: Workplace, job_id: str) -> "Aside":
        return cls(workplace.aside / job_id)

    def take(self, attempt: Path) -> None:
        """Link what is new in the attempt's folder, and let go of what the child let go of.

        A file system without links gets by without.
        """
        found = _files(attempt / "work" / KEPT)
        for path in found:
            mine = self.folder / path.name
            if not (mine.exists() and mine.samefile(path)):
                _link(path, mine)
        if found:
            for name in {path.name for path in _files(self.folder)} - {path.name for path in found}:
                (self.folder / name).unlink(missing_ok=True)

    def give(self, attempt: Path) -> None:
        """Put what was taken into the folder of a new attempt."""
        for path in _files(self.folder):
            _link(path, attempt / "work" / KEPT / path.name)


def forget_all_but(workplace: Workplace, job_ids: set[str]) -> None:
    """Of jobs that may still be attempted."""
    for folder in workplace.aside.iterdir():
        if folder.name not in job_ids:
            shutil.rmtree(folder, ignore_errors=True)


def _files(folder: Path) -> list[Path]:
    """Whole files; never a link that a child may have made to somewhere else."""
    if folder.is_symlink() or not folder.is_dir():
        return []
    found = [path for path in folder.iterdir() if not path.name.endswith(".draft")]
    return [path for path in found if stat.S_ISREG(path.lstat().st_mode)][:MOST_FILES]


def _link(path: Path, target: Path) -> None:
    """Replace what lies there in one step."""
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f"{uuid.uuid4().hex}.draft")
    try:
        os.link(path, draft, follow_symlinks=False)
        draft.replace(target)
    except OSError:  # the child has just replaced it, or the disk knows no links: the next second will do, or none
        draft.unlink(missing_ok=True)
