"""Each metric against a value worked out by hand or by another library."""

import numpy as np
import pytest
from sklearn.metrics import f1_score, top_k_accuracy_score

from engine.measure.accuracy.decisions import Decision, decision_for_labels, plain
from engine.measure.accuracy.metrics import MEASURES, Batch, in_decibels
from engine.recipe import Metric

RANDOM = np.random.default_rng(0)


def value(metric: Metric, outputs: np.ndarray, target: np.ndarray) -> float:
    outputs, target = plain(outputs), plain(target)
    decision = decision_for_labels(outputs, target) or Decision(readable=True, axis=1)
    measure = MEASURES[metric]
    return float(measure.value(measure.numbers(Batch(outputs, target, decision)).mean(axis=0)))


def test_top1_and_top5_agree_with_scikit_learn() -> None:
    scores, labels = RANDOM.standard_normal((200, 12)), RANDOM.integers(0, 12, 200)
    assert value(Metric.TOP1, scores, labels) == pytest.approx(float(np.mean(scores.argmax(1) == labels)))
    expected = top_k_accuracy_score(labels, scores, k=5, labels=np.arange(12))
    assert value(Metric.TOP5, scores, labels) == pytest.approx(expected)


def test_of_equal_scores_the_first_counts_as_better() -> None:
    equal = np.zeros((2, 8))
    assert value(Metric.TOP1, equal, np.array([0, 7])) == 0.5
    assert value(Metric.TOP5, equal, np.array([4, 5])) == 0.5


def test_macro_f1_agrees_with_scikit_learn() -> None:
    scores, labels = RANDOM.standard_normal((200, 7)), RANDOM.integers(0, 7, 200)
    expected = f1_score(labels, scores.argmax(1), average="macro")
    assert value(Metric.F1, scores, labels) == pytest.approx(float(expected))


def test_mean_intersection_over_union_leaves_out_what_is_no_class() -> None:
    decided = np.array([[[0, 0], [1, 1]]])
    labels = np.array([[[0, 1], [1, 255]]])
    scores = np.stack([decided == 0, decided == 1], axis=1).astype(np.float32)
    assert value(Metric.MIOU, scores, labels) == pytest.approx((1 / 2 + 1 / 2) / 2)


def test_a_class_that_never_occurs_does_not_count() -> None:
    scores = np.eye(5)[[0, 1, 1]]
    assert value(Metric.F1, scores, np.array([0, 1, 1])) == 1
    assert (
        value(
            Metric.MIOU,
            scores.reshape(3, 5, 1, 1).repeat(2, 2).repeat(2, 3),
            np.array([0, 1, 1]).reshape(3, 1, 1).repeat(2, 1).repeat(2, 2),
        )
        == 1
    )


def test_errors_are_means_over_all_elements() -> None:
    assert value(Metric.MSE, np.array([[1.0, 3.0]]), np.array([[0.0, 0.5]])) == pytest.approx((1 + 6.25) / 2)
    assert value(Metric.MAE, np.array([[1.0, 3.0]]), np.array([[0.0, 0.5]])) == pytest.approx((1 + 2.5) / 2)


def test_cosine_of_parallel_opposed_and_empty_vectors() -> None:
    left = np.array([[1.0, 2.0], [1.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
    right = np.array([[2.0, 4.0], [-3.0, 0.0], [0.0, 0.0], [1.0, 0.0]])
    assert value(Metric.COSINE, left, right) == pytest.approx((1 - 1 + 1 + 0) / 4)


def test_a_hundredth_of_the_power_as_noise_is_20_db() -> None:
    signal = np.ones((4, 10))
    noise_over_signal = value(Metric.SQNR, signal * 1.1, signal)
    assert noise_over_signal == pytest.approx(0.01)
    assert in_decibels(noise_over_signal) == pytest.approx(20)
    assert in_decibels(value(Metric.SQNR, signal, signal)) is None


def test_masked_outputs_of_minus_infinity_are_no_noise() -> None:
    signal = np.array([[1.0, -np.inf]])
    assert value(Metric.SQNR, signal, signal) == 0


@pytest.mark.parametrize(
    ("outputs", "labels", "right"),
    [
        (np.array([[[0.1, 0.9]], [[0.8, 0.2]]]), np.array([1, 1]), 0.5),  # (N, 1, C)
        (np.array([0.1, 0.9])[None, :, None, None], np.array([[1]]), 1.0),  # (N, C, 1, 1), labels (N, 1)
        (np.array([[0.7], [0.2]]), np.array([1, 1]), 0.5),  # probability of the one class
        (np.array([3.0, -2.0]), np.array([1.0, 0.0]), 1.0),  # its logit, labels stored as floats
        (np.array([4, 2]), np.array([4, 3]), 0.5),  # decided inside of the graph
        (np.array([[[0.9, 0.1], [0.2, 0.8]]]), np.array([[0, 0]]), 0.5),  # (N, tokens, C)
    ],
)
def test_decisions_are_read_from_outputs_of_many_shapes(outputs: np.ndarray, labels: np.ndarray, right: float) -> None:
    assert value(Metric.TOP1, outputs, labels) == right


def test_labels_of_another_shape_are_no_answer() -> None:
    assert decision_for_labels(np.zeros((4, 10)), np.zeros(3, int)) is None
    assert decision_for_labels(np.zeros((4, 10)), np.full(4, 0.5)) is None
