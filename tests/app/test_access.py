"""Who may call: keys, loopback, other people's web pages; and that every refusal is a problem."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.errors import ConfigurationError
from app.main import create_app
from tests.app.service import Service, running, settings_for


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("locked")
    with running(settings_for(folder / "home", api_keys="first-key, second-key"), folder / "worker") as found:
        yield found


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One for all tests here: they only knock."""
    folder = tmp_path_factory.mktemp("open")
    with running(settings_for(folder / "home"), folder / "worker") as found:
        yield found


@pytest.mark.parametrize(
    "header",
    [None, "Bearer wrong", "Bearer", "Basic first-key", "first-key", "Bearer first-key,second-key", "Bearer é"],
)
def test_without_a_right_key_there_is_no_entry(locked: Service, header: str | None) -> None:
    headers = {"Authorization": header.encode()} if header else {}
    for door in ("/v1/models", "/v1/jobs", "/v1/jobs/job_0", "/v1/steps", "/metrics"):
        answer = locked.http.get(door, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
        assert answer.headers["www-authenticate"] == "Bearer"


def test_an_upload_without_a_key_is_refused_before_it_is_read(locked: Service) -> None:
    assert locked.http.post("/v1/models", content=b"\x08\x08" * 1_000_000).status_code == 401
    assert list(locked.services.staging.iterdir()) == []


def test_without_a_key_nobody_learns_what_else_is_wrong(locked: Service) -> None:
    for door, body in (("/v1/jobs", b"{not JSON"), ("/v1/jobs/job_0/cancel", b"x" * (2 << 20)), ("/nowhere", b"")):
        assert locked.http.post(door, content=body, headers={"Content-Type": "application/json"}).status_code == 401


@pytest.mark.parametrize("key", ["first-key", "second-key"])
def test_each_key_opens(locked: Service, key: str) -> None:
    assert locked.http.get("/v1/models", headers={"Authorization": f"Bearer {key}"}).status_code == 200


def test_health_and_contract_need_no_key(locked: Service) -> None:
    for door in ("/livez", "/readyz", "/openapi.json", "/docs", "/", "/v1/problems"):
        assert locked.http.get(door).status_code == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "example.org"])
def test_another_address_than_loopback_needs_keys(tmp_path: Path, host: str) -> None:
    with pytest.raises(ConfigurationError, match="STROP_API_KEYS"):
        create_app(settings_for(tmp_path, host=host))
    app = create_app(settings_for(tmp_path, host=host, api_keys="k"))
    app.state.services.database.engine.dispose()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.8.8.8"])
def test_loopback_needs_none(tmp_path: Path, host: str) -> None:
    create_app(settings_for(tmp_path, host=host)).state.services.database.engine.dispose()


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"Host": "evil.example"}, "unknown_host"),
        ({"Host": "127.0.0.1.nip.example:8000"}, "unknown_host"),
        ({"Host": "[::1"}, "unknown_host"),
        ({"Origin": "https://evil.example"}, "cross_origin"),
        ({"Origin": "null"}, "cross_origin"),
    ],
)
def test_a_foreign_page_cannot_use_a_service_without_keys(service: Service, headers: dict, code: str) -> None:
    answer = service.http.post("/v1/models", content=b"\x08\x08", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (403, code)


def test_a_page_of_the_service_itself_may_call(service: Service) -> None:
    assert service.http.get("/v1/models", headers={"Origin": service.url}).status_code == 200


def test_with_keys_any_name_and_origin_may_call(locked: Service) -> None:
    headers = {"Host": "strop.example", "Origin": "https://ui.example", "Authorization": "Bearer first-key"}
    assert locked.http.get("/v1/models", headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "not_found"),
        ("GET", "/v1/models/", 404, "not_found"),
        ("PUT", "/v1/models", 405, "method_not_allowed"),
        ("PATCH", "/v1/jobs/job_0", 405, "method_not_allowed"),
        ("GET", "/v1/models?limit=0", 422, "invalid_request"),
        ("GET", "/v1/models?limit=9999999999999999999999", 422, "invalid_request"),
    ],
)
def test_every_error_is_a_problem(service: Service, method: str, path: str, status: int, code: str) -> None:
    answer = service.http.request(method, path, follow_redirects=True)
    body = answer.json()
    assert (answer.status_code, body["status"], body["code"]) == (status, status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert body["type"] == f"/v1/problems#{code}"
    assert {"title", "detail", "remedy"} <= set(body)
    assert body["instance"] == f"urn:request:{answer.headers['x-request-id']}"


def test_a_wrong_parameter_is_named_and_is_no_place_in_a_body(service: Service) -> None:
    (fault,) = service.http.get("/v1/models?limit=0").json()["errors"]
    assert fault["parameter"] == "limit"
    assert "pointer" not in fault


def test_what_is_not_found_is_said_once(service: Service) -> None:
    told = [service.http.get(door).json() for door in ("/nowhere", "/v1/jobs/job_0")]
    assert [(body["title"], body["detail"]) for body in told] == [
        ("Not found", "There is nothing at this address."),
        ("Not found", "There is no job with this id."),
    ]


def test_a_method_that_does_not_fit_is_told_which_do(service: Service) -> None:
    assert "GET" in service.http.put("/v1/models/mdl_0").headers["allow"]


def test_a_request_id_is_taken_over_where_it_is_harmless(service: Service) -> None:
    kept = service.http.get("/livez", headers={"X-Request-ID": "trace-1.2_3"})
    replaced = service.http.get("/livez", headers={"X-Request-ID": "a b<script>"})
    assert kept.headers["x-request-id"] == "trace-1.2_3"
    assert replaced.headers["x-request-id"] != "a b<script>"


def test_an_error_of_ours_shows_a_request_id_and_nothing_inside(service: Service) -> None:
    model = service.upload_model()
    digest = service.http.get(f"/v1/models/{model}").json()["sha256"]
    service.services.storage.delete(digest)
    answer = service.http.get(f"/v1/models/{model}/content")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert answer.json()["instance"].endswith(answer.headers["x-request-id"])
    assert digest not in answer.text
    assert "Traceback" not in answer.text
