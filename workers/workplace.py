"""What a worker's process works with, put together once and handed to every part."""

import os
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

import psutil

from app.database import Database
from app.settings import Settings
from app.storage import Storage, open_storage

ENGINE = (sys.executable, "-I", "-B", "-m", "engine")


@dataclass(frozen=True)
class Workplace:
    settings: Settings
    database: Database
    storage: Storage
    worker_id: str  #: the Celery process that all slots of this worker belong to

    @property
    def attempts(self) -> Path:
        """Where the folders of running attempts lie: on the disk of the blobs, so that inputs are hard links."""
        return self.settings.home / "attempts"

    @property
    def aside(self) -> Path:
        """What attempts leave for later ones, a folder for each job."""
        return self.settings.home / "aside"

    @property
    def measurement_lock(self) -> Path:
        return self.settings.home / "measurement.lock"

    @property
    def command(self) -> tuple[str, ...]:
        """The child's program; it is given the attempt's folder."""
        return tuple(self.settings.engine_command.split()) or ENGINE


def open_workplace(settings: Settings, worker_pid: int) -> Workplace:
    settings.home.mkdir(parents=True, exist_ok=True)
    workplace = Workplace(
        settings=settings,
        database=Database(settings.resolved_database_url),
        storage=open_storage(settings.storage_url, settings.home),
        worker_id=f"{socket.gethostname()}:{worker_pid}",
    )
    workplace.attempts.mkdir(exist_ok=True)
    workplace.measurement_lock.touch(exist_ok=True)
    return workplace


def cores() -> int:
    """Cores this process may use; a container often grants fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_limit(settings: Settings) -> int:
    """What one job may have resident: the setting, but never so much that the machine would start to kill."""
    return min(settings.job_memory_bytes, int(0.9 * psutil.virtual_memory().total))
