"""Activations are described as they are: zeros counted, dead channels found, outliers seen."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto

from engine.data import Samples, synthetic_samples
from engine.explain.activations import dead_channels, far_outliers, mostly_zero
from engine.graph import load
from engine.measure.activations import activations
from engine.report import ActivationLayer
from engine.signature import Signature
from engine.steps.base import never_pause
from tests.engine.render.reports import improved
from tests.models import Net, small_cnn, transformer


def described(net: Net, folder: Path, samples: Samples | None = None) -> list[ActivationLayer]:
    path = net.save(folder / "model.onnx")
    found = samples or synthetic_samples(Signature.of(load(path)), 16, 0)
    return activations(path, found, folder, 1, never_pause)


def relu_of(bias: list[float], scale: list[float]) -> Net:
    """Each output channel is Relu(scale · x + bias) of the one before it."""
    net = Net()
    x = net.input("x", ["batch", len(bias)])
    x = net.op("Mul", x, net.constant(np.array(scale, np.float32)))
    net.op("Relu", net.op("Add", x, net.constant(np.array(bias, np.float32))), name="y")
    return net.output("y", ["batch", len(bias)])


def test_zeros_and_dead_channels_are_counted(tmp_path: Path) -> None:
    (layer,) = described(relu_of([-100, 0, 100, -100], [1, 1, 1, 0]), tmp_path)
    assert (layer.channels, layer.dead, layer.nearly_dead) == (4, 2, 0)
    assert 0.5 < layer.zero_share < 0.75 and layer.low == 0 and 95 < layer.high < 110


def test_channels_of_convolutions_lie_on_the_second_axis_and_those_of_transformers_on_the_last(tmp_path: Path) -> None:
    assert [layer.channels for layer in described(small_cnn(width=24), tmp_path)] == [24, 24]
    assert [layer.channels for layer in described(transformer(width=32), tmp_path)] == [128]


@pytest.mark.parametrize(
    ("attach", "channels", "dead"),
    [
        (lambda net, x: scaled(net, scaled(net, x)), 16, 4),
        (lambda net, x: net.op("Add", net.op("GlobalAveragePool", x), scaled(net, x)), 16, 4),
        (lambda net, x: net.op("Transpose", x, perm=[0, 2, 3, 1]), 16, 4),
        (lambda net, x: net.op("Reshape", x, net.constant(np.array([0, 16, -1]))), 16, 4),
        (lambda net, x: net.op("MatMul", rows(net, x), net.weight(16, 32)), 32, None),
        (
            lambda net, x: net.op("MatMul", net.op("Transpose", rows(net, x), perm=[0, 2, 1]), net.weight(64, 32)),
            32,
            None,
        ),
    ],
    ids=["scaled", "broadcast", "transposed", "reshaped", "product", "product of what is transposed"],
)
def test_channels_are_found_through_what_stands_between(
    attach: Callable[[Net, str], str], channels: int, dead: int | None, tmp_path: Path
) -> None:
    net = Net()
    bias = np.where(np.arange(16) < 4, -1000, 0).astype(np.float32)
    x = net.op("Conv", net.input("x", ["batch", 3, 8, 8]), net.weight(16, 3, 3, 3), net.constant(bias), pads=[1] * 4)
    net.op("Relu", attach(net, x), name="y")
    (layer,) = described(net.output("y", None), tmp_path)
    assert layer.channels == channels and dead in (layer.dead, None)


def scaled(net: Net, x: str) -> str:
    ones, zeros = np.ones((16, 1, 1), np.float32), np.zeros((16, 1, 1), np.float32)
    return net.op("Add", net.op("Mul", net.constant(ones), x), net.constant(zeros))


def rows(net: Net, x: str) -> str:
    """(batch, positions, channels)"""
    return net.op("Transpose", net.op("Reshape", x, net.constant(np.array([0, 16, -1]))), perm=[0, 2, 1])


def test_mean_and_deviation_are_those_of_all_values(tmp_path: Path) -> None:
    net = relu_of([5, 50], [1, 1])
    samples = synthetic_samples(Signature.of(net.model()), 16, 0)
    (layer,) = described(net, tmp_path, samples)
    values = np.maximum(samples.columns["x"].array[samples.rows] + [5, 50], 0)
    assert np.isclose(layer.mean, values.mean(), rtol=1e-5) and np.isclose(layer.deviation, values.std(), rtol=1e-5)


def test_a_value_far_out_is_an_outlier(tmp_path: Path) -> None:
    net = relu_of([10] * 4, [1] * 4)
    samples = synthetic_samples(Signature.of(net.model()), 64, 0)
    samples.columns["x"].array[samples.rows[3], 1] = 1000
    (layer,) = described(net, tmp_path, samples)
    assert layer.outlier_share == 1 / 256


def test_a_graph_without_activations_has_none_to_describe(tmp_path: Path) -> None:
    net = Net()
    net.op("Identity", net.input("ids", ["batch"], TensorProto.INT64), name="y")
    assert described(net.output("y", ["batch"], TensorProto.INT64), tmp_path) == []


def layer(**facts: object) -> ActivationLayer:
    usual = {"layer": "relu", "operator": "Relu", "channels": 8, "zero_share": 0.2, "dead": 0, "nearly_dead": 0}
    usual |= {"low": 0.0, "high": 4.0, "mean": 1.0, "deviation": 1.0, "outlier_share": 0.0}
    return ActivationLayer(**(usual | facts))


def test_each_finding_names_its_figure_and_what_to_do() -> None:
    report = improved().model_copy(update={"activations": [layer(dead=3, layer="a"), layer(high=51.0, layer="b")]})
    dead, far = dead_channels(report), far_outliers(report)
    assert dead and "3 of 16 channels" in dead.text and "“a”" in dead.text and "prune_channels" in dead.text
    assert far and "1 of 2 activations" in far.text and "50" in far.text and "“b”" in far.text


def test_ordinary_activations_give_no_finding() -> None:
    report = improved().model_copy(update={"activations": [layer(), layer()]})
    assert [rule(report) for rule in (dead_channels, far_outliers, mostly_zero)] == [None, None, None]
