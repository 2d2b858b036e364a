"""Ranges read from histograms: what each method promises, against sums written out plainly."""

from collections.abc import Callable

import numpy as np
import pytest

from engine.quantize.histograms import BINS, LEVELS, Histogram, divergences, entropy, mse, percentile

METHODS = [entropy, mse]
Method = Callable[[Histogram, int], tuple[float, float]]


def counted(values: np.ndarray) -> Histogram:
    histogram = Histogram.over(float(values.min(initial=0)), float(values.max(initial=0)))
    histogram.add(values.astype(np.float32))
    return histogram


def normal(count: int = 40_000) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(count)


def with_outliers() -> np.ndarray:
    values = normal()
    values[:3], values[3:5] = 60, -40
    return values


SHAPES = {
    "two-sided": normal(),
    "behind a Relu": np.maximum(normal(), 0),
    "negative": -np.abs(normal()),
    "off centre": normal() + 2,
    "far from zero": 5 + 0.1 * normal(),
    "few": normal(30) + 3,
    "long tails": np.random.default_rng(0).laplace(size=40_000),
    "outliers": with_outliers(),
    "behind a SiLU": 3 * normal() / (1 + np.exp(-3 * normal())),
    "behind a Clip": np.clip(2 * normal() + 1, 0, 6),
}
shapes = pytest.mark.parametrize("values", SHAPES.values(), ids=SHAPES.keys())


# ── counts ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("parts", [1, 2, 5, 64])
def test_histograms_add_up_however_values_are_split(parts: int) -> None:
    values = np.maximum(normal(10_007), -1).astype(np.float32)
    values[::7] = 0
    whole, split = Histogram.over(-1, 5), Histogram.over(-1, 5)
    whole.add(values)
    for part in np.array_split(values, parts):
        split.add(part)
    assert split.counts.tolist() == whole.counts.tolist()
    assert (split.zeros, whole.zeros) == (1430, 1430)
    assert whole.counts.sum() + whole.zeros == len(values)


@shapes
def test_zero_lies_between_two_bins_and_the_extremes_in_bins_of_their_own(values: np.ndarray) -> None:
    histogram = counted(values)
    assert histogram.counts[: histogram.origin].sum() == np.count_nonzero(values < 0)
    assert histogram.counts[histogram.origin :].sum() == np.count_nonzero(values > 0)
    assert histogram.between(0, BINS) == (histogram.low, histogram.high)
    assert BINS * histogram.width <= 1.001 * (histogram.high - histogram.low)


def test_folding_counts_absolute_values() -> None:
    values = normal() + 1
    folded = counted(values).folded()
    edges = np.arange(len(folded.counts) + 1) * folded.width
    assert np.abs(folded.counts - np.histogram(np.abs(values), edges)[0]).sum() < 20  # float32 at the edges
    assert folded.high == pytest.approx(np.abs(values).max())


@pytest.mark.parametrize("value", [0.0, 3.0, -3.0, 1e-42, 3e38])
@pytest.mark.parametrize("method", METHODS)
def test_a_constant_keeps_its_range(method: Method, value: float) -> None:
    low, high = method(counted(np.full(100, value)), LEVELS)
    assert low == pytest.approx(min(value, 0), rel=1e-3)
    assert high == pytest.approx(max(value, 0), rel=1e-3)


@pytest.mark.parametrize("method", METHODS)
def test_nothing_seen_leaves_the_range_as_it_was(method: Method) -> None:
    assert method(Histogram.over(-1, 2), LEVELS) == (-1, 2)
    assert percentile(Histogram.over(-1, 2), 99) == (-1, 2)


# ── percentile ───────────────────────────────────────────────────────────────────────────────────────────────────────


def share_inside(values: np.ndarray, percent: float) -> float:
    low, high = percentile(counted(values), percent)
    return float(np.mean((values >= low - 1e-6) & (values <= high + 1e-6)))


@shapes
@pytest.mark.parametrize("percent", [99.9, 95.0])
def test_a_percentile_holds_so_many_values(values: np.ndarray, percent: float) -> None:
    assert share_inside(values, percent) >= percent / 100


@pytest.mark.parametrize("percent", [99.9, 95.0])
def test_a_percentile_leaves_out_the_rest_half_of_it_on_either_side(percent: float) -> None:
    assert share_inside(normal(), percent) == pytest.approx(percent / 100, abs=2e-3)
    assert share_inside(np.maximum(normal(), 0), percent) == pytest.approx(0.5 + percent / 200, abs=2e-3)


def test_a_hundred_percent_is_minmax() -> None:
    histogram = counted(normal())
    assert percentile(histogram, 100) == (histogram.low, histogram.high)


