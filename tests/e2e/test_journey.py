import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import psutil

from strop import Strop
from strop.serve import embedded
from tests.service import DIGITS, RunningService

SOON_LOST = {"STROP_LEASE_SECONDS": "6", "STROP_HEARTBEAT_SECONDS": "1", "STROP_REAPER_SECONDS": "1"}


def accuracy(model: Path) -> float:
    """Share of the digits' test samples that a file, as it was downloaded, gets right."""
    session = onnxruntime.InferenceSession(model)
    with np.load(DIGITS / "test.npz") as data:
        scores = session.run(None, {"image": data["image"]})[0]
        return float(np.mean(scores.argmax(axis=1) == data["labels"]))


def test_a_real_model_goes_in_and_a_faster_one_comes_out(engine_service: RunningService, tmp_path: Path) -> None:
    output, page = tmp_path / "faster.onnx", tmp_path / "report.html"
    words = [DIGITS / "model.onnx", "--data", DIGITS / "calibration.npz", "--evaluation", DIGITS / "test.npz"]
    options = ["--max-drop", "0.01", "--minutes", "1", "-o", output, "--html", page, "--require-improvement"]
    done = subprocess.run(
        [sys.executable, "-m", "strop", "optimize", *words, *options, "--url", engine_service.url],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("IMPROVED")
    assert accuracy(output) >= accuracy(DIGITS / "model.onnx") - 0.01
    assert output.stat().st_size < (DIGITS / "model.onnx").stat().st_size / 2
    assert page.read_text().lstrip().lower().startswith("<!doctype html>")


def test_a_killed_service_leaves_no_process_and_its_job_goes_on_at_the_next_start(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with embedded(home, environment=SOON_LOST) as url, Strop(url) as strop:
        job = strop.optimize(DIGITS / "model.onnx", steps=["simplify_graph"], minutes=0.2)
        next(each for each in job.changes(timeout=60) if each.stage == "baseline")
        process = RunningService(url, home).process
        family = process.children(recursive=True)
        process.kill()
        _, alive = psutil.wait_procs(family, timeout=20)
    assert len(family) >= 6  # Valkey, API, worker and its slots, the engine, maintenance
    assert alive == []
    with embedded(home, environment=SOON_LOST) as url, Strop(url) as strop:
        assert strop.job(job.id).wait(timeout=120).succeeded
    assert not any(os.scandir(home / "attempts"))
