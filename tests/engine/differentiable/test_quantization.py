"""Quantization gives ONNX Runtime's levels, and gradients that go straight through the rounding."""

from typing import Any

import numpy as np
import pytest
import torch

from engine.differentiable import DifferentiableGraph
from engine.differentiable.elements import to_torch
from engine.differentiable.fuse import fused
from tests.engine.differentiable.nodes import OneNode, floats, levels
from tests.models import Net

QUANTIZED = {
    "bytes": OneNode("QuantizeLinear", 3 * floats(4, 5), np.float32(0.02), np.uint8(90)),
    "signed, by channel": OneNode(
        "QuantizeLinear", floats(2, 3, 4), np.float32([0.01, 0.02, 0.05]), np.int8([3, 0, -5]), axis=1
    ),
    "16 bits": OneNode("QuantizeLinear", floats(4, 5), np.float32(1e-4), np.uint16(30000)),
    "blocks": OneNode(
        "QuantizeLinear", floats(4, 6), np.float32([[0.1] * 6, [0.2] * 6]), levels(2, 6), axis=0, block_size=2
    ),
    "halves between": OneNode("QuantizeLinear", np.float32([0.5, 1.5, 2.5, -0.5]), np.float32(1), np.int8(0)),
    "back": OneNode("DequantizeLinear", levels(4, 5), np.float32(0.02), np.uint8(90)),
    "back, by channel": OneNode(
        "DequantizeLinear", levels(2, 3, element=np.int8), np.float32([0.1, 0.2, 0.3]), np.int8([0, 1, 2])
    ),
    "back from 32 bits": OneNode("DequantizeLinear", levels(4, 5, element=np.int32), np.float32(0.02)),
    "by the range of the data": OneNode("DynamicQuantizeLinear", floats(4, 5), outputs=3),
}


@pytest.mark.parametrize("case", QUANTIZED.values(), ids=QUANTIZED)
def test_levels_are_onnx_runtimes(case: OneNode) -> None:
    case.check_outputs(tolerance=0)


PAIRS = {
    "signed": (np.float32(0.05), np.int8(3), {}),
    "unsigned, by channel": (np.float32([0.01, 0.03, 0.05]), np.uint8([3, 128, 200]), {"axis": 1}),
    "without a zero point": (np.float32(0.05), None, {}),
    "in blocks": (np.float32([[0.1, 0.02, 0.2]]), np.int8([[0, 1, 2]]), {"axis": 0, "block_size": 2}),
}


def two_nodes(scale: Any, zero: Any, attributes: Any, *, shown: bool) -> DifferentiableGraph:
    """A pair; where its levels are shown it is computed as two."""
    net = Net()
    settings = [net.constant(scale, name="scale"), *([] if zero is None else [net.constant(zero)])]
    quantized = net.op("QuantizeLinear", net.input("x", [2, 3]), *settings, name="q", **attributes)
    net.op("DequantizeLinear", quantized, *settings, name="y", **attributes)
    net.output("y", [2, 3])
    return DifferentiableGraph(net.model(opset=21), taps=["q"] if shown else [])


@pytest.mark.parametrize("settings", PAIRS.values(), ids=PAIRS)
def test_a_pair_that_is_computed_as_one_has_the_values_and_gradients_of_two(settings: Any) -> None:
    x, weights = torch.from_numpy(3 * floats(2, 3)), torch.from_numpy(floats(2, 3, seed=1))
    results = []
    for shown in (True, False):
        graph = two_nodes(*settings, shown=shown)
        fed = x.clone().requires_grad_()
        y = graph({"x": fed})["y"]
        (y * weights).sum().backward()
        with torch.no_grad():
            results.append([y.detach(), fed.grad, graph.weights()["scale"].grad, graph({"x": x})["y"]])
    for one, two in zip(*results, strict=True):
        assert one is not None
        torch.testing.assert_close(one, two)
    assert torch.equal(results[1][0], results[1][3])


def test_only_a_pair_that_undoes_itself_is_one() -> None:
    def operators(**other: Any) -> list[str]:
        net = Net()
        scale, zero = net.constant(np.float32(0.1)), net.constant(np.int8(0))
        levels_of_x = net.op("QuantizeLinear", net.input("x", [2, 3]), scale, zero)
        net.op("DequantizeLinear", levels_of_x, other.pop("scale", scale), zero, name="y", **other)
        return [node.op_type for node in fused(net.output("y", [2, 3]).model(opset=21).graph)]

    assert operators() == ["FakeQuantize"]
    assert operators(scale="x") == ["QuantizeLinear", "DequantizeLinear"]
    assert operators(output_dtype=1) == ["QuantizeLinear", "DequantizeLinear"]


def pair(*, scale: Any, zero: Any) -> DifferentiableGraph:
    """x, quantized and back; the scale is a weight called `scale`."""
    net = Net()
    x = net.input("x", [2, 3])
    settings = net.constant(np.float32(scale), name="scale"), net.constant(np.int8(zero), name="zero")
    levels_of_x = net.op("QuantizeLinear", x, *settings, axis=1)
    net.op("DequantizeLinear", levels_of_x, *settings, axis=1, name="y")
    return DifferentiableGraph(net.output("y", [2, 3]).model(opset=21))


