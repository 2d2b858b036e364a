"""Jobs over HTTP: what is refused before it is queued, keys that make one job, waiting, canceling, deleting."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import func, select, update

from app.database import IdempotencyKey, Job, JobEvent, JobState, Outbox, Worker
from app.events import clock
from engine.report import ArrayInfo
from tests.app.service import ARRAYS, SUMMARY, Service


def post(service: Service, **body: object):
    return service.http.post("/v1/jobs", json=body)


def jobs_made(service: Service) -> int:
    with service.services.database.read() as session:
        return session.scalar(select(func.count()).select_from(Job).where(Job.work == "optimize")) or 0


def test_a_job_is_stored_before_it_is_answered_for(any_service: Service) -> None:
    model = any_service.upload_model()
    answer = post(any_service, model=model, goal={"minimize": "latency"}, name="first")
    body = answer.json()
    assert answer.status_code == 202
    assert answer.headers["location"] == f"/v1/jobs/{body['id']}"
    assert answer.headers["retry-after"] == "2"
    assert (body["state"], body["attempt"], body["name"], body["model"]) == ("queued", 0, "first", model)
    assert body["links"]["cancel"] == f"/v1/jobs/{body['id']}/cancel"
    assert body["links"]["model"] is None
    with any_service.services.database.read() as session:
        assert session.scalars(select(JobEvent.data).where(JobEvent.job_id == body["id"])).all() == [
            {"state": "queued"}
        ]
        assert session.scalar(select(func.count()).select_from(Outbox)) == 2  # its inspection's, and its own


def test_a_broker_that_is_down_or_swallows_packets_slows_nothing(service: Service) -> None:
    model = service.upload_model()
    began = time.monotonic()
    answers = [post(service, model=model, goal={}) for _ in range(20)]
    assert [answer.status_code for answer in answers] == [202] * 20
    assert time.monotonic() - began < 20


def test_a_model_must_be_known_and_accepted(any_service: Service) -> None:
    rejected = any_service.upload_model(summary=None)
    any_service.settle(rejected, error={"code": "x", "title": "x", "detail": "It is a bomb.", "fault": "user"})
    for model, code in (
        ("mdl_nobody", "model_not_found"),
        ("mdl_\x00", "model_not_found"),
        (rejected, "model_rejected"),
    ):
        answer = post(any_service, model=model, goal={})
        assert (answer.status_code, answer.json()["code"]) == (422, code)
        assert answer.json()["errors"][0]["pointer"] == "/model"
    assert "It is a bomb." in answer.json()["detail"]
    assert jobs_made(any_service) == 0


def test_a_job_waits_a_moment_for_a_model_that_is_being_inspected(service: Service) -> None:
    model = service.upload_model(summary=None)
    later = threading.Timer(0.5, lambda: service.settle(model, summary=SUMMARY))
    later.start()
    assert post(service, model=model, goal={}).status_code == 202
    later.join()


def test_a_model_that_stays_uninspected_is_a_conflict(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    from app.api import jobs

    monkeypatch.setattr(jobs, "PATIENCE_WITH_INSPECTIONS_SECONDS", 0.1)
    answer = post(service, model=service.upload_model(summary=None), goal={})
    assert (answer.status_code, answer.json()["code"]) == (409, "model_not_ready")
    assert answer.headers["retry-after"]


def test_steps_that_all_do_not_apply_are_refused_with_the_reason(service: Service) -> None:
    model = service.upload_model()
    refused = post(service, model=model, steps=[{"kind": "quantize_dynamic"}])
    assert (refused.status_code, refused.json()["code"]) == (422, "step_does_not_apply")
    assert refused.json()["errors"] == [
        {"pointer": "/steps/0", "detail": "quantize_dynamic: no MatMul weight with more than 1024 values"}
    ]
    mixed = post(service, model=model, steps=[{"kind": "simplify_graph"}, {"kind": "quantize_dynamic"}])
    assert mixed.status_code == 202


EXTRA = ArrayInfo(name="extra", dtype="float32", shape=[9, 1])
MISFITS = [
    ("dataset_names", [ArrayInfo(name="pixels", dtype="float32", shape=[9, 1, 8, 8]), EXTRA], "Input 'image' has no"),
    ("dataset_dtype", [ArrayInfo(name="image", dtype="int64", shape=[9, 1, 8, 8])], "int64"),
    ("dataset_shape", [ArrayInfo(name="image", dtype="float32", shape=[9, 3, 8, 8])], "[9, 3, 8, 8]"),
    ("dataset_shape", [ArrayInfo(name="image", dtype="float32", shape=[9, 64])], "[9, 64]"),
]


@pytest.mark.parametrize(("code", "arrays", "said"), MISFITS, ids=["name", "dtype", "shape", "rank"])
def test_data_that_do_not_fit_the_model_are_refused(
    service: Service, code: str, arrays: list[ArrayInfo], said: str
) -> None:
    model, data = service.upload_model(), service.upload_dataset(arrays)
    answer = post(service, model=model, goal={}, data={"calibration": data})
    assert (answer.status_code, answer.json()["code"]) == (422, code)
    assert answer.json()["errors"][0]["pointer"] == "/data/calibration"
    assert said in answer.json()["detail"]


@pytest.mark.parametrize(
    "arrays",
    [
        [ArrayInfo(name="pixels", dtype="float32", shape=[9, 1, 8, 8])],
        [ArrayInfo(name="pixels", dtype="float32", shape=[9, 1, 8, 8]), ARRAYS[1]],
        [ArrayInfo(name="image", dtype="float64", shape=[9, 1, 8, 8]), EXTRA],
        [ArrayInfo(name="image", dtype="float32", shape=[9, 3, 1, 8, 8])],
    ],
    ids=["a lone array", "a lone array beside labels", "doubles", "whole inputs"],
)
def test_data_that_the_engine_can_read_are_taken(service: Service, arrays: list[ArrayInfo]) -> None:
    body = {"model": service.upload_model(), "goal": {}, "data": {"calibration": service.upload_dataset(arrays)}}
    assert post(service, **body).status_code == 202


def test_labels_must_be_there_for_a_metric_that_needs_them(service: Service) -> None:
    model, bare, labelled = service.upload_model(), service.upload_dataset(ARRAYS[:1]), service.upload_dataset()
    refused = [
        post(service, model=model, goal={}, metric="top1", data={"calibration": bare}),
        post(service, model=model, goal={}, metric="top1"),
        post(service, model=model, goal={}, data={"calibration": labelled, "labels": "truth"}),
        post(service, model=model, goal={}, metric="f1", data={"calibration": labelled, "evaluation": bare}),
    ]
    assert [answer.json()["code"] for answer in refused] == ["labels_missing"] * 4
    assert post(service, model=model, goal={}, metric="top1", data={"calibration": labelled}).status_code == 202
    assert post(service, model=model, goal={}, metric="agreement", data={"calibration": bare}).status_code == 202


def test_an_unknown_data_set_is_refused(service: Service) -> None:
    answer = post(service, model=service.upload_model(), goal={}, data={"calibration": "dat_0"})
    assert (answer.status_code, answer.json()["code"]) == (422, "dataset_not_found")


def test_a_job_for_a_gpu_needs_a_live_gpu_worker(any_service: Service) -> None:
    model = any_service.upload_model()
    refused = post(any_service, model=model, goal={}, target={"device": "cuda"})
    assert (refused.status_code, refused.json()["code"]) == (422, "no_gpu_worker")
    with any_service.services.database.write() as session:
        now = clock(session)
        session.add(Worker(id="w", queue="gpu", host="h", sandbox="none", started_at=now, last_seen_at=now))
    accepted = post(any_service, model=model, goal={}, target={"device": "cuda"})
    assert accepted.status_code == 202
    with any_service.services.database.write() as session:
        session.execute(update(Worker).values(last_seen_at=clock(session) - 120))
    assert post(any_service, model=model, goal={}, target={"device": "cuda"}).json()["code"] == "no_gpu_worker"


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"goal": {}}, "/model"),
        ({"model": "m"}, ""),
        ({"model": "m", "goal": {}, "steps": [{"kind": "simplify_graph"}]}, ""),
        ({"model": "m", "steps": [{"kind": "prune_everything"}]}, "/steps/0"),
        ({"model": "m", "steps": [{"kind": "quantize_static", "samples": 0}]}, "/steps/0/samples"),
        ({"model": "m", "steps": [{"kind": "simplify_graph"}, {"kind": "quantize_static", "a/b": 0}]}, "/steps/1/a~1b"),
        ({"model": "m", "steps": [{"kind": "quantize_static", "equalize": "perhaps"}]}, "/steps/0/equalize"),
        ({"model": "m", "goal": {}, "data": {}}, "/data/calibration"),
        ({"model": "m", "goal": {}, "colour": "red"}, "/colour"),
        ({"model": "m", "goal": {}, "limits": {"accuracy_drop": 2}}, "/limits/accuracy_drop"),
    ],
)
def test_a_bad_body_is_answered_with_the_place_of_the_fault(service: Service, body: dict, pointer: str) -> None:
    answer = post(service, **body)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    assert answer.json()["errors"][0]["pointer"] == pointer


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"{", 400),
        (b"\xff\xfe", 400),
        (b"[" * 200_000, 400),
        (b'{"model": "m", "goal": {}, "name": "\\ud800"}', 422),
        (b'{"model": "m", "goal": {}, "limits": {"accuracy_drop": NaN}}', 422),
        (b'{"model": "m", "goal": {}, "budget": {"minutes": 1e999}}', 422),
        (b'{"model": "m", "goal": {}, "name": "a\\u0000b"}', 422),
        (b" " * 1_100_000, 413),
    ],
    ids=["cut", "not text", "deep", "surrogate", "NaN", "infinite", "NUL", "large"],
)
def test_a_hostile_body_is_refused(any_service: Service, content: bytes, status: int) -> None:
    model = any_service.upload_model()
    sent = content.replace(b'"m"', f'"{model}"'.encode())
    answer = any_service.http.post("/v1/jobs", content=sent, headers={"Content-Type": "application/json"})
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"


def test_another_content_type_is_refused(service: Service) -> None:
    answer = service.http.post("/v1/jobs", content=b"{}", headers={"Content-Type": "text/plain"})
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")


def test_a_key_makes_one_job_quoted_or_not(any_service: Service) -> None:
    body = {"model": any_service.upload_model(), "goal": {}}
    first = any_service.http.post("/v1/jobs", json=body, headers={"Idempotency-Key": '"abc 1"'})
    again = any_service.http.post("/v1/jobs", json=body, headers={"Idempotency-Key": '"abc 1"'})
    assert (first.status_code, again.status_code) == (202, 202)
    assert first.json()["id"] == again.json()["id"]
    assert ("idempotency-replayed" in first.headers, again.headers["idempotency-replayed"]) == (False, "true")
    bare = any_service.http.post("/v1/jobs", json=body, headers={"Idempotency-Key": "k2"})
    quoted = any_service.http.post("/v1/jobs", json=body, headers={"Idempotency-Key": '"k2"'})
    assert bare.json()["id"] == quoted.json()["id"]
    assert jobs_made(any_service) == 2


def test_a_key_belongs_to_one_body_for_a_day(any_service: Service) -> None:
    model = any_service.upload_model()
    headers = {"Idempotency-Key": "k"}
    first = any_service.http.post("/v1/jobs", json={"model": model, "goal": {}}, headers=headers)
    other = any_service.http.post("/v1/jobs", json={"model": model, "goal": {}, "seed": 1}, headers=headers)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    with any_service.services.database.write() as session:
        session.execute(update(IdempotencyKey).values(created_at=clock(session) - 90_000))
    later = any_service.http.post("/v1/jobs", json={"model": model, "goal": {}, "seed": 1}, headers=headers)
    assert later.status_code == 202
    assert later.json()["id"] != first.json()["id"]


@pytest.mark.parametrize("key", ["", "é", "a" * 256, '"open', "a\tb"])
def test_an_unreadable_key_is_refused(service: Service, key: str) -> None:
    headers = {"Idempotency-Key": key.encode()}
    answer = service.http.post("/v1/jobs", json={"model": "m", "goal": {}}, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_header")


def test_parallel_submits_with_one_key_make_one_job(any_service: Service) -> None:
    body = {"model": any_service.upload_model(), "goal": {}}

    def submit(_: int) -> str:
        return any_service.http.post("/v1/jobs", json=body, headers={"Idempotency-Key": "same"}).json()["id"]

    with ThreadPoolExecutor(16) as pool:
        assert len(set(pool.map(submit, range(32)))) == 1
    assert jobs_made(any_service) == 1


def test_a_poll_with_the_last_tag_costs_no_body(any_service: Service) -> None:
    job = any_service.submit()
    first = any_service.http.get(f"/v1/jobs/{job['id']}")
    tag = first.headers["etag"]
    assert tag.startswith('W/"')
    unchanged = any_service.http.get(f"/v1/jobs/{job['id']}", headers={"If-None-Match": tag})
    assert (unchanged.status_code, unchanged.content, unchanged.headers["retry-after"]) == (304, b"", "2")
    any_service.start(job["id"])
    changed = any_service.http.get(f"/v1/jobs/{job['id']}", headers={"If-None-Match": tag})
    assert (changed.status_code, changed.json()["state"]) == (200, "running")


def test_a_long_poll_returns_at_the_next_change(any_service: Service) -> None:
    job = any_service.submit()
    later = threading.Timer(0.6, lambda: any_service.start(job["id"]))
    later.start()
    began = time.monotonic()
    answer = any_service.http.get(f"/v1/jobs/{job['id']}", headers={"Prefer": "wait=30"})
    assert answer.json()["state"] == "running"
    assert answer.headers["preference-applied"] == "wait=30"
    assert time.monotonic() - began < 15
    later.join()


def test_a_long_poll_does_not_wait_for_old_news(service: Service) -> None:
    job = service.submit()
    tag = service.http.get(f"/v1/jobs/{job['id']}").headers["etag"]
    service.start(job["id"])
    began = time.monotonic()
    answer = service.http.get(f"/v1/jobs/{job['id']}", headers={"Prefer": "wait=30", "If-None-Match": tag})
    assert (answer.json()["state"], time.monotonic() - began < 15) == ("running", True)
    service.finish(job["id"])
    ended = service.http.get(f"/v1/jobs/{job['id']}", headers={"Prefer": "wait=30"})
    assert (ended.json()["state"], time.monotonic() - began < 15) == ("succeeded", True)
    assert "retry-after" not in ended.headers


def test_a_long_poll_ends_with_304_when_nothing_happens(service: Service) -> None:
    job = service.submit()
    tag = service.http.get(f"/v1/jobs/{job['id']}").headers["etag"]
    answer = service.http.get(f"/v1/jobs/{job['id']}", headers={"Prefer": "wait=1", "If-None-Match": tag})
    assert answer.status_code == 304


def test_many_wait_at_once_without_holding_threads(service: Service) -> None:
    job = service.submit()
    with ThreadPoolExecutor(60) as pool:
        waiting = [
            pool.submit(service.http.get, f"/v1/jobs/{job['id']}", headers={"Prefer": "wait=30"}) for _ in range(60)
        ]
        time.sleep(1)
        assert service.http.get("/livez").status_code == 200
        service.start(job["id"])
        assert {answer.result().json()["state"] for answer in waiting} == {"running"}


def test_a_waiting_job_is_canceled_at_once_and_a_running_one_told_to_stop(any_service: Service) -> None:
    waiting, running = any_service.submit(), any_service.submit()
    any_service.start(running["id"])
    assert any_service.http.post(f"/v1/jobs/{waiting['id']}/cancel").json()["state"] == "canceled"
    for _ in range(2):
        answer = any_service.http.post(f"/v1/jobs/{running['id']}/cancel")
        assert (answer.status_code, answer.json()["state"]) == (202, "canceling")
    again = any_service.http.post(f"/v1/jobs/{waiting['id']}/cancel")
    assert (again.status_code, again.json()["state"]) == (202, "canceled")


@pytest.mark.parametrize(("state", "progress"), [(JobState.SUCCEEDED, 1.0), (JobState.FAILED, 0.8)])
def test_an_ended_job_expects_no_more_time(service: Service, state: JobState, progress: float) -> None:
    job_id = service.submit()["id"]
    service.start(job_id)
    with service.services.database.write() as session:
        session.execute(update(Job).where(Job.id == job_id).values(progress={"fraction": 0.8, "eta_seconds": 4.9}))
    assert service.http.get(f"/v1/jobs/{job_id}").json()["eta_seconds"] == 4.9
    service.finish(job_id, state)
    body = service.http.get(f"/v1/jobs/{job_id}").json()
    assert (body["progress"], body["eta_seconds"]) == (progress, None)


def test_an_ended_job_cannot_be_canceled(any_service: Service) -> None:
    job = any_service.submit()
    any_service.start(job["id"])
    any_service.finish(job["id"], JobState.FAILED)
    answer = any_service.http.post(f"/v1/jobs/{job['id']}/cancel")
    assert (answer.status_code, answer.json()["code"]) == (409, "job_already_ended")


def test_only_ended_jobs_are_deleted_with_their_files(any_service: Service) -> None:
    job = any_service.submit()
    refused = any_service.http.delete(f"/v1/jobs/{job['id']}")
    assert (refused.status_code, refused.json()["code"]) == (409, "job_not_ended")
    any_service.start(job["id"])
    any_service.finish(job["id"], model_onnx=b"optimized")
    sha256 = any_service.services.jobs.artifacts(job["id"])[0].sha256
    assert any_service.http.delete(f"/v1/jobs/{job['id']}").status_code == 204
    assert any_service.http.get(f"/v1/jobs/{job['id']}").status_code == 404
    with pytest.raises(FileNotFoundError):
        any_service.services.storage.size(sha256)


def test_jobs_are_listed_newest_first_and_by_state(any_service: Service) -> None:
    model = any_service.upload_model()
    made = [any_service.submit(model=model)["id"] for _ in range(3)]
    any_service.start(made[0])
    page = any_service.http.get("/v1/jobs", params={"limit": 2}).json()
    assert [item["id"] for item in page["items"]] == made[:0:-1]
    rest = any_service.http.get("/v1/jobs", params={"cursor": page["next_cursor"]}).json()
    assert ([item["id"] for item in rest["items"]], rest["next_cursor"]) == (made[:1], None)
    running = any_service.http.get("/v1/jobs", params={"state": "running"}).json()
    assert [item["id"] for item in running["items"]] == made[:1]
    assert any_service.http.get("/v1/jobs", params={"state": "tired"}).status_code == 422


def test_an_inspection_is_no_job_of_the_users(service: Service) -> None:
    model = service.upload_model(summary=None)
    inspection = service.services.files.inspection(model)
    assert inspection is not None
    assert service.http.get(f"/v1/jobs/{inspection[0]}").status_code == 404
    assert service.http.get("/v1/jobs").json()["items"] == []


@pytest.mark.parametrize("job_id", ["job_0", "%00", "%ff", "..%2f..", "a" * 5000, "é"])
def test_an_unknown_job_is_not_found(any_service: Service, job_id: str) -> None:
    answer = any_service.http.get(f"/v1/jobs/{job_id}")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
