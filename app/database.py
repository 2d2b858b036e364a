"""The tables, and the one way to a transaction. The database is the queue and the only truth.

Times are UTC seconds since 1970 as the database server's clock gives them (`now_expression`), so that leases of several
hosts compare. Each write transaction on SQLite begins with BEGIN IMMEDIATE; readers never wait thanks to WAL.
"""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Any, ClassVar

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    ColumnElement,
    Engine,
    Float,
    ForeignKey,
    Index,
    String,
    Text,
    cast,
    create_engine,
    event,
    extract,
    func,
    literal_column,
)
from sqlalchemy.engine import make_url
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship


class JobState(StrEnum):
    QUEUED = "queued"  #: waiting for a worker
    RUNNING = "running"  #: a worker holds its lease
    CANCELING = "canceling"  #: a worker was told to stop and has not yet
    SUCCEEDED = "succeeded"  #: final: its report and model are published
    FAILED = "failed"  #: final: `error` says why
    CANCELED = "canceled"  #: final: ended by the user


#: The only edges there are; every UPDATE of a state is guarded by the states it may leave.
TRANSITIONS: dict[JobState, frozenset[JobState]] = {
    JobState.QUEUED: frozenset({JobState.RUNNING, JobState.CANCELED}),
    JobState.RUNNING: frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELING, JobState.QUEUED}),
    JobState.CANCELING: frozenset({JobState.CANCELED}),
    JobState.SUCCEEDED: frozenset(),
    JobState.FAILED: frozenset(),
    JobState.CANCELED: frozenset(),
}
FINAL = frozenset(state for state, following in TRANSITIONS.items() if not following)


class FileState(StrEnum):
    INSPECTING = "inspecting"  #: stored; a child is looking at it
    READY = "ready"  #: jobs may use it
    REJECTED = "rejected"  #: `error` says why


class Base(DeclarativeBase):
    type_annotation_map: ClassVar = {dict[str, Any]: JSON, int: BigInteger}


class Blob(Base):
    """An immutable file in the storage, named by its SHA-256; a row exists only once the bytes are durable."""

    __tablename__ = "blobs"
    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    size_bytes: Mapped[int]
    created_at: Mapped[float] = mapped_column(Float)


class File(Base):
    """An uploaded model (`mdl_…`) or data set (`dat_…`)."""

    __tablename__ = "files"
    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    kind: Mapped[str] = mapped_column(String(16))  # model | dataset
    name: Mapped[str] = mapped_column(String(255))
    sha256: Mapped[str] = mapped_column(ForeignKey("blobs.sha256"))
    canonical_sha256: Mapped[str | None] = mapped_column(ForeignKey("blobs.sha256"))  # the file that jobs read
    state: Mapped[str] = mapped_column(String(16))
    summary: Mapped[dict[str, Any] | None]
    error: Mapped[dict[str, Any] | None]
    created_at: Mapped[float] = mapped_column(Float)
    blob: Mapped[Blob] = relationship(foreign_keys=[sha256], lazy="joined", innerjoin=True, viewonly=True)
    __table_args__ = (
        CheckConstraint("kind IN ('model', 'dataset')", name="kind"),
        CheckConstraint("state IN ('inspecting', 'ready', 'rejected')", name="state"),
        Index("files_page", "kind", "created_at", "id"),
    )


class Job(Base):
    """One piece of work for a child: an optimization, or the inspection of an uploaded file (`file_id`)."""

    __tablename__ = "jobs"
    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    work: Mapped[str] = mapped_column(String(16))  # optimize | inspect_model | inspect_dataset
    queue: Mapped[str] = mapped_column(String(16))  # cpu | gpu
    priority: Mapped[int] = mapped_column(default=0)  # inspections first
    state: Mapped[str] = mapped_column(String(16))
    request: Mapped[dict[str, Any]]  # JobRequest as given; {} for an inspection
    name: Mapped[str | None] = mapped_column(String(255))
    file_id: Mapped[str | None] = mapped_column(ForeignKey("files.id"))  # the inspected file, or the job's model
    attempt: Mapped[int] = mapped_column(default=0)
    max_attempts: Mapped[int] = mapped_column(default=3)
    crashes: Mapped[int] = mapped_column(default=0)  # attempts whose child died by a signal or out of memory
    not_before: Mapped[float] = mapped_column(Float, default=0.0)
    lease_owner: Mapped[str | None] = mapped_column(String(128))
    lease_token: Mapped[str | None] = mapped_column(String(32))
    lease_expires_at: Mapped[float | None] = mapped_column(Float)
    heartbeat_at: Mapped[float | None] = mapped_column(Float)
    progress: Mapped[dict[str, Any] | None]  # {stage, detail, fraction, eta_seconds}
    error: Mapped[dict[str, Any] | None]  # a problem object
    verdict: Mapped[dict[str, Any] | None]  # engine.report.Verdict of what was published
    sandbox: Mapped[str | None] = mapped_column(String(32))
    version: Mapped[int] = mapped_column(default=1)  # +1 at each change a reader can see; the ETag
    created_at: Mapped[float] = mapped_column(Float)
    started_at: Mapped[float | None] = mapped_column(Float)
    finished_at: Mapped[float | None] = mapped_column(Float)
    __table_args__ = (
        CheckConstraint(
            "state IN ('queued', 'running', 'canceling', 'succeeded', 'failed', 'canceled')",
            name="state",
        ),
        CheckConstraint(
            "(state IN ('running', 'canceling')) = (lease_token IS NOT NULL)",
            name="a_lease_iff_running",
        ),
        Index("jobs_claim", "queue", "state", "priority", "created_at"),
        Index("jobs_page", "created_at", "id"),
    )


