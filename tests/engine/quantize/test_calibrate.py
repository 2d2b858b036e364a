"""Ranges of activations: exact for min-max, robust for percentiles, the same however samples are batched."""

import resource
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from engine.data import fit_samples, synthetic_samples
from engine.errors import StepFailed
from engine.quantize.calibrate import Calibrator, Ranges, histogram, inner_range
from engine.signature import Signature
from tests.models import Net, small_cnn


def scaling() -> Net:
    net = Net()
    net.op("Mul", net.input("x", ["batch", 1000]), net.constant(np.float32(2)), name="y")
    return net.output("y", ["batch", 1000])


def calibrator(net: Net, values: np.ndarray, folder: Path, pause: Callable[[], None] = lambda: None) -> Calibrator:
    model = net.model()
    samples = fit_samples({net.inputs[0].name: values}, Signature.of(model), None)
    return Calibrator(model, samples, folder, threads=1, pause=pause)


def test_minmax_is_exact_for_inputs_and_inner_tensors(tmp_path: Path) -> None:
    values = np.random.default_rng(0).standard_normal((20, 1000)).astype(np.float32)
    ranges = calibrator(scaling(), values, tmp_path).minmax(["x", "y"])
    assert ranges["x"] == (values.min(), values.max())
    assert ranges["y"] == (2 * values.min(), 2 * values.max())


def test_a_percentile_leaves_out_as_many_values_as_it_says(tmp_path: Path) -> None:
    values = np.random.default_rng(0).uniform(-1, 1, (50, 1000)).astype(np.float32)
    values[0, 0], values[1, 1] = 100, -100
    judge = calibrator(scaling(), values, tmp_path)
    low, high = judge.percentile(judge.minmax(["x"]), 99.9)["x"]
    assert -1.1 < low < -0.95
    assert 0.95 < high < 1.1


def test_a_hundred_percent_is_minmax(tmp_path: Path) -> None:
    values = np.random.default_rng(0).uniform(-1, 1, (5, 1000)).astype(np.float32)
    judge = calibrator(scaling(), values, tmp_path)
    ranges = judge.minmax(["x", "y"])
    found = judge.percentile(ranges, 100)
    assert all(found[name] == pytest.approx(ranges[name]) for name in ("x", "y"))


def test_ranges_do_not_depend_on_the_order_of_samples(tmp_path: Path) -> None:
    net = small_cnn()
    images = np.random.default_rng(0).standard_normal((12, 3, 16, 16)).astype(np.float32)
    found: list[Ranges] = []
    for some in (images, images[::-1]):
        judge = calibrator(net, some, tmp_path)
        found.append(judge.percentile(judge.minmax(["image", "t2", "t7"]), 99))
    assert found[0] == found[1]


@pytest.mark.parametrize("parts", [1, 2, 5, 64])
def test_histograms_add_up_however_values_are_split(parts: int) -> None:
    values = np.random.default_rng(0).standard_normal(10_007)
    whole = histogram(values, -4, 4)
    split = [histogram(part, -4, 4) for part in np.array_split(values, parts)]
    assert np.sum(split, axis=0).tolist() == whole.tolist()
    assert whole.sum() == len(values)


def test_constant_tensors_keep_their_range() -> None:
    counts = histogram(np.full(100, 3.0), 3.0, 3.0)
    assert inner_range(counts, 3.0, 3.0, 99) == (3.0, 3.0)


def test_a_relu_output_keeps_its_zero() -> None:
    values = np.maximum(np.random.default_rng(0).standard_normal(100_000), 0)
    low, _ = inner_range(histogram(values, 0, values.max()), 0, float(values.max()), 99.9)
    assert low == 0


def test_not_finite_values_show_in_the_range(tmp_path: Path) -> None:
    net = Net()
    net.op("Div", net.input("x", ["batch", 4]), net.constant(np.zeros(4, np.float32)), name="y")
    judge = calibrator(net.output("y", ["batch", 4]), np.ones((3, 4), np.float32), tmp_path)
    assert not np.isfinite(judge.minmax(["y"])["y"]).all()


def test_it_pauses_before_every_sample(tmp_path: Path) -> None:
    calls: list[None] = []
    calibrator(scaling(), np.ones((7, 1000), np.float32), tmp_path, lambda: calls.append(None)).minmax(["x"])
    assert len(calls) == 7


def test_large_tensors_are_sampled_inside_the_graph(tmp_path: Path) -> None:
    net = Net()
    net.op("Mul", net.input("x", ["batch", 3_000_000]), net.constant(np.float32(2)), name="y")
    model = net.output("y", ["batch", 3_000_000]).model()
    samples = synthetic_samples(Signature.of(model), 2, 0)
    judge = Calibrator(model, samples, tmp_path, threads=1, pause=lambda: None)
    ranges = judge.minmax(["y"])
    low, high = judge.percentile(ranges, 90)["y"]
    assert high == pytest.approx(2 * 1.645, rel=0.03)
    assert low == pytest.approx(-2 * 1.645, rel=0.03)


def test_memory_does_not_grow_with_the_number_of_samples(tmp_path: Path) -> None:
    net = Net()
    net.op("Mul", net.input("x", ["batch", 100_000]), net.constant(np.float32(2)), name="y")
    net.output("y", ["batch", 100_000])
    values = np.lib.stride_tricks.as_strided(np.ones(100_000, np.float32), (2000, 100_000), (0, 4))
    judge = calibrator(net, values[:10], tmp_path)
    judge.percentile(judge.minmax(["y"]), 99)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    judge = calibrator(net, values, tmp_path)
    judge.percentile(judge.minmax(["y"]), 99)
    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown_kib < 100_000  # the samples together are 800 MB


def test_a_sample_that_the_model_cannot_run_is_told(tmp_path: Path) -> None:
    net = Net()
    net.op("Reshape", net.input("x", ["batch", 4]), net.constant(np.array([3])), name="y")
    judge = calibrator(net.output("y", [3]), np.ones((2, 4), np.float32), tmp_path)
    with pytest.raises(StepFailed) as caught:
        judge.minmax(["y"])
    assert caught.value.code == "calibration_failed"
    assert not list(tmp_path.glob("*.onnx"))
