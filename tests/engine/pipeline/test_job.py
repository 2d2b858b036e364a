"""Whole jobs on a real model, run as a supervisor does. What is faster depends on the machine; what must hold, not."""

import hashlib
import shutil
import signal
import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest

from engine.protocol import EVENT, Checkpoint, EngineRequest, Failed, Finished, Progress, Work
from engine.recipe import Budget, Calibration, Goal, Limits, QuantizeDynamic, Recipe
from engine.report import Outcome, Report, TrialState
from tests.engine.attempts import COMMAND, DIGITS, Ended, optimize, prepare
from tests.engine.steps.outcome import FIXED
from tests.models import Net

MODEL, CALIBRATION, TEST = (DIGITS / name for name in ("model.onnx", "calibration.npz", "test.npz"))
pytestmark = pytest.mark.xdist_group("goal")  # the whole job is run once
CONTENTS = {"model.onnx", "report.json", "report.html", "report.txt", "candidates"}


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def goal(tmp_path_factory: pytest.TempPathFactory) -> Ended:
    """The fastest within one point of top-1, confined."""
    recipe = Recipe(goal=Goal(), limits=Limits(accuracy_drop=0.01), budget=Budget(minutes=10))
    return optimize(
        tmp_path_factory.mktemp("goal") / "attempt",
        recipe,
        model=MODEL,
        calibration=CALIBRATION,
        evaluation=TEST,
        confined=True,
    )


def test_a_goal_ends_with_a_complete_checkpoint(goal: Ended) -> None:
    assert goal.returncode == 0 and isinstance(goal.last, Finished), goal.errors
    assert {path.name for path in goal.checkpoint.iterdir()} == CONTENTS
    assert goal.report.verdict.complete


def test_only_the_last_checkpoint_is_left(goal: Ended) -> None:
    assert list(goal.checkpoint.parent.iterdir()) == [goal.checkpoint]


def test_the_offered_file_is_the_chosen_trial_or_the_original(goal: Ended) -> None:
    report = goal.report
    by_id = {trial.id: trial.sha256 for trial in report.trials}
    wanted = by_id[report.verdict.chosen] if report.verdict.chosen else sha256(MODEL)
    assert sha256(goal.checkpoint / "model.onnx") == wanted


def test_a_success_is_measurably_faster_and_inside_the_limit(goal: Ended) -> None:
    report = goal.report
    if report.verdict.outcome is Outcome.NO_IMPROVEMENT:
        pytest.skip("8 bits bring nothing on this machine")
    assert report.comparison.speedup and report.comparison.speedup.low > 1
    assert report.comparison.accuracy_drop and report.comparison.accuracy_drop.value <= 0.01
    assert report.verdict.within_limit is True


def test_every_candidate_on_offer_is_there_and_loads(goal: Ended) -> None:
    offered = {trial.file for trial in goal.report.trials if trial.file}
    files = list((goal.checkpoint / "candidates").iterdir())
    assert {path.name for path in files} == offered
    for path in files:
        onnx.checker.check_model(str(path))


def test_a_step_that_does_not_apply_is_a_trial_with_a_reason(goal: Ended) -> None:
    skipped = [trial for trial in goal.report.trials if trial.state is TrialState.SKIPPED]
    assert any(trial.steps[-1].kind == "quantize_dynamic" and len(trial.reason) > 20 for trial in skipped)


def test_the_evidence_is_complete(goal: Ended) -> None:
    report = goal.report
    assert report.environment.sandbox != "none"
    assert report.environment.digests["model"] == sha256(MODEL)
    assert report.environment.noise_floor and report.environment.evaluation_samples == 532
    assert report.series and report.profile_before and report.findings
    assert report.baseline.latency and report.baseline.latency.processes >= 3
    assert report.baseline.peak_memory_bytes and report.baseline.macs
    assert report.baseline.accuracy and report.baseline.accuracy.metric == "top1"


def test_the_final_accuracy_is_of_samples_that_the_search_never_saw(goal: Ended) -> None:
    weighed = [
        trial.figures.accuracy.samples for trial in goal.report.trials if trial.figures and trial.figures.accuracy
    ]
    finalists, others = weighed.count(532), weighed.count(265)
    assert 1 <= finalists <= 3 and finalists + others == len(weighed)
    assert any(
        "265 samples; the finalists were judged by 532 others" in reason for reason in goal.report.verdict.reasons
    )


def test_progress_grows_and_the_stages_are_told(goal: Ended) -> None:
    fractions = [event.fraction for event in goal.events if isinstance(event, Progress)]
    assert fractions == sorted(fractions) and fractions[-1] > 0.95
    assert {"baseline", "simplifying", "quantizing", "evaluating", "measuring", "reporting"} <= set(goal.stages)