class JobEvent(Base):
    """The append-only story of a job; `seq` counts from 1 without gaps and is the id of a server-sent event."""

    __tablename__ = "job_events"
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    seq: Mapped[int] = mapped_column(primary_key=True)
    type: Mapped[str] = mapped_column(String(16))  # state | stage | progress | trial
    data: Mapped[dict[str, Any]]
    at: Mapped[float] = mapped_column(Float)


class Artifact(Base):
    """A published file of a job: model.onnx, report.json, report.html, report.txt, candidates/tNN.onnx.

    Of a model that one file cannot hold also its weights, model.onnx.DIGEST.data or candidates/tNN.onnx.DIGEST.data.
    """

    __tablename__ = "artifacts"
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(String(255), primary_key=True)
    sha256: Mapped[str] = mapped_column(ForeignKey("blobs.sha256"))
    attempt: Mapped[int]
    blob: Mapped[Blob] = relationship(lazy="joined", innerjoin=True, viewonly=True)


class Outbox(Base):
    """Hints not yet sent: written with the job in one transaction, deleted once the broker has them."""

    __tablename__ = "outbox"
    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    queue: Mapped[str] = mapped_column(String(16))
    created_at: Mapped[float] = mapped_column(Float)
    next_try_at: Mapped[float] = mapped_column(Float)
    tries: Mapped[int] = mapped_column(default=0)


class IdempotencyKey(Base):
    """Remembers for a day which job a key made, in the same transaction as the job."""

    __tablename__ = "idempotency_keys"
    route: Mapped[str] = mapped_column(String(64), primary_key=True)
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    body_sha256: Mapped[str] = mapped_column(String(64))
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    created_at: Mapped[float] = mapped_column(Float)


class Worker(Base):
    """A worker process that was seen alive; jobs for a queue nobody serves are refused."""

    __tablename__ = "workers"
    id: Mapped[str] = mapped_column(String(128), primary_key=True)
    queue: Mapped[str] = mapped_column(String(16))
    host: Mapped[str] = mapped_column(Text)
    sandbox: Mapped[str] = mapped_column(String(32))
    started_at: Mapped[float] = mapped_column(Float)
    last_seen_at: Mapped[float] = mapped_column(Float)


class Database:
    """An engine and its two kinds of transaction."""

    def __init__(self, url: str) -> None:
        self.engine = create_database_engine(url)
        self.is_sqlite = self.engine.dialect.name == "sqlite"

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session that never writes."""
        with Session(self.engine) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A transaction that commits at the end of the block, or leaves no trace."""
        with Session(self.engine, expire_on_commit=False) as session:
            session.connection(execution_options={"strop_immediate": True})
            yield session
            session.commit()


def now_expression(*, is_sqlite: bool) -> ColumnElement[float]:
    if is_sqlite:
        return literal_column("((julianday('now') - 2440587.5) * 86400.0)", Float)
    return cast(extract("epoch", func.clock_timestamp()), Float)


#: A Postgres that swallows packets fails a call instead of blocking it for good.
POSTGRES_PATIENCE = {"connect_timeout": 5, "tcp_user_timeout": 20_000, "options": "-c statement_timeout=30s"}


SQLITE_PATIENCE_S = 20  # how long a writer waits for the one before it


def create_database_engine(url: str) -> Engine:
    patience = POSTGRES_PATIENCE if make_url(url).get_backend_name() == "postgresql" else {}
    engine = create_engine(url, pool_pre_ping=True, connect_args=patience)
    if engine.dialect.name == "sqlite":
        _prepare_sqlite(engine)
    return engine


def _prepare_sqlite(engine: Engine) -> None:
    """WAL, foreign keys, a long busy timeout, and transactions that we begin ourselves."""

    @event.listens_for(engine, "connect")
    def _connect(connection: Any, _record: Any) -> None:
        connection.isolation_level = None
        for pragma in (f"busy_timeout={SQLITE_PATIENCE_S * 1000}", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")
        _write_ahead(connection)

    @event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:
        immediate = connection.get_execution_options().get("strop_immediate")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")


def _write_ahead(connection: Any) -> None:
    """Switch to WAL. Two that switch a new file at once would wait for each other, so SQLite refuses one at once
    instead of honouring its busy timeout: that one asks again.
    """
    deadline = time.monotonic() + SQLITE_PATIENCE_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return
