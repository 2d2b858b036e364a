"""Ends what killed supervisors left behind: processes and folders of attempts whose lease nobody holds any more.

What attempts put aside for later ones goes once their job has ended, unless it was handed on to jobs on the same files.
"""

import contextlib
import os
import shutil
import signal
import time
from collections.abc import Iterable

from sqlalchemy import func, select

from app.database import FINAL, File, Job
from workers.aside import forget_all_but
from workers.child import orphans
from workers.workplace import Workplace


def sweep_attempts(workplace: Workplace) -> None:
    """What belongs to a live lease is left alone; leases are asked for after the processes and folders were seen."""
    processes = orphans(workplace.attempts)
    folders = [path for path in workplace.attempts.iterdir() if _age(path.stat().st_mtime) > 1]
    live = _live(workplace, {*processes.values(), *(folder.name for folder in folders)})
    for pid, token in processes.items():
        if token not in live:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    for folder in folders:
        if folder.name not in live:
            shutil.rmtree(folder, ignore_errors=True)
    if workplace.aside.exists():
        forget_all_but(workplace, *_wanted_aside(workplace))


def _wanted_aside(workplace: Workplace) -> tuple[set[str], set[str]]:
    """Jobs that may still be attempted, and digests of the models that are there."""
    with workplace.database.read() as session:
        jobs = set(session.scalars(select(Job.id).where(Job.state.not_in(FINAL))))
        models = session.scalars(select(func.coalesce(File.canonical_sha256, File.sha256)).where(File.kind == "model"))
        return jobs, {digest for digest in models if digest}


def _live(workplace: Workplace, tokens: Iterable[str]) -> set[str]:
    wanted = set(tokens)
    if not wanted:
        return set()
    with workplace.database.read() as session:
        held = session.scalars(select(Job.lease_token).where(Job.lease_token.is_not(None)))
        return {token for token in held if token in wanted}


def _age(at: float) -> float:
    return time.time() - at
