"""Jobs: made, looked at, canceled, deleted. What a worker does to them stands in `workers`.

A job, its first event, its outbox row and its idempotency key are written by one transaction, so that a job answered
for is never lost, whatever dies afterwards.
"""

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, bindparam, delete, insert, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app import admission, blobs, pages
from app.database import FINAL, Artifact, Database, IdempotencyKey, Job, JobEvent, JobState, Outbox
from app.errors import JOB_ALREADY_ENDED, JOB_NOT_ENDED, KEY_REUSED, NOT_FOUND, Problem
from app.events import append_event, clock, transition
from app.failpoints import reach
from app.ids import is_id, new_id
from app.queue import Hints
from app.settings import Settings
from app.storage import Storage
from engine.recipe import Device, JobRequest

OPTIMIZE = "optimize"
ROUTE = "POST /v1/jobs"
KEY_LIFE_SECONDS = 24 * 3600
NO_SUCH_JOB = "There is no job with this id."
_VERSION = select(Job.version).where(Job.id == bindparam("job_id"), Job.work == OPTIMIZE)
QUEUE_OF_DEVICE = {Device.CPU: "cpu", Device.CUDA: "gpu"}


@dataclass(frozen=True)
class Created:
    """A job, and whether an earlier request with the same key had made it."""

    job_id: str
    replayed: bool


@dataclass(frozen=True)
class JobView:
    """A job with the names of its files and what its latest attempt has tried (None: not looked up)."""

    job: Job
    artifacts: frozenset[str]
    trials: list[dict[str, Any]] | None = None


def enqueue(session: Session, job: Job) -> str:
    """Add a queued job with its first event and its outbox row; the outbox row's id, to send as a hint after commit."""
    session.add(job)
    session.flush()
    append_event(session, job.id, "state", {"state": JobState.QUEUED.value})
    hint = new_id("out")
    now = clock(session)
    session.execute(insert(Outbox).values(id=hint, queue=job.queue, created_at=now, next_try_at=now + 2, tries=0))
    return hint


class Jobs:
    """What the doors may do with jobs."""

    def __init__(self, settings: Settings, database: Database, storage: Storage, hints: Hints) -> None:
        self._settings = settings
        self._database = database
        self._storage = storage
        self._hints = hints

    def create(self, request: JobRequest, key: str | None = None) -> Created:
        """Queue one optimization, or find the job that the same key has already made."""
        digest = hashlib.sha256(request.model_dump_json().encode()).hexdigest()
        if key and (earlier := self._replay(key, digest)):
            return earlier
        try:
            with self._database.write() as session:
                admission.check(session, request, self._settings)
                job = _new_job(request, clock(session))
                hint = enqueue(session, job)
                if key:
                    _remember(session, key, digest, job.id)
                reach("submit.before_commit")
        except IntegrityError:  # another replica was first with this key
            if key and (earlier := self._replay(key, digest)):
                return earlier
            raise
        reach("submit.after_commit")
        self._hints.send(job.queue, hint)
        reach("submit.before_response")
        return Created(job.id, replayed=False)

    def get(self, job_id: str) -> Job:
        with self._database.read() as session:
            return _find(session, job_id)

    def view(self, job_id: str) -> JobView:
        """A job, the trials of its latest attempt, and the names of its files."""
        with self._database.read() as session:
            job = _find(session, job_id)
            return JobView(job, _artifact_names(session, [job_id])[job_id], _trials(session, job_id))

    def page(self, *, limit: int, cursor: str | None, state: JobState | None) -> tuple[list[JobView], str | None]:
        """Jobs from the newest on, without their trials, and the cursor of the next page."""
        rows = select(Job).where(Job.work == OPTIMIZE)
        if state:
            rows = rows.where(Job.state == state.value)
        with self._database.read() as session:
            page = pages.fetch(session, rows, Job, limit=limit, cursor=cursor)
            names = _artifact_names(session, [job.id for job in page.items])
        return [JobView(job, names[job.id]) for job in page.items], page.next_cursor

    def events(self, job_id: str, after: int) -> list[JobEvent]:
        """What happened after the event of that number."""
        rows = select(JobEvent).where(JobEvent.job_id == job_id, JobEvent.seq > after).order_by(JobEvent.seq)
        with self._database.read() as session:
            return list(session.scalars(rows.limit(500)))

    def version(self, job_id: str) -> int:
        """The version of one job, by the cheapest query there is: this is what polls cost."""
        version = None
        if is_id(job_id):
            with self._database.engine.connect() as connection:
                version = connection.execute(_VERSION, {"job_id": job_id}).scalar_one_or_none()
        if version is None:
            raise Problem(NOT_FOUND, NO_SUCH_JOB)
        return version

    def versions(self, job_ids: Collection[str]) -> dict[str, int]:
        """The version of each of these jobs, in one query."""
        with self._database.read() as session:
            rows = session.execute(select(Job.id, Job.version).where(Job.id.in_(job_ids)))
            return {job_id: version for job_id, version in rows}  # noqa: C416 - rows are not pairs to the type checker

    def cancel(self, job_id: str) -> JobView:
        """End a waiting job at once, tell a running one to stop; asking twice is no error."""
        with self._database.write() as session:
            _find(session, job_id)
            if not transition(session, job_id, JobState.CANCELED, only_from=JobState.QUEUED):
                transition(session, job_id, JobState.CANCELING)
        view = self.view(job_id)
        if view.job.state in {JobState.SUCCEEDED, JobState.FAILED}:
            raise Problem(JOB_ALREADY_ENDED, f"{job_id} is {view.job.state}.")
        return view

    def delete(self, job_id: str) -> None:
        """Forget an ended job and its files."""
        with self._database.write() as session:
            job = _find(session, job_id)
            if JobState(job.state) not in FINAL:
                raise Problem(JOB_NOT_ENDED, f"{job.id} is {job.state}.")
            digests = list(session.scalars(select(Artifact.sha256).where(Artifact.job_id == job_id)))
            session.execute(delete(Job).where(Job.id == job_id))
        for sha256 in set(digests):
            blobs.collect(self._database, self._storage, sha256)

    def artifact(self, job_id: str, name: str) -> Artifact | None:
        with self._database.read() as session:
            return session.get(Artifact, (job_id, name))

    def artifacts(self, job_id: str) -> list[Artifact]:
        with self._database.read() as session:
            return list(session.scalars(select(Artifact).where(Artifact.job_id == job_id).order_by(Artifact.name)))

    def _replay(self, key: str, digest: str) -> Created | None:
        with self._database.read() as session:
            found = session.get(IdempotencyKey, (ROUTE, key))
            if found is None or session.scalar(select(found.created_at < clock(session) - KEY_LIFE_SECONDS)):
                return None
            if found.body_sha256 != digest:
                raise Problem(KEY_REUSED, "Another request was sent with this Idempotency-Key within a day.")
            return Created(found.job_id, replayed=True)


