"""Strop's own part: a whole job without the service, in a child of its own."""

import json
import subprocess
import sys
from pathlib import Path

from engine.protocol import EngineRequest, Work
from engine.recipe import Recipe
from engine.report import Report


class JobFailed(Exception):
    """What the engine said last."""


def run_engine(recipe: Recipe, attempt: Path, model: Path, calibration: Path, evaluation: Path) -> Report:
    """The engine's work on these files; the last checkpoint is left as ATTEMPT/out. Raises JobFailed."""
    (attempt / "work").mkdir(parents=True)
    request = EngineRequest(
        work=Work.OPTIMIZE,
        recipe=recipe,
        model=str(model.resolve()),
        calibration=str(calibration.resolve()),
        evaluation=str(evaluation.resolve()),
    )
    (attempt / "request.json").write_text(request.model_dump_json())
    command = [sys.executable, "-I", "-m", "engine", str(attempt)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    events = [json.loads(line) for line in done.stdout.splitlines()]
    if done.returncode:
        raise JobFailed(f"{model.name}: {events[-1] if events else done.returncode}")
    checkpoints = [event["directory"] for event in events if event["type"] == "checkpoint"]
    (attempt / checkpoints[-1]).rename(attempt / "out")
    return Report.model_validate_json((attempt / "out" / "report.json").read_bytes())
