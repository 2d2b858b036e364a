"""A search that was killed goes on with the table that it had: real children, a real kill, files that are torn."""

import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from engine.pipeline.resume import TABLE
from engine.protocol import EVENT, KEPT, Checkpoint, EngineRequest, Finished, Stage, TrialDone, Work
from engine.recipe import Budget, Goal, Limits, Recipe
from tests.engine.attempts import COMMAND, DIGITS, Ended, prepare, run

pytestmark = pytest.mark.timeout(900)  # several attempts at a whole job, on a machine that may be busy
INPUTS = {name: DIGITS / f"{name}.npz" for name in ("calibration", "test")} | {"model": DIGITS / "model.onnx"}
RECIPE = Recipe(goal=Goal(), limits=Limits(accuracy_drop=0.02), budget=Budget(minutes=10))


def attempt(folder: Path, seed: int = 0) -> Path:
    request = EngineRequest(
        work=Work.OPTIMIZE,
        recipe=RECIPE.model_copy(update={"seed": seed}),
        model="inputs/model",
        calibration="inputs/calibration",
        evaluation="inputs/test",
    )
    return prepare(folder, request, **INPUTS)


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[TrialDone]]:
    """The folder of an attempt that was killed as it began to quantize dynamically, and the trials that it told of."""
    folder = attempt(tmp_path_factory.mktemp("killed") / "attempt")
    told: list[TrialDone] = []
    with subprocess.Popen([*COMMAND, str(folder)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
        assert child.stdout is not None
        checkpoints = 0
        for line in child.stdout:
            event = EVENT.validate_json(line)
            told += [event] if isinstance(event, TrialDone) else []
            checkpoints += isinstance(event, Checkpoint) and len(told) > 1
            if checkpoints:
                break
        child.send_signal(signal.SIGKILL)
    return folder, told


def again(killed: Path, folder: Path, seed: int = 0, *, torn: str = "") -> Ended:
    """Another attempt, which finds what the supervisor had put aside."""
    second = attempt(folder, seed)
    kept = second / "work" / KEPT
    shutil.copytree(killed / "work" / KEPT, kept)
    for path in kept.glob(torn) if torn else ():
        path.write_bytes(path.read_bytes()[:-100])
    return run(second)


def test_what_was_tried_is_not_tried_again(killed: tuple[Path, list[TrialDone]], tmp_path: Path) -> None:
    folder, told = killed
    ended = again(folder, tmp_path / "second")
    assert isinstance(ended.last, Finished), ended.errors
    before = {event.trial.id: event.trial for event in told}
    report = ended.report
    assert {trial.id for trial in report.trials} > set(before)
    assert all(trial.seconds == before[trial.id].seconds for trial in report.trials if trial.id in before)
    assert "simplifying" not in ended.stages, "the first step had been taken"
    assert f"{sum(one.figures is not None for one in before.values())} of its trials were not made again" in " ".join(
        report.verdict.reasons
    )
    assert [trial.id for trial in ended.trials][: len(before)] == list(before), "they are told of again"


def test_a_file_that_is_torn_is_made_again(killed: tuple[Path, list[TrialDone]], tmp_path: Path) -> None:
    ended = again(killed[0], tmp_path / "second", torn="trial-*.onnx")
    assert isinstance(ended.last, Finished), ended.errors
    made = [event.stage for event in ended.events if isinstance(event, Stage)]
    assert made.count("quantizing") >= 2
    assert len({trial.id for trial in ended.report.trials}) == len(ended.report.trials)


@pytest.mark.parametrize(("seed", "torn"), [(1, ""), (0, TABLE)])
def test_a_table_that_is_torn_or_of_another_request_is_left_alone(
    killed: tuple[Path, list[TrialDone]], tmp_path: Path, seed: int, torn: str
) -> None:
    ended = again(killed[0], tmp_path / "second", seed, torn=torn)
    assert isinstance(ended.last, Finished), ended.errors
    assert "simplifying" in ended.stages
    assert "were not made again" not in " ".join(ended.report.verdict.reasons)
