"""A search that was killed goes on with the table that it had: real children, a real kill, files that are torn."""

import shutil
import signal
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from engine.digest import sha256
from engine.pipeline.resume import TABLE, Memory
from engine.pipeline.trials import Candidate
from engine.protocol import EVENT, KEPT, Checkpoint, EngineRequest, Event, Finished, Stage, TrialDone, Work
from engine.recipe import Budget, Goal, Limits, PruneChannels, QuantizeStatic, Recipe, SimplifyGraph
from engine.report import Trial
from tests.engine.attempts import COMMAND, DIGITS, prepare, run
from tests.engine.pipeline.candidates import candidate, table

#: several attempts at a whole job, on a machine that may be busy; what they begin with is made once
pytestmark = [pytest.mark.timeout(900), pytest.mark.xdist_group("resume")]
INPUTS = {name: DIGITS / f"{name}.npz" for name in ("calibration", "test")} | {"model": DIGITS / "model.onnx"}
RECIPE = Recipe(goal=Goal(), limits=Limits(accuracy_drop=0.02), budget=Budget(minutes=10))


def attempt(folder: Path, seed: int = 0, minutes: float = 10) -> Path:
    request = EngineRequest(
        work=Work.OPTIMIZE,
        recipe=RECIPE.model_copy(update={"seed": seed, "budget": Budget(minutes=minutes)}),
        model="inputs/model",
        calibration="inputs/calibration",
        evaluation="inputs/test",
    )
    return prepare(folder, request, **INPUTS)


def until(folder: Path, is_enough: Callable[[list[Event]], bool]) -> list[Event]:
    """What an attempt told until it was killed."""
    events: list[Event] = []
    with subprocess.Popen([*COMMAND, str(folder)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
        assert child.stdout is not None
        for line in child.stdout:
            events.append(EVENT.validate_json(line))
            if is_enough(events):
                break
        child.send_signal(signal.SIGKILL)
    return events


def trials(events: Sequence[Event]) -> list[Trial]:
    return [event.trial for event in events if isinstance(event, TrialDone)]


def stages(events: Sequence[Event]) -> list[str]:
    return [event.stage for event in events if isinstance(event, Stage)]


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Trial]]:
    """The folder of an attempt that was killed after its second step, and the trials that it told of."""
    folder = attempt(tmp_path_factory.mktemp("killed") / "attempt")
    events = until(folder, lambda events: len(trials(events)) > 1 and isinstance(events[-1], Checkpoint))
    return folder, trials(events)


def second(killed: Path, folder: Path, seed: int = 0, *, minutes: float = 10, torn: str = "") -> Path:
    """Another attempt, which finds what the supervisor had put aside."""
    found = attempt(folder, seed, minutes)
    kept = found / "work" / KEPT
    shutil.copytree(killed / "work" / KEPT, kept)
    for path in kept.glob(torn) if torn else ():
        path.write_bytes(path.read_bytes()[:-100])
    return found


def test_what_was_tried_is_not_tried_again(killed: tuple[Path, list[Trial]], tmp_path: Path) -> None:
    folder, told = killed
    ended = run(second(folder, tmp_path / "second"))
    assert isinstance(ended.last, Finished), ended.errors
    before = {trial.id: trial for trial in told}
    report = ended.report
    assert {trial.id for trial in report.trials} > set(before)
    assert all(trial.seconds == before[trial.id].seconds for trial in report.trials if trial.id in before)
    assert "simplifying" not in ended.stages, "the first step had been taken"
    again = sum(trial.figures is not None for trial in told)
    assert any(reason.startswith(f"{again} trials of an earlier attempt or job") for reason in report.verdict.reasons)
    assert [trial.id for trial in ended.trials][: len(before)] == list(before), "they are told of again"
    told = {trial.id: trial.state for trial in ended.trials}
    assert told == {trial.id: trial.state for trial in report.trials}, "what became of each is told in the end"


def test_a_file_that_is_torn_is_made_again(killed: tuple[Path, list[Trial]], tmp_path: Path) -> None:
    folder = second(killed[0], tmp_path / "second", torn="trial-*.onnx")
    events = until(folder, lambda events: "quantizing" in stages(events))
    assert stages(events)[-1] == "quantizing" and "simplifying" not in stages(events)


