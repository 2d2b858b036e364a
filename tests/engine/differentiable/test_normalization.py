"""Normalizations give what ONNX Runtime gives, and gradients that are finite differences."""

import numpy as np
import pytest
import torch

from engine.differentiable import DifferentiableGraph
from engine.differentiable.elements import to_torch
from tests.engine.differentiable.nodes import OneNode, floats, positives

NORMALIZATIONS = {
    "batch": OneNode("BatchNormalization", floats(2, 3, 4), floats(3), floats(3, seed=1), floats(3, seed=2),
                     positives(3), constants=(3, 4), epsilon=1e-3),
    "instance": OneNode("InstanceNormalization", floats(2, 3, 4, 2), floats(3), floats(3, seed=1)),
    "layer": OneNode("LayerNormalization", floats(2, 3, 4), floats(4), floats(4, seed=1)),
    "layer, over two axes": OneNode("LayerNormalization", floats(2, 3, 4), floats(3, 4), axis=1),
    "layer, a scale for all": OneNode("LayerNormalization", floats(2, 3, 4), floats(1), axis=1, epsilon=1e-2),
    "neighbouring channels": OneNode("LRN", floats(1, 5, 3, 2), size=3, alpha=0.3, beta=0.6, bias=1.5),
    "unit rows": OneNode("LpNormalization", floats(3, 4), axis=1, p=2),
    "unit columns": OneNode("LpNormalization", floats(3, 4), axis=0, p=1),
    "mean and variance": OneNode("MeanVarianceNormalization", floats(2, 3, 4, 2)),
    "softmax": OneNode("Softmax", floats(2, 3, 4)),
    "softmax of all the rest": OneNode("Softmax", floats(2, 3, 4), opset=11, axis=1),
    "its logarithm": OneNode("LogSoftmax", floats(2, 3, 4), axis=1),
    "its logarithm of all the rest": OneNode("LogSoftmax", floats(2, 3, 4), opset=11),
}  # fmt: skip


@pytest.mark.parametrize("case", NORMALIZATIONS.values(), ids=NORMALIZATIONS)
def test_normalizations_give_what_onnx_runtime_gives_and_right_gradients(case: OneNode) -> None:
    case.check()


def test_statistics_of_a_trained_graph_are_no_weights() -> None:
    case = OneNode("BatchNormalization", floats(2, 3, 4), floats(3), floats(3), floats(3), positives(3),
                   constants=(1, 2, 3, 4))  # fmt: skip
    assert DifferentiableGraph(case.model()).weights().keys() == {"i1", "i2"}


def test_groups_are_scaled_by_group_before_opset_21_and_by_channel_since() -> None:
    x, scale, bias = floats(2, 4, 3), floats(2), floats(2, seed=1)
    old = OneNode("GroupNormalization", x, scale, bias, opset=18, num_groups=2)
    new = OneNode("GroupNormalization", x, np.repeat(scale, 2), np.repeat(bias, 2), opset=21, num_groups=2)
    np.testing.assert_allclose(old.ours()[0], new.ours()[0], atol=1e-6)
    new.check()
    old.check_gradients()


def test_rows_of_zeros_have_no_norm_and_no_infinite_gradient() -> None:
    graph = DifferentiableGraph(OneNode("LpNormalization", floats(2, 3)).model())
    x = torch.zeros(2, 3, requires_grad=True)
    y = graph({"i0": x})["o0"]
    y.sum().backward()
    assert torch.equal(y, torch.zeros(2, 3))
    assert torch.isfinite(x.grad).all()


def test_root_mean_square_is_that_of_the_last_axes() -> None:
    case = OneNode("RMSNormalization", floats(2, 3, 4), floats(3, 4), opset=23, axis=1, epsilon=1e-3)
    x, scale = case.arrays
    expected = x / np.sqrt((x**2).mean((1, 2), keepdims=True) + 1e-3) * scale
    np.testing.assert_allclose(case.ours()[0], expected, rtol=1e-5)
    case.check_gradients()


def test_a_dropout_that_trains_zeroes_its_share_and_keeps_the_mean() -> None:
    case = OneNode("Dropout", np.ones((100, 100), np.float32), np.float32(0.3), np.bool_(True), outputs=2)
    y, mask = case.ours()
    assert abs(mask.mean() - 0.7) < 0.02
    np.testing.assert_allclose(y, mask / 0.7, rtol=1e-6)


def test_a_dropout_of_a_trained_graph_is_nothing() -> None:
    for opset, inputs in ((7, ()), (13, (np.float32(0.5),)), (13, (np.float32(0.5), np.bool_(False)))):
        x = floats(3, 4)
        graph = DifferentiableGraph(OneNode("Dropout", x, *inputs, opset=opset, constants=(1, 2)).model())
        assert torch.equal(graph({"i0": to_torch(x)})["o0"], to_torch(x))
