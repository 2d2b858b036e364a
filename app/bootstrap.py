"""Bring the database to the schema of this code: `python -m app.bootstrap`, or at start in the embedded service."""

import socket
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import select, text

from app.database import Database, Worker
from app.errors import ConfigurationError
from app.presence import is_alive
from app.settings import Settings

MIGRATIONS = Path(__file__).parent / "migrations"
UPGRADE_LOCK = 0x5354524F50  # "STROP"; one upgrade at a time


def upgrade(database: Database) -> None:
    """Run all missing migrations in one transaction; two processes at once do it one after the other."""
    with database.engine.connect().execution_options(strop_immediate=True) as connection, connection.begin():
        if not database.is_sqlite:
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": UPGRADE_LOCK})
        configuration = _configuration()
        configuration.attributes["connection"] = connection
        command.upgrade(configuration, "head")


def check(database: Database) -> None:
    """Refuse to work on a schema of another version."""
    with database.engine.connect() as connection:
        found = MigrationContext.configure(connection).get_current_revision()
    wanted = ScriptDirectory.from_config(_configuration()).get_current_head()
    if found != wanted:
        database.engine.dispose()
        raise ConfigurationError(
            f"The database's schema is {found or 'empty'}, this version needs {wanted}: run `python -m app.bootstrap`."
        )


def prepare(database: Database, settings: Settings) -> None:
    """Upgrade the embedded database by itself; on any other, only check."""
    if settings.database_url and not settings.auto_migrate:
        check(database)
    else:
        upgrade(database)
    if database.is_sqlite:
        refuse_second_host(database, settings)


def refuse_second_host(database: Database, settings: Settings) -> None:
    """SQLite's locks do not hold between machines: refuse a file that workers of another host are using now."""
    here = socket.gethostname()
    with database.read() as session:
        elsewhere = session.scalar(select(Worker.host).where(is_alive(session, settings), Worker.host != here).limit(1))
    if elsewhere is not None:
        database.engine.dispose()
        raise ConfigurationError(
            f"This SQLite database is in use on {elsewhere}: set STROP_DATABASE_URL to a Postgres to use several hosts."
        )


def _configuration() -> Config:
    configuration = Config()
    configuration.set_main_option("script_location", str(MIGRATIONS))
    return configuration


if __name__ == "__main__":
    upgrade(Database(Settings().resolved_database_url))
