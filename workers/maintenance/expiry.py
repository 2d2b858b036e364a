"""Forgets what has had its time: ended jobs, files that no job names, old keys, silent workers, unreferenced blobs.

Bytes without a row are looked for in one 256th of the storage at a time, by the first digits of their names, so that
the whole is seen once a day and no other duty waits for it.
"""

import contextlib
import time

from sqlalchemy import String, cast, delete, exists, or_, select

from app.blobs import collect_all, collect_strays
from app.database import FINAL, File, FileState, IdempotencyKey, Job, Worker
from app.errors import Problem
from app.events import clock
from app.jobs import KEY_LIFE_SECONDS, OPTIMIZE
from app.services import Services

DAY_SECONDS = 86_400.0
BATCH = 100
UNREFERENCED_SECONDS = 3600.0  # a blob just stored may still wait for the row that names it
STRAY_SECONDS = DAY_SECONDS
SHARDS = 256


def expire(services: Services) -> None:
    """Everything goes through the same doors as a user's DELETE, so what is in use stays."""
    retention = services.settings.retention_days * DAY_SECONDS
    for job_id in _old_jobs(services, retention):
        with contextlib.suppress(Problem):
            services.jobs.delete(job_id)
    for file_id, kind in _old_files(services, retention):
        with contextlib.suppress(Problem):
            services.files.delete(file_id, kind)
    _forget_rows(services)
    collect_all(services.database, services.storage, older_than_seconds=UNREFERENCED_SECONDS)


def expire_strays(services: Services) -> None:
    """Remove old bytes without a row from that part of the storage whose turn it is."""
    collect_strays(services.database, services.storage, turn(time.time()), older_than_seconds=STRAY_SECONDS)


def turn(at: float) -> str:
    """The first two digits of the names that are looked at then."""
    return f"{int(at % DAY_SECONDS / DAY_SECONDS * SHARDS):02x}"


def _old_jobs(services: Services, retention: float) -> list[str]:
    with services.database.read() as session:
        old = (Job.state.in_(FINAL), Job.work == OPTIMIZE, Job.finished_at < clock(session) - retention)
        return list(session.scalars(select(Job.id).where(*old).limit(BATCH)))


def _old_files(services: Services, retention: float) -> list[tuple[str, str]]:
    """Files uploaded that long ago which no job, ended or not, still names."""
    named = or_(Job.file_id == File.id, cast(Job.request, String).contains(File.id))
    with services.database.read() as session:
        old = (File.created_at < clock(session) - retention, File.state != FileState.INSPECTING)
        unnamed = ~exists().where(named, Job.work == OPTIMIZE)
        rows = session.execute(select(File.id, File.kind).where(*old, unnamed).limit(BATCH))
        return [(row.id, row.kind) for row in rows]


def _forget_rows(services: Services) -> None:
    with services.database.write() as session:
        now = clock(session)
        session.execute(delete(IdempotencyKey).where(IdempotencyKey.created_at < now - KEY_LIFE_SECONDS))
        session.execute(delete(Worker).where(Worker.last_seen_at < now - DAY_SECONDS))
