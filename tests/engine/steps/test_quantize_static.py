"""Static int8 on the kernels that will serve it: fused, accurate, and for any opset and any odd weight."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnx import helper, numpy_helper

from engine.data import fit_samples
from engine.graph import load, opset
from engine.recipe import Activations, Calibration, Scales
from engine.signature import Signature
from engine.steps import Skipped, quantize_static
from tests.engine.steps.outcome import FIXED, fused, run, session, sqnr_db, variants
from tests.models import Net, branching, depthwise_cnn, mlp, residual_cnn, small_cnn, transformer

FLOAT_LEFT = {"Conv", "FusedConv", "Gemm", "MatMul", "Add", "Relu", "Clip", "Concat", "DequantizeLinear"}


@pytest.mark.parametrize(
    ("net", "least_db"),
    [(small_cnn, 30), (residual_cnn, 28), (depthwise_cnn, 25), (mlp, 30), (transformer, 25)],
)
@pytest.mark.parametrize("signs", [Activations.UNSIGNED, Activations.SIGNED])
def test_outputs_stay_close_on_the_kernels_that_serve_them(
    net: Callable[[], Net], least_db: float, signs: Activations, tmp_path: Path
) -> None:
    path = net().save(tmp_path / "model.onnx")
    (variant,) = variants(FIXED.model_copy(update={"activations": signs}), path, tmp_path / "out")
    assert sqnr_db(path, variant.path) > least_db


@pytest.mark.parametrize("net", [small_cnn, residual_cnn, depthwise_cnn, mlp])
def test_no_layer_and_nothing_between_layers_is_left_in_float(net: Callable[[], Net], tmp_path: Path) -> None:
    path = net().save(tmp_path / "model.onnx")
    (variant,) = variants(FIXED, path, tmp_path / "out")
    running = fused(variant.path, tmp_path)
    assert not FLOAT_LEFT.intersection(running), running


def test_attention_keeps_its_residual_stream_in_float(tmp_path: Path) -> None:
    path = transformer().save(tmp_path / "model.onnx")
    (variant,) = variants(FIXED, path, tmp_path / "out")
    running = fused(variant.path, tmp_path)
    assert running.count("MatMulIntegerToFloat") == 6
    assert "DequantizeLinear" not in running


@pytest.mark.parametrize("version", [7, 9, 11, 12, 13, 18, 21, 23])
def test_any_opset_is_quantized(version: int, tmp_path: Path) -> None:
    path = _squeezing(version).save(tmp_path / "model.onnx", opset=version, ir_version=3 if version < 9 else 8)
    (variant,) = variants(FIXED, path, tmp_path / "out")
    assert opset(load(variant.path)) == max(version, 13)
    assert sqnr_db(path, variant.path) > 25


def test_initializers_that_are_also_inputs_are_quantized(tmp_path: Path) -> None:
    net = small_cnn()
    for weight in net.weights:
        net.inputs.append(helper.make_tensor_value_info(weight.name, weight.data_type, weight.dims))
    path = net.save(tmp_path / "model.onnx", opset=13, ir_version=3)
    (variant,) = variants(FIXED, path, tmp_path / "out")
    assert [entry.name for entry in session(variant.path).get_inputs()] == ["image"]
    assert variant.path.stat().st_size < path.stat().st_size * 0.6


def test_seven_bit_weights_stay_within_64(tmp_path: Path) -> None:
    path = small_cnn().save(tmp_path / "model.onnx")
    (variant,) = variants(FIXED, path, tmp_path / "out")
    stored = [numpy_helper.to_array(weight) for weight in load(variant.path).graph.initializer]
    largest = max(np.abs(values.astype(int)).max() for values in stored if values.dtype == np.int8 and values.size > 16)
    assert largest == 64


def test_one_scale_per_tensor_is_less_accurate_and_valid(tmp_path: Path) -> None:
    net = small_cnn()
    _scale_channel(net, factor=50)
    path = net.save(tmp_path / "model.onnx")
    (per_channel,) = variants(FIXED, path, tmp_path / "channel")
    (per_tensor,) = variants(FIXED.model_copy(update={"weight_scales": Scales.PER_TENSOR}), path, tmp_path / "tensor")
    assert sqnr_db(path, per_channel.path) > sqnr_db(path, per_tensor.path) + 3


def test_percentile_ignores_a_rare_outlier_in_the_calibration_data(tmp_path: Path) -> None:
    path = small_cnn().save(tmp_path / "model.onnx")
    images = np.random.default_rng(0).standard_normal((64, 3, 16, 16)).astype(np.float32)
    plain = fit_samples({"image": images.copy()}, Signature.of(load(path)), None)
    images[0, 0, 0, 0] = 1000
    spoiled = fit_samples({"image": images}, Signature.of(load(path)), None)
    step = FIXED.model_copy(update={"calibration": Calibration.PERCENTILE, "percentile": 99.9})
    (robust,) = _proposed(run(step, path, tmp_path / "percentile", samples=spoiled))
    (naive,) = _proposed(run(FIXED, path, tmp_path / "minmax", samples=spoiled))
    assert sqnr_db(path, robust.path, plain) > sqnr_db(path, naive.path, plain) + 10


@pytest.mark.parametrize("odd", ["zero channel", "huge channel", "shared", "an output", "a Constant node", "empty"])
def test_odd_weights_are_handled(odd: str, tmp_path: Path) -> None:
    net = _with_odd_weights(odd)
    path = net.save(tmp_path / "model.onnx")
    (variant,) = variants(FIXED, path, tmp_path / "out")
    assert sqnr_db(path, variant.path) > 20
    assert "QLinearConv" in fused(variant.path, tmp_path)


def test_a_bias_far_larger_than_its_weights_survives(tmp_path: Path) -> None:
    net = Net()
    x = net.input("x", ["batch", 4, 8, 8])
    weight = net.constant(np.full((4, 4, 1, 1), 1e-9, np.float32))
    net.op("Conv", x, weight, net.constant(np.array([1, -2, 3, 0.5], np.float32)), name="y")
    path = net.output("y", ["batch", 4, 8, 8]).save(tmp_path / "model.onnx")
    (variant,) = variants(FIXED, path, tmp_path / "out")
    assert sqnr_db(path, variant.path) > 35


def test_layers_whose_activations_are_infinite_stay_float(tmp_path: Path) -> None:
    net = Net()
    x = net.conv(net.input("x", ["batch", 4, 8, 8]), (4, 4))
    infinite = net.op("Div", x, net.constant(np.zeros(1, np.float32)))
    net.op("Tanh", net.conv(infinite, (4, 4)), name="lost")
    net.op("Tanh", net.conv(x, (4, 4)), name="kept")
    path = net.output("lost", ["batch", 4, 8, 8]).output("kept", ["batch", 4, 8, 8]).save(tmp_path / "model.onnx")
    (variant,) = variants(FIXED, path, tmp_path / "out")
    operators = [node.op_type for node in load(variant.path).graph.node]
    assert operators.count("DequantizeLinear") == 4 + 3  # two layers: weight and bias each, three activations
    session(variant.path)


def test_layers_inside_branches_are_refused(tmp_path: Path) -> None:
    reason = quantize_static.refuse(branching().model())
    assert reason is not None
    assert "branch" in reason


def test_quantized_models_are_refused(tmp_path: Path) -> None:
    path = small_cnn().save(tmp_path / "model.onnx")
    (variant,) = variants(FIXED, path, tmp_path / "out")
    assert "already" in (quantize_static.refuse(load(variant.path)) or "")


def test_a_model_that_cannot_be_upgraded_is_skipped_with_the_reason(tmp_path: Path) -> None:
    net = Net()
    x = net.conv(net.input("x", ["batch", 4, 8, 8]), (4, 4))
    net.op("Hardmax", x, name="y", axis=1)  # the converter forgets that it ran over all axes behind the first
    path = net.output("y", ["batch", 4, 8, 8]).save(tmp_path / "model.onnx", opset=11)
    outcome = run(FIXED, path, tmp_path / "out")
    assert isinstance(outcome, Skipped)
    assert "opset" in outcome.reason


def _proposed(outcome: object) -> list[quantize_static.Variant]:
    assert isinstance(outcome, list)
    return outcome


def _squeezing(version: int) -> Net:
    """A net whose Squeeze, Dropout and Clip are written as this opset wants them."""
    net = Net()
    x = net.conv(net.input("image", ["batch", 3, 16, 16]), (3, 8))
    if version < 11:
        x = net.op("Clip", x, min=0.0, max=6.0)
    else:
        x = net.op("Clip", x, net.constant(np.float32(0)), net.constant(np.float32(6)))
    x = net.op("GlobalAveragePool", net.op("Dropout", net.conv(x, (8, 8))))
    x = net.op("Squeeze", x, net.constant(np.array([2, 3]))) if version >= 13 else net.op("Squeeze", x, axes=[2, 3])
    net.gemm(x, (8, 10), name="scores")
    return net.output("scores", ["batch", 10])


def _scale_channel(net: Net, factor: float) -> None:
    """Make one input channel of the first convolution's weights dominate."""
    values = numpy_helper.to_array(net.weights[0]).copy()
    values[0] *= factor
    net.weights[0].CopyFrom(numpy_helper.from_array(values, net.weights[0].name))


