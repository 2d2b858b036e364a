"""Run the engine as a supervisor does: a folder, a request, a child, its events."""

import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.protocol import (
    EVENT,
    REPORT_JSON,
    Checkpoint,
    Confinement,
    EngineRequest,
    Event,
    OtherModel,
    Stage,
    TrialDone,
    Work,
)
from engine.recipe import Recipe
from engine.report import Report, Trial

COMMAND = [sys.executable, "-I", "-m", "engine"]
DIGITS = Path(__file__).parents[2] / "examples" / "digits"


@dataclass(frozen=True)
class Ended:
    folder: Path
    returncode: int
    events: list[Event]
    errors: str

    @property
    def last(self) -> Event:
        return self.events[-1]

    @property
    def stages(self) -> list[str]:
        return [event.stage for event in self.events if isinstance(event, Stage)]

    @property
    def trials(self) -> list[Trial]:
        return [event.trial for event in self.events if isinstance(event, TrialDone)]

    @property
    def checkpoint(self) -> Path:
        """The last one announced."""
        return self.folder / [event.directory for event in self.events if isinstance(event, Checkpoint)][-1]

    @property
    def report(self) -> Report:
        return Report.model_validate_json((self.checkpoint / REPORT_JSON).read_text())


def prepare(folder: Path, request: EngineRequest, **inputs: Path) -> Path:
    """An attempt's folder; `inputs` become inputs/NAME."""
    (folder / "inputs").mkdir(parents=True)
    (folder / "work").mkdir()
    for name, source in inputs.items():
        shutil.copyfile(source, folder / "inputs" / name)
    (folder / "request.json").write_text(request.model_dump_json())
    return folder


def run(folder: Path, timeout: float = 600, command: Sequence[str] = tuple(COMMAND)) -> Ended:
    done = subprocess.run([*command, str(folder)], capture_output=True, timeout=timeout, check=False)
    events = [EVENT.validate_json(line) for line in done.stdout.splitlines()]
    return Ended(folder, done.returncode, events, done.stderr.decode())


def optimize(
    folder: Path,
    recipe: Recipe,
    *,
    model: Path,
    calibration: Path | None = None,
    evaluation: Path | None = None,
    others: Mapping[str, Path] | None = None,
    confined: bool = False,
) -> Ended:
    """`others` are models that the recipe names, by what it calls them."""
    given = {"model": model, "calibration": calibration, "evaluation": evaluation}
    inputs = {name: path for name, path in given.items() if path is not None}
    names = {name: f"inputs/{name}" for name in inputs}
    walls = Confinement(memory_bytes=16 << 30, file_bytes=1 << 30) if confined else None
    beside = {name: OtherModel(path=f"inputs/{name}", name=path.name) for name, path in (others or {}).items()}
    request = EngineRequest(
        work=Work.OPTIMIZE, recipe=recipe, model_name=model.name, others=beside, confinement=walls, **names
    )
    return run(prepare(folder, request, **inputs, **(others or {})))
