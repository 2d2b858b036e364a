"""Health, figures, the catalogue, the page for people; and what happens when a part is away."""

import re
from pathlib import Path

import pytest

from app.database import Database
from tests.app.service import Service, running, settings_for


def test_health_is_degraded_without_broker_and_worker_and_still_ready(service: Service) -> None:
    answer = service.http.get("/readyz")
    assert (answer.status_code, answer.json()["status"]) == (200, "degraded")
    checks = answer.json()["checks"]
    assert checks == {"database": "ok", "storage": "ok", "broker": "unreachable", "worker": "none seen"}
    assert service.http.get("/livez").json()["status"] == "alive"


def test_without_its_storage_the_service_is_not_ready(service: Service) -> None:
    service.services.staging.rmdir()
    answer = service.http.get("/readyz")
    assert (answer.status_code, answer.json()["code"]) == (503, "not_ready")
    assert "storage" in answer.json()["detail"]
    assert service.http.get("/livez").status_code == 200


def test_a_database_that_is_away_gives_503_and_comes_back(
    tmp_path: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sqlalchemy import create_engine, text
    from sqlalchemy.engine import make_url

    with running(settings_for(tmp_path / "home", postgres_url), tmp_path / "worker") as service:
        job = service.submit()
        name = make_url(postgres_url).database
        admin = create_engine(make_url(postgres_url).set(database="postgres"), isolation_level="AUTOCOMMIT")
        with admin.connect() as connection:
            connection.execute(text(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false"))
            connection.execute(text(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"))
            for door in ("/v1/jobs", f"/v1/jobs/{job['id']}"):
                answer = service.http.get(door)
                assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable")
                assert answer.headers["retry-after"] == "5"
            assert service.http.get("/readyz").status_code == 503
            assert service.http.get("/metrics").status_code == 200
            connection.execute(text(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true"))
        admin.dispose()
        assert service.http.get(f"/v1/jobs/{job['id']}").status_code == 200


def test_figures_count_jobs_by_state_and_requests_by_route(service: Service) -> None:
    job = service.submit()
    for name in ("a", "b", "c"):
        service.http.get(f"/v1/jobs/job_{name}")
        service.http.get(f"/nowhere/{name}")
    text = service.http.get("/metrics").text
    assert 'strop_jobs{state="queued"} 1.0' in text
    assert 'strop_jobs{state="succeeded"} 1.0' in text
    assert re.search(r"strop_oldest_queued_seconds \d", text)
    assert re.search(r"strop_outbox_oldest_seconds \d", text)
    assert re.search(r"strop_storage_free_bytes \d", text)
    assert 'route="/v1/jobs/{job_id}"' in text
    assert 'http_request_duration_seconds_count{method="GET",route="none",status="404"} 3.0' in text
    assert job["id"] not in text


def test_the_catalogue_follows_the_grammar(service: Service) -> None:
    items = service.http.get("/v1/steps").json()["items"]
    assert [item["kind"] for item in items][:3] == ["simplify_graph", "quantize_static", "quantize_dynamic"]
    options = items[1]["options"]["properties"]
    assert "kind" not in options
    assert options["percentile"]["maximum"] == 100
    assert all(item["title"] for item in items)


def test_each_code_is_explained(service: Service) -> None:
    kinds = {item["code"]: item for item in service.http.get("/v1/problems").json()["items"]}
    assert kinds["model_is_pickle"]["status"] == 422
    assert all(item["remedy"].endswith(".") for item in kinds.values())


def test_the_page_for_people_loads_nothing_from_elsewhere(service: Service) -> None:
    page = service.http.get("/docs").text
    assert "/v1/jobs/{job_id}/cancel" in page
    assert "http://" not in page
    assert "https://" not in page
    assert "<script" not in page
    assert "`" not in page
    assert "<code>wait=N</code>" in page


def test_the_root_is_a_page_for_a_browser_and_json_for_a_program(service: Service) -> None:
    page = service.http.get("/", headers={"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
    assert page.headers["content-type"].startswith("text/html")
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    assert f"API={service.url}/v1\n" in page.text
    assert 'curl -T model.onnx -X POST "$API/models?name=model.onnx"\n' in page.text
    links = re.findall(r"href=(\S+?)>", page.text)
    assert {"/docs", "/v1/jobs", "/v1/steps"} <= set(links)
    assert service.http.get("/").json()["doors"] == links
    assert all(service.http.get(link).status_code == 200 for link in links)


def test_a_page_shows_the_name_it_was_asked_by_as_text(tmp_path: Path) -> None:
    with running(settings_for(tmp_path / "home", api_keys="k"), tmp_path / "worker") as locked:
        page = locked.http.get("/", headers={"Accept": "text/html", "Host": "<script>"}).text
    assert "<script" not in page
    assert "Bearer $STROP_API_KEY" in page


def test_a_recipe_is_checked_before_anything_is_uploaded(service: Service) -> None:
    right = service.http.post("/v1/recipes/check", json={"steps": [{"kind": "quantize_static"}]})
    assert right.status_code == 200
    assert right.json()["steps"][0]["percentile"] == 99.99
    assert service.http.post("/v1/recipes/check", json=right.json()).json() == right.json()
    wrong = service.http.post("/v1/recipes/check", json={"goal": {"minimize": "noise"}})
    assert (wrong.status_code, wrong.json()["errors"][0]["pointer"]) == (422, "/goal/minimize")


def test_answers_are_not_sniffed_or_framed(service: Service) -> None:
    headers = service.http.get("/docs").headers
    assert (headers["x-content-type-options"], headers["x-frame-options"]) == ("nosniff", "DENY")


def test_each_write_transaction_on_sqlite_takes_the_lock_at_its_beginning(tmp_path: Path) -> None:
    from sqlalchemy import event, text

    database = Database(f"sqlite:///{tmp_path / 'x.sqlite3'}")
    begun: list[str] = []
    event.listen(
        database.engine,
        "before_cursor_execute",
        lambda _c, _cursor, statement, *_: begun.append(statement),
    )
    with database.write() as session:
        session.execute(text("CREATE TABLE t (x)"))
    with database.read() as session:
        session.execute(text("SELECT * FROM t"))
    assert [statement for statement in begun if statement.startswith("BEGIN")] == ["BEGIN IMMEDIATE", "BEGIN"]
    database.engine.dispose()
