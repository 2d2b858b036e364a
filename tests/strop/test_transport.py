import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from strop import NotFound, ServiceError, Strop, Unavailable, Unreachable
from tests.strop.servers import FileServer, cut_at_random, serving

JOB = b'{"id": "job_1", "state": "queued", "model": "mdl_1", "created_at": "2026-01-01T00:00:00Z", "new_field": 1}'


@contextmanager
def broken_way_to(files: FileServer) -> Iterator[str]:
    """The first answer is lost."""
    with serving(files) as origin, cut_at_random(origin, seed=1, longest=50, cuts=1) as url:
        yield url


def test_a_service_that_is_not_there_is_named_with_the_remedy() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with Strop(f"http://127.0.0.1:{port}") as strop, pytest.raises(Unreachable, match=f"{port}.*strop serve"):
        strop.job("job_1")


def test_an_address_without_a_scheme_means_http() -> None:
    with Strop("localhost:8000/") as strop:
        assert strop.url == "http://localhost:8000"


def test_an_overloaded_service_is_asked_again() -> None:
    files = FileServer(JOB)
    files.statuses = [503, 429, 502]
    with serving(files) as url, Strop(url) as strop:
        assert strop.job("job_1").state == "queued"
    assert len(files.requests) == 4


def test_patience_ends() -> None:
    files = FileServer(JOB)
    files.statuses = [503] * 100
    with serving(files) as url, Strop(url, patience_seconds=0.5) as strop, pytest.raises(Unavailable):
        strop.job("job_1")


def test_a_submit_whose_answer_was_lost_is_sent_again_and_so_is_its_key() -> None:
    files = FileServer(JOB)
    with broken_way_to(files) as url, Strop(url) as strop:
        assert strop.optimize("mdl_1").id == "job_1"
    assert files.requests == ["POST /v1/jobs", "POST /v1/jobs"]


def test_an_upload_whose_answer_was_lost_is_not_repeated_silently(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"x")
    files = FileServer(JOB)
    with broken_way_to(files) as url, Strop(url) as strop, pytest.raises(Unreachable):
        strop.upload_model(path)
    assert len(files.requests) == 1


@pytest.mark.parametrize(("status", "kind"), [(404, NotFound), (418, ServiceError)])
def test_an_answer_that_is_no_problem_object_is_still_told(status: int, kind: type[ServiceError]) -> None:
    files = FileServer(JOB)
    files.statuses = [status]
    with serving(files) as url, Strop(url) as strop, pytest.raises(kind, match=f"HTTP {status}"):
        strop.job("job_1")


def test_a_proxy_of_the_environment_is_not_used_for_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with serving(FileServer(JOB)) as url, Strop(url) as strop:
        assert strop.job("job_1").id == "job_1"


def test_a_service_that_went_is_waited_for_aloud(caplog: pytest.LogCaptureFixture) -> None:
    files = FileServer(JOB)
    files.stops_after = len(files.content)  # the connection is closed after the whole answer, not kept for the next one
    with serving(files) as url:
        strop = Strop(url, patience_seconds=1)
        strop.job("job_1")
    with strop, pytest.raises(Unreachable):
        strop.job("job_1")
    (message,) = caplog.messages
    assert message.startswith(f"no answer from {url} (") and message.endswith("trying again, up to 1 s")
