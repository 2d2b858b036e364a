"""What a job has left: ranges that resume, digests that verify, forms of the report, a bundle."""

import base64
import hashlib
import io
import json
import random
import zipfile
from collections.abc import Iterator

import pytest

from app.database import JobState
from tests.app.reports import report
from tests.app.service import Service, running, settings_for

CONTENT = random.Random(0).randbytes(3_000_000)
ETAG = f'"{hashlib.sha256(CONTENT).hexdigest()}"'
REPORT = report("t01", "t02")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One for all tests here, since each looks at jobs of its own."""
    folder = tmp_path_factory.mktemp("results")
    with running(settings_for(folder / "home"), folder / "worker") as found:
        yield found


@pytest.fixture(scope="module")
def ended(service: Service) -> str:
    """The address of a job that left everything there is."""
    job = service.submit()
    service.start(job["id"])
    service.finish(
        job["id"],
        model_onnx=CONTENT,
        report_json=json.dumps(REPORT).encode(),
        report_html=b"<h1>faster</h1>",
        report_txt=b"faster",
        candidates__t01_onnx=b"one candidate",
    )
    return f"/v1/jobs/{job['id']}"


def test_the_model_comes_with_its_digest_and_a_name(service: Service, ended: str) -> None:
    answer = service.http.get(f"{ended}/model")
    digest = base64.b64encode(hashlib.sha256(CONTENT).digest()).decode()
    assert answer.content == CONTENT
    assert answer.headers["etag"] == ETAG
    assert answer.headers["repr-digest"] == f"sha-256=:{digest}:"
    assert answer.headers["content-length"] == str(len(CONTENT))
    assert answer.headers["content-disposition"].startswith('attachment; filename="job_')
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"].startswith("sandbox")


@pytest.mark.parametrize("door", ["model", "report", "candidates/t01", "bundle"])
def test_a_head_tells_what_a_download_would_bring(service: Service, ended: str, door: str) -> None:
    told, brought = (service.http.request(method, f"{ended}/{door}") for method in ("HEAD", "GET"))
    volatile = {"date", "x-request-id"}
    assert (told.status_code, told.content) == (200, b"")
    assert {k: v for k, v in told.headers.items() if k not in volatile} == {
        k: v for k, v in brought.headers.items() if k not in volatile
    }


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [("bytes=0-9", 0, 9), ("bytes=2999990-", 2_999_990, 2_999_999), ("bytes=-10", 2_999_990, 2_999_999),
     ("bytes=1500000-99999999999", 1_500_000, 2_999_999), ("bytes=-99999999", 0, 2_999_999)],
)  # fmt: skip
def test_one_range_is_served(service: Service, ended: str, asked: str, first: int, last: int) -> None:
    answer = service.http.get(f"{ended}/model", headers={"Range": asked})
    assert answer.status_code == 206
    assert answer.headers["content-range"] == f"bytes {first}-{last}/3000000"
    assert answer.headers["content-length"] == str(last - first + 1)
    assert answer.content == CONTENT[first : last + 1]


@pytest.mark.parametrize(
    "asked", ["bytes=0-1,5-6", "bytes=9-2", "bytes=-", "lines=1-2", "bytes=a-b", "bytes=" + "0-1," * 5000 + "0-1"]
)
def test_several_ranges_and_nonsense_give_everything(service: Service, ended: str, asked: str) -> None:
    answer = service.http.get(f"{ended}/model", headers={"Range": asked})
    assert (answer.status_code, answer.content == CONTENT) == (200, True)


@pytest.mark.parametrize("asked", ["bytes=3000000-", "bytes=99999999999-", "bytes=-0"])
def test_a_range_outside_is_refused_with_the_size(service: Service, ended: str, asked: str) -> None:
    answer = service.http.get(f"{ended}/model", headers={"Range": asked})
    assert (answer.status_code, answer.json()["code"]) == (416, "range_not_satisfiable")
    assert answer.headers["content-range"] == "bytes */3000000"


def test_a_download_cut_anywhere_resumes_to_the_same_bytes(service: Service, ended: str) -> None:
    chance = random.Random(7)
    for _ in range(10):
        held = CONTENT[: chance.randrange(len(CONTENT))]
        rest = service.http.get(f"{ended}/model", headers={"Range": f"bytes={len(held)}-", "If-Range": ETAG})
        assert rest.status_code == 206
        assert held + rest.content == CONTENT
    other = service.http.get(f"{ended}/model", headers={"Range": "bytes=10-", "If-Range": '"another file"'})
    assert (other.status_code, other.content == CONTENT) == (200, True)


def test_what_the_client_has_is_not_sent_again(service: Service, ended: str) -> None:
    answer = service.http.get(f"{ended}/model", headers={"If-None-Match": f'"x", {ETAG}'})
    assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", ETAG)


@pytest.mark.parametrize(
    ("accept", "media_type", "content"),
    [
        (None, "application/json", None),
        ("*/*", "application/json", None),
        ("text/html", "text/html; charset=utf-8", b"<h1>faster</h1>"),
        ("text/plain", "text/plain; charset=utf-8", b"faster"),
        ("text/*;q=0.5, application/json;q=0.1", "text/html; charset=utf-8", b"<h1>faster</h1>"),
        ("text/html;q=0, */*;q=0.1", "application/json", None),
        ("text/html, application/xhtml+xml, */*;q=0.8", "text/html; charset=utf-8", b"<h1>faster</h1>"),
    ],
)
def test_the_report_takes_the_accepted_form(
    service: Service, ended: str, accept: str | None, media_type: str, content: bytes | None
) -> None:
    answer = service.http.get(f"{ended}/report", headers={"Accept": accept} if accept else {})
    assert (answer.status_code, answer.headers["content-type"]) == (200, media_type)
    assert answer.content == (content or json.dumps(REPORT).encode())
    assert answer.headers["vary"] == "Accept"


@pytest.mark.parametrize("accept", ["image/png", "text/html;q=0", "text/html;q=x"])
def test_another_form_is_not_to_be_had(service: Service, ended: str, accept: str) -> None:
    answer = service.http.get(f"{ended}/report", headers={"Accept": accept})
    assert (answer.status_code, answer.json()["code"]) == (406, "not_acceptable")


def test_the_html_report_cannot_run_a_script(service: Service, ended: str) -> None:
    policy = service.http.get(f"{ended}/report", headers={"Accept": "text/html"}).headers["content-security-policy"]
    assert "allow-scripts" not in policy
    assert "default-src 'none'" in policy


def test_candidates_are_listed_and_downloaded(service: Service, ended: str) -> None:
    items = service.http.get(f"{ended}/candidates").json()["items"]
    assert [(item["trial"]["id"], item["size_bytes"]) for item in items] == [("t01", 13)]
    assert service.http.get(items[0]["href"]).content == b"one candidate"
    missing = service.http.get(f"{ended}/candidates/t02").json()
    assert missing["code"] == "no_result"
    assert missing["detail"].endswith("has no file of t02; there are files of t01.")


def test_the_bundle_holds_every_file(service: Service, ended: str) -> None:
    answer = service.http.get(f"{ended}/bundle")
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        assert archive.read("model.onnx") == CONTENT
        assert sorted(archive.namelist()) == [
            "candidates/t01.onnx", "model.onnx", "report.html", "report.json", "report.txt"
        ]  # fmt: skip


def test_the_bundle_can_be_verified_and_goes_on_after_a_break(service: Service, ended: str) -> None:
    whole = service.http.get(f"{ended}/bundle")
    digest = hashlib.sha256(whole.content)
    assert whole.headers["repr-digest"] == f"sha-256=:{base64.b64encode(digest.digest()).decode()}:"
    for held in (1, 40, 1_048_600, len(whole.content) - 1):
        asked = {"Range": f"bytes={held}-", "If-Range": f'"{digest.hexdigest()}"'}
        rest = service.http.get(f"{ended}/bundle", headers=asked)
        assert (rest.status_code, whole.content[:held] + rest.content == whole.content) == (206, True)
    assert service.http.get(f"{ended}/bundle", headers={"Range": "bytes=5-9"}).content == whole.content[5:10]


def test_links_lead_to_what_is_there(service: Service, ended: str) -> None:
    links = service.http.get(ended).json()["links"]
    for name in ("self", "events", "model", "report", "candidates", "bundle"):
        assert service.http.get(links[name]).status_code in {200, 204}
    assert links["cancel"] is None


@pytest.mark.parametrize("door", ["model", "report", "candidates", "bundle", "candidates/t01"])
def test_a_result_that_is_not_there_says_why(service: Service, door: str) -> None:
    job = service.submit()
    early = service.http.get(f"/v1/jobs/{job['id']}/{door}")
    assert (early.status_code, early.json()["code"], early.headers["retry-after"]) == (409, "result_not_ready", "2")
    service.start(job["id"])
    service.finish(job["id"], JobState.FAILED)
    late = service.http.get(f"/v1/jobs/{job['id']}/{door}")
    assert (late.status_code, late.json()["code"]) == (404, "no_result")
    assert service.http.get(f"/v1/jobs/job_0/{door}").json()["code"] == "not_found"


def test_a_canceled_job_still_offers_its_best_so_far(service: Service) -> None:
    job = service.submit()
    service.start(job["id"])
    service.http.post(f"/v1/jobs/{job['id']}/cancel")
    service.finish(job["id"], JobState.CANCELED, model_onnx=b"best so far")
    assert service.http.get(f"/v1/jobs/{job['id']}/model").content == b"best so far"


def test_a_model_keeps_its_name_whatever_it_is(service: Service) -> None:
    answer = service.http.post("/v1/models", params={"name": 'ü"\n;é.onnx'}, content=b"\x08\x08")
    disposition = service.http.get(f"/v1/models/{answer.json()['id']}/content").headers["content-disposition"]
    assert disposition == "attachment; filename=\"____.onnx\"; filename*=UTF-8''%C3%BC%22%3B%C3%A9.onnx"


def test_a_model_that_one_file_cannot_hold_comes_as_a_zip_of_both(service: Service) -> None:
    job = service.submit()
    service.start(job["id"])
    name = "0123456789abcdef"
    files = {"model_onnx": b"graph", f"model_onnx_{name}_data": CONTENT, "report_json": json.dumps(REPORT).encode()}
    files |= {"candidates__t01_onnx": b"other", f"candidates__t01_onnx_{name}_data": b"weights"}
    service.finish(job["id"], **files)
    for door, expected in {
        "model": {"model.onnx": b"graph", f"model.onnx.{name}.data": CONTENT},
        "candidates/t01": {"t01.onnx": b"other", f"t01.onnx.{name}.data": b"weights"},
    }.items():
        answer = service.http.get(f"/v1/jobs/{job['id']}/{door}")
        archive = zipfile.ZipFile(io.BytesIO(answer.content))
        assert {each: archive.read(each) for each in archive.namelist()} == expected
        assert answer.headers["content-type"] == "application/zip"
        assert '.zip"' in answer.headers["content-disposition"]
        digest = base64.b64encode(hashlib.sha256(answer.content).digest()).decode()
        assert answer.headers["repr-digest"] == f"sha-256=:{digest}:"
    (candidate,) = service.http.get(f"/v1/jobs/{job['id']}/candidates").json()["items"]
    assert candidate["size_bytes"] == len(b"other") + len(b"weights")