def _new_job(request: JobRequest, now: ColumnElement[float]) -> Job:
    return Job(
        id=new_id("job"),
        work=OPTIMIZE,
        queue=QUEUE_OF_DEVICE[request.target.device],
        state=JobState.QUEUED,
        request=request.model_dump(mode="json"),
        name=request.name,
        file_id=request.model,
        created_at=now,
    )


def _remember(session: Session, key: str, digest: str, job_id: str) -> None:
    """Claim the key; a second claim fails on its primary key."""
    now = clock(session)
    mine = (IdempotencyKey.route == ROUTE, IdempotencyKey.key == key)
    session.execute(delete(IdempotencyKey).where(*mine, IdempotencyKey.created_at < now - KEY_LIFE_SECONDS))
    values = {"route": ROUTE, "key": key, "body_sha256": digest, "job_id": job_id, "created_at": now}
    session.execute(insert(IdempotencyKey).values(values))


def _find(session: Session, job_id: str) -> Job:
    job = session.get(Job, job_id) if is_id(job_id) else None
    if job is None or job.work != OPTIMIZE:
        raise Problem(NOT_FOUND, NO_SUCH_JOB)
    return job


def _trials(session: Session, job_id: str) -> list[dict[str, Any]]:
    """What the latest attempt has tried, as it told of it last: a crashed one begins anew."""
    began = (
        select(JobEvent.seq)
        .where(JobEvent.job_id == job_id, JobEvent.type == "state")
        .where(JobEvent.data["state"].as_string() == JobState.RUNNING.value)
        .order_by(JobEvent.seq.desc())
        .limit(1)
        .scalar_subquery()
    )
    trials = select(JobEvent.data).where(JobEvent.job_id == job_id, JobEvent.type == "trial", JobEvent.seq > began)
    told = (data["trial"] for data in session.scalars(trials.order_by(JobEvent.seq)))
    return list({trial["id"]: trial for trial in told}.values())


def _artifact_names(session: Session, job_ids: Sequence[str]) -> dict[str, frozenset[str]]:
    rows = session.execute(select(Artifact.job_id, Artifact.name).where(Artifact.job_id.in_(job_ids)))
    names: dict[str, set[str]] = {job_id: set() for job_id in job_ids}
    for job_id, name in rows:
        names[job_id].add(name)
    return {job_id: frozenset(found) for job_id, found in names.items()}
