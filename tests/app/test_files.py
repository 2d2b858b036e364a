"""Uploads: what is taken, what is refused at once, and that nothing is left behind."""

import base64
import fcntl
import hashlib
import io
import os
import pickle
import socket
import time
import zipfile
from pathlib import Path

import pytest
from sqlalchemy import func, select

from app.database import Blob, File, Job, Outbox
from app.intake import sweep
from tests.app.service import MODEL_BYTES, Service, npz_bytes, running, settings_for


def staged(service: Service) -> list[Path]:
    return list(service.services.staging.iterdir())


def rows(service: Service, table: type) -> int:
    with service.services.database.read() as session:
        return session.scalar(select(func.count()).select_from(table)) or 0


def test_an_upload_is_stored_and_queued_for_inspection(any_service: Service) -> None:
    answer = any_service.http.post("/v1/models?name=net", content=MODEL_BYTES)
    body = answer.json()
    assert answer.status_code == 201
    assert answer.headers["location"] == f"/v1/models/{body['id']}"
    assert body["sha256"] == hashlib.sha256(MODEL_BYTES).hexdigest()
    assert (body["name"], body["state"], body["size_bytes"]) == ("net", "inspecting", len(MODEL_BYTES))
    with any_service.services.database.read() as session:
        job = session.scalars(select(Job)).one()
        assert (job.work, job.queue, job.priority, job.state) == ("inspect_model", "cpu", 10, "queued")
        assert session.scalars(select(Outbox.queue)).one() == "cpu"
    assert staged(any_service) == []


def test_a_form_gives_the_same_file_and_its_name(service: Service) -> None:
    content = b"\x08\x08" + bytes(range(256)) * 40_000
    answer = service.http.post("/v1/models", files={"file": ("folder/ResNet é.onnx", content)}, data={"other": "x"})
    assert answer.status_code == 201
    assert answer.json()["sha256"] == hashlib.sha256(content).hexdigest()
    assert answer.json()["name"] == "ResNet é.onnx"


def test_equal_contents_share_one_blob_and_are_two_files(any_service: Service) -> None:
    first, second = any_service.upload_model(), any_service.upload_model()
    assert first != second
    assert (rows(any_service, File), rows(any_service, Blob)) == (2, 1)
    assert any_service.http.delete(f"/v1/models/{first}").status_code == 204
    assert any_service.http.get(f"/v1/models/{second}/content").content == MODEL_BYTES


def test_the_last_file_takes_its_bytes_with_it(any_service: Service) -> None:
    file_id = any_service.upload_model()
    sha256 = any_service.http.get(f"/v1/models/{file_id}").json()["sha256"]
    assert any_service.http.delete(f"/v1/models/{file_id}").status_code == 204
    assert any_service.http.get(f"/v1/models/{file_id}").status_code == 404
    assert (rows(any_service, File), rows(any_service, Blob), rows(any_service, Job)) == (0, 0, 0)
    with pytest.raises(FileNotFoundError):
        any_service.services.storage.size(sha256)


def test_a_file_in_use_is_kept(any_service: Service) -> None:
    model, data = any_service.upload_model(), any_service.upload_dataset()
    job = any_service.submit(model=model, data={"calibration": data})
    for door in (f"/v1/models/{model}", f"/v1/datasets/{data}"):
        answer = any_service.http.delete(door)
        assert (answer.status_code, answer.json()["code"]) == (409, "file_in_use")
        assert job["id"] in answer.json()["detail"]
    any_service.http.post(f"/v1/jobs/{job['id']}/cancel")
    assert any_service.http.delete(f"/v1/models/{model}").status_code == 204
    assert any_service.http.delete(f"/v1/datasets/{data}").status_code == 204
    assert any_service.http.get(f"/v1/jobs/{job['id']}").json()["model"] == model