def test_every_trial_was_told_as_it_ended(goal: Ended) -> None:
    told = {trial.id: trial for trial in goal.trials}
    assert [(trial.id, trial.state) for trial in told.values()] == [
        (trial.id, trial.state) for trial in goal.report.trials
    ], "in order, and at last as the report shows them"


def test_the_recipe_to_reproduce_makes_the_same_file(goal: Ended, tmp_path: Path) -> None:
    report = goal.report
    trial = next(trial for trial in report.trials if trial.id == (report.verdict.chosen or "t02"))
    again = optimize(
        tmp_path / "attempt",
        Recipe(steps=trial.steps, limits=report.recipe.limits),
        model=MODEL,
        calibration=CALIBRATION,
        evaluation=TEST,
    )
    assert again.report.trials[-1].steps == trial.steps
    assert again.report.trials[-1].sha256 == trial.sha256


DECIDED = FIXED.model_copy(update={"calibration": Calibration.PERCENTILE, "samples": 256})


def test_a_missed_limit_returns_the_original_and_says_why(tmp_path: Path) -> None:
    ruinous = DECIDED.model_copy(update={"percentile": 90})
    recipe = Recipe(steps=[QuantizeDynamic(), ruinous], limits=Limits(accuracy_drop=0.001))
    ended = optimize(tmp_path / "attempt", recipe, model=MODEL, calibration=CALIBRATION, evaluation=TEST)
    report = ended.report
    assert report.verdict.outcome is Outcome.NO_IMPROVEMENT and report.reproduce == []
    assert sha256(ended.checkpoint / "model.onnx") == sha256(MODEL)
    assert [trial.state for trial in report.trials] == [TrialState.SKIPPED, TrialState.REJECTED]
    assert "the limit is 0.1 points" in report.trials[-1].reason


def test_where_nothing_helps_the_original_comes_back_byte_by_byte(tmp_path: Path) -> None:
    net = Net()
    net.op("Relu", net.op("Add", net.input("x", ["batch", 8]), net.weight(8)), name="y")
    model = net.output("y", ["batch", 8]).save(tmp_path / "model.onnx")
    ended = optimize(tmp_path / "attempt", Recipe(goal=Goal()), model=model)
    assert ended.report.verdict.outcome is Outcome.NO_IMPROVEMENT
    assert (ended.checkpoint / "model.onnx").read_bytes() == model.read_bytes()
    assert ended.report.verdict.reasons
    assert ended.report.environment.data_source == "synthetic"
    assert any("No data was uploaded" in warning for warning in ended.report.warnings)


def test_one_data_set_is_split_and_the_budget_of_trials_is_kept(tmp_path: Path) -> None:
    recipe = Recipe(steps=[DECIDED, DECIDED.model_copy(update={"percentile": 99})], budget=Budget(trials=1))
    ended = optimize(tmp_path / "attempt", recipe, model=MODEL, calibration=TEST)
    environment = ended.report.environment
    assert environment.calibration_samples and environment.evaluation_samples
    assert environment.calibration_samples + environment.evaluation_samples == 797
    assert len(ended.report.trials) == 1


def test_a_budget_of_seconds_still_ends_with_a_report(tmp_path: Path) -> None:
    recipe = Recipe(goal=Goal(), budget=Budget(minutes=0.02))
    ended = optimize(tmp_path / "attempt", recipe, model=MODEL, calibration=CALIBRATION)
    assert isinstance(ended.last, Finished)
    assert "budget ended" in ended.report.verdict.headline


def test_data_that_does_not_fit_fails_the_job_with_the_remedy(tmp_path: Path) -> None:
    np.savez(tmp_path / "wrong.npz", image=np.zeros((8, 3, 9, 9), np.float32))
    ended = optimize(tmp_path / "attempt", Recipe(goal=Goal()), model=MODEL, calibration=tmp_path / "wrong.npz")
    assert ended.returncode == 1
    assert isinstance(ended.last, Failed) and ended.last.code == "dataset_shape" and ended.last.remedy


def test_a_checkpoint_is_complete_when_the_child_is_killed(tmp_path: Path) -> None:
    request = EngineRequest(work=Work.OPTIMIZE, recipe=Recipe(goal=Goal()), model="inputs/model")
    folder = prepare(tmp_path / "attempt", request, model=MODEL)
    with subprocess.Popen([*COMMAND, str(folder)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
        assert child.stdout is not None
        announced = next(event for line in child.stdout if isinstance(event := EVENT.validate_json(line), Checkpoint))
        child.send_signal(signal.SIGKILL)
    published = shutil.copytree(folder / announced.directory, tmp_path / "published")
    assert {path.name for path in published.iterdir()} == CONTENTS
    report = Report.model_validate_json((published / "report.json").read_text())
    assert not report.verdict.complete
    assert sha256(published / "model.onnx") == sha256(MODEL)
