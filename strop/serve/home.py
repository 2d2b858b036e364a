"""The folder of all local state, and who holds it.

home/
  strop.sqlite3  blobs…   the service's own
  logs/                   one file for each part
  run/                    sockets, and the working directory of each part; private
  valkey/                 the broker's journal
  serve.lock              held while a service runs here; names its process
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from strop.errors import StropError

LONGEST_SOCKET_PATH = 100  # the kernel takes 107 bytes, macOS 103
LARGEST_LOG_BYTES = 10 << 20


class CannotServe(StropError):
    """Why `strop serve` did not start, and what to do."""


class Home:
    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.logs = self.path / "logs"
        self.valkey = self.path / "valkey"

    @contextmanager
    def held(self) -> Generator[Path]:
        """Be the only service in this folder; gives the private folder for sockets."""
        try:
            for folder in (self.path, self.logs, self.valkey):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # models and data are nobody else's business
            lock = (self.path / "serve.lock").open("a+")
        except OSError as error:
            raise CannotServe(f"the folder {self.path} cannot be used: {error}") from error
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                lock.seek(0)
                raise CannotServe(
                    f"process {lock.read().strip() or '?'} already serves {self.path}; "
                    "use that service, stop it, or name another folder with --home"
                ) from error
            lock.truncate(0)
            lock.write(str(os.getpid()))
            lock.flush()
            with self._run_folder() as run:
                yield run

    @contextmanager
    def _run_folder(self) -> Generator[Path]:
        run = self.path / "run"
        if len(os.fsencode(run / "valkey.sock")) > LONGEST_SOCKET_PATH:
            run = Path(tempfile.mkdtemp(prefix="strop-"))
        else:
            shutil.rmtree(run, ignore_errors=True)
            run.mkdir(mode=0o700)
        try:
            yield run
        finally:
            shutil.rmtree(run, ignore_errors=True)

    def log(self, part: str) -> Path:
        """Where a part writes; the file before the last 10 MB is forgotten."""
        path = self.logs / f"{part}.log"
        if path.exists() and path.stat().st_size > LARGEST_LOG_BYTES:
            path.replace(path.with_suffix(".log.1"))
        return path