def test_a_file_waits_for_its_inspection_when_asked_to(service: Service) -> None:
    file_id = service.upload_model(summary=None)
    assert service.http.get(f"/v1/models/{file_id}").json()["state"] == "inspecting"
    service.settle(
        file_id, error={"code": "bomb", "title": "No", "detail": "It grows.", "remedy": "x", "fault": "user"}
    )
    answer = service.http.get(f"/v1/models/{file_id}", headers={"Prefer": "wait=20"})
    assert answer.headers["preference-applied"] == "wait=20"
    assert answer.json()["state"] == "rejected"
    assert answer.json()["error"]["code"] == "bomb"


def torch_like_zip() -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        archive.writestr("net/data.pkl", b"\x80\x02.")
    return held.getvalue()


REFUSED = [
    ("models", b"", "empty_file"),
    ("models", pickle.dumps({"a": 1}), "model_is_pickle"),
    ("models", torch_like_zip(), "model_is_torch_checkpoint"),
    ("models", b"\x20\x00\x00\x00ORTM" + bytes(90), "model_is_ort_format"),
    ("models", b"\x89HDF\r\n\x1a\n" + bytes(90), "model_is_hdf5"),
    ("models", b"\x1c\x00\x00\x00TFL3" + bytes(90), "model_is_tflite"),
    ("models", b"\x1f\x8b\x08" + bytes(90), "model_is_compressed"),
    ("models", b"\x7fELF" + bytes(90), "model_is_executable"),
    ("models", b"ptrt" + bytes(90), "model_is_engine"),
    ("models", b"<html>", "model_is_not_onnx"),
    ("datasets", pickle.dumps([1]), "dataset_is_pickle"),
    ("datasets", b"\x93NUMPY\x01\x00", "dataset_not_npz"),
    ("datasets", b"a,b\n1,2\n", "dataset_not_npz"),
]


@pytest.mark.parametrize(("door", "content", "code"), REFUSED, ids=[row[2] + "-" + row[0] for row in REFUSED])
def test_foreign_formats_are_refused_at_once_with_a_remedy(
    service: Service, door: str, content: bytes, code: str
) -> None:
    answer = service.http.post(f"/v1/{door}", content=content)
    assert (answer.status_code, answer.json()["code"]) == (422, code)
    assert answer.json()["remedy"]
    assert staged(service) == []
    assert (rows(service, File), rows(service, Blob), rows(service, Job)) == (0, 0, 0)


def digest(content: bytes) -> str:
    return f"sha-256=:{base64.b64encode(hashlib.sha256(content).digest()).decode()}:"


@pytest.mark.parametrize("header", ["Repr-Digest", "Content-Digest"])
def test_an_announced_digest_is_verified(service: Service, header: str) -> None:
    right = service.http.post("/v1/models", content=MODEL_BYTES, headers={header: digest(MODEL_BYTES)})
    wrong = service.http.post("/v1/models", content=MODEL_BYTES, headers={header: digest(b"other")})
    broken = service.http.post("/v1/models", content=MODEL_BYTES, headers={header: "sha-256=:AAAA:"})
    assert right.status_code == 201
    assert (wrong.status_code, wrong.json()["code"]) == (400, "digest_mismatch")
    assert (broken.status_code, broken.json()["code"]) == (400, "invalid_header")
    assert (rows(service, File), staged(service)) == (1, [])


def test_a_file_beyond_the_cap_is_refused_announced_or_not(tmp_path: Path) -> None:
    settings = settings_for(tmp_path / "home", max_upload_bytes=1000)
    with running(settings, tmp_path / "worker") as service:
        announced = service.http.post("/v1/models", content=MODEL_BYTES * 10)
        chunked = service.http.post("/v1/models", content=iter([MODEL_BYTES] * 10))
        for answer in (announced, chunked):
            assert (answer.status_code, answer.json()["code"]) == (413, "upload_too_large")
        assert staged(service) == []


