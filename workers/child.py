"""One child process and all that it starts: its lines of output, its memory, and its certain end.

The child leads its own session and process group. Killing is for the whole tree: first the group, then whatever left
it. The supervisor is a subreaper (prctl), so a grandchild that double-forks becomes the supervisor's own child instead
of init's and cannot hide. Nothing that the child writes is trusted: lines are capped and must be events.
"""

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import psutil
from pydantic import ValidationError

from engine.protocol import EVENT, MAX_LINE_BYTES, Event
from workers.workplace import cores

MARK = "STROP_ATTEMPT"  # environment variable that every process of an attempt inherits
STDERR_BYTES = 16_384  # kept of what the child says to people
_PR_SET_CHILD_SUBREAPER = 36
_SWEEPS = 100


class Misbehaved(Exception):
    """The child broke the protocol; the message says how."""


class Child:
    def __init__(self, command: Sequence[str], attempt: Path) -> None:
        _adopt_orphans(yes=1)
        self._others = {child.pid for child in psutil.Process().children()}
        self._stdout, stdout = os.pipe()
        self._stderr, stderr = os.pipe()
        try:
            self._process = subprocess.Popen(
                [*command, str(attempt)],
                cwd=attempt / "work",
                env=_environment(attempt),
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
                close_fds=True,
            )
        finally:
            os.close(stdout)
            os.close(stderr)
        self._open = {self._stdout, self._stderr}
        self._lines, self._words = bytearray(), bytearray()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop(grace_seconds=0)
        os.close(self._stdout)
        os.close(self._stderr)
        _adopt_orphans(yes=0)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def ended(self) -> bool:
        """The child itself has ended; it is not reaped yet, so that its group's number stays taken."""
        if self._process.returncode is not None:
            return True
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    @property
    def returncode(self) -> int:
        """Exit code, or minus the signal that killed it; after `stop`."""
        return self._process.wait()

    @property
    def last_words(self) -> str:
        return self._words.decode(errors="replace")

    def read(self, timeout_seconds: float) -> list[Event]:
        """The events that arrive within the timeout. Raises Misbehaved for anything else."""
        if not self._open:
            time.sleep(timeout_seconds)
        for pipe in select.select(self._open, (), (), timeout_seconds)[0] if self._open else ():
            chunk = os.read(pipe, 65_536)
            if not chunk:
                self._open.discard(pipe)
            elif pipe == self._stdout:
                self._lines += chunk
            else:
                self._words = (self._words + chunk)[-STDERR_BYTES:]
        return self._complete_lines()

    def rest(self) -> list[Event]:
        """What a child that has ended left in the pipes."""
        events: list[Event] = []
        while self._open and select.select(self._open, (), (), 0)[0]:
            events += self.read(0)
        return events

    def resident_bytes(self) -> int:
        """Resident memory of the whole tree; shared pages count in each process."""
        return sum(_resident(process) for process in self._tree())

    def stop(self, grace_seconds: float) -> None:
        """End the whole tree: ask, wait, kill, sweep. Returns when nothing of it is left."""
        if grace_seconds > 0 and not self.ended:
            self._signal_group(signal.SIGTERM)
            deadline = time.monotonic() + grace_seconds
            while not self.ended and time.monotonic() < deadline:
                time.sleep(0.05)
        self._signal_group(signal.SIGKILL)
        self._process.wait()
        self._sweep()

    def _complete_lines(self) -> list[Event]:
        *lines, rest = bytes(self._lines).split(b"\n")
        if any(len(line) > MAX_LINE_BYTES for line in (*lines, rest)):
            raise Misbehaved(f"it wrote a line longer than {MAX_LINE_BYTES} bytes")
        self._lines = bytearray(rest)
        try:
            return [EVENT.validate_json(line) for line in lines if line.strip()]
        except ValidationError as error:
            raise Misbehaved("it wrote a line that is no event of the protocol") from error

    def _signal_group(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def _sweep(self) -> None:
        """Kill what left the group; each round finds what the round before was just forking."""
        for _ in range(_SWEEPS):
            left = [process for process in self._tree() if process.pid != self.pid]
            if not left:
                return
            for process in left:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            for process in left:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(process.pid, os.WNOHANG)
            time.sleep(0.01)

    def _tree(self) -> list[psutil.Process]:
        return [process for process in psutil.Process().children(recursive=True) if process.pid not in self._others]


def _environment(attempt: Path) -> dict[str, str]:
    """Nothing of ours: no secret, no proxy, no telemetry, no place to write but the work folder."""
    work, threads = str(attempt / "work"), str(cores())
    return {
        "PATH": os.defpath,
        "LANG": "C.UTF-8",
        "HOME": work,
        "TMPDIR": work,
        "ORT_DISABLE_TELEMETRY": "1",
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": threads,
        "OPENBLAS_NUM_THREADS": "1",  # each sets aside 32 MiB as the library loads, and NumPy multiplies little here
        "MKL_NUM_THREADS": threads,
        MARK: attempt.name,
    }


def _adopt_orphans(*, yes: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, yes, 0, 0, 0)


def _resident(process: psutil.Process) -> int:
    try:
        return process.memory_info().rss
    except psutil.Error:
        return 0


def orphans(root: Path) -> dict[int, str]:
    """Processes of attempts under this folder whose supervisor has died, and the token of each one's attempt."""
    found = {}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            environment = process.environ()
            if MARK in environment and environment.get("HOME", "").startswith(f"{root}/"):
                found[process.pid] = environment[MARK]
    return found
