"""The schema: the migrations give exactly the tables of the code, on both databases, and old ones are refused."""

import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import inspect, text, update

from app.bootstrap import check, upgrade
from app.database import Base, Database, Worker
from app.errors import ConfigurationError
from app.events import clock
from app.main import create_app
from app.settings import Settings


@pytest.fixture
def database(database_url: str) -> Database:
    database = Database(database_url)
    yield database
    database.engine.dispose()


def test_migrations_give_the_tables_of_the_code(database: Database) -> None:
    upgrade(database)
    with database.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
        found = inspect(connection)
        for table in Base.metadata.sorted_tables:
            indexes = {index["name"] for index in found.get_indexes(table.name)}
            assert {index.name for index in table.indexes} <= indexes
            checks = {constraint["name"] for constraint in found.get_check_constraints(table.name)}
            wanted = {item.name for item in table.constraints if type(item).__name__ == "CheckConstraint"}
            assert wanted == checks
    upgrade(database)
    check(database)


def test_two_processes_upgrade_one_after_the_other(database_url: str) -> None:
    databases = [Database(database_url) for _ in range(3)]
    failures: list[BaseException] = []

    def run(database: Database) -> None:
        try:
            upgrade(database)
        except BaseException as error:  # noqa: BLE001
            failures.append(error)

    threads = [threading.Thread(target=run, args=(database,)) for database in databases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    check(databases[0])
    for database in databases:
        database.engine.dispose()


def test_a_new_sqlite_file_may_be_opened_by_many_at_once(tmp_path: Path) -> None:
    def connect(path: Path) -> str:
        database = Database(f"sqlite:///{path}")
        with database.engine.connect() as connection:
            mode = connection.scalar(text("PRAGMA journal_mode"))
        database.engine.dispose()
        return mode

    paths = [tmp_path / f"{number}.sqlite3" for number in range(50) for _ in range(4)]
    with ThreadPoolExecutor(4) as threads:
        assert set(threads.map(connect, paths)) == {"wal"}


def test_a_service_refuses_a_schema_that_is_not_its_own(database: Database, database_url: str, tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, database_url=database_url)
    with pytest.raises(ConfigurationError, match=r"python -m app\.bootstrap"):
        create_app(settings)
    upgrade(database)
    create_app(settings).state.services.database.engine.dispose()
    with database.engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = 'future'"))
    with pytest.raises(ConfigurationError, match="future"):
        create_app(settings)


def test_the_embedded_database_upgrades_itself(tmp_path: Path) -> None:
    app = create_app(Settings(home=tmp_path))
    check(app.state.services.database)
    app.state.services.database.engine.dispose()


def test_the_command_upgrades_what_the_environment_names(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'x.sqlite3'}"
    subprocess.run([sys.executable, "-m", "app.bootstrap"], check=True, env={"STROP_DATABASE_URL": url, "PATH": ""})
    database = Database(url)
    check(database)
    database.engine.dispose()


def test_a_state_the_table_does_not_know_cannot_be_written(database: Database) -> None:
    from sqlalchemy.exc import IntegrityError

    upgrade(database)
    with pytest.raises(IntegrityError), database.write() as session:
        session.execute(text(
            "INSERT INTO jobs (id, work, queue, priority, state, request, attempt, max_attempts, crashes, not_before,"
            " version, created_at) VALUES ('job_1', 'optimize', 'cpu', 0, 'tired', '{}', 0, 3, 0, 0, 1, 0)"
        ))  # fmt: skip


def test_a_second_host_may_not_share_an_sqlite_file(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    database = create_app(settings).state.services.database
    with database.write() as session:
        now = clock(session)
        session.add(Worker(id="w", queue="cpu", host="other", sandbox="none", started_at=now, last_seen_at=now))
    with pytest.raises(ConfigurationError, match="in use on other"):
        create_app(settings)
    with database.write() as session:
        session.execute(update(Worker).values(host=socket.gethostname()))
    create_app(settings).state.services.database.engine.dispose()
    database.engine.dispose()
