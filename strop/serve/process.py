"""One part of the service as a running process: in a group of its own, tied to our life, its words in a log."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from strop.serve.home import CannotServe, Home
from strop.serve.parts import Part

TETHER = Path(__file__).with_name("tether.py")
SETTLED_SECONDS = 60.0
LONGEST_PAUSE_SECONDS = 30.0


def tethered(command: Sequence[str]) -> tuple[str, ...]:
    """The command tied to the life of this process, and of the thread that starts it: let that be the main one."""
    return (sys.executable, "-I", "-S", str(TETHER), str(os.getpid()), *command)


class Process:
    """A part, started as often as it needs to be."""

    def __init__(self, part: Part, home: Home, folder: Path, environment: Mapping[str, str]) -> None:
        self.part = part
        self.log = home.log(part.name)
        self._folder = folder
        self._environment = environment
        self._child: subprocess.Popen[bytes] | None = None
        self._failures = 0
        self._started_at = 0.0
        self._start_again_at = 0.0

    def start(self) -> None:
        self._started_at = time.monotonic()
        with self.log.open("ab") as log:
            self._child = subprocess.Popen(
                tethered(self.part.command),
                cwd=self._folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=self.part.pass_fds,
                start_new_session=True,
            )

    def run(self) -> None:
        """Start it, and wait until it has done its work."""
        self.start()
        assert self._child is not None
        if self._child.wait() != 0:
            raise self.failed()

    @property
    def alive(self) -> bool:
        return self._child is not None and self._child.poll() is None

    def failed(self) -> CannotServe:
        """What to tell of a part that ended while the service was starting."""
        code = None if self._child is None else self._child.returncode
        return CannotServe(
            f"{self.part.name} ended with code {code}; the end of {self.log} says:\n{self.last_words(12)}"
        )

    def revive(self) -> str | None:
        """Start it again if it died, after a pause that grows; a sentence to tell, if there is one."""
        now = time.monotonic()
        if self.alive:
            return None
        if self._child is not None:
            code, self._child = self._child.returncode, None
            self._failures = 0 if now - self._started_at > SETTLED_SECONDS else self._failures + 1
            pause = min(LONGEST_PAUSE_SECONDS, 2.0**self._failures - 1)
            self._start_again_at = now + pause
            return f"{self.part.name} ended with code {code} and is started again in {pause:.0f} s; see {self.log}"
        if now >= self._start_again_at:
            self.start()
        return None

    def terminate(self) -> None:
        """Ask it to end; it ends its own children."""
        if self._child is not None:
            self._child.terminate()

    def wait(self, ends_at: float) -> None:
        if self._child is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(max(0.0, ends_at - time.monotonic()))

    def kill(self) -> None:
        """End its whole group, also those that outlived their leader."""
        if self._child is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._child.pid, signal.SIGKILL)
            self._child.wait()

    def last_words(self, lines: int) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
