"""Outputs of real models, from samples to the comparison."""

import tracemalloc
from pathlib import Path

import numpy as np
import onnx
import pytest

from engine.data import Samples, fit_samples, synthetic_samples
from engine.errors import DataRejected, StepFailed
from engine.measure.accuracy import Outputs, compare, run_outputs
from engine.measure.probe.collect import as_numbers
from engine.recipe import Metric, Target
from engine.signature import Signature
from tests.models import Net, recurrent, small_cnn

RANDOM = np.random.default_rng(0)


def outputs(**arrays: np.ndarray) -> Outputs:
    return Outputs(arrays, {})


def samples_for(net: Net, count: int) -> Samples:
    return synthetic_samples(Signature.of(net.model()), count, seed=1)


def test_a_model_runs_on_all_samples_whatever_the_batch(tmp_path: Path) -> None:
    net = small_cnn()
    model, samples = net.save(tmp_path / "model.onnx"), samples_for(net, 10)
    single = run_outputs(model, samples, Target(batch_size=1), tmp_path / "single")
    batched = run_outputs(model, samples, Target(batch_size=4), tmp_path / "batched")
    assert single.arrays["scores"].shape == (10, 10)
    assert np.allclose(single.arrays["scores"], batched.arrays["scores"], atol=1e-5)
    assert isinstance(single.arrays["scores"], np.memmap)


def test_a_model_whose_batch_is_not_in_front_runs_sample_by_sample(tmp_path: Path) -> None:
    net = recurrent()
    rows = RANDOM.standard_normal((6, 7, 1, 4)).astype(np.float32)
    samples = fit_samples({"sequence": rows}, Signature.of(net.model()), None)
    found = run_outputs(net.save(tmp_path / "model.onnx"), samples, Target(), tmp_path / "out")
    assert found.first.shape == (6, 3)


def nonzero() -> Net:
    net = Net()
    net.op("NonZero", net.input("x", ["batch", 4]), name="places")
    return net.output("places", [2, "n"], 7)


def test_an_output_whose_shape_depends_on_the_values_is_compared_run_by_run(tmp_path: Path) -> None:
    net = nonzero()
    rows = np.array([[1, 0, 0, 0], [1, 1, 0, 1], [0, 0, 0, 0]], np.float32)
    samples = fit_samples({"x": rows}, Signature.of(net.model()), None)
    found = run_outputs(net.save(tmp_path / "model.onnx"), samples, Target(), tmp_path / "out")
    assert found.ragged == {"places"}
    assert found.first[:, 1].tolist() == [[0, 0, 0], [0, 1, 3], [0, 0, 0]]


def test_rows_that_were_stored_before_the_shape_changed_are_kept(tmp_path: Path) -> None:
    net = Net()
    net.op("Slice", net.input("x", ["batch", 4]), net.input("from", [1], 7), net.input("to", [1], 7), name="y")
    net.output("y", ["n", 4])
    rows = {"x": np.arange(24, dtype=np.float32).reshape(6, 4), "from": np.zeros((3, 1), int)}
    whole = {"x": rows["x"].reshape(3, 2, 4), "from": rows["from"], "to": np.array([[2], [1], [2]])}
    samples = fit_samples(whole, Signature.of(net.model()), None)
    found = run_outputs(net.save(tmp_path / "model.onnx"), samples, Target(), tmp_path / "out")
    assert found.first[:, :, 0].tolist() == [[0, 4], [8, 0], [16, 20]]


def test_another_number_of_entries_counts_as_noise() -> None:
    few, many = np.ones((4, 2, 3), np.float32), np.ones((4, 3, 3), np.float32)
    before, after = Outputs({"y": few}, {}, frozenset("y")), Outputs({"y": many}, {}, frozenset("y"))
    found = compare(before, after, None, Metric.AUTO, limit=None, seed=0)
    assert (found.candidate.metric, found.drop.value) == ("sqnr", pytest.approx(0.5))
    assert any("changes from run to run" in warning for warning in found.warnings)


def test_labels_say_nothing_of_outputs_whose_shape_changes() -> None:
    found = Outputs({"y": np.ones((4, 2), np.float32)}, {}, frozenset("y"))
    with pytest.raises(DataRejected, match="changes its shape"):
        compare(found, found, np.zeros(4, int), Metric.TOP1, limit=None, seed=0)


def test_words_and_maps_are_compared_as_numbers() -> None:
    words = as_numbers(np.array(["cat", "dog", "cat"], object))
    assert words is not None and (words == words[0]).tolist() == [True, False, True]
    scores = as_numbers([{"dog": 0.2, "cat": 0.8}, {"cat": 0.1, "dog": 0.9}])
    assert scores is not None and scores.tolist() == [[0.8, 0.2], [0.1, 0.9]]


