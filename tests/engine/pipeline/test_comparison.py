"""Other models of the user's: compared with the first, gone on with, or none at all; in whole jobs, confined."""

from pathlib import Path

import numpy as np
import pytest

from engine.protocol import Finished
from engine.recipe import Distill, Recipe, UseModel
from engine.report import Outcome, TrialState
from tests.engine.attempts import Ended, optimize
from tests.models import mlp, small_cnn

#: a whole job, on a machine that may be busy; it is run once
pytestmark = [pytest.mark.timeout(900), pytest.mark.xdist_group("comparison")]
OTHERS = ("mdl_small", "mdl_same", "mdl_image")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wide perceptron, a narrow one, a copy of the wide one, and a network that sees images; samples of the first."""
    found = tmp_path_factory.mktemp("comparison")
    mlp(width=1500).save(found / "wide.onnx")
    mlp(width=1500).save(found / "mdl_same")
    mlp(width=16).save(found / "mdl_small")
    small_cnn().save(found / "mdl_image")
    np.savez(found / "data.npz", features=np.random.default_rng(0).standard_normal((240, 20)).astype(np.float32))
    return found


def asked(folder: Path, name: str, recipe: Recipe) -> Ended:
    others = {other: folder / other for other in OTHERS}
    model, data = folder / "wide.onnx", folder / "data.npz"
    return optimize(folder / name, recipe, model=model, calibration=data, others=others, confined=True)


@pytest.fixture(scope="module")
def compared(folder: Path) -> Ended:
    return asked(folder, "compared", Recipe(compare=list(OTHERS)))


def test_a_comparison_says_which_is_faster_and_offers_none(compared: Ended) -> None:
    assert isinstance(compared.last, Finished), compared.errors
    report = compared.report
    assert (report.verdict.outcome, report.verdict.chosen, report.verdict.complete) == (Outcome.COMPARED, None, True)
    assert "The fastest of 3: mdl_small is" in report.verdict.headline
    assert "times as fast as wide.onnx (95 %:" in report.verdict.headline
    assert report.optimized == report.baseline
    assert (compared.checkpoint / "model.onnx").read_bytes() == (compared.folder / "inputs" / "model").read_bytes()


def test_each_of_them_has_all_figures(compared: Ended) -> None:
    small, same, _ = compared.report.trials
    assert small.state is same.state is TrialState.COMPARED
    assert small.comparison and small.comparison.speedup and small.comparison.speedup.low > 2
    assert small.comparison.agreement is not None and small.comparison.agreement < 0.9
    assert same.comparison and same.comparison.agreement == 1
    for trial in (small, same):
        assert trial.figures and trial.figures.peak_memory_bytes and trial.figures.latency and trial.figures.macs
        assert trial.profile and trial.profile.operators


def test_one_with_another_interface_is_named_with_the_difference(compared: Ended) -> None:
    other = compared.report.trials[2]
    assert other.state is TrialState.FAILED
    assert "its inputs are “image”, not “features”" in other.reason
    assert any("mdl_image" in reason for reason in compared.report.verdict.reasons)


def test_the_page_of_a_comparison_holds_the_files_side_by_side(compared: Ended) -> None:
    page, text = ((compared.checkpoint / f"report.{kind}").read_text() for kind in ("html", "txt"))
    assert "Side by side" in page and "mdl_small" in page and "Compared" in page
    assert text.startswith("COMPARED") and "peak memory" in text
    assert "improvement" not in (page + text).lower()


def test_a_student_of_the_user_learns_from_the_user_s_teacher(folder: Path) -> None:
    steps = [UseModel(model="mdl_small"), Distill(steps=300, batch_size=32, learning_rate=0.003)]
    report = asked(folder, "taught", Recipe(steps=steps)).report
    used, taught = report.trials
    assert used.label == "mdl_small" and taught.steps[0] == steps[0]
    assert taught.training and taught.training.taught_by == "the original"
    assert used.comparison and taught.comparison
    assert (taught.comparison.agreement or 0) > (used.comparison.agreement or 0) + 0.2


def test_an_analysis_explains_the_model_and_changes_nothing(folder: Path) -> None:
    ended = asked(folder, "analyzed", Recipe(analyze=True))
    report = ended.report
    assert (report.verdict.outcome, report.verdict.complete, report.trials) == (Outcome.ANALYZED, True, [])
    assert report.verdict.headline.startswith("One run of wide.onnx takes")
    assert "% of it" in report.verdict.headline
    assert report.baseline.latency and report.baseline.latency.processes > 1 and report.baseline.peak_memory_bytes
    assert report.profile_before and report.activations
    page = (ended.checkpoint / "report.html").read_text()
    assert "What could be done" in page and "quantize_static" in page
    assert "improvement" not in page.lower()
