"""A job whose result cannot be stored, because the S3 has gone away, waits for it, and is tried again in the end."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from moto.server import ThreadedMotoServer
from sqlalchemy import update

from app.database import Job
from app.storage import S3Storage
from tests.app.s3 import make_bucket
from tests.faults.child import Act
from tests.faults.cluster import free_port
from tests.workers.bench import (
    add_job,
    artifacts,
    ask_to_cancel,
    events,
    job,
    meanwhile,
    story,
    strike_out,
    taken,
    work,
)
from workers.supervise import run
from workers.workplace import Workplace


class Unsteady:
    """An S3 that goes, and comes back at the same address with all it had."""

    def __init__(self) -> None:
        self.port = free_port()
        self.server = ThreadedMotoServer(ip_address="127.0.0.1", port=self.port, verbose=False)
        self.server.start()

    def go(self) -> None:
        self.server.stop()

    def come(self) -> None:
        self.server.start()


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    """What the storage does is the same for every database."""
    return f"sqlite:///{tmp_path / 'strop.sqlite3'}"


@pytest.fixture
def s3() -> Iterator[Unsteady]:
    found = Unsteady()
    yield found
    found.go()


@pytest.fixture
def place(workplace: Workplace, s3: Unsteady, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    """A worker that stores in the unsteady S3 and waits for it for as long as it takes."""
    url = make_bucket(f"http://127.0.0.1:{s3.port}", monkeypatch)
    return replace(workplace, storage=S3Storage(url))


def impatient(place: Workplace) -> Workplace:
    return replace(place, settings=place.settings.model_copy(update={"storage_patience_seconds": 0}))


def goes_while_the_job_runs(place: Workplace, s3: Unsteady, job_id: str) -> threading.Thread:
    return meanwhile(s3.go, lambda: bool(events(place, job_id, "progress")))


def waits(caplog: pytest.LogCaptureFixture) -> bool:
    return "could not be stored" in caplog.text


def test_a_result_waits_for_a_storage_that_comes_back(
    place: Workplace, s3: Unsteady, caplog: pytest.LogCaptureFixture
) -> None:
    job_id = add_job(place, seconds=0.5)
    goes_while_the_job_runs(place, s3, job_id)
    meanwhile(s3.come, lambda: waits(caplog))
    work(place)
    assert story(place, job_id) == ["queued", "running", "succeeded"]
    assert "model.onnx" in artifacts(place, job_id)


def test_a_storage_that_stays_away_sends_the_job_back_into_the_queue(place: Workplace, s3: Unsteady) -> None:
    job_id = add_job(place, seconds=0.5)
    goes_while_the_job_runs(place, s3, job_id)
    work(impatient(place))
    assert events(place, job_id, "state")[-1].data == {"state": "queued", "reason": "unavailable"}
    s3.come()
    with place.database.write() as session:
        session.execute(update(Job).values(not_before=0))
    work(place)
    assert story(place, job_id) == ["queued", "running", "queued", "running", "succeeded"]
    assert "model.onnx" in artifacts(place, job_id)


def test_a_storage_that_was_away_in_every_attempt_is_named_as_the_reason(place: Workplace, s3: Unsteady) -> None:
    job_id = add_job(place, seconds=0.5)
    with place.database.write() as session:
        session.execute(update(Job).values(max_attempts=1))
    goes_while_the_job_runs(place, s3, job_id)
    work(impatient(place))
    row = job(place, job_id)
    assert (row.state, row.error["code"], row.error["fault"]) == ("failed", "service_unavailable", "service")


def test_a_failure_keeps_its_own_reason_where_its_files_cannot_be_stored(place: Workplace, s3: Unsteady) -> None:
    job_id = add_job(place, Act.FAIL, seconds=0.5)
    goes_while_the_job_runs(place, s3, job_id)
    work(impatient(place))
    assert (job(place, job_id).state, job(place, job_id).error["code"]) == ("failed", "test_failure")
    assert artifacts(place, job_id) == {}


def test_a_cancel_is_not_kept_waiting_for_the_storage(
    place: Workplace, s3: Unsteady, caplog: pytest.LogCaptureFixture
) -> None:
    job_id = add_job(place, seconds=0.5)
    goes_while_the_job_runs(place, s3, job_id)
    meanwhile(lambda: ask_to_cancel(place, job_id), lambda: waits(caplog))
    work(place)
    assert story(place, job_id) == ["queued", "running", "canceling", "canceled"]


def test_a_leaving_worker_does_not_wait_for_the_storage(
    place: Workplace, s3: Unsteady, caplog: pytest.LogCaptureFixture
) -> None:
    job_id = add_job(place, seconds=0.5)
    goes_while_the_job_runs(place, s3, job_id)
    meanwhile(lambda: strike_out(place), lambda: waits(caplog))
    run(place, taken(place), lambda: False)
    assert (job(place, job_id).state, job(place, job_id).attempt) == ("queued", 0)