def test_a_relu_output_keeps_its_zero() -> None:
    assert percentile(counted(np.maximum(normal(), 0)), 99.9)[0] == 0


# ── mean squared error ───────────────────────────────────────────────────────────────────────────────────────────────


def squared_error(values: np.ndarray, low: float, high: float) -> float:
    """Of 8 bits with a whole zero point, value by value."""
    scale = (high - low) / (LEVELS - 1)
    zero = np.rint(-low / scale)
    restored = (np.clip(np.rint(values / scale) + zero, 0, LEVELS - 1) - zero) * scale
    return float(np.mean((values - restored) ** 2))


@shapes
def test_no_scaled_range_has_a_clearly_smaller_squared_error(values: np.ndarray) -> None:
    found = squared_error(values, *mse(counted(values), LEVELS))
    low, high = min(values.min(), 0), max(values.max(), 0)
    fractions = np.geomspace(0.02, 1, 16)
    least = min(squared_error(values, low * one, high * other) for one in fractions for other in fractions)
    assert found <= 1.05 * least


# ── entropy ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def plain_divergence(counts: np.ndarray, low: int, high: int, levels: int) -> float:
    """KL(P‖Q), bin by bin."""
    inner = counts[low:high].astype(float)
    filled = np.flatnonzero(inner)
    p, q = inner.copy(), np.zeros(high - low)
    p[filled[0]] += counts[:low].sum()
    p[filled[-1]] += counts[high:].sum()
    level_of = np.searchsorted(
        np.rint((np.arange(1, levels) - 0.5) / (levels - 1) * (high - low)), np.arange(high - low), "right"
    )
    for level in range(levels):
        members = filled[level_of[filled] == level]
        if len(members):
            q[members] = inner[members].sum() / len(members)
    p, q = p / p.sum(), q / q.sum()
    return float(np.sum(p[filled] * np.log(p[filled] / q[filled])))


@shapes
def test_divergences_are_those_written_out_plainly(values: np.ndarray) -> None:
    histogram = counted(values)
    lows = np.linspace(0, histogram.origin, 5).astype(int)
    highs = np.linspace(BINS, max(histogram.origin, LEVELS), 5).astype(int)
    pairs = np.array([(low, high) for low in lows for high in highs if high - low >= LEVELS])
    found = divergences(histogram.counts, LEVELS)(*pairs.T)
    for (low, high), value in zip(pairs, found, strict=True):
        if np.isfinite(value):
            assert value == pytest.approx(plain_divergence(histogram.counts, low, high, LEVELS), abs=1e-8)
        else:
            assert histogram.counts[low:high].sum() < 0.99 * histogram.counts.sum()
    assert np.isfinite(found).any()


@shapes
def test_no_scaled_range_has_a_clearly_smaller_divergence(values: np.ndarray) -> None:
    histogram = counted(values)
    low, high = entropy(histogram, LEVELS)
    edges = [round(end / histogram.width) + histogram.origin for end in (low, high)]
    costs = divergences(histogram.counts, LEVELS)
    fractions = np.geomspace(0.02, 1, 20)
    lows = np.rint(histogram.origin * (1 - fractions)).astype(int)
    highs = np.rint(histogram.origin + (BINS - histogram.origin) * fractions).astype(int)
    grid = np.array([(one, other) for one in lows for other in highs])
    assert costs(*np.array([edges]).T)[0] <= 1.1 * costs(*grid.T).min() + 1e-4


def test_entropy_cuts_off_outliers_at_either_end_and_nothing_else() -> None:
    low, high = entropy(counted(with_outliers()), LEVELS)
    assert -10 < low < -3
    assert 3 < high < 10
    uniform = np.random.default_rng(0).uniform(-1, 3, 40_000)
    assert entropy(counted(uniform), LEVELS) == (pytest.approx(-1, abs=0.01), pytest.approx(3, abs=0.01))


# ── both ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("method", METHODS)
@shapes
def test_zeros_change_no_range(values: np.ndarray, method: Method) -> None:
    many = np.concatenate([values, np.zeros(10 * len(values))])
    assert method(counted(many), LEVELS) == method(counted(values), LEVELS)


@pytest.mark.parametrize("method", METHODS)
@shapes
def test_ranges_hold_zero_and_stay_inside_the_extremes(values: np.ndarray, method: Method) -> None:
    histogram = counted(values)
    low, high = method(histogram, LEVELS)
    assert histogram.low <= low <= 0 <= high <= histogram.high
    assert np.mean((values >= low) & (values <= high)) >= 0.95
