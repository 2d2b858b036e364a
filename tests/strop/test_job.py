import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import httpx2
import pytest

from strop import JobCanceled, JobFailed, JobState, Strop, Unreachable
from strop.job import Job
from strop.models import Event, JobBody
from strop.transport import Backoff, Transport
from tests.faults.child import Act
from tests.faults.standin import MODEL, seed_of
from tests.service import RunningService
from tests.strop.servers import cut_at_random


def submit(strop: Strop, model: Path, act: Act = Act.SUCCEED, *, seconds: float = 0.0) -> Job:
    return strop.optimize(model, steps=["simplify_graph"], seed=seed_of(act, seconds=seconds))


def test_the_journey_from_a_file_to_a_report_and_a_verified_file(strop: Strop, model: Path, tmp_path: Path) -> None:
    job = submit(strop, model)
    report = job.result(timeout=60)
    assert job.succeeded
    assert report.verdict.outcome == "no_improvement"
    assert report["model"]["opset"] == 17
    assert report.text.startswith("made by process")
    assert job.download_model(tmp_path / "out.onnx").read_bytes() == MODEL
    assert job.download_candidate("t01", tmp_path / "t01.onnx").read_bytes() == MODEL
    assert job.download_bundle(tmp_path / "all.zip").read_bytes().startswith(b"PK")


def test_events_tell_the_story_once_and_in_order(strop: Strop, model: Path) -> None:
    job = submit(strop, model, seconds=0.5)
    events = list(job.events())
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert events[-1].is_final
    assert job.succeeded
    assert {event.type for event in events} >= {"state", "stage", "progress"}


def test_events_of_an_ended_job_can_be_read_again_and_from_the_middle(strop: Strop, model: Path) -> None:
    job = submit(strop, model).wait(60)
    story = list(job.events())
    assert list(job.events(after=story[1].seq)) == story[2:]
    assert list(job.events(after=story[-1].seq)) == []


@pytest.mark.parametrize("seed", range(3))
def test_events_over_a_connection_that_breaks_are_neither_lost_nor_doubled(
    service: RunningService, strop: Strop, model: Path, seed: int
) -> None:
    job = submit(strop, model, seconds=2)
    with cut_at_random(service.url, seed, longest=1200, cuts=3) as url, Strop(url) as shaky:
        events = list(shaky.job(job.id).events())
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert events[-1].is_final


def test_waiting_survives_a_connection_that_breaks(service: RunningService, strop: Strop, model: Path) -> None:
    job = submit(strop, model, seconds=1)
    with cut_at_random(service.url, seed=1, longest=1200, cuts=3) as url, Strop(url) as shaky:
        assert shaky.job(job.id).wait(60).succeeded


def test_a_timeout_is_the_clients_own_and_the_job_goes_on(strop: Strop, model: Path) -> None:
    job = submit(strop, model, seconds=3)
    with pytest.raises(TimeoutError, match="it goes on"):
        job.wait(timeout=0.5)
    assert job.wait(timeout=60).succeeded


def test_a_canceled_job_keeps_what_it_found(strop: Strop, model: Path, tmp_path: Path) -> None:
    job = submit(strop, model, Act.WORK)
    next(each for each in job.changes(timeout=60) if each.progress == 0.5)
    assert job.cancel().state in {JobState.CANCELING, JobState.CANCELED}
    assert job.wait(60).state == JobState.CANCELED
    with pytest.raises(JobCanceled):
        job.result()
    assert job.download_model(tmp_path / "best.onnx").read_bytes() == MODEL


def test_a_failed_job_tells_why_and_what_to_do(strop: Strop, model: Path) -> None:
    job = submit(strop, model, Act.FAIL)
    with pytest.raises(JobFailed, match="Ask for less") as failure:
        job.result(timeout=60)
    assert failure.value.problem.code == "test_failure"
    assert job.wait().state == JobState.FAILED  # waiting itself never raises


def test_jobs_are_listed_over_pages(strop: Strop, model: Path) -> None:
    submitted = [submit(strop, model).wait(60).id for _ in range(2)]
    assert [job.id for job in strop.jobs()][:2] == submitted[::-1]
    assert all(job.state == "succeeded" for job in strop.jobs(state="succeeded"))


def test_an_ended_job_can_be_deleted(strop: Strop, model: Path) -> None:
    job = submit(strop, model).wait(60)
    job.delete()
    assert job.id not in [each.id for each in strop.jobs()]


def test_events_end_with_an_error_when_the_service_stays_away(
    strop: Strop, model: Path, service: RunningService
) -> None:
    job = submit(strop, model, seconds=1)
    hasty = Strop(service.url, patience_seconds=0)
    events = hasty.job(job.id).events()
    next(events)
    hasty.close()
    with pytest.raises(Unreachable):
        list(events)


RUNNING = {"id": "job_1", "state": "running", "model": "mdl_1", "created_at": "now"}


class Breaking:
    """A service whose stream breaks after a silence longer than the client's patience, and then goes on."""

    url = "http://nowhere"

    def __init__(self) -> None:
        self.breaks = 3

    def backoff(self) -> Backoff:
        return Backoff(0.5)

    def get(self, *_: Any, **__: Any) -> httpx2.Response:
        return httpx2.Response(200, json=RUNNING)

    def events(self, _: str, after: int) -> Iterator[Event]:
        self.breaks -= 1
        if self.breaks < 0:
            yield Event(after + 1, "state", {"state": "succeeded"})
            return
        yield Event(after + 1, "stage", {})
        time.sleep(0.6)
        raise httpx2.ReadError("the service restarts")


def test_patience_with_a_broken_stream_begins_at_the_break() -> None:
    job = Job(cast("Transport", Breaking()), JobBody.parse(RUNNING))
    assert [event.seq for event in job.events()] == [1, 2, 3, 4]
