"""The API as a process: what it imports, how it stops, and two of them on one database (kills: `tests/faults`)."""

import collections
import concurrent.futures
import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx2
import pytest
from sqlalchemy import select, update

from app.database import Database, File, Job
from tests.app.replicas import Replica, replica
from tests.app.service import MODEL_BYTES, SUMMARY

IMPORTS = """
import json, sys
from pathlib import Path
from app.main import create_app
from app.settings import Settings
from starlette.testclient import TestClient
with TestClient(create_app(Settings(home=Path(sys.argv[1]), broker_url="redis://127.0.0.1:1/0"))) as client:
    assert client.post("/v1/models", content=b"\\x08\\x08model").status_code == 201
    assert client.get("/v1/steps").status_code == 200
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def test_the_api_imports_no_library_that_reads_models(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-c", IMPORTS, str(tmp_path)], check=True, capture_output=True, cwd=Path(__file__).parents[2]
    )
    loaded = set(json.loads(run.stdout))
    assert loaded.isdisjoint({"torch", "onnx", "onnxruntime", "onnx_ir", "onnxscript", "scipy", "workers", "strop"})
    assert "numpy" not in loaded


def test_a_wrong_configuration_ends_in_one_clear_line(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from app.main import *; create_app_from_environment()"]
    environment = {"STROP_HOME": str(tmp_path), "STROP_HOST": "0.0.0.0"}
    run = subprocess.run(
        command, capture_output=True, text=True, env=environment, cwd=Path(__file__).parents[2], check=False
    )
    assert run.returncode == 1
    assert len(run.stderr.strip().splitlines()) == 1
    assert "STROP_API_KEYS" in run.stderr


def ready_model(url: str, database: Database) -> str:
    """An uploaded model, declared inspected."""
    model = httpx2.post(f"{url}/v1/models", content=MODEL_BYTES).json()["id"]
    with database.write() as session:
        session.execute(update(File).values(state="ready", summary=SUMMARY.model_dump(mode="json")))
        session.execute(update(Job).where(Job.work != "optimize").values(state="succeeded"))
    return model


@pytest.fixture
def database(tmp_path: Path) -> Database:
    (tmp_path / "home").mkdir()
    database = Database(f"sqlite:///{tmp_path / 'home' / 'strop.sqlite3'}")
    yield database
    database.engine.dispose()


def optimizations(database: Database) -> list[str]:
    with database.read() as session:
        return list(session.scalars(select(Job.id).where(Job.work == "optimize")))


def test_two_replicas_on_postgres_make_one_job_of_one_key(tmp_path: Path, postgres_url: str) -> None:
    database = Database(postgres_url)
    with replica(tmp_path / "home", postgres_url) as one, replica(tmp_path / "home", postgres_url) as two:
        body = {"model": ready_model(one.url, database), "goal": {}}
        for round_number in range(3):
            headers = {"Idempotency-Key": f"round-{round_number}"}
            answers = post_everywhere([one, two], body, headers, times=40)
            assert {answer.status_code for answer in answers} == {202}
            assert len({answer.json()["id"] for answer in answers}) == 1
            replayed = collections.Counter("idempotency-replayed" in answer.headers for answer in answers)
            assert replayed[False] == 1
    assert len(optimizations(database)) == 3
    database.engine.dispose()


def post_everywhere(replicas: list[Replica], body: dict, headers: dict, *, times: int) -> list[httpx2.Response]:
    with httpx2.Client(timeout=60) as http, concurrent.futures.ThreadPoolExecutor(16) as pool:
        doors = [f"{replicas[number % len(replicas)].url}/v1/jobs" for number in range(times)]
        return list(pool.map(lambda door: http.post(door, json=body, headers=headers), doors))


def test_a_stream_moves_to_another_replica_without_a_gap(tmp_path: Path, database: Database) -> None:
    from app.events import append_event

    with replica(tmp_path / "home") as one, replica(tmp_path / "home") as two:
        body = {"model": ready_model(one.url, database), "goal": {}}
        job = httpx2.post(f"{one.url}/v1/jobs", json=body).json()["id"]
        for number in range(5):
            with database.write() as session:
                append_event(session, job, "progress", {"fraction": number / 10})
        httpx2.post(f"{one.url}/v1/jobs/{job}/cancel")
        first = httpx2.get(f"{one.url}/v1/jobs/{job}/events").text
        rest = httpx2.get(f"{two.url}/v1/jobs/{job}/events", headers={"Last-Event-ID": "3"}).text
        assert [line for line in first.splitlines() if line.startswith("id")] == [f"id: {n}" for n in range(1, 8)]
        assert [line for line in rest.splitlines() if line.startswith("id")] == [f"id: {n}" for n in range(4, 8)]


def test_the_api_stops_at_once_though_clients_wait(tmp_path: Path, database: Database) -> None:
    with replica(tmp_path / "home") as found:
        body = {"model": ready_model(found.url, database), "goal": {}}
        job = httpx2.post(f"{found.url}/v1/jobs", json=body).json()["id"]
        answers: list[int] = []

        def wait(door: str, **headers: str) -> None:
            answers.append(httpx2.get(f"{found.url}{door}", headers=headers, timeout=60).status_code)

        waiting = [
            threading.Thread(target=wait, args=(f"/v1/jobs/{job}/events",)),
            threading.Thread(target=wait, args=(f"/v1/jobs/{job}",), kwargs={"Prefer": "wait=60"}),
        ]
        for thread in waiting:
            thread.start()
        time.sleep(1)
        found.process.send_signal(signal.SIGTERM)
        found.wait(10)
        for thread in waiting:
            thread.join(10)
        assert answers == [200, 200]
