"""Which nodes compute in 8 bits: layers, and what lies between two of them."""

import numpy as np
import pytest

from engine.quantize.plan import plan
from tests.models import Net, residual_cnn


def block(between: str, **attributes: object) -> Net:
    """Conv, one node, Conv."""
    net = Net()
    x = net.conv(net.input("x", ["batch", 4, 8, 8]), (4, 4))
    x = net.op(between, x, name="between", **attributes)
    net.conv(x, (4, 4))
    return net.output("t2", ["batch", 4, "height", "width"])


@pytest.mark.parametrize("operator", ["Sigmoid", "LeakyRelu", "GlobalAveragePool", "Relu"])
def test_nodes_between_layers_are_quantized(operator: str) -> None:
    assert plan(block(operator).model()).passing == {"between"}


@pytest.mark.parametrize("operator", ["Tanh", "Erf", "Softplus", "Exp"])
def test_nodes_without_an_8_bit_kernel_stay_float(operator: str) -> None:
    found = plan(block(operator).model())
    assert found.passing == set()
    assert {"t0", "between"} <= set(found.owners)


def test_nodes_that_only_move_values_share_the_range_of_their_input() -> None:
    found = plan(block("Transpose", perm=[0, 1, 3, 2]).model())
    assert found.owners["between"] == found.owners["t0"] == "t0"


def test_relu_takes_the_range_of_the_layer_before_it() -> None:
    found = plan(block("Relu").model())
    assert "between" in found.owners
    assert "t0" not in found.owners


def test_a_clip_that_does_not_begin_at_zero_is_no_relu() -> None:
    net = Net()
    x = net.conv(net.input("x", ["batch", 4, 8, 8]), (4, 4))
    bounds = net.constant(np.float32(-1)), net.constant(np.float32(1))
    net.conv(net.op("Clip", x, *bounds, name="clipped"), (4, 4))
    found = plan(net.output("t2", ["batch", 4, 8, 8]).model())
    assert found.passing == set()
    assert "t0" in found.owners


def test_both_sides_of_a_residual_addition_are_quantized() -> None:
    model = residual_cnn().model()
    found = plan(model)
    additions = [node.output[0] for node in model.graph.node if node.op_type == "Add"]
    assert additions
    assert set(additions) <= found.passing


def test_an_addition_of_a_float_value_stays_float() -> None:
    net = Net()
    x = net.input("x", ["batch", 4, 8, 8])
    total = net.op("Add", net.conv(x, (4, 4)), net.op("Exp", x), name="sum")
    net.conv(total, (4, 4), kernel=1)
    found = plan(net.output("t3", ["batch", 4, 8, 8]).model())
    assert "sum" not in found.passing


def test_what_follows_the_last_layer_stays_float() -> None:
    net = Net()
    x = net.conv(net.input("x", ["batch", 4, 8, 8]), (4, 4))
    net.op("GlobalAveragePool", x, name="pooled")
    assert plan(net.output("pooled", ["batch", 4, 1, 1]).model()).passing == set()


def test_a_max_pool_whose_indices_are_read_stays_float() -> None:
    net = Net()
    x = net.conv(net.input("x", ["batch", 4, 8, 8]), (4, 4))
    x = net.op("MaxPool", x, name="pooled", kernel_shape=[2, 2])
    net.nodes[-1].output.append("indices")
    net.conv(x, (4, 4))
    net.output("indices", ["batch", 4, 7, 7], 7)
    assert plan(net.output("t2", ["batch", 4, 7, 7]).model()).passing == set()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_layer_with_weights_that_are_not_finite_stays_float(bad: float) -> None:
    net = Net()
    net.op("MatMul", net.input("x", ["batch", 2]), net.constant(np.full((2, 2), bad, np.float32)), name="y")
    assert plan(net.output("y", ["batch", 2]).model()).layers == {}


def test_a_layer_whose_weights_are_computed_stays_float() -> None:
    net = Net()
    x, w = net.input("x", ["batch", 2]), net.input("w", [2, 2])
    net.op("MatMul", x, w, name="y")
    assert plan(net.output("y", ["batch", 2]).model()).layers == {}
