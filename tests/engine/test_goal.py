"""What counts as better, beyond doubt."""

import pytest

from engine import goal
from engine.recipe import Minimize
from engine.report import Comparison, Interval
from tests.engine.pipeline.candidates import figures


def interval(low: float, high: float) -> Interval:
    return Interval(value=(low + high) / 2, low=low, high=high)


NOISE = interval(0.97, 1.03)


@pytest.mark.parametrize(("low", "high"), [(0.95, 1.2), (1.0, 1.1), (0.6, 0.7)])
def test_an_interval_that_reaches_down_to_one_is_no_improvement(low: float, high: float) -> None:
    assert not goal.holds(interval(low, high), Minimize.LATENCY, NOISE)


def test_what_the_original_gains_on_itself_is_no_improvement() -> None:
    assert not goal.holds(interval(1.005, 1.045), Minimize.LATENCY, NOISE)
    assert goal.holds(interval(1.02, 1.08), Minimize.LATENCY, NOISE)


def test_what_was_not_measured_is_no_improvement() -> None:
    assert not goal.holds(None, Minimize.LATENCY, NOISE)


def test_memory_must_gain_more_than_processes_differ_by() -> None:
    before, after = figures(1, memory=100_000_000), figures(1, memory=98_500_000)
    gain = goal.gain(Minimize.MEMORY, before, after, Comparison())
    assert not goal.holds(gain, Minimize.MEMORY)
    much = goal.gain(Minimize.MEMORY, before, figures(1, memory=80_000_000), Comparison())
    assert much and much.value == 1.25 and goal.holds(much, Minimize.MEMORY)


def test_the_size_of_a_file_is_exact() -> None:
    gain = goal.gain(Minimize.SIZE, figures(1, 1000), figures(1, 500), Comparison())
    assert gain == Interval(value=2, low=2, high=2)
