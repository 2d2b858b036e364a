"""Figures as a person reads them."""

import pytest

from engine import words
from engine.report import Accuracy, Interval

TOP1 = Accuracy(metric="top1", unit="share", higher_is_better=True, value=0.973, samples=100)
SQNR = Accuracy(metric="sqnr", unit="dB", higher_is_better=True, value=None, samples=100)


@pytest.mark.parametrize(
    ("value", "text"),
    [(2.314, "2.31 ms"), (0.0421, "42.1 µs"), (1500, "1.50 s"), (None, "–"), (float("inf"), "∞"), (float("nan"), "–")],
)
def test_a_time_has_three_digits_and_a_unit_that_fits(value: float | None, text: str) -> None:
    assert words.milliseconds(value) == text


@pytest.mark.parametrize(("value", "text"), [(10, "10 B"), (1_096_000, "1.10 MB"), (0, "0 B"), (None, "–")])
def test_a_size_counts_in_thousands(value: int | None, text: str) -> None:
    assert words.size(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.01, "1 point"), (-0.002, "−0.2 points"), (-1e-9, "0 points"), (0.056, "5.6 points")]
)
def test_a_loss_of_a_share_is_told_in_points(value: float, text: str) -> None:
    assert words.loss(value, TOP1) == text


def test_a_loss_of_fidelity_is_noise() -> None:
    assert words.loss(0.0012, SQNR) == "0.120 % noise"


def test_equal_outputs_have_no_noise_at_all() -> None:
    assert words.metric(SQNR) == "∞ (equal)"


def test_an_interval_names_its_unit_once() -> None:
    assert words.loss_interval(Interval(value=0, low=-0.002, high=0.006), TOP1) == "−0.2 … 0.6 points"


@pytest.mark.parametrize(("after", "text"), [(100.01, "the same"), (27, "−73 %"), (96.26, "−3.74 %"), (500, "+400 %")])
def test_a_change_is_a_percentage(after: float, text: str) -> None:
    assert words.change(100, after) == text


def test_a_share_that_is_hardly_anything_is_not_zero() -> None:
    assert words.share(0.00001) == "< 0.01 %"


@pytest.mark.parametrize(("value", "text"), [(3.4, "3.40 s"), (75, "1 min 15 s"), (float("inf"), "∞")])
def test_a_long_time_is_told_in_minutes(value: float, text: str) -> None:
    assert words.seconds(value) == text
