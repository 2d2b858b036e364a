"""Taking a job from the database, and giving it back: the queue is the table `jobs`.

A claim is one guarded change of the oldest eligible row. It writes a fresh lease token, and every later write of the
worker names that token: whoever lost the lease changes nothing.

A worker with several slots keeps one for inspections, so that an upload is looked at while an optimization takes hours.
"""

import uuid
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from app.database import Database, Job, JobEvent, JobState, Worker
from app.events import HOLDING_A_LEASE, clock, transition
from engine.protocol import Work


@dataclass(frozen=True)
class Claim:
    """One attempt at one job."""

    job_id: str
    token: str
    work: Work
    attempt: int
    max_attempts: int
    crashes: int
    request: dict[str, Any]
    file_id: str | None
    worked_seconds: float  #: by earlier attempts, which is what a budget counts


def claim(database: Database, worker_id: str, queue: str, *, slots: int, lease_seconds: float) -> Claim | None:
    """Take the next job of a queue, or None: nothing waits, no slot is free for it, or this worker is leaving."""
    with database.write() as session:
        if not _lock_worker(session, worker_id):
            return None
        job = session.scalars(
            select(Job)
            .where(*claimable(session, queue), *_room(session, worker_id, slots))
            .order_by(Job.priority.desc(), Job.created_at, Job.id)
            .limit(1)
            .with_for_update(skip_locked=True)
        ).one_or_none()
        return None if job is None else _take(session, job, worker_id, lease_seconds)


def claimable(session: Session, queue: str) -> list[ColumnElement[bool]]:
    return [Job.state == JobState.QUEUED, Job.queue == queue, Job.not_before <= clock(session)]


def release(
    database: Database, taken: Claim, *, reason: str, charged: bool, crashed: bool = False, delay_seconds: float = 0
) -> bool:
    """Put the job back into the queue; an attempt that is not charged does not count. False if it was not ours."""
    with database.write() as session:
        values: dict[str, Any] = {
            "not_before": clock(session) + delay_seconds,
            "crashes": Job.crashes + int(crashed),
            "attempt": Job.attempt - int(not charged),
            "progress": None,
        }
        story = {"reason": reason}
        return transition(session, taken.job_id, JobState.QUEUED, token=taken.token, values=values, data=story)


def _lock_worker(session: Session, worker_id: str) -> bool:
    """The worker's own row makes its slots claim one after another; a worker that drains has none."""
    return session.scalar(select(Worker.id).where(Worker.id == worker_id).with_for_update()) is not None


def _room(session: Session, worker_id: str, slots: int) -> list[ColumnElement[bool]]:
    if slots == 1:
        return []
    optimizing = select(func.count()).where(
        Job.lease_owner == worker_id, Job.work == Work.OPTIMIZE, Job.state.in_(HOLDING_A_LEASE)
    )
    return [] if session.scalars(optimizing).one() < slots - 1 else [Job.work != Work.OPTIMIZE]


def _take(session: Session, job: Job, worker_id: str, lease_seconds: float) -> Claim:
    now, token, attempt = clock(session), uuid.uuid4().hex, job.attempt + 1
    worked = _worked_seconds(session, job.id, lease_seconds)
    values = {
        "attempt": attempt,
        "lease_owner": worker_id,
        "lease_token": token,
        "lease_expires_at": now + lease_seconds,
        "heartbeat_at": now,
        "started_at": func.coalesce(Job.started_at, now),
        "progress": None,
    }
    if not transition(session, job.id, JobState.RUNNING, values=values, data={"attempt": attempt}):
        raise RuntimeError(f"the locked row of {job.id} changed")
    return Claim(
        job_id=job.id,
        token=token,
        work=Work(job.work),
        attempt=attempt,
        max_attempts=job.max_attempts,
        crashes=job.crashes,
        request=job.request,
        file_id=job.file_id,
        worked_seconds=worked,
    )


def _worked_seconds(session: Session, job_id: str, lease_seconds: float) -> float:
    """By the job's story. A silence longer than a lease was no work: the machine slept, or its worker was lost."""
    story = select(JobEvent.type, JobEvent.data, JobEvent.at).where(JobEvent.job_id == job_id).order_by(JobEvent.seq)
    worked, since, runs = 0.0, 0.0, False
    for kind, data, at in session.execute(story):
        worked += min(at - since, lease_seconds) if runs else 0.0
        since, runs = at, data["state"] in HOLDING_A_LEASE if kind == "state" else runs
    return worked