def _with_odd_weights(odd: str) -> Net:
    net = Net()
    x = net.input("x", ["batch", 4, 8, 8])
    values = np.random.default_rng(0).standard_normal((4, 4, 3, 3)).astype(np.float32) / 6
    values[1] *= {"zero channel": 0, "huge channel": 1e4}.get(odd, 1)
    if odd == "a Constant node":
        net.nodes.append(helper.make_node("Constant", [], ["w"], value=numpy_helper.from_array(values)))
    else:
        net.constant(values, "w")
    x = net.op("Relu", net.op("Conv", x, "w", net.weight(4), pads=[1] * 4))
    second = "w" if odd == "shared" else net.constant(values[::-1].copy())
    net.op("Conv", x, second, net.weight(4), name="y", pads=[1] * 4)
    if odd == "shared":
        net.op("ReduceSum", "w", name="sum", keepdims=0)
        net.output("sum", [])
    if odd == "an output":
        net.output("w", [4, 4, 3, 3])
    if odd == "empty":
        net.op(
            "Add", net.constant(np.zeros((0, 4), np.float32)), net.constant(np.zeros((0, 4), np.float32)), name="none"
        )
        net.output("none", [0, 4])
    return net.output("y", ["batch", 4, 8, 8])


def test_weights_that_are_filled_with_one_value_are_named_as_the_reason(tmp_path: Path) -> None:
    net = Net()
    x, shape = net.input("x", ["batch", 300]), net.constant(np.array([300, 300]))
    net.op("MatMul", x, net.op("ConstantOfShape", shape), name="y")
    path = net.output("y", ["batch", 300]).save(tmp_path / "model.onnx")
    outcome = run(FIXED, path, tmp_path / "out")
    assert isinstance(outcome, Skipped)
    assert "ConstantOfShape makes them" in outcome.reason