def test_equal_outputs_have_no_drop_and_no_noise() -> None:
    scores, labels = RANDOM.standard_normal((500, 10)).astype(np.float32), RANDOM.integers(0, 10, 500)
    found = compare(outputs(y=scores), outputs(y=scores), labels, Metric.AUTO, limit=0.01, seed=0)
    assert (found.reference, found.drop.value) == (found.candidate, 0)
    assert (found.reference.metric, found.sqnr_db, found.agreement) == ("top1", None, 1)


def test_a_worse_candidate_is_worse_by_the_share_it_loses() -> None:
    labels = RANDOM.integers(0, 10, 1000)
    right, worse = np.eye(10, dtype=np.float32)[labels], np.eye(10, dtype=np.float32)[labels]
    worse[:100] = np.roll(worse[:100], 1, axis=1)
    found = compare(outputs(y=right), outputs(y=worse), labels, Metric.AUTO, limit=0.05, seed=0)
    assert (found.reference.value, found.candidate.value) == (1, 0.9)
    assert found.drop.value == pytest.approx(0.1)
    assert 0.05 < found.drop.low < 0.1 < found.drop.high < 0.15
    assert found.agreement == pytest.approx(0.9)
    assert found.sqnr_db == pytest.approx(10 * np.log10(1000 / 200))


@pytest.mark.parametrize(
    ("arrays", "labels", "metric"),
    [
        (np.zeros((8, 5), np.float32), np.zeros(8, int), "top1"),
        (np.zeros((8, 5, 4, 4), np.float32), np.zeros((8, 4, 4), int), "miou"),
        (np.zeros((8, 4, 4), np.int64), np.zeros((8, 4, 4), int), "miou"),
        (np.zeros((8, 5), np.float32), None, "agreement"),
        (np.zeros((8, 5), np.float32), np.full(8, 0.5), "agreement"),
        (np.zeros((8, 1), np.float32), None, "sqnr"),
        (np.zeros((8, 5, 4, 4), np.float32), None, "sqnr"),
    ],
)
def test_the_metric_follows_from_outputs_and_labels(arrays: np.ndarray, labels: np.ndarray | None, metric: str) -> None:
    found = compare(outputs(y=arrays), outputs(y=arrays), labels, Metric.AUTO, limit=None, seed=0)
    assert found.candidate.metric == metric
    assert any("not classes" in warning for warning in found.warnings) == (labels is not None and metric == "agreement")


@pytest.mark.parametrize("metric", [Metric.F1, Metric.MIOU])
def test_classes_too_many_to_count_one_by_one_are_refused(metric: Metric) -> None:
    """Ids as labels: a table of all numbers up to the largest would not fit into memory."""
    ids = np.array([0, 1, 10**9] * 20)
    with pytest.raises(DataRejected) as caught:
        compare(outputs(y=ids), outputs(y=ids), ids, metric, limit=None, seed=0)
    assert caught.value.code == "labels_classes" and "1000000000" in caught.value.detail


def test_an_image_of_ids_is_judged_by_top1() -> None:
    ids = np.full((8, 4, 4), 10**9)
    found = compare(outputs(y=ids), outputs(y=ids), ids, Metric.AUTO, limit=None, seed=0)
    assert (found.candidate.metric, found.candidate.value) == ("top1", 1)


