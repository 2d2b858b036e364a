"""The interval of a speed-up is tried on simulated machines, where the truth is known."""

from math import exp, log

import numpy as np
import pytest

from engine.measure.intervals import speedup_interval
from engine.measure.spread import MedianInterval, median_interval

TRIALS, ROUNDS = 400, 60


def processes(
    random: np.random.Generator, *, speedup: float, count: int, spread: float, noise: float = 0.02
) -> list[MedianInterval]:
    """Medians of processes that differ by `spread`, from rounds that differ by `noise`."""
    offsets = random.normal(log(speedup), spread, count)
    return [median_interval(offset + noise * random.standard_t(3, ROUNDS)) for offset in offsets]


@pytest.mark.parametrize("count", [1, 2, 4, 8])
@pytest.mark.parametrize("spread", [0.002, 0.01])
def test_a_file_against_itself_includes_1_in_about_95_of_100_measurements(count: int, spread: float) -> None:
    random = np.random.default_rng(1)
    intervals = [speedup_interval(processes(random, speedup=1.0, count=count, spread=spread)) for _ in range(TRIALS)]
    assert np.mean([interval.low <= 1 <= interval.high for interval in intervals]) >= 0.93


@pytest.mark.parametrize("count", [2, 4, 8])
@pytest.mark.parametrize("spread", [0.02, 0.1])
def test_processes_that_differ_more_than_expected_are_still_covered(count: int, spread: float) -> None:
    random = np.random.default_rng(2)
    intervals = [speedup_interval(processes(random, speedup=1.3, count=count, spread=spread)) for _ in range(TRIALS)]
    assert np.mean([interval.low <= 1.3 <= interval.high for interval in intervals]) >= 0.93


def test_a_true_gain_of_3_percent_is_found() -> None:
    random = np.random.default_rng(3)
    intervals = [speedup_interval(processes(random, speedup=1.03, count=5, spread=0.005)) for _ in range(TRIALS)]
    assert np.mean([interval.low > 1 for interval in intervals]) > 0.95
    assert np.mean([interval.value for interval in intervals]) == pytest.approx(1.03, abs=0.002)


def test_a_spread_over_rounds_alone_never_passes_for_certainty() -> None:
    """Thousands of rounds in one process leave the difference between processes unknown."""
    interval = speedup_interval([median_interval(np.full(5000, log(1.03)))])
    assert interval.low < 1 < interval.value


def test_more_processes_give_a_narrower_interval() -> None:
    sure = MedianInterval(-0.001, 0.0, 0.001)
    widths = [speedup_interval([sure] * count) for count in (1, 2, 4, 8)]
    spans = [interval.high - interval.low for interval in widths]
    assert spans == sorted(spans, reverse=True)


def test_ratios_are_averaged_so_that_a_half_and_a_double_cancel() -> None:
    pair = [MedianInterval(log(ratio), log(ratio), log(ratio)) for ratio in (0.5, 2.0)]
    assert speedup_interval(pair).value == pytest.approx(exp(0))


def test_the_interval_of_a_median_holds_the_true_one() -> None:
    random = np.random.default_rng(4)
    intervals = [median_interval(random.exponential(size=50)) for _ in range(TRIALS)]
    assert np.mean([interval.low <= log(2) <= interval.high for interval in intervals]) >= 0.93


def test_the_interval_of_a_few_values_is_their_range() -> None:
    assert median_interval(np.array([3.0, 1.0, 2.0])) == (1.0, 2.0, 3.0)
