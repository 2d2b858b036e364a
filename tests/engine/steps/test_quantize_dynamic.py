"""Dynamic int8: matrix products on fused kernels, everything else as it was."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from engine.errors import StepFailed
from engine.graph import load
from engine.measure.glimpse import Glimpse
from engine.recipe import Activations, QuantizeDynamic, Range, Scales, Target
from engine.steps import Skipped, StepContext, quantize_dynamic
from tests.engine.steps.outcome import FIXED, fused, made_up, run, sqnr_db, variants
from tests.models import Net, mlp, recurrent, small_cnn, transformer

REDUCED = QuantizeDynamic(weight_range=Range.REDUCED)


@pytest.mark.parametrize("net", [transformer, mlp])
@pytest.mark.parametrize("scales", list(Scales))
def test_outputs_stay_close_on_the_kernels_that_serve_them(
    net: Callable[[], Net], scales: Scales, tmp_path: Path
) -> None:
    path = net().save(tmp_path / "model.onnx")
    (variant,) = variants(REDUCED.model_copy(update={"weight_scales": scales}), path, tmp_path / "out")
    assert sqnr_db(path, variant.path) > 25


def test_scales_per_tensor_are_one_number_a_weight(tmp_path: Path) -> None:
    path = mlp().save(tmp_path / "model.onnx")
    (variant,) = variants(REDUCED.model_copy(update={"weight_scales": Scales.PER_TENSOR}), path, tmp_path / "out")
    assert "one scale per tensor" in variant.label
    scales = [weight.dims for weight in load(variant.path).graph.initializer if weight.name.endswith("_scale")]
    assert scales and all(list(dims) == [] for dims in scales)


def test_what_shall_stay_float_does(tmp_path: Path) -> None:
    path = mlp().save(tmp_path / "model.onnx")
    _, second = (node.output[0] for node in load(path).graph.node if node.op_type == "MatMul")
    (variant,) = variants(REDUCED.model_copy(update={"keep_float": (second,)}), path, tmp_path / "out")
    running = fused(variant.path, tmp_path)
    assert running.count("DynamicQuantizeMatMul") == 1
    assert (
        running.count("Gemm") + running.count("FusedGemm") == 2
    )  # the second product, and the last one, which is too small
    everything = run(REDUCED.model_copy(update={"keep_float": ("MatMul",)}), path, tmp_path / "none")
    assert isinstance(everything, Skipped)


def test_a_name_that_the_model_does_not_have_is_told(tmp_path: Path) -> None:
    path = mlp().save(tmp_path / "model.onnx")
    with pytest.raises(StepFailed, match="“matmul”") as failure:
        run(REDUCED.model_copy(update={"keep_float": ("MatMul", "matmul")}), path, tmp_path / "out")
    assert failure.value.code == "keep_float_unknown"


def test_products_run_in_one_fused_kernel_each(tmp_path: Path) -> None:
    path = mlp(width=64).save(tmp_path / "model.onnx")
    (variant,) = variants(REDUCED, path, tmp_path / "out")
    running = fused(variant.path, tmp_path)
    assert running.count("DynamicQuantizeMatMul") == 2  # the last product is too small to repay it
    assert "MatMulInteger" not in running


def test_products_that_share_an_input_quantize_it_once(tmp_path: Path) -> None:
    path = transformer().save(tmp_path / "model.onnx")
    (variant,) = variants(REDUCED, path, tmp_path / "out")
    operators = [node.op_type for node in load(variant.path).graph.node]
    assert operators.count("MatMulInteger") == 6
    assert operators.count("DynamicQuantizeLinear") == 4


def test_weights_shrink_to_a_quarter(tmp_path: Path) -> None:
    path = mlp(width=256).save(tmp_path / "model.onnx")
    (variant,) = variants(REDUCED, path, tmp_path / "out")
    assert variant.path.stat().st_size < 0.35 * path.stat().st_size


def test_a_recurrent_layer_stays_float_and_small_products_are_not_worth_it(tmp_path: Path) -> None:
    path = recurrent().save(tmp_path / "model.onnx")
    outcome = run(REDUCED, path, tmp_path / "out")
    assert isinstance(outcome, Skipped)
    assert "1024" in outcome.reason


@pytest.mark.parametrize("operator", ["GRU", "RNN"])
def test_layers_without_an_8_bit_kernel_are_named(operator: str, tmp_path: Path) -> None:
    net = Net()
    gates = 3 if operator == "GRU" else 1
    x = net.input("sequence", [7, "batch", 32])
    weights = [net.weight(1, gates * 64, size) for size in (32, 64)]
    net.op(operator, x, *weights, hidden_size=64, name="y")
    path = net.output("y", [7, 1, "batch", 64]).save(tmp_path / "model.onnx")
    for step in (REDUCED, FIXED):
        outcome = run(step, path, tmp_path / "out")
        assert isinstance(outcome, Skipped)
        assert f"for its {operator} layers ONNX Runtime has no 8-bit kernel" in outcome.reason


@pytest.mark.parametrize("version", [9, 11, 15, 21])
def test_any_opset_and_weights_in_constant_nodes(version: int, tmp_path: Path) -> None:
    net = Net()
    x = net.input("x", ["batch", 40])
    weight = net.random.standard_normal((40, 40)).astype(np.float32) / 6
    net.nodes.append(helper.make_node("Constant", [], ["w"], value=numpy_helper.from_array(weight)))
    x = net.op("MatMul", net.op("Relu", net.op("MatMul", x, "w")), "w")
    net.op("Add", x, net.weight(40), name="y")
    path = net.output("y", ["batch", 40]).save(tmp_path / "model.onnx", opset=version)
    (variant,) = variants(REDUCED, path, tmp_path / "out")
    assert sqnr_db(path, variant.path) > 25
    stored = [weight for weight in load(variant.path).graph.initializer if weight.data_type == onnx.TensorProto.INT8]
    assert len(stored) == 1


def test_more_than_two_axes_and_stacked_weights(tmp_path: Path) -> None:
    net = Net()
    x = net.input("x", ["batch", 3, 5, 40])
    x = net.op("MatMul", x, net.weight(40, 40, fan_in=40))
    net.op("MatMul", x, net.weight(3, 40, 40, fan_in=40), name="y")
    path = net.output("y", ["batch", 3, 5, 40]).save(tmp_path / "model.onnx")
    (variant,) = variants(REDUCED, path, tmp_path / "out")
    assert sqnr_db(path, variant.path) > 25


def test_signed_activations_are_refused_with_the_reason(tmp_path: Path) -> None:
    path = mlp().save(tmp_path / "model.onnx")
    outcome = run(QuantizeDynamic(activations=Activations.SIGNED), path, tmp_path / "out")
    assert isinstance(outcome, Skipped)
    assert "unsigned" in outcome.reason


def test_a_cnn_keeps_its_convolutions(tmp_path: Path) -> None:
    path = small_cnn(width=128).save(tmp_path / "model.onnx")
    (variant,) = variants(REDUCED, path, tmp_path / "out")
    assert [node.op_type for node in load(variant.path).graph.node].count("Conv") == 2
    assert sqnr_db(path, variant.path) > 25


@pytest.mark.parametrize("scales", [Scales.PER_CHANNEL, Scales.PER_TENSOR])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_an_lstm_runs_on_8_bit_weights_with_its_states(direction: str, scales: Scales, tmp_path: Path) -> None:
    net, width, ways = Net(), 40, 1 + (direction == "bidirectional")
    x, state = net.input("x", [7, "batch", 12]), net.input("state", [ways, "batch", width])
    weights = [net.weight(ways, 4 * width, 12, fan_in=12), net.weight(ways, 4 * width, width, fan_in=width)]
    net.op(
        "LSTM", x, *weights, net.weight(ways, 8 * width), "", state, hidden_size=width, direction=direction, name="y"
    )
    path = net.output("y", [7, ways, "batch", width]).save(tmp_path / "model.onnx")
    (variant,) = variants(REDUCED.model_copy(update={"weight_scales": scales}), path, tmp_path / "out")
    assert sqnr_db(path, variant.path) > 25
    assert "DynamicQuantizeLSTM" in fused(variant.path, tmp_path)
    assert variant.path.stat().st_size < 0.4 * path.stat().st_size
    kept = run(REDUCED.model_copy(update={"keep_float": ("LSTM",)}), path, tmp_path / "kept")
    assert isinstance(kept, Skipped)


def test_one_scale_for_all_is_looked_at_beside_one_for_each_channel(tmp_path: Path) -> None:
    path = recurrent(width=64).save(tmp_path / "model.onnx")
    folder = tmp_path / "out"
    folder.mkdir()
    samples = made_up(path)
    glimpse = Glimpse(path, samples, Target(), folder / "glimpse")
    context = StepContext(samples, folder, Target(), 0, saturates=True, glimpse=glimpse)
    proposed = quantize_dynamic.run(QuantizeDynamic(), path, context)
    assert isinstance(proposed, list)
    formats = {(one.step.weight_scales, one.step.weight_range) for one in [*proposed, *context.looked_at]}
    assert formats == {
        (Scales.PER_CHANNEL, Range.REDUCED),
        (Scales.PER_CHANNEL, Range.FULL),
        (Scales.PER_TENSOR, Range.FULL),
    }
    assert 1 <= len(proposed) <= 2