def test_counting_many_samples_by_class_takes_little_memory() -> None:
    """200,000 decisions among 64 classes, counted all at once, would take 600 MB."""
    labels = np.arange(200_000) % 64
    tracemalloc.start()
    compare(outputs(y=labels), outputs(y=labels), labels, Metric.F1, limit=None, seed=0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 256 << 20


def test_without_labels_a_changed_decision_is_the_drop() -> None:
    before = np.eye(4, dtype=np.float32)[RANDOM.integers(0, 4, 200)]
    after = before.copy()
    after[:10] = np.roll(after[:10], 1, axis=1)
    found = compare(outputs(y=before), outputs(y=after), None, Metric.AUTO, limit=0.1, seed=0)
    assert (found.candidate.metric, found.drop.value) == ("agreement", pytest.approx(0.05))


def test_without_labels_the_drop_of_sqnr_is_the_share_of_noise() -> None:
    before = np.ones((50, 3, 4, 4), np.float32)
    found = compare(outputs(y=before), outputs(y=before * 1.1), None, Metric.SQNR, limit=0.1, seed=0)
    assert found.drop.value == pytest.approx(0.01, rel=1e-4)
    assert (found.candidate.value, found.candidate.higher_is_better) == (pytest.approx(20, abs=1e-3), True)
    assert found.reference.value is None


def test_fidelity_is_that_of_the_worst_output() -> None:
    good, bad = np.ones((20, 4), np.float32), np.ones((20, 2), np.float32)
    found = compare(outputs(a=good, b=bad), outputs(a=good, b=bad * 2), None, Metric.AUTO, limit=None, seed=0)
    assert found.sqnr_db == pytest.approx(0)


@pytest.mark.parametrize("metric", [Metric.TOP1, Metric.TOP5, Metric.F1, Metric.MIOU])
def test_a_metric_that_needs_labels_says_so(metric: Metric) -> None:
    scores = np.zeros((8, 5), np.float32)
    with pytest.raises(DataRejected) as caught:
        compare(outputs(y=scores), outputs(y=scores), None, metric, limit=None, seed=0)
    assert caught.value.code == "labels_missing"
    assert "labels" in caught.value.remedy


@pytest.mark.parametrize(("metric", "labels"), [(Metric.TOP1, np.zeros((8, 3), int)), (Metric.MSE, np.zeros((8, 4)))])
def test_labels_that_do_not_fit_are_refused_with_both_shapes(metric: Metric, labels: np.ndarray) -> None:
    scores = np.zeros((8, 5), np.float32)
    with pytest.raises(DataRejected, match=r"\(8, 5\)") as caught:
        compare(outputs(y=scores), outputs(y=scores), labels, metric, limit=None, seed=0)
    assert caught.value.code == "labels_shape"


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_outputs_that_are_no_longer_finite_fail_the_candidate(broken: float) -> None:
    before = np.ones((8, 5), np.float32)
    after = before.copy()
    after[3, 2] = broken
    with pytest.raises(StepFailed) as caught:
        compare(outputs(y=before), outputs(y=after), None, Metric.AUTO, limit=None, seed=0)
    assert caught.value.code == "outputs_not_finite"


def test_few_samples_are_said_to_be_few() -> None:
    labels = RANDOM.integers(0, 10, 60)
    before = np.eye(10, dtype=np.float32)[labels]
    after = before.copy()
    after[:2] = np.roll(after[:2], 1, axis=1)
    found = compare(outputs(y=before), outputs(y=after), labels, Metric.AUTO, limit=0.01, seed=0)
    assert any("60 samples cannot resolve a drop of 0.01" in warning for warning in found.warnings)


def test_labels_that_the_original_never_meets_are_doubted() -> None:
    labels = RANDOM.integers(0, 10, 300)
    scores = np.eye(10, dtype=np.float32)[labels]
    for given, doubted in ((labels, False), (labels + 100, True), ((labels + 1) % 10, True)):
        found = compare(outputs(y=scores), outputs(y=scores), given, Metric.AUTO, limit=None, seed=0)
        assert any("no more than a guess" in warning for warning in found.warnings) == doubted


def test_a_better_score_at_low_fidelity_is_called_luck() -> None:
    labels = RANDOM.integers(0, 10, 300)
    before = RANDOM.standard_normal((300, 10)).astype(np.float32)
    after = before + np.eye(10, dtype=np.float32)[labels] * 3
    found = compare(outputs(y=before), outputs(y=after), labels, Metric.AUTO, limit=None, seed=0)
    assert found.drop.value < 0
    assert any("luck" in warning for warning in found.warnings)


def test_outputs_of_another_shape_fail_the_candidate() -> None:
    with pytest.raises(StepFailed) as caught:
        compare(outputs(y=np.zeros((8, 5))), outputs(y=np.zeros((8, 4))), None, Metric.AUTO, limit=None, seed=0)
    assert caught.value.code == "outputs_differ"


def test_a_model_without_any_comparable_output_is_refused_with_the_reason(tmp_path: Path) -> None:
    net = Net()
    net.op("SequenceConstruct", net.input("x", ["batch", 4]), name="parts")
    model = net.model()
    model.graph.output.append(onnx.helper.make_tensor_sequence_value_info("parts", 1, None))
    onnx.save(model, tmp_path / "model.onnx")
    samples = fit_samples({"x": np.eye(4, dtype=np.float32)}, Signature.of(net.model()), None)
    with pytest.raises(DataRejected, match="not a tensor of numbers") as caught:
        run_outputs(tmp_path / "model.onnx", samples, Target(), tmp_path / "out")
    assert caught.value.code == "outputs_not_comparable"
