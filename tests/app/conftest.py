"""A running service for each test, on SQLite, or on SQLite and Postgres one after the other."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.app.service import Service, running, settings_for
from tests.postgres import database_url, postgres, postgres_url  # noqa: F401 - fixtures


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """The embedded service: SQLite in the home folder."""
    with running(settings_for(tmp_path / "home"), tmp_path / "worker") as found:
        yield found


@pytest.fixture
def any_service(tmp_path: Path, database_url: str) -> Iterator[Service]:  # noqa: F811
    """The same test on SQLite and on Postgres."""
    with running(settings_for(tmp_path / "home", database_url), tmp_path / "worker") as found:
        yield found
