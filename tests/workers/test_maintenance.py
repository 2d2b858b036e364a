"""What died is noticed and mended, and nothing that lives is touched."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import func, select, update

from app.database import Artifact, Blob, File, IdempotencyKey, Job, JobState, Outbox
from app.events import clock, transition
from app.queue import producer
from app.services import compose
from tests.workers.bench import (
    add_file,
    add_inspection,
    add_job,
    artifacts,
    expire_lease,
    file_of,
    folders,
    job,
    story,
    taken,
    work,
)
from workers.child import MARK
from workers.maintenance.__main__ import Duty, duties
from workers.maintenance.expiry import expire, turn
from workers.maintenance.hints import relay
from workers.maintenance.reaper import reap
from workers.maintenance.sweep import sweep_attempts
from workers.settle import Ending, _end
from workers.workplace import Workplace


def test_a_job_whose_worker_is_lost_waits_again_and_its_attempt_counts(workplace: Workplace) -> None:
    job_id = add_job(workplace)
    taken(workplace)
    expire_lease(workplace, job_id)
    assert reap(workplace) == 1
    row = job(workplace, job_id)
    assert (row.state, row.attempt, row.lease_token) == ("queued", 1, None)


def test_a_lease_that_lives_is_not_reaped(workplace: Workplace) -> None:
    add_job(workplace)
    taken(workplace)
    assert reap(workplace) == 0


def test_a_job_that_lost_its_worker_three_times_fails(workplace: Workplace) -> None:
    job_id = add_job(workplace)
    for _ in range(3):
        taken(workplace)
        expire_lease(workplace, job_id)
        reap(workplace)
    row = job(workplace, job_id)
    assert (row.state, row.error["code"], row.error["fault"]) == ("failed", "worker_lost", "service")
    assert row.finished_at is not None


def test_a_job_that_was_being_canceled_when_its_worker_died_is_canceled(workplace: Workplace) -> None:
    job_id = add_job(workplace)
    taken(workplace)
    with workplace.database.write() as session:
        transition(session, job_id, JobState.CANCELING)
    expire_lease(workplace, job_id)
    reap(workplace)
    assert story(workplace, job_id) == ["queued", "running", "canceling", "canceled"]


def test_an_upload_whose_inspection_lost_its_worker_three_times_is_rejected(workplace: Workplace) -> None:
    job_id = add_inspection(workplace)
    for _ in range(3):
        taken(workplace)
        expire_lease(workplace, job_id)
        reap(workplace)
    file = file_of(workplace, job_id)
    assert (file.state, file.error["code"]) == ("rejected", "worker_lost")


def test_a_worker_that_was_reaped_publishes_nothing(workplace: Workplace) -> None:
    job_id = add_job(workplace)
    stale = taken(workplace)
    expire_lease(workplace, job_id)
    reap(workplace)
    _end(workplace, stale, Ending(JobState.SUCCEEDED))
    assert job(workplace, job_id).state == "queued"


def test_a_hint_that_the_broker_did_not_take_stays_in_the_outbox(workplace: Workplace) -> None:
    add_job(workplace)
    due(workplace)
    away = producer(workplace.settings.model_copy(update={"broker_url": "redis://127.0.0.1:1/0"}))
    Duty(lambda: relay(workplace, away), every_seconds=0).do_if_due()
    assert hints(workplace) == 1
    Duty(lambda: relay(workplace, away), every_seconds=0).do_if_due()  # not tried again at once


def test_a_hint_that_was_sent_leaves_the_outbox(workplace: Workplace) -> None:
    add_job(workplace)
    due(workplace)
    relay(workplace, producer(workplace.settings.model_copy(update={"broker_url": "memory://"})))
    assert hints(workplace) == 0


@pytest.fixture
def orphan(workplace: Workplace) -> Iterator[subprocess.Popen[bytes]]:
    """A process of an attempt that nobody supervises."""
    home = workplace.attempts / ("0" * 32) / "work"
    process = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(60)"], env={MARK: "0" * 32, "HOME": str(home)}
    )
    yield process
    process.kill()
    process.wait()


def test_processes_that_nobody_supervises_are_ended(workplace: Workplace, orphan: subprocess.Popen[bytes]) -> None:
    sweep_attempts(workplace)
    assert orphan.wait(5) == -9


def test_processes_under_a_live_lease_are_left_alone(workplace: Workplace, orphan: subprocess.Popen[bytes]) -> None:
    job_id = add_job(workplace)
    taken(workplace)
    with workplace.database.write() as session:
        session.execute(update(Job).where(Job.id == job_id).values(lease_token="0" * 32))
    sweep_attempts(workplace)
    assert orphan.poll() is None


def test_folders_of_dead_attempts_are_removed_and_others_kept(workplace: Workplace) -> None:
    add_job(workplace)
    alive = workplace.attempts / taken(workplace).token
    for folder in (alive, workplace.attempts / ("0" * 32)):
        (folder / "work").mkdir(parents=True)
        age(folder)
    sweep_attempts(workplace)
    assert folders(workplace) == [alive]


def test_old_jobs_their_files_and_their_bytes_are_forgotten(workplace: Workplace) -> None:
    job_id = add_job(workplace)
    work(workplace)
    assert artifacts(workplace, job_id)
    forget(workplace, retention_days=0)
    assert count(workplace, Job) == count(workplace, File) == count(workplace, Artifact) == 0
    assert count(workplace, Blob) == 0


def test_what_a_waiting_job_needs_is_kept_however_old(workplace: Workplace) -> None:
    file_id = add_file(workplace)
    add_job(workplace, file_id=file_id)
    forget(workplace, retention_days=0)
    assert count(workplace, Job) == count(workplace, File) == 1


def test_old_idempotency_keys_are_forgotten(workplace: Workplace) -> None:
    job_id = add_job(workplace)
    with workplace.database.write() as session:
        for name, age_seconds in (("old", 2 * 86_400), ("new", 0)):
            at = session.scalar(select(clock(session))) - age_seconds
            session.add(IdempotencyKey(route="r", key=name, body_sha256="0", job_id=job_id, created_at=at))
    forget(workplace)
    with workplace.database.read() as session:
        assert list(session.scalars(select(IdempotencyKey.key))) == ["new"]


def forget(workplace: Workplace, **settings: float) -> None:
    services = compose(workplace.settings.model_copy(update=settings))
    expire(services)
    services.database.engine.dispose()


def due(workplace: Workplace) -> None:
    with workplace.database.write() as session:
        session.execute(update(Outbox).values(next_try_at=0))


def hints(workplace: Workplace) -> int:
    return count(workplace, Outbox)


def count(workplace: Workplace, table: type) -> int:
    with workplace.database.read() as session:
        return session.scalars(select(func.count()).select_from(table)).one()


def age(folder: Path) -> None:
    os.utime(folder, (0, 0))


def test_what_a_killed_api_left_of_an_upload_is_swept_while_the_service_runs(workplace: Workplace) -> None:
    services = compose(workplace.settings)
    left = workplace.settings.home / "staging" / "0123"
    left.write_bytes(b"half a model")
    os.utime(left, (0, 0))
    for duty in duties(workplace, services):
        duty.do_if_due()
    services.database.engine.dispose()
    assert not left.exists()


def test_bytes_that_a_killed_api_left_without_a_row_are_swept_while_the_service_runs(workplace: Workplace) -> None:
    add_file(workplace)
    with workplace.database.write() as session:
        session.execute(update(Blob).values(created_at=0))
    shard = turn(time.time())
    left = workplace.settings.home / "blobs" / shard / f"{shard}{'0' * 62}"
    left.parent.mkdir(exist_ok=True)
    left.write_bytes(b"a model that nobody was told of")
    os.utime(left, (1000, 1000))
    services = compose(workplace.settings)
    for duty in duties(workplace, services):
        duty.do_if_due()
    services.database.engine.dispose()
    assert not left.exists()


def test_every_part_of_the_storage_has_its_turn_within_a_day() -> None:
    turns = {turn(second) for second in range(0, 86_400, 300)}
    assert turns == {f"{number:02x}" for number in range(256)}
