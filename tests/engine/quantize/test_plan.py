"""Which nodes compute in 8 bits: layers, and what lies between two of them."""

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest

from engine.graph import save
from engine.quantize.calibrate import Calibrator
from engine.quantize.plan import plan
from engine.quantize.qdq import Format, quantized
from engine.steps.base import never_pause
from tests.engine.steps.outcome import fused, made_up, sqnr_db
from tests.models import Net, residual_cnn


def in_8_bits(model: onnx.ModelProto, folder: Path, *, signed: bool = False) -> onnx.ModelProto:
    """The model with all of its plan carried out."""
    found = plan(model)
    samples = made_up(save(model, folder / "float.onnx"))
    ranges = Calibrator(model, samples, folder, 1, never_pause).minmax(sorted(set(found.owners.values())))
    return quantized(model, found, ranges, Format(signed=signed, reduced=True, per_channel=True))


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


def swish(spelling: str) -> Net:
    """Conv, a hard swish as exporters spell it, Conv."""
    net = Net()
    x = net.conv(net.input("x", ["batch", 4, 8, 8]), (4, 4))
    if spelling == "HardSwish":
        x = net.op("HardSwish", x)
    elif spelling == "HardSigmoid":
        x = net.op("Mul", x, net.op("HardSigmoid", x, alpha=1 / 6, beta=0.5))
    else:
        zero, three, six = (net.constant(np.float32(value)) for value in (0, 3, 6))
        x = net.op("Div", net.op("Mul", x, net.op("Clip", net.op("Add", x, three), zero, six)), six)
    net.conv(x, (4, 4))
    return net.output(f"t{len(net.nodes) - 1}", ["batch", 4, 8, 8])


SPELLINGS = pytest.mark.parametrize("spelling", ["HardSwish", "HardSigmoid", "Div"])


@SPELLINGS
def test_a_hard_swish_runs_on_integers_however_it_is_spelled(spelling: str, tmp_path: Path) -> None:
    path = save(in_8_bits(swish(spelling).model(), tmp_path), tmp_path / "quantized.onnx")
    running = Counter(fused(path, tmp_path))
    counts = {"QuantizeLinear": 1, "QLinearConv": 2, "QLinearAdd": 1, "QLinearMul": 1, "DequantizeLinear": 1}
    assert {operator: running[operator] for operator in counts} == counts
    assert set(running) - set(counts) <= {"Transpose"}


@SPELLINGS
@pytest.mark.parametrize("signed", [False, True])
def test_a_hard_swish_on_integers_stays_close(spelling: str, signed: bool, tmp_path: Path) -> None:
    model = swish(spelling).model()
    path = save(in_8_bits(model, tmp_path, signed=signed), tmp_path / "quantized.onnx")
    assert sqnr_db(save(model, tmp_path / "model.onnx"), path) > 25


def test_a_product_with_a_positive_number_is_only_another_scale(tmp_path: Path) -> None:
    net = Net()
    x = net.conv(net.input("x", ["batch", 4, 8, 8]), (4, 4))
    net.conv(net.op("Mul", net.constant(np.array([3], np.float32)), x, name="scaled"), (4, 4))
    model = net.output("t2", ["batch", 4, 8, 8]).model()
    found = plan(model)
    assert found.scaled == {"scaled": ("t0", 3.0)}
    assert "scaled" not in found.owners
    path = save(in_8_bits(model, tmp_path), tmp_path / "quantized.onnx")
    assert not {"Mul", "QLinearMul"} & set(fused(path, tmp_path))
    assert sqnr_db(save(model, tmp_path / "model.onnx"), path) > 25


@pytest.mark.parametrize("factor", [-2.0, 0.0, np.inf])
def test_a_scale_is_positive_and_finite(factor: float) -> None:
    net = Net()
    x = net.conv(net.input("x", ["batch", 4, 8, 8]), (4, 4))
    net.conv(net.op("Div", x, net.constant(np.float32(factor)), name="divided"), (4, 4))
    found = plan(net.output("t2", ["batch", 4, 8, 8]).model())
    assert found.scaled == {}
    assert found.passing == set()


def test_split_and_resize_move_integers(tmp_path: Path) -> None:
    net = Net()
    x = net.conv(net.input("x", ["batch", 4, 8, 8]), (4, 4))
    net.op("Split", x, net.constant(np.array([2, 2])), name="left", axis=1)
    net.nodes[-1].output.append("right")
    left = net.conv("left", (2, 2))
    x = net.op("Concat", left, "right", "left", axis=1)
    x = net.op("Resize", x, "", net.constant(np.array([1, 1, 2, 2], np.float32)), mode="nearest")
    net.conv(x, (6, 4))
    model = net.output(f"t{len(net.nodes) - 1}", ["batch", 4, 16, 16]).model()
    path = save(in_8_bits(model, tmp_path), tmp_path / "quantized.onnx")
    running = Counter(fused(path, tmp_path))
    assert (running["QuantizeLinear"], running["DequantizeLinear"]) == (1, 1)
    assert {"Split", "Resize", "QLinearConcat"} <= set(running)
    assert sqnr_db(save(model, tmp_path / "model.onnx"), path) > 25


def test_the_last_convolution_takes_its_relu_with_it() -> None:
    net = Net()
    x = net.op("Relu", net.conv(net.input("x", ["batch", 4, 8, 8]), (4, 4)), name="relu")
    net.op("Softplus", x, name="y")
    assert plan(net.output("y", ["batch", 4, 8, 8]).model()).passing == {"relu"}
