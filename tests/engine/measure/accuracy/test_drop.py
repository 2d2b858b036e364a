"""The interval of a drop is tried on simulated models, where the truth is known."""

import numpy as np
import pytest

from engine.measure.accuracy.decisions import Decision
from engine.measure.accuracy.drop import MOST_BLOCKS, Scores, block_of_each, drop_interval
from engine.measure.accuracy.metrics import MEASURES, Batch
from engine.recipe import Metric
from engine.report import Interval

TRIALS = 150


def interval(reference: np.ndarray, candidate: np.ndarray, *, seed: int = 0, metric: Metric = Metric.TOP1) -> Interval:
    blocks = block_of_each(len(reference), seed)
    scores = Scores.empty(int(blocks.max()) + 1, 1)
    scores.add(blocks, reference[:, None].astype(float), candidate[:, None].astype(float))
    improvement = metric is not Metric.AGREEMENT
    return drop_interval(MEASURES[metric], scores, seed=seed, per_sample=1, improvement=improvement)


def of_classes(
    labels: np.ndarray, before: np.ndarray, after: np.ndarray, *, seed: int = 0, metric: Metric = Metric.F1
) -> Interval:
    measure, decision = MEASURES[metric], Decision(readable=True, classes=3)
    blocks = block_of_each(len(labels), seed)
    scores = Scores.empty(int(blocks.max()) + 1, 6)
    scores.add(blocks, *(measure.numbers(Batch(outputs, labels, decision)) for outputs in (before, after)))
    return drop_interval(measure, scores, seed=seed, per_sample=1, improvement=True)


def models(random: np.random.Generator, samples: int, *, worse: float, better: float) -> tuple[np.ndarray, np.ndarray]:
    """Original and candidate, right or wrong: a share of the samples got worse, another one better."""
    kind = random.choice(3, samples, p=[worse, better, 1 - worse - better])
    right = random.random(samples) < 0.9
    return np.where(kind == 0, True, np.where(kind == 1, False, right)), np.where(
        kind == 0, False, np.where(kind == 1, True, right)
    )


@pytest.mark.parametrize(("worse", "better"), [(0.01, 0.005), (0.05, 0.05), (0.1, 0.0), (0.002, 0.0)])
@pytest.mark.parametrize("samples", [200, 1000])
def test_the_true_drop_lies_inside_in_about_95_of_100_cases(samples: int, worse: float, better: float) -> None:
    random = np.random.default_rng(1)
    seen = [interval(*models(random, samples, worse=worse, better=better), seed=trial) for trial in range(TRIALS)]
    assert np.mean([one.low <= worse - better <= one.high for one in seen]) >= 0.92


def test_where_nothing_changed_in_300_samples_a_percent_may_have() -> None:
    same = np.ones(300)
    found = interval(same, same)
    assert found.value == 0
    assert -0.017 < found.low <= -0.009
    assert 0.009 <= found.high < 0.017


@pytest.mark.parametrize("metric", [Metric.F1, Metric.MIOU])
def test_of_classes_where_nothing_changed_in_300_samples_a_percent_may_have(metric: Metric) -> None:
    labels = np.arange(300) % 3
    found = of_classes(labels, labels, labels, metric=metric)
    assert found.value == 0
    assert -0.025 < found.low <= -0.009 and 0.009 <= found.high < 0.025


def test_the_true_drop_of_f1_lies_inside_in_about_95_of_100_cases() -> None:
    random = np.random.default_rng(1)

    def drawn(samples: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        labels = random.integers(0, 3, samples)
        before = np.where(random.random(samples) < 0.9, labels, (labels + 1) % 3)
        return labels, before, np.where(random.random(samples) < 0.005, (before + 1) % 3, before)

    truth = of_classes(*drawn(400_000)).value
    seen = [of_classes(*drawn(300), seed=trial) for trial in range(TRIALS // 3)]
    assert np.mean([one.low <= truth <= one.high for one in seen]) >= 0.92


def test_no_more_than_everything_can_be_lost() -> None:
    assert interval(np.ones(50), np.zeros(50)).high == 1


@pytest.mark.parametrize("samples", [1, 2, 3, 5])
def test_a_handful_of_samples_say_that_they_say_little(samples: int) -> None:
    found = interval(np.ones(samples), np.ones(samples))
    assert -1 <= found.low < -0.5
    assert 0.5 < found.high <= 1


def test_agreement_cannot_be_gained() -> None:
    same = np.ones(300)
    found = interval(same, same, metric=Metric.AGREEMENT)
    assert (found.value, found.low) == (0, 0)
    assert 0.009 <= found.high < 0.017


def test_imagined_samples_weigh_nothing_beside_many_changes() -> None:
    random = np.random.default_rng(2)
    reference, candidate = models(random, 4000, worse=0.2, better=0.1)
    found = interval(reference, candidate)
    difference = reference.astype(float) - candidate
    expected = 1.96 * difference.std() / np.sqrt(len(difference))
    assert (found.high - found.low) / 2 == pytest.approx(expected, rel=0.1)
    assert found.value == pytest.approx(difference.mean())


def test_a_large_data_set_is_drawn_in_blocks_with_the_same_spread() -> None:
    random = np.random.default_rng(3)
    reference, candidate = models(random, 8 * MOST_BLOCKS, worse=0.1, better=0.05)
    found = interval(reference, candidate)
    difference = reference.astype(float) - candidate
    expected = 1.96 * difference.std() / np.sqrt(len(difference))
    assert (found.high - found.low) / 2 == pytest.approx(expected, rel=0.1)


def test_the_same_seed_gives_the_same_interval() -> None:
    random = np.random.default_rng(4)
    pair = models(random, 300, worse=0.1, better=0.05)
    assert interval(*pair, seed=5) == interval(*pair, seed=5) != interval(*pair, seed=6)


def test_a_larger_error_is_a_drop() -> None:
    reference, candidate = np.full(100, 0.5), np.full(100, 0.75)
    assert interval(reference, candidate, metric=Metric.MSE).value == pytest.approx(0.25)
