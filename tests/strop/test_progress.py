"""What a person reads while a job works says the same as its report."""

import pytest

from engine import words
from engine.recipe import Metric
from engine.report import Accuracy
from strop.progress import trial_lines

UNITS = [(Metric.TOP1, "share"), (Metric.SQNR, "dB"), (Metric.MSE, "squared error")]


@pytest.mark.parametrize(("metric", "unit"), UNITS)
@pytest.mark.parametrize("loss", [0.005, -0.005, 0.01, 0.0, -0.0, 0.0312345, -0.00066, -0.0002, 1.5])
def test_a_loss_is_told_in_the_words_of_the_report(metric: Metric, unit: str, loss: float) -> None:
    accuracy = Accuracy(metric=metric, unit=unit, higher_is_better=True, value=0.9, samples=100)
    drop = {"value": loss, "low": loss - 0.1, "high": loss + 0.1}
    trial = {"comparison": {"accuracy_drop": drop}, "figures": {"accuracy": accuracy.model_dump(mode="json")}}
    assert trial_lines([trial])[0].plain.endswith(f"{metric}: {words.loss(loss, accuracy)} lost")


def test_formats_that_a_quick_look_left_behind_share_a_line() -> None:
    trials = [{"id": "t01", "label": "simplified", "state": "kept"}, *[{"id": "t02", "state": "screened"}] * 3]
    lines = [line.plain for line in trial_lines(trials)]
    assert lines == ["  t01  simplified  kept", "  3 formats left behind after a quick look"]


def test_a_note_stands_at_its_own_trial() -> None:
    lines = [line.plain for line in trial_lines([{"id": "t01"}, {"id": "t02"}], {"t02": "chosen"})]
    assert ["chosen" in line for line in lines] == [False, True]
