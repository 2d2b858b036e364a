"""One measurement at a time on a host, and no other job computes meanwhile.

Two lock files. `PATH` is held shared by every job that computes and exclusively by the one that measures. A stream of
computing jobs would starve a measurement, so it first takes the turnstile `PATH.gate`, which computing jobs pass at
each pause: once a measurement waits there, none of them gets back in before it is done.

    measure    lock free → gate exclusive → lock exclusive → gate free … measure … lock free
    pause      lock free → through the gate (shared) → lock shared

The kernel frees a dead process's locks. Both files are opened in the constructor, before a job is confined.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class HostLock:
    """A job's hold on the host. Without a path there are no other jobs, and nothing is ever waited for."""

    def __init__(self, path: Path | None) -> None:
        self._lock = _open(path) if path else None
        self._gate = _open(path.with_name(path.name + ".gate")) if path else None
        self._computing = False

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Compute beside other jobs, but not while one measures."""
        self._enter()
        self._computing = True
        try:
            yield
        finally:
            self._computing = False
            self._take(self._lock, fcntl.LOCK_UN)

    @contextmanager
    def measuring(self) -> Iterator[None]:
        """Have the host alone; may be entered while computing."""
        self._take(self._lock, fcntl.LOCK_UN)  # another measurement may wait for it with the gate in its hand
        self._take(self._gate, fcntl.LOCK_EX)
        self._take(self._lock, fcntl.LOCK_EX)
        self._take(self._gate, fcntl.LOCK_UN)
        try:
            yield
        finally:
            self._take(self._lock, fcntl.LOCK_UN)
            if self._computing:
                self._enter()

    def pause(self) -> None:
        """Let a waiting measurement in. To be called between batches of a computation; costs microseconds."""
        if self._computing:
            self._take(self._lock, fcntl.LOCK_UN)
            self._enter()

    def wanted(self) -> bool:
        """Does a measurement wait for this job to pause?"""
        if self._gate is None or not self._computing:
            return False
        try:
            fcntl.flock(self._gate, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        fcntl.flock(self._gate, fcntl.LOCK_UN)
        return False

    def _enter(self) -> None:
        self._take(self._gate, fcntl.LOCK_SH)
        self._take(self._gate, fcntl.LOCK_UN)
        self._take(self._lock, fcntl.LOCK_SH)

    def _take(self, file: int | None, mode: int) -> None:
        if file is not None:
            fcntl.flock(file, mode)


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
