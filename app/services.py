"""The composed parts that every door works with."""

from dataclasses import dataclass
from pathlib import Path

from app.database import Database
from app.files import Files
from app.http.watch import Watcher
from app.jobs import Jobs
from app.queue import Hints
from app.settings import Settings
from app.storage import Storage, open_storage


@dataclass(frozen=True)
class Services:
    settings: Settings
    database: Database
    storage: Storage
    staging: Path
    hints: Hints
    jobs: Jobs
    files: Files
    watcher: Watcher


def compose(settings: Settings) -> Services:
    """Choose the concrete parts; nothing is started yet."""
    database = Database(settings.resolved_database_url)
    storage = open_storage(settings.storage_url, settings.home)
    staging = settings.home / "staging"
    staging.mkdir(parents=True, exist_ok=True)
    hints = Hints(settings, database)
    jobs = Jobs(settings, database, storage, hints)
    files = Files(database, storage, hints)
    return Services(settings, database, storage, staging, hints, jobs, files, Watcher(jobs.versions))
