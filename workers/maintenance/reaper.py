"""Takes jobs from workers that were not heard of within their lease."""

import logging

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.database import Job, JobState
from app.events import HOLDING_A_LEASE, clock, transition
from engine.protocol import Work
from workers import problems
from workers.settle import Ending, end_inspection
from workers.workplace import Workplace

BATCH = 100

log = logging.getLogger(__name__)


def reap(workplace: Workplace) -> int:
    """Give the jobs of lost workers to others, or end those that were tried often enough. How many there were."""
    with workplace.database.write() as session:
        lost = (
            select(Job)
            .where(Job.state.in_(HOLDING_A_LEASE), Job.lease_expires_at < clock(session))
            .limit(BATCH)
            .with_for_update(skip_locked=True)
        )
        jobs = session.scalars(lost).all()
        for job in jobs:
            session.expunge(job)  # a plain record from here on
            _reap_one(session, job)
        return len(jobs)


def _reap_one(session: Session, job: Job) -> None:
    ending = _ending(job)
    log.warning("job %s: its worker %s was lost; now %s", job.id, job.lease_owner, ending.state)
    values = {"error": ending.problem, "progress": None}
    data = {"reason": "worker_lost"}
    if not transition(session, job.id, ending.state, token=job.lease_token, values=values, data=data):
        raise RuntimeError(f"the locked row of {job.id} changed")
    if job.work != Work.OPTIMIZE and ending.state is not JobState.QUEUED:
        end_inspection(session, job.file_id, ending)


def _ending(job: Job) -> Ending:
    if job.state == JobState.CANCELING:
        return Ending(JobState.CANCELED)
    if job.attempt >= job.max_attempts:
        return Ending(JobState.FAILED, problems.worker_lost(job.attempt))
    return Ending(JobState.QUEUED)
