"""A job's story: guarded changes of state, and the events that readers see.

Both run inside the caller's write transaction. Every event first bumps the job's `version`, which locks its row, so
that numbers are gapless whoever writes: `seq` counts 1, 2, 3, … per job.
"""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import ColumnElement, func, insert, select, update
from sqlalchemy.orm import Session

from app.database import FINAL, TRANSITIONS, Job, JobEvent, JobState, now_expression

HOLDING_A_LEASE = frozenset({JobState.RUNNING, JobState.CANCELING})
NO_LEASE: Mapping[str, Any] = {
    "lease_owner": None,
    "lease_token": None,
    "lease_expires_at": None,
    "heartbeat_at": None,
}


def clock(session: Session) -> ColumnElement[float]:
    """The database's own clock, as an SQL expression for this session's dialect."""
    return now_expression(is_sqlite=session.get_bind().dialect.name == "sqlite")


def append_event(session: Session, job_id: str, kind: str, data: Mapping[str, Any]) -> None:
    """Tell the readers of a job what happened: `state`, `stage`, `progress` or `trial`."""
    session.execute(update(Job).where(Job.id == job_id).values(version=Job.version + 1))
    last = select(func.coalesce(func.max(JobEvent.seq), 0)).where(JobEvent.job_id == job_id).scalar_subquery()
    session.execute(
        insert(JobEvent).values(job_id=job_id, seq=last + 1, type=kind, data=dict(data), at=clock(session)),
    )


def transition(
    session: Session,
    job_id: str,
    to: JobState,
    *,
    token: str | None = None,
    only_from: JobState | None = None,
    values: Mapping[str, Any] | None = None,
    data: Mapping[str, Any] | None = None,
) -> bool:
    """Move a job along one edge of `TRANSITIONS`; False, and nothing written, where that edge does not exist.

    A worker passes its lease token: without the lease it moves nothing. `only_from` picks one edge. `values` are
    further columns to set, `data` is added to the state event. Lease columns are cleared on the way out of running,
    `finished_at` is set at the end.
    """
    sources = [
        state.value for state, following in TRANSITIONS.items() if to in following and only_from in {None, state}
    ]
    guard = [Job.id == job_id, Job.state.in_(sources)]
    if token is not None:
        guard.append(Job.lease_token == token)
    columns: dict[str, Any] = {"state": to.value}
    if to not in HOLDING_A_LEASE:
        columns |= NO_LEASE
    if to in FINAL:
        columns["finished_at"] = clock(session)
    moved = update(Job).where(*guard).values({**columns, **(values or {})}).returning(Job.id)
    if session.scalar(moved) is None:
        return False
    append_event(session, job_id, "state", {"state": to.value, **(data or {})})
    return True
