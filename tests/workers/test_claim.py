"""A job is taken by exactly one worker, in order, and given back without a trace of the attempt that did not count."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import delete, update

from app.database import Job, JobEvent, Worker
from app.events import clock
from tests.workers.bench import add_inspection, add_job, job, register, story, take, taken
from workers.claim import release
from workers.workplace import Workplace


def test_the_oldest_job_is_taken_and_its_lease_is_written_with_it(workplace: Workplace) -> None:
    first, _ = add_job(workplace), add_job(workplace)
    claim = taken(workplace)
    row = job(workplace, first)
    assert claim.job_id == first
    assert (row.state, row.attempt, row.lease_token, row.lease_owner) == (
        "running",
        1,
        claim.token,
        workplace.worker_id,
    )
    assert row.lease_expires_at == pytest.approx(row.heartbeat_at + workplace.settings.lease_seconds)
    assert claim.attempt == 1
    assert story(workplace, first) == ["queued", "running"]


def test_inspections_come_before_optimizations(workplace: Workplace) -> None:
    add_job(workplace)
    assert add_inspection(workplace) == taken(workplace).job_id


def test_a_worker_with_several_slots_keeps_one_for_inspections(workplace: Workplace) -> None:
    add_job(workplace), add_job(workplace)
    assert take(workplace, slots=2) is not None
    assert take(workplace, slots=2) is None
    inspection = add_inspection(workplace)
    claim = take(workplace, slots=2)
    assert claim is not None
    assert claim.job_id == inspection


def test_slots_that_claim_at_the_same_moment_do_not_take_the_reserved_one(workplace: Workplace) -> None:
    for _ in range(8):
        add_job(workplace)
    with ThreadPoolExecutor(8) as pool:
        claims = list(pool.map(lambda _: take(workplace, slots=3), range(8)))
    assert len([claim for claim in claims if claim]) == 2


def test_no_job_is_taken_twice_by_workers_that_claim_at_the_same_moment(workplace: Workplace) -> None:
    jobs = {add_job(workplace) for _ in range(12)}
    for number in range(8):
        register(workplace, f"worker-{number}")
    with ThreadPoolExecutor(8) as pool:
        claims = list(pool.map(lambda number: take(workplace, f"worker-{number % 8}"), range(24)))
    taken_jobs = [claim.job_id for claim in claims if claim]
    assert sorted(taken_jobs) == sorted(jobs)


def test_a_job_is_left_alone_until_its_time_has_come(workplace: Workplace) -> None:
    job_id = add_job(workplace)
    with workplace.database.write() as session:
        session.execute(update(Job).where(Job.id == job_id).values(not_before=clock(session) + 60))
    assert take(workplace) is None


def test_a_worker_that_has_signed_off_takes_nothing(workplace: Workplace) -> None:
    add_job(workplace)
    with workplace.database.write() as session:
        session.execute(delete(Worker))
    assert take(workplace) is None


def test_a_job_given_back_by_a_leaving_worker_has_its_attempt_again(workplace: Workplace) -> None:
    job_id = add_job(workplace)
    assert release(workplace.database, taken(workplace), reason="drained", charged=False)
    row = job(workplace, job_id)
    assert (row.state, row.attempt, row.lease_token) == ("queued", 0, None)


def test_a_job_that_is_no_longer_ours_cannot_be_given_back(workplace: Workplace) -> None:
    job_id = add_job(workplace)
    stale = taken(workplace)
    release(workplace.database, stale, reason="drained", charged=False)
    fresh = taken(workplace)
    assert not release(workplace.database, stale, reason="drained", charged=False)
    assert job(workplace, job_id).lease_token == fresh.token


def test_a_budget_counts_the_time_that_earlier_attempts_worked(workplace: Workplace) -> None:
    add_job(workplace)
    first = taken(workplace)
    assert first.worked_seconds == 0
    release(workplace.database, first, reason="crashed", charged=True)
    left_after(workplace, 5)
    second = taken(workplace)
    assert second.worked_seconds == pytest.approx(5, abs=2)
    release(workplace.database, second, reason="drained", charged=False)
    assert taken(workplace).worked_seconds == pytest.approx(5, abs=2), "no time between attempts counts"


def test_a_silence_longer_than_a_lease_was_no_work(workplace: Workplace) -> None:
    add_job(workplace)
    release(workplace.database, taken(workplace), reason="crashed", charged=True)
    left_after(workplace, 9999)
    assert taken(workplace).worked_seconds == pytest.approx(workplace.settings.lease_seconds, abs=2)


def left_after(workplace: Workplace, seconds: float) -> None:
    """Move the end of the attempt that crashed."""
    crashed = JobEvent.data["reason"].as_string() == "crashed"
    with workplace.database.write() as session:
        session.execute(update(JobEvent).where(crashed).values(at=JobEvent.at + seconds))
