"""Bias correction: the mean error of rounded weights is learned exactly and taken out of whatever bias there is."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from engine.quantize.plan import plan
from engine.quantize.qdq import Format
from engine.quantize.remedies import bias
from engine.quantize.remedies.bias import corrected, mean_errors
from tests.engine.quantize.remedies.graphs import PER_TENSOR, Arrays, calibrator, fidelity_db, images, outputs, uneven
from tests.models import Net, depthwise_cnn, small_cnn

COARSE = Format(signed=True, reduced=True, per_channel=False)


def convolution(inputs: int = 1, **attributes: Any) -> Net:
    """One convolution of 8 channels; with so many more inputs than a weight."""
    net = Net()
    group = attributes.get("group", 1)
    weight = net.weight(8, 4 // group, 3, 3)
    rest = [net.weight(8)] if inputs > 1 else []
    net.op("Conv", net.input("image", ["batch", 4, 9, 9]), weight, *rest, name="y", **attributes)
    return net.output("y", ["batch", 8, "height", "width"])


def rounded(model: onnx.ModelProto, form: Format) -> onnx.ModelProto:
    """The float model with its weights as they are in 8 bits."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    tensors = {tensor.name: tensor for tensor in copy.graph.initializer}
    for layer in plan(model).layers.values():
        weight = numpy_helper.to_array(tensors[layer.weight])
        scale = np.abs(weight).max() / form.levels
        values = (np.rint(weight / scale) * scale).astype(np.float32)
        tensors[layer.weight].CopyFrom(numpy_helper.from_array(values, layer.weight))
    return copy


def mean_of(model: onnx.ModelProto, feeds: Arrays) -> np.ndarray:
    """Mean of each channel of the first output."""
    values = outputs(model, feeds)[0]
    return values.mean(
        axis=tuple(axis for axis in range(values.ndim) if axis != (1 if values.ndim == 4 else -1 % values.ndim))
    )


def assert_means_come_back(net: Net, feeds: Arrays, folder: Path) -> None:
    model = net.model()
    wanted = mean_of(model, feeds)
    layers = plan(model).layers
    result = corrected(model, mean_errors(calibrator(model, feeds, folder), layers, COARSE))
    before = np.abs(mean_of(rounded(model, COARSE), feeds) - wanted).max()
    after = np.abs(mean_of(rounded(result, COARSE), feeds) - wanted).max()
    assert after < 1e-3 * before


@pytest.mark.parametrize("inputs", [1, 2])
@pytest.mark.parametrize(
    "attributes",
    [
        {"pads": [1] * 4},
        {"strides": [2, 2], "pads": [2, 0, 0, 1]},
        {"group": 4, "dilations": [2, 2]},
        {"auto_pad": "SAME_UPPER"},
    ],
)
def test_convolutions_get_their_mean_back_borders_included(
    tmp_path: Path, inputs: int, attributes: dict[str, Any]
) -> None:
    feeds = {"image": np.abs(images(6, channels=4, size=9))}
    assert_means_come_back(convolution(inputs, **attributes), feeds, tmp_path)


@pytest.mark.parametrize("shape", [None, (), (1,), (5,), (1, 5)])
def test_gemms_with_factors_get_their_mean_back(tmp_path: Path, shape: tuple[int, ...] | None) -> None:
    net = Net()
    constants = [net.weight(5, 20)]
    if shape is not None:
        constants.append(net.constant(np.full(shape, 0.5, np.float32)))
    net.op("Gemm", net.input("x", ["batch", 20]), *constants, name="y", transB=1, alpha=0.5, beta=2.0)
    feeds = {"x": np.random.default_rng(0).uniform(0, 1, (9, 20)).astype(np.float32)}
    assert_means_come_back(net.output("y", ["batch", 5]), feeds, tmp_path)


def test_a_product_gets_its_mean_back_in_the_constant_added_to_it(tmp_path: Path) -> None:
    net = Net()
    product = net.op("MatMul", net.input("x", ["batch", 3, 20]), net.weight(20, 5))
    net.op("Add", net.weight(5), product, name="y")
    feeds = {"x": np.random.default_rng(0).uniform(0, 1, (9, 3, 20)).astype(np.float32)}
    assert_means_come_back(net.output("y", ["batch", 3, 5]), feeds, tmp_path)


def test_a_product_without_such_a_constant_stays_as_it_is(tmp_path: Path) -> None:
    net = Net()
    product = net.op("MatMul", net.input("x", ["batch", 20]), net.weight(20, 5))
    net.op("Add", net.constant(np.ones(5, np.float32)), product, name="y")
    model = net.output("y", ["batch", 5]).output(product, ["batch", 5]).model()
    assert corrected(model, {product: np.ones(5)}) == model


def test_a_bias_that_another_layer_shares_is_corrected_for_one_alone() -> None:
    net = Net()
    x, shared = net.input("x", ["batch", 4]), net.weight(4)
    for name in ("y", "z"):
        net.op("Gemm", x, net.weight(4, 4), shared, name=name)
        net.output(name, ["batch", 4])
    model, feeds = net.model(), {"x": np.ones((2, 4), np.float32)}
    (first, second), (left, right) = outputs(model, feeds), outputs(corrected(model, {"y": np.ones(4)}), feeds)
    assert np.allclose(left, first - 1, atol=1e-6)
    assert np.array_equal(right, second)


def test_errors_that_are_not_finite_are_left_out() -> None:
    model = convolution().model()
    assert corrected(model, {"y": np.full(8, np.nan)}) == model


def test_large_models_are_learned_in_portions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, feeds = small_cnn().model(), {"image": images(3)}
    judge, layers = calibrator(model, feeds, tmp_path), plan(model).layers
    whole = mean_errors(judge, layers, COARSE)
    monkeypatch.setattr(bias, "MOST_BYTES", 1)
    assert all(np.allclose(error, whole[name]) for name, error in mean_errors(judge, layers, COARSE).items())
    assert list(whole) == list(layers)


def test_a_depthwise_network_with_one_scale_per_tensor_is_truer_with_it(tmp_path: Path) -> None:
    model, feeds = uneven(depthwise_cnn(), spread=0.7).model(), {"image": np.abs(images(16))}
    wanted = outputs(model, feeds)
    errors = mean_errors(calibrator(model, feeds, tmp_path), plan(model).layers, PER_TENSOR)
    before = fidelity_db(wanted, model, feeds, tmp_path, PER_TENSOR)
    assert fidelity_db(wanted, corrected(model, errors), feeds, tmp_path, PER_TENSOR) > before + 3
