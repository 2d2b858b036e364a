"""The contract is a valid document, and the service keeps it whatever is sent."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from openapi_spec_validator import validate

from tests.app.reports import report, trial
from tests.app.service import Service, running, settings_for

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with something in it, so that not every id is unknown."""
    folder = tmp_path_factory.mktemp("contract")
    with running(settings_for(folder / "home"), folder / "worker") as service:
        job = service.submit()
        service.start(job["id"])
        service.tell(job["id"], "trial", {"trial": trial("t01")})
        service.finish(job["id"], model_onnx=b"x", report_json=json.dumps(report("t01")).encode())
        yield service


def test_the_document_is_valid(live: Service) -> None:
    contract = live.http.get("/openapi.json").json()
    validate(contract)
    assert contract["openapi"].startswith("3.1")


def test_every_door_has_its_own_name_and_documents_problems_as_such(live: Service) -> None:
    paths = live.http.get("/openapi.json").json()["paths"]
    doors = [door for path in paths.values() for door in path.values()]
    names = [door["operationId"] for door in doors]
    assert len(set(names)) == len(names)
    for door in doors:
        assert re.fullmatch("[a-z_]+", door["operationId"])
        assert door["description"]
        problems = [answer for status, answer in door["responses"].items() if int(status) >= 400]
        assert all(set(answer["content"]) == {"application/problem+json"} for answer in problems)


def test_whatever_is_sent_the_answer_is_a_documented_one(live: Service, tmp_path: Path) -> None:
    command = [
        str(Path(sys.executable).with_name("schemathesis")), "run", f"{live.url}/openapi.json", "--checks", CHECKS,
        "--exclude-path-regex", "/events$", "--max-examples", "10", "--seed", "1", "--generation-database", "none",
        "--no-color", "--workers", "1", "--continue-on-failure",
    ]  # fmt: skip
    run = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert run.returncode == 0, run.stdout[-8000:] + run.stderr[-2000:]