def test_an_upload_must_leave_free_disk_space(tmp_path: Path) -> None:
    settings = settings_for(tmp_path / "home").model_copy(update={"min_free_bytes": 1 << 60})
    with running(settings, tmp_path / "worker") as service:
        answer = service.http.post("/v1/models", content=MODEL_BYTES)
        assert (answer.status_code, answer.json()["code"]) == (507, "storage_full")
        assert staged(service) == []


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("multipart/form-data", b"x"),
        ("multipart/form-data; boundary=b", b"no form at all"),
        ("multipart/form-data; boundary=b", b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\n\x08\x08'),
        ("multipart/form-data; boundary=b", b'--b\r\nContent-Disposition: form-data; name="x"\r\n\r\n1\r\n--b--\r\n'),
        ("multipart/form-data; boundary=" + "b" * 300, b"x"),
    ],
    ids=["no boundary", "no form", "cut", "no file", "long boundary"],
)
def test_a_broken_form_is_refused(service: Service, content_type: str, body: bytes) -> None:
    answer = service.http.post("/v1/models", content=body, headers={"Content-Type": content_type})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_multipart")
    assert staged(service) == []


def test_two_files_in_one_form_are_refused(service: Service) -> None:
    answer = service.http.post("/v1/models", files=[("file", ("a", MODEL_BYTES)), ("file", ("b", MODEL_BYTES))])
    assert answer.json()["code"] == "invalid_multipart"


def test_a_compressed_body_is_refused(service: Service) -> None:
    answer = service.http.post("/v1/models", content=MODEL_BYTES, headers={"Content-Encoding": "gzip"})
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_encoding")


def test_a_client_that_drops_leaves_nothing_behind(service: Service) -> None:
    host, port = service.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(b"POST /v1/models HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9000000\r\n\r\n\x08\x08")
        connection.sendall(bytes(5_000_000))
        wait_until(lambda: len(staged(service)) == 1)
    wait_until(lambda: staged(service) == [])
    assert (rows(service, File), rows(service, Blob)) == (0, 0)


def test_what_a_crash_left_is_swept_at_the_next_start(tmp_path: Path) -> None:
    settings = settings_for(tmp_path / "home")
    with running(settings, tmp_path / "worker") as service:
        left = service.services.staging / "0123"
        left.write_bytes(b"half a model")
        os.utime(left, (0, 0))
        held = service.services.staging / "4567"
        with held.open("xb") as upload:
            fcntl.flock(upload, fcntl.LOCK_EX)
            os.utime(held, (0, 0))
            assert sweep(service.services.staging) == 1
            assert staged(service) == [held]
    with running(settings, tmp_path / "worker") as service:
        assert staged(service) == []


def test_names_are_cleaned_of_what_is_no_text(service: Service) -> None:
    answer = service.http.post("/v1/models", params={"name": "..\\..\\a/b\x1b[31m\r\n<b>\u202e"}, content=MODEL_BYTES)
    assert answer.json()["name"] == "b[31m<b>"


def test_pages_show_each_file_once_while_more_come_in(any_service: Service) -> None:
    expected = [any_service.upload_model() for _ in range(5)]
    seen, cursor = [], None
    while True:
        page = any_service.http.get("/v1/models", params={"limit": 2} | ({"cursor": cursor} if cursor else {})).json()
        seen += [item["id"] for item in page["items"]]
        cursor = page["next_cursor"]
        any_service.http.post("/v1/models", content=MODEL_BYTES)
        if cursor is None:
            break
    assert [file_id for file_id in seen if file_id in expected] == expected[::-1]
    assert len(set(seen)) == len(seen)


@pytest.mark.parametrize("cursor", ["x", "e30", "WzEsMl0", "W251bGwsICJhIl0", "====", "WyJhIiwiYiJd"])
def test_a_forged_cursor_is_refused(service: Service, cursor: str) -> None:
    answer = service.http.get("/v1/models", params={"cursor": cursor})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_cursor")


def test_a_data_set_is_not_found_among_the_models(service: Service) -> None:
    data = service.upload_dataset()
    assert service.http.get(f"/v1/models/{data}").status_code == 404
    assert service.http.get(f"/v1/datasets/{data}/content").content == npz_bytes()


def wait_until(condition: object, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)