def test_the_gradient_of_the_input_is_one_inside_the_range_and_zero_outside() -> None:
    x = torch.tensor([[0.26, -0.4, 60.0], [12.0, -13.5, 12.8]], requires_grad=True)
    pair(scale=0.1, zero=0)({"x": x})["y"].sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [[1, 1, 0], [1, 0, 0]]


def test_the_gradient_of_the_scale_is_that_of_learned_step_sizes() -> None:
    """Esser et al. 2020, equation 3: round(v) − v inside the range, the outermost level outside, v = x / scale."""
    graph = pair(scale=0.1, zero=5)
    x = torch.tensor([[0.26, -0.44, 60.0], [12.01, -13.5, 3.0]])
    graph({"x": x.requires_grad_()})["y"].sum().backward()
    expected = 0.0
    for value in x.flatten().tolist():
        ratio = value / 0.1
        level = min(max(round(ratio) + 5, -128), 127) - 5
        inside = -128 <= round(ratio) + 5 <= 127
        expected += level - ratio if inside else level
    scale = graph.weights()["scale"]
    assert scale.grad is not None
    assert scale.grad.item() == pytest.approx(expected, rel=1e-4)


def test_each_channel_learns_its_own_scale() -> None:
    graph = pair(scale=[0.1, 0.2, 0.3], zero=[0, 0, 0])
    x = torch.tensor([[0.26, -0.4, 0.5], [0.11, 0.3, 60.0]], requires_grad=True)
    graph({"x": x})["y"].sum().backward()
    gradient = graph.weights()["scale"].grad
    assert gradient is not None
    np.testing.assert_allclose(gradient, [3 - 2.6 + 1 - 1.1, -2 + 2 + 2 - 1.5, 2 - 0.5 / 0.3 + 127], atol=1e-4)


def test_training_sees_the_values_that_are_served() -> None:
    """While gradients are recorded levels are floats; what comes out is the same to the last bit."""
    graph, x = pair(scale=0.1, zero=7), torch.from_numpy(4 * floats(2, 3))
    with torch.no_grad():
        served = graph({"x": x})["y"]
    trained = graph({"x": x.clone().requires_grad_()})["y"]
    assert trained.requires_grad
    assert torch.equal(served, trained)


def test_eight_bit_floats_pass_their_gradient_too() -> None:
    case = OneNode("QuantizeLinear", floats(6), np.float32(0.01), opset=21, output_dtype=17)
    graph = DifferentiableGraph(case.model())
    x = torch.tensor([0.3, 1e6], requires_grad=True)
    y = graph({"i0": x, "i1": to_torch(np.float32(0.01))})["o0"]
    y.sum().backward()
    assert y.tolist() == [30.0, 448.0]
    assert x.grad is not None
    assert x.grad[0].item() == pytest.approx(100)


INTEGERS = {
    "matrices": OneNode("MatMulInteger", levels(3, 4), levels(4, 2, element=np.int8, low=-60), np.uint8(9), np.int8(3)),
    "matrices, by row and column": OneNode("MatMulInteger", levels(3, 4), levels(4, 2, low=10), np.uint8(9), levels(2)),
    "convolution": OneNode("ConvInteger", levels(1, 2, 5, 5), levels(3, 2, 3, 3), np.uint8(12), np.uint8(60),
                           pads=[1, 0, 1, 2]),
    "layer of matrices": OneNode(
        "QLinearMatMul", levels(3, 4), np.float32(0.02), np.uint8(10), levels(4, 2), np.float32(0.03), np.uint8(60),
        np.float32(0.1), np.uint8(120),
    ),
    "layer of a convolution": OneNode(
        "QLinearConv", levels(1, 2, 5, 5), np.float32(0.02), np.uint8(10), levels(3, 2, 3, 3, element=np.int8, low=-60),
        np.float32([0.01, 0.02, 0.03]), np.int8([0, 0, 0]), np.float32(0.1), np.uint8(120),
        np.int32([100, -200, 300]), constants=(3, 4, 5, 8), pads=[1, 1, 1, 1],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", INTEGERS.values(), ids=INTEGERS)
def test_products_of_integers_are_onnx_runtimes(case: OneNode) -> None:
    """A level may differ where the float before the rounding lies half way."""
    ours, theirs = case.ours()[0], case.onnxruntimes()[0]
    assert ours.dtype == theirs.dtype
    assert np.abs(ours.astype(int) - theirs.astype(int)).max() <= (0 if ours.dtype == np.int32 else 1)
    assert np.mean(ours != theirs) < 0.05


def test_gradients_pass_through_dynamically_quantized_products() -> None:
    """x → DynamicQuantizeLinear → MatMulInteger → Cast → Mul, as our own step writes it."""
    net = Net()
    x = net.input("x", [3, 4])
    weight = np.random.default_rng(0).integers(-60, 60, (4, 2)).astype(np.int8)
    net.nodes.append(OneNode("DynamicQuantizeLinear", floats(1), outputs=3).node)
    net.nodes[-1].input[0] = x
    product = net.op("MatMulInteger", "o0", net.constant(weight), "o2")
    floated = net.op("Cast", product, to=1)
    net.op("Mul", floated, "o1", name="y")
    graph = DifferentiableGraph(net.output("y", [3, 2]).model(opset=21))
    values = torch.from_numpy(floats(3, 4)).requires_grad_()
    graph({"x": values})["y"].sum().backward()
    assert values.grad is not None
    np.testing.assert_allclose(values.grad, np.broadcast_to(weight.sum(1), (3, 4)), rtol=1e-4)
