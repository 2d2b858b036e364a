"""The event stream: complete, in order, resumable, and gone when the service stops."""

import threading
import time

import pytest

from app.api import events
from app.database import Job, JobState
from app.events import transition
from tests.app.reports import trial
from tests.app.service import Service


def follow(service: Service, job_id: str, **headers: str) -> list[tuple[int, str, dict]]:
    """All events until the stream ends."""
    with service.http.sse(f"/v1/jobs/{job_id}/events", headers=headers) as source:
        return [(int(event.id), event.event, event.json()) for event in source if event.id]


def story(service: Service) -> str:
    """A job that has run through seven events."""
    job_id = service.submit()["id"]
    service.start(job_id)
    service.tell(job_id, "stage", {"stage": "baseline", "detail": ""})
    service.tell(job_id, "progress", {"fraction": 0.5, "eta_seconds": 3.0})
    service.tell(job_id, "trial", {"trial": trial("t01")})
    service.tell(job_id, "stage", {"stage": "reporting", "detail": ""})
    service.finish(job_id)
    return job_id


def test_the_whole_story_is_told_in_order(any_service: Service) -> None:
    told = follow(any_service, story(any_service))
    assert [number for number, _, _ in told] == [1, 2, 3, 4, 5, 6, 7]
    assert [kind for _, kind, _ in told] == ["state", "state", "stage", "progress", "trial", "stage", "state"]
    assert told[3][2]["fraction"] == 0.5
    assert told[4][2]["trial"]["id"] == "t01"
    assert told[6][2]["state"] == "succeeded"
    assert told[6][2]["at"].endswith("Z")


def test_a_stream_resumes_after_the_last_event_seen(service: Service) -> None:
    job_id = story(service)
    whole = follow(service, job_id)
    assert follow(service, job_id, **{"Last-Event-ID": "4"}) == whole[4:]
    assert service.http.get(f"/v1/jobs/{job_id}/events?since=6").text.count("id: ") == 1


def test_a_story_told_to_its_end_is_not_told_again(service: Service) -> None:
    answer = service.http.get(f"/v1/jobs/{story(service)}/events", headers={"Last-Event-ID": "7"})
    assert (answer.status_code, answer.content) == (204, b"")


def test_events_arrive_while_they_happen(any_service: Service) -> None:
    job_id = any_service.submit()["id"]
    seen: list[str] = []
    told = threading.Event()

    def listen() -> None:
        with any_service.http.sse(f"/v1/jobs/{job_id}/events") as source:
            for event in source:
                if event.id:
                    seen.append(event.event)
                    told.set()

    listener = threading.Thread(target=listen)
    listener.start()
    assert told.wait(10)
    assert seen == ["state"]
    any_service.start(job_id)
    any_service.tell(job_id, "stage", {"stage": "baseline"})
    any_service.finish(job_id)
    listener.join(10)
    assert seen == ["state", "state", "stage", "state"]


def test_a_silent_stream_is_kept_alive(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "KEEPALIVE_SECONDS", 0.2)
    job_id = service.submit()["id"]
    with service.http.stream("GET", f"/v1/jobs/{job_id}/events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["cache-control"] == "no-cache"
        held = ""
        for piece in answer.iter_text():
            held += piece
            if ": ping" in held:
                break


@pytest.mark.parametrize("reason", ["the service drains", "the job is deleted"])
def test_a_stream_ends_when_nothing_more_can_come(service: Service, reason: str) -> None:
    job_id = service.submit()["id"]
    ended = threading.Event()

    def listen() -> None:
        service.http.get(f"/v1/jobs/{job_id}/events")
        ended.set()

    listener = threading.Thread(target=listen)
    listener.start()
    time.sleep(0.5)
    assert not ended.is_set()
    if reason == "the service drains":
        service.services.watcher.drain()
    else:
        with service.services.database.write() as session:
            session.delete(session.get(Job, job_id))
    assert ended.wait(10)
    listener.join()


@pytest.mark.parametrize("number", ["x", "-1", "9" * 30, "1.5"])
def test_an_event_number_must_be_one(service: Service, number: str) -> None:
    answer = service.http.get(f"/v1/jobs/{story(service)}/events", headers={"Last-Event-ID": number})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_header")


def test_an_unknown_job_has_no_story(service: Service) -> None:
    assert service.http.get("/v1/jobs/job_0/events").status_code == 404


def test_a_job_shows_the_trials_of_its_latest_attempt(any_service: Service) -> None:
    job_id = any_service.submit()["id"]
    any_service.start(job_id)
    any_service.tell(job_id, "trial", {"trial": trial("t01")})
    with any_service.services.database.write() as session:
        assert transition(session, job_id, JobState.QUEUED)
    any_service.start(job_id)
    assert any_service.http.get(f"/v1/jobs/{job_id}").json()["trials"] == []
    any_service.tell(job_id, "trial", {"trial": trial("t02")})
    body = any_service.http.get(f"/v1/jobs/{job_id}").json()
    assert ([found["id"] for found in body["trials"]], body["attempt"]) == (["t02"], 2)


def test_a_trial_that_is_told_of_again_is_shown_once_as_it_was_told_last(service: Service) -> None:
    job_id = service.submit()["id"]
    service.start(job_id)
    for told in (trial("t01"), trial("t02"), trial("t01") | {"state": "dominated"}):
        service.tell(job_id, "trial", {"trial": told})
    trials = service.http.get(f"/v1/jobs/{job_id}").json()["trials"]
    assert [(found["id"], found["state"]) for found in trials] == [("t01", "dominated"), ("t02", "kept")]


def test_numbers_stay_gapless_whoever_writes(any_service: Service) -> None:
    job_id = any_service.submit()["id"]
    any_service.start(job_id)
    writers = [
        threading.Thread(target=lambda: [any_service.tell(job_id, "progress", {"fraction": 0.1}) for _ in range(10)])
        for _ in range(4)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    any_service.finish(job_id)
    assert [number for number, _, _ in follow(any_service, job_id)] == list(range(1, 44))
