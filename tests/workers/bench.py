"""Puts files and jobs into a workplace, claims and runs them, and reads what became of them."""

import hashlib
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import delete, insert, select, update

from app.blobs import keep
from app.database import Artifact, File, FileState, Job, JobEvent, JobState, Worker
from app.events import clock, transition
from app.jobs import OPTIMIZE, enqueue, new_id
from tests.faults.child import Act
from tests.faults.standin import MODEL, request
from workers.claim import Claim, claim
from workers.supervise import run
from workers.workplace import Workplace


def register(place: Workplace, worker_id: str | None = None) -> None:
    with place.database.write() as session:
        now = clock(session)
        values = {"queue": "cpu", "host": "here", "sandbox": "none", "started_at": now, "last_seen_at": now}
        session.execute(insert(Worker).values(id=worker_id or place.worker_id, **values))


def add_file(
    place: Workplace, content: bytes = MODEL, *, state: FileState = FileState.READY, kind: str = "model"
) -> str:
    path = place.settings.home / "upload"
    path.write_bytes(content)
    sha256 = hashlib.sha256(content).hexdigest()
    place.storage.put(path, sha256)
    file_id = new_id("mdl")
    with place.database.write() as session:
        keep(session, place.storage, path, sha256)
        session.add(File(id=file_id, kind=kind, name="m", sha256=sha256, state=state, created_at=clock(session)))
    path.unlink()
    return file_id


def add_job(place: Workplace, act: Act = Act.SUCCEED, *, file_id: str | None = None, **options: Any) -> str:
    """A queued optimization that makes the stand-in act."""
    file_id = file_id or add_file(place)
    return _add(place, OPTIMIZE, file_id, request(file_id, act, **options))


def add_inspection(place: Workplace, kind: str = "model", content: bytes = MODEL) -> str:
    """The queued inspection of a new upload; the job's id."""
    file_id = add_file(place, content, state=FileState.INSPECTING, kind=kind)
    return _add(place, f"inspect_{kind}", file_id, {}, priority=10)


def _add(place: Workplace, work: str, file_id: str, body: dict[str, Any], priority: int = 0) -> str:
    with place.database.write() as session:
        job = Job(
            id=new_id("job"),
            work=work,
            queue="cpu",
            priority=priority,
            state=JobState.QUEUED,
            request=body,
            file_id=file_id,
            created_at=clock(session),
        )
        enqueue(session, job)
    return job.id


def take(place: Workplace, worker_id: str | None = None, slots: int = 1) -> Claim | None:
    return claim(
        place.database,
        worker_id or place.worker_id,
        "cpu",
        slots=slots,
        lease_seconds=place.settings.lease_seconds,
    )


def taken(place: Workplace) -> Claim:
    found = take(place)
    assert found is not None
    return found


def work(place: Workplace, stopping: bool = False) -> None:
    """Run jobs until none waits, as a woken slot does."""
    while found := take(place):
        run(place, found, lambda: stopping)


def job(place: Workplace, job_id: str) -> Job:
    with place.database.read() as session:
        return session.get_one(Job, job_id)


def file_of(place: Workplace, job_id: str) -> File:
    with place.database.read() as session:
        return session.get_one(File, session.get_one(Job, job_id).file_id)


def events(place: Workplace, job_id: str, kind: str | None = None) -> list[JobEvent]:
    rows = select(JobEvent).where(JobEvent.job_id == job_id).order_by(JobEvent.seq)
    with place.database.read() as session:
        return [event for event in session.scalars(rows) if kind in {None, event.type}]


def story(place: Workplace, job_id: str) -> list[str]:
    """The states a job went through."""
    return [event.data["state"] for event in events(place, job_id, "state")]


def artifacts(place: Workplace, job_id: str) -> dict[str, str]:
    with place.database.read() as session:
        rows = session.scalars(select(Artifact).where(Artifact.job_id == job_id))
        return {row.name: row.sha256 for row in rows}


def expire_lease(place: Workplace, job_id: str) -> None:
    """As if its worker had not been heard of for long."""
    with place.database.write() as session:
        session.execute(update(Job).where(Job.id == job_id).values(lease_expires_at=clock(session) - 1))


def folders(place: Workplace) -> list[Path]:
    return list(place.attempts.iterdir())


def meanwhile(act: Callable[[], object], until: Callable[[], bool]) -> threading.Thread:
    """Do something on the side as soon as a condition holds."""

    def wait_and_act() -> None:
        while not until():
            time.sleep(0.02)
        act()

    thread = threading.Thread(target=wait_and_act, daemon=True)
    thread.start()
    return thread


def ask_to_cancel(workplace: Workplace, job_id: str) -> None:
    with workplace.database.write() as session:
        assert transition(session, job_id, JobState.CANCELING)


def strike_out(workplace: Workplace) -> None:
    with workplace.database.write() as session:
        session.execute(delete(Worker))
