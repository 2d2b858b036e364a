"""Forgets what has had its time: ended jobs, files that no job names, old keys, silent workers, unreferenced blobs."""

import contextlib

from sqlalchemy import String, cast, delete, exists, or_, select

from app.blobs import collect_all
from app.database import FINAL, File, FileState, IdempotencyKey, Job, Worker
from app.errors import Problem
from app.events import clock
from app.jobs import KEY_LIFE_SECONDS, OPTIMIZE
from app.services import Services

DAY_SECONDS = 86_400.0
BATCH = 100
UNREFERENCED_SECONDS = 3600.0  # a blob just stored may still wait for the row that names it


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
