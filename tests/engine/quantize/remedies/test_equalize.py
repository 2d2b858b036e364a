"""Equalization: the outputs stay, weights become even, and what cannot be scaled is left alone."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnx import helper, numpy_helper

from engine.graph import load
from engine.quantize.remedies.equalize import equalized
from tests.engine.quantize.remedies.graphs import PER_TENSOR, fidelity_db, images, outputs, same, uneven
from tests.models import Net, branching, mlp, recurrent, residual_cnn, small_cnn, transformer

EXAMPLES = Path(__file__).parents[4] / "examples"


def mobile(width: int = 16) -> Net:
    """Convolution, depthwise, pointwise, with Relu between, then a pool and a Gemm."""
    net = Net()
    x = net.op("Relu", net.conv(net.input("image", ["batch", 3, 16, 16]), (3, width)))
    x = net.op("Relu", net.conv(x, (width, width), group=width))
    x = net.op("Relu", net.conv(x, (width, width), kernel=1, bias=False))
    x = net.op("Flatten", net.op("GlobalAveragePool", x))
    net.gemm(x, (width, 10), name="scores")
    return net.output("scores", ["batch", 10])


def between(*steps: Callable[[Net, str], str], group: int = 1) -> Net:
    """Two convolutions and what lies between them."""
    net = Net()
    x = net.conv(net.input("image", ["batch", 3, 16, 16]), (3, 8))
    for step in steps:
        x = step(net, x)
    net.conv(x, (8, 8), group=group)
    return net.output(f"t{len(net.nodes) - 1}", ["batch", 8, "height", "width"])


def test_depthwise_weights_become_even_and_the_outputs_stay() -> None:
    model = uneven(mobile(), spread=2).model()
    result = equalized(model)
    assert result is not None
    assert same(model, result, {"image": images(4)})
    kernels = [numpy_helper.to_array(tensor) for tensor in result.graph.initializer if len(tensor.dims) == 4]
    first, depthwise = kernels[:2]
    assert np.allclose(np.abs(first).max(axis=(1, 2, 3)), np.abs(depthwise).max(axis=(1, 2, 3)), rtol=0.05)


def test_one_scale_per_tensor_keeps_far_more_of_an_uneven_network(tmp_path: Path) -> None:
    net, feeds = mobile(), {"image": images(16)}
    factors = np.exp(np.random.default_rng(0).normal(0, 2, 16)).astype(np.float32)
    for index, factor in ((0, factors), (1, factors), (2, 1 / factors)):
        values = numpy_helper.to_array(net.weights[index])
        scaled = values * factor.reshape(-1, *[1] * (values.ndim - 1))
        net.weights[index] = numpy_helper.from_array(scaled, net.weights[index].name)
    model = net.model()
    result, wanted = equalized(model), outputs(model, feeds)
    assert result is not None
    before = fidelity_db(wanted, model, feeds, tmp_path, PER_TENSOR)
    assert fidelity_db(wanted, result, feeds, tmp_path, PER_TENSOR) > before + 10


@pytest.mark.parametrize(
    "step",
    [
        lambda net, x: x,
        lambda net, x: net.op("LeakyRelu", x, alpha=0.1),
        lambda net, x: net.op("PRelu", x, net.constant(np.full((8, 1, 1), 0.2, np.float32))),
        lambda net, x: net.op("MaxPool", x, kernel_shape=[2, 2]),
        lambda net, x: net.op("AveragePool", x, kernel_shape=[2, 2], pads=[1, 1, 1, 1]),
        lambda net, x: net.op("Clip", x, net.constant(np.float32(0))),
        lambda net, x: net.op("ReduceMean", x, axes=[-1, -2], keepdims=1),
    ],
)
@pytest.mark.parametrize("group", [1, 2, 8])
def test_what_is_homogeneous_may_lie_between(step: Callable[[Net, str], str], group: int) -> None:
    model = uneven(between(step, group=group), spread=1).model()
    result = equalized(model)
    assert result is not None
    assert same(model, result, {"image": images(2)})


@pytest.mark.parametrize(
    "step",
    [
        lambda net, x: net.op("Sigmoid", x),
        lambda net, x: net.op("HardSwish", x),
        lambda net, x: net.op("Clip", x, net.constant(np.float32(0)), net.constant(np.float32(6))),
        lambda net, x: net.op("Add", x, x),
        lambda net, x: net.op("Transpose", x, perm=[0, 2, 3, 1]),
        lambda net, x: net.op("PRelu", x, net.op("Sigmoid", x)),
    ],
)
def test_what_is_not_homogeneous_is_left_alone(step: Callable[[Net, str], str]) -> None:
    assert equalized(between(step).model()) is None


def test_a_tensor_that_is_an_output_keeps_its_scale() -> None:
    net = between()
    assert equalized(net.output("t0", ["batch", 8, 16, 16]).model()) is None


def test_a_tensor_in_between_that_is_an_output_keeps_its_scale() -> None:
    net = between(lambda net, x: net.op("Relu", x))
    assert equalized(net.output("t0", ["batch", 8, 16, 16]).model()) is None


def test_a_sum_behind_a_flattening_keeps_its_scale() -> None:
    net = Net()
    x = net.op("Flatten", net.conv(net.input("image", ["batch", 3, 4, 4]), (3, 8)))
    net.gemm(net.op("Add", x, net.weight(128)), (128, 5), name="scores")
    assert equalized(net.output("scores", ["batch", 5]).model()) is None


def test_a_reader_that_shares_its_weight_with_another_layer_is_left_alone() -> None:
    net = Net()
    image, shared = net.input("image", ["batch", 8, 8, 8]), net.weight(8, 8, 1, 1)
    inner = net.op("Conv", net.op("Relu", net.conv(image, (8, 8))), shared)
    net.op("Add", inner, net.op("Conv", image, shared), name="y")
    assert equalized(net.output("y", ["batch", 8, 8, 8]).model()) is None


def test_a_tensor_that_a_branch_reads_keeps_its_scale() -> None:
    net = between()
    value = helper.make_tensor_value_info("copied", 1, None)
    branch = helper.make_graph([helper.make_node("Identity", ["t0"], ["copied"])], "branch", [], [value])
    net.op("If", net.constant(np.array(True)), name="chosen", then_branch=branch, else_branch=branch)
    assert equalized(net.output("chosen", ["batch", 8, 16, 16]).model()) is None


def test_layers_that_share_a_weight_are_left_alone() -> None:
    net = Net()
    weight = net.weight(4, 4, 3, 3)
    x = net.op("Conv", net.input("image", ["batch", 4, 8, 8]), weight)
    net.op("Conv", x, weight, name="y")
    assert equalized(net.output("y", ["batch", 4, 4, 4]).model()) is None


def test_layers_that_share_a_bias_each_get_their_own() -> None:
    net = Net()
    bias = net.weight(8)
    x = net.op("Relu", net.op("Conv", net.input("image", ["batch", 3, 16, 16]), net.weight(8, 3, 3, 3), bias))
    x = net.op("Relu", net.op("Conv", x, net.weight(8, 8, 1, 1), bias))
    net.op("Conv", x, net.weight(8, 8, 1, 1), bias, name="y")
    model = uneven(net, spread=1).output("y", ["batch", 8, 14, 14]).model()
    result = equalized(model)
    assert result is not None
    assert same(model, result, {"image": images(2)})


def test_dead_channels_stay_as_they_are() -> None:
    net = uneven(mobile(), spread=1)
    first = numpy_helper.to_array(net.weights[0]).copy()
    first[3] = 0
    net.weights[0] = numpy_helper.from_array(first, net.weights[0].name)
    model = net.model()
    result = equalized(model)
    assert result is not None
    assert same(model, result, {"image": images(2)})
    assert not numpy_helper.to_array(result.graph.initializer[0])[3].any()


@pytest.mark.parametrize("shape", [[0, -1], [-1, 8 * 4]])
def test_channels_are_found_behind_a_flattening(shape: list[int]) -> None:
    net = Net()
    x = net.op("Relu", net.conv(net.input("image", ["batch", 3, 8, 8]), (3, 8)))
    x = net.op("Reshape", net.op("MaxPool", x, kernel_shape=[4, 4], strides=[4, 4]), net.constant(np.array(shape)))
    net.gemm(x, (8 * 4, 5), name="scores")
    model = uneven(net.output("scores", ["batch", 5]), spread=2).model()
    result = equalized(model)
    assert result is not None
    assert same(model, result, {"image": images(3, size=8)})


def test_products_with_biases_are_evened_out_too() -> None:
    model = mlp().model()
    result = equalized(model)
    assert result is not None
    assert same(model, result, {"features": np.random.default_rng(0).standard_normal((5, 20)).astype(np.float32)})


@pytest.mark.parametrize("build", [transformer, recurrent, branching])
def test_models_without_such_layers_have_nothing_to_even_out(build: Callable[[], Net]) -> None:
    assert equalized(build().model()) is None


@pytest.mark.parametrize("build", [small_cnn, residual_cnn])
def test_outputs_of_whole_networks_stay(build: Callable[[], Net]) -> None:
    model = build().model()
    result = equalized(model)
    assert result is None or same(model, result, {"image": images(2)})


@pytest.mark.parametrize(("name", "size"), [("digits/model.onnx", 8), ("fashion/residual.onnx", 28)])
def test_outputs_of_trained_networks_stay(name: str, size: int) -> None:
    model = load(EXAMPLES / name)
    result = equalized(model)
    assert result is not None
    assert same(model, result, {"image": np.abs(images(4, channels=1, size=size))})
