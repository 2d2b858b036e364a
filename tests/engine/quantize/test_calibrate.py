"""Ranges of activations: exact for min-max, robust for percentiles, the same however samples are batched."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto

from benchmarks.calibration import measured
from engine.data import fit_samples, synthetic_samples
from engine.errors import StepFailed
from engine.quantize.calibrate import ELEMENTS_READ, Calibrator, Ranges
from engine.quantize.qdq import Format
from engine.recipe import Calibration
from engine.signature import Signature
from tests.models import Net, small_cnn

METHODS = [method for method in Calibration if method is not Calibration.AUTO]
UNSIGNED = Format(signed=False, reduced=False, per_channel=True)
SYMMETRIC = Format(signed=True, reduced=False, per_channel=True, symmetric=True)


def scaling() -> Net:
    net = Net()
    net.op("Mul", net.input("x", ["batch", 1000]), net.constant(np.float32(2)), name="y")
    return net.output("y", ["batch", 1000])


def calibrator(net: Net, values: np.ndarray, folder: Path, pause: Callable[[], None] = lambda: None) -> Calibrator:
    model = net.model()
    samples = fit_samples({net.inputs[0].name: values}, Signature.of(model), None)
    return Calibrator(model, samples, folder, threads=1, pause=pause)


def learned(judge: Calibrator, names: list[str], method: Calibration, percent: float = 99.9) -> Ranges:
    return judge.ranges(method, judge.minmax(names), percent=percent, form=UNSIGNED)


def with_batch(net: Net, size: int | str) -> Net:
    """The same with another batch axis."""
    for value in (*net.inputs, *net.outputs):
        axis = value.type.tensor_type.shape.dim[0]
        axis.CopyFrom(type(axis)(dim_value=size) if isinstance(size, int) else type(axis)(dim_param=size))
    return net


def test_minmax_is_exact_for_inputs_and_inner_tensors(tmp_path: Path) -> None:
    values = np.random.default_rng(0).standard_normal((20, 1000)).astype(np.float32)
    ranges = calibrator(scaling(), values, tmp_path).minmax(["x", "y"])
    assert ranges["x"] == (values.min(), values.max())
    assert ranges["y"] == (2 * values.min(), 2 * values.max())


def test_a_percentile_leaves_out_as_many_values_as_it_says(tmp_path: Path) -> None:
    values = np.random.default_rng(0).uniform(-1, 1, (50, 1000)).astype(np.float32)
    values[0, 0], values[1, 1] = 100, -100
    low, high = learned(calibrator(scaling(), values, tmp_path), ["x"], Calibration.PERCENTILE, 99.9)["x"]
    assert -1.1 < low < -0.95
    assert 0.95 < high < 1.1


def test_all_methods_together_take_two_passes(tmp_path: Path) -> None:
    calls: list[None] = []
    judge = calibrator(scaling(), np.eye(7, 1000, dtype=np.float32), tmp_path, lambda: calls.append(None))
    extremes = judge.minmax(["x", "y"])
    for method in METHODS:
        judge.ranges(method, extremes, percent=99.9, form=UNSIGNED)
    judge.ranges(Calibration.MSE, {"x": extremes["x"]}, percent=99.9, form=SYMMETRIC)
    assert len(calls) == 2 * 7


def test_methods_differ_where_there_are_outliers(tmp_path: Path) -> None:
    values = np.random.default_rng(0).standard_normal((200, 1000)).astype(np.float32)
    values[0, :4] = 60
    judge = calibrator(scaling(), values, tmp_path)
    high = {method: learned(judge, ["y"], method)["y"][1] for method in METHODS}
    assert high[Calibration.MINMAX] == 120
    assert high[Calibration.PERCENTILE] < high[Calibration.ENTROPY] < 15 < high[Calibration.MSE] < 120


@pytest.mark.parametrize("method", METHODS[1:])
def test_symmetric_formats_get_ranges_around_zero(method: Calibration, tmp_path: Path) -> None:
    values = np.random.default_rng(0).standard_normal((50, 1000)).astype(np.float32) - 1
    judge = calibrator(scaling(), values, tmp_path)
    low, high = judge.ranges(method, judge.minmax(["x"]), percent=99.0, form=SYMMETRIC)["x"]
    assert low == -high
    share = np.mean(np.abs(values) <= high)
    assert 0.985 < share < 0.995 if method is Calibration.PERCENTILE else 0.99 < share <= 1


@pytest.mark.parametrize("method", METHODS)
def test_ranges_do_not_depend_on_the_order_of_samples(method: Calibration, tmp_path: Path) -> None:
    net = small_cnn()
    images = np.random.default_rng(0).standard_normal((12, 3, 16, 16)).astype(np.float32)
    found: list[Ranges] = []
    for some in (images, images[::-1]):
        judge = calibrator(net, some, tmp_path)
        found.append(learned(judge, ["image", "t2", "t7"], method, 99))
    assert found[0] == found[1]


@pytest.mark.parametrize("method", METHODS)
def test_ranges_do_not_depend_on_how_many_samples_run_at_once(method: Calibration, tmp_path: Path) -> None:
    images = np.random.default_rng(0).standard_normal((448, 3, 16, 16)).astype(np.float32)
    names = ["image", "t1", "t2", "t5"]
    found = [
        learned(calibrator(with_batch(small_cnn(), size), images, tmp_path), names, method, 99)
        for size in ("batch", 1, 7, 64)
    ]
    assert found[1:] == found[:1] * 3


def test_the_elements_that_are_read_do_not_depend_on_how_many_samples_run_at_once(tmp_path: Path) -> None:
    values = np.random.default_rng(0).standard_normal((8, 3 * ELEMENTS_READ + 1)).astype(np.float32)
    values *= np.linspace(1, 9, len(values[0]), dtype=np.float32)  # so that another choice of elements shows
    found = []
    for size in ("batch", 2, 4):
        net = Net()
        net.op("Mul", net.input("x", [size, len(values[0])]), net.constant(np.float32(2)), name="y")
        judge = calibrator(net.output("y", [size, len(values[0])]), values, tmp_path)
        found.append([learned(judge, ["y"], method, 99.7) for method in METHODS])
    assert found[1:] == found[:1] * 2


def test_tensors_that_samples_share_count_as_one(tmp_path: Path) -> None:
    net = Net()
    net.op("ReduceMean", net.input("x", [4, 6]), axes=[0], keepdims=0, name="y")
    values = np.random.default_rng(0).standard_normal((20, 6)).astype(np.float32)
    low, high = learned(calibrator(net.output("y", [6]), values, tmp_path), ["y"], Calibration.PERCENTILE, 100)["y"]
    means = values.reshape(5, 4, 6).mean(axis=1)
    assert (low, high) == (pytest.approx(means.min()), pytest.approx(means.max()))


@pytest.mark.parametrize("method", METHODS)
def test_a_tensor_may_be_empty_for_some_samples(method: Calibration, tmp_path: Path) -> None:
    net = Net()
    x = net.input("x", ["batch", 100])
    positive = net.op("Greater", x, net.constant(np.float32(0)))
    flat = net.op("Reshape", positive, net.constant(np.array([-1])))
    net.op("Compress", net.op("Reshape", x, net.constant(np.array([-1]))), flat, name="y")
    values = np.random.default_rng(0).uniform(0.5, 1, (6, 100)).astype(np.float32)
    values[::2] *= -1
    low, high = learned(calibrator(net.output("y", ["some"]), values, tmp_path), ["y"], method)["y"]
    assert max(low, 0) == pytest.approx(0.5 if method is Calibration.MINMAX else 0, abs=0.01)
    assert high == pytest.approx(1, abs=0.01)


def test_a_tensor_without_values_has_no_range(tmp_path: Path) -> None:
    net = Net()
    x = net.input("x", ["batch", 4])
    net.op("Slice", x, *(net.constant(np.array([number])) for number in (0, 0, 1)), name="y")
    judge = calibrator(net.output("y", ["batch", 0]), np.ones((3, 4), np.float32), tmp_path)
    assert not np.isfinite(judge.minmax(["y"])["y"]).any()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_not_finite_values_show_in_the_range_and_stay_there(value: float, tmp_path: Path) -> None:
    table = np.ones((100, 1), np.float32)
    table[50] = value
    net = Net()
    net.op("Gather", net.constant(table), net.input("x", ["batch", 100], TensorProto.INT64), name="y")
    indices = np.tile(np.arange(100), (3, 1))
    judge = calibrator(net.output("y", ["batch", 100, 1]), indices, tmp_path)
    extremes = judge.minmax(["y"])
    assert not np.isfinite(extremes["y"]).all()
    assert judge.ranges(Calibration.MSE, extremes, percent=99, form=UNSIGNED) == extremes


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
    low, high = learned(judge, ["y"], Calibration.PERCENTILE, 90)["y"]
    assert high == pytest.approx(2 * 1.645, rel=0.03)
    assert low == pytest.approx(-2 * 1.645, rel=0.03)


def test_memory_does_not_grow_with_the_number_of_samples(tmp_path: Path) -> None:
    net = Net()
    net.op("GlobalAveragePool", net.conv(net.input("image", ["batch", 3, 96, 96]), (3, 8)), name="y")
    model = net.output("y", ["batch", 8, 1, 1]).save(tmp_path / "model.onnx")
    images = np.random.default_rng(0).standard_normal((512, 3, 96, 96), np.float32)  # 110 kB each
    peaks = []
    for count in (32, 512):
        np.savez(tmp_path / f"{count}.npz", image=images[:count])
        peaks.append(measured(model, tmp_path / f"{count}.npz", METHODS)["peak_bytes"])
    assert peaks[1] < 1.1 * peaks[0]


def test_a_sample_that_the_model_cannot_run_is_told(tmp_path: Path) -> None:
    net = Net()
    net.op("Reshape", net.input("x", ["batch", 4]), net.constant(np.array([3])), name="y")
    judge = calibrator(net.output("y", [3]), np.ones((2, 4), np.float32), tmp_path)
    with pytest.raises(StepFailed) as caught:
        judge.minmax(["y"])
    assert caught.value.code == "calibration_failed"
    assert not list(tmp_path.glob("*.onnx"))
