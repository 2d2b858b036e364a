import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from strop import Strop
from strop.job import Job
from strop.serve import embedded
from strop.serve.home import Home
from strop.serve.parts import Part
from strop.serve.process import Process
from strop.serve.service import _told
from tests.faults.child import Act
from tests.faults.standin import seed_of
from tests.service import RunningService, with_standin

SERVE = (sys.executable, "-m", "strop", "serve", "--port")


def busy_job(url: str, model: Path) -> Job:
    """A job whose child works until it is ended."""
    with Strop(url) as strop:
        job = strop.optimize(model, steps=["simplify_graph"], seed=seed_of(Act.WORK))
        next(each for each in job.changes(timeout=60) if each.progress == 0.5)
        return job


def refused(*words: str, **environment: str) -> str:
    done = subprocess.run(
        [*SERVE, *words], env=os.environ | environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    return done.stderr


def test_a_second_service_in_the_same_folder_is_refused(service: RunningService) -> None:
    assert f"process {service.process.pid} already serves {service.home}" in refused("0", "--home", str(service.home))


def test_a_port_that_is_taken_is_named_with_the_remedy(service: RunningService, tmp_path: Path) -> None:
    port = service.url.rpartition(":")[2]
    message = refused(port, "--home", str(tmp_path / "home"))
    assert f"port {port} cannot be listened on" in message
    assert "--port" in message


def test_other_machines_are_not_served_without_a_key(tmp_path: Path) -> None:
    assert "STROP_API_KEYS" in refused("0", "--home", str(tmp_path), "--host", "0.0.0.0")


def test_a_part_that_cannot_start_ends_the_start_and_names_its_log(tmp_path: Path) -> None:
    message = refused("0", "--home", str(tmp_path), STROP_DATABASE_URL="nonsense://")
    assert str(tmp_path / "logs" / "migrations.log") in message
    assert "nonsense" in message


@pytest.mark.parametrize("part", ["uvicorn", "valkey-server"])
def test_a_part_that_dies_is_started_again(service: RunningService, model: Path, part: str) -> None:
    died = service.part(part)
    died.kill()
    with Strop(service.url) as strop:
        assert strop.optimize(model, steps=["simplify_graph"]).wait(60).succeeded
    assert service.part(part).pid != died.pid


@pytest.mark.xdist_group("service")
def test_ctrl_c_stops_everything_and_the_next_start_goes_on(tmp_path: Path, model: Path) -> None:
    home = tmp_path / "home"
    with embedded(home, environment=with_standin(tmp_path)) as url:
        job = busy_job(url, model)
        process = RunningService(url, home).process
        family = process.children(recursive=True)
        process.send_signal(signal.SIGINT)
        _, alive = psutil.wait_procs([process, *family], timeout=20)
        assert alive == []
    with embedded(home, environment=with_standin(tmp_path)) as url, Strop(url) as strop:
        again = strop.job(job.id)
        next(each for each in again.changes(timeout=60) if each.state == "running" and each.progress == 0.5)
        assert again.body.attempt == 1  # stopping is no fault of the job's
        assert again.cancel().wait(60).state == "canceled"


def test_a_start_that_takes_too_long_names_the_part_and_what_it_was_at(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    parts = [Process(Part(name, ()), Home(tmp_path), tmp_path, {}) for name in ("api", "worker")]
    parts[1].log.write_text("connected\ntesting the sandbox of jobs, which takes long on a busy machine\n")
    told = _told({"worker": "none seen"}, parts)
    assert told.startswith(f"worker: none seen; the last line of {parts[1].log} says:\ntesting the sandbox")