def test_a_job_with_another_budget_does_not_try_again_what_was_tried(
    killed: tuple[Path, list[Trial]], tmp_path: Path
) -> None:
    folder = second(killed[0], tmp_path / "second", minutes=7)
    events = until(folder, lambda events: "quantizing" in stages(events))
    assert "simplifying" not in stages(events)


@pytest.mark.parametrize(("seed", "torn"), [(1, ""), (0, TABLE)])
def test_a_table_that_is_torn_or_of_another_request_is_left_alone(
    killed: tuple[Path, list[Trial]], tmp_path: Path, seed: int, torn: str
) -> None:
    folder = second(killed[0], tmp_path / "second", seed, torn=torn)
    events = until(folder, lambda events: bool(trials(events)))
    assert stages(events)[-1] == "simplifying" and len(trials(events)) == 1


# ── which files are needed ───────────────────────────────────────────────────────────────────────────────────────────


def shop(folder: Path, *made: Candidate) -> Any:
    """As much of a pipeline as its memory looks at: what these came to by their own steps, their files in a folder."""
    folder.mkdir()
    found = []
    for one in made:
        path = folder / f"{one.id}.onnx"
        path.write_bytes(one.id.encode())
        found.append(replace(one, path=path, sha256=sha256(path)))
    trials, _ = table(*found)
    taken = {one.steps: one for one in found}
    costs = dict.fromkeys((SimplifyGraph, PruneChannels, QuantizeStatic), 1.0)
    return SimpleNamespace(trials=trials, taken=taken, costs=costs, cut_short={}, bench=SimpleNamespace(folder=folder))


SMALLER = (SimplifyGraph(), PruneChannels(time_share=0.4))
MANY = [candidate(f"t{number:02d}", 2 + number / 10, 0.0) for number in range(10, 30)]


def recalled(folder: Path, before: Any) -> Any:
    memory = Memory(folder / "kept", "key")
    memory.write(before)
    again = shop(folder / "again")
    again.count = memory.recall(again)
    return again


def test_what_may_still_be_taught_keeps_its_file(tmp_path: Path) -> None:
    to_teach = candidate("t01", 2.0, 0.2, steps=SMALLER)
    again = recalled(tmp_path, shop(tmp_path / "before", to_teach, *MANY))
    assert again.taken[SMALLER].path.read_bytes() == b"t01"


def test_files_outlive_the_folder_of_the_memory(tmp_path: Path) -> None:
    again = recalled(tmp_path, shop(tmp_path / "before", *MANY))
    shutil.rmtree(tmp_path / "kept")
    assert again.trials.chosen and again.trials.candidates[again.trials.chosen].path.exists()


def test_what_only_stood_beside_others_is_a_row_that_cannot_be_chosen(tmp_path: Path) -> None:
    again = recalled(tmp_path, shop(tmp_path / "before", *MANY))
    assert again.count == len(MANY)
    assert all(one.path.exists() for one in again.trials.candidates.values())
    assert again.trials.ids == {one.id for one in MANY}


def test_what_was_outside_of_the_limit_is_not_said_to_have_been_beaten(tmp_path: Path) -> None:
    many = [candidate(f"t{number:02d}", 2 + number / 10, 0.0) for number in range(10, 40)]
    lossy = candidate("t40", 5.08, 0.021, steps=(QuantizeStatic(samples=7),))
    again = recalled(tmp_path, shop(tmp_path / "before", *many, lossy, candidate("t41", 1.5)))
    rows = {row.id: row for row in again.trials.rows()}
    assert "t40" not in again.trials.candidates and rows["t40"].state == "rejected"
    assert "2.1 points" in rows["t40"].reason
    assert "its file was not kept" in rows["t10"].reason and rows["t10"].state == "dominated"


def test_a_step_that_was_cut_short_is_taken_again(tmp_path: Path) -> None:
    whole, short = candidate("t01", 2.0, steps=SMALLER[:1]), candidate("t02", 3.0, steps=SMALLER)
    before = shop(tmp_path / "before", whole, short)
    before.cut_short[SMALLER] = ["t02"]
    again = recalled(tmp_path, before)
    assert SMALLER[:1] in again.taken and SMALLER not in again.taken
    assert again.trials.ids == {"t01"}
