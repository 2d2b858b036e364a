"""A workplace of a worker with real parts: SQLite or Postgres, a local storage, and a stand-in for the engine."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.database import Base
from app.settings import Settings
from tests.faults.standin import command
from tests.postgres import database_url, postgres, postgres_url  # noqa: F401 - fixtures
from tests.workers.bench import register
from workers.workplace import Workplace, open_workplace


@pytest.fixture
def workplace(tmp_path: Path, database_url: str) -> Iterator[Workplace]:  # noqa: F811
    """A registered worker whose settings make everything quick."""
    settings = Settings(
        home=tmp_path / "home",
        database_url=database_url,
        lease_seconds=10,
        heartbeat_seconds=0.3,
        cancel_grace_seconds=0.5,
        min_free_bytes=0,
        engine_command=command(tmp_path),
    )
    place = open_workplace(settings, worker_pid=1)
    Base.metadata.create_all(place.database.engine)
    register(place)
    yield place
    place.database.engine.dispose()
