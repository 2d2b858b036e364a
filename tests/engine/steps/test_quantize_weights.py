"""Weights in few bits: what ONNX Runtime makes of the file, how close it stays, and what is left alone."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from engine.errors import StepFailed
from engine.graph import all_nodes, load, operators, opset
from engine.recipe import QuantizeWeights, WeightLayout
from engine.steps import Skipped
from tests.engine.steps.outcome import fused, run, session, sqnr_db, variants
from tests.models import Net, branching, depthwise_cnn, mlp, recurrent, small_cnn, transformer

EXAMPLES = Path("examples/fashion")
LEAST_DB = {8: 30, 4: 15}


def packed(layout: WeightLayout, **options: object) -> QuantizeWeights:
    return QuantizeWeights(layout=layout, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["residual", "transformer", "recurrent"])
@pytest.mark.parametrize("layout", [WeightLayout.MATMUL_NBITS, WeightLayout.DEQUANTIZE, WeightLayout.UNPACK])
@pytest.mark.parametrize(("bits", "symmetric"), [(8, True), (8, False), (4, True), (4, False)])
def test_trained_models_keep_their_outputs_in_every_layout(
    name: str, layout: WeightLayout, bits: int, symmetric: bool, tmp_path: Path
) -> None:
    path = EXAMPLES / f"{name}.onnx"
    (variant,) = variants(packed(layout, bits=bits, symmetric=symmetric), path, tmp_path / "out")
    assert sqnr_db(path, variant.path) > LEAST_DB[bits]
    assert variant.path.stat().st_size < 0.36 * path.stat().st_size


@pytest.mark.parametrize("layout", [WeightLayout.MATMUL_NBITS, WeightLayout.DEQUANTIZE])
def test_products_run_on_packed_weights(layout: WeightLayout, tmp_path: Path) -> None:
    path = transformer().save(tmp_path / "model.onnx")
    (variant,) = variants(packed(layout), path, tmp_path / "out")
    running = fused(variant.path, tmp_path)
    assert running.count("MatMulNBits") == 6  # the last product is too small
    assert "DequantizeLinear" not in running


@pytest.mark.parametrize("build", [small_cnn, depthwise_cnn, recurrent, transformer])
def test_unpacked_weights_leave_nothing_to_do_once_the_model_is_loaded(build: object, tmp_path: Path) -> None:
    path = build(width=64).save(tmp_path / "model.onnx")  # type: ignore[operator]
    (variant,) = variants(packed(WeightLayout.UNPACK, bits=4, symmetric=False), path, tmp_path / "out")
    assert fused(variant.path, tmp_path) == fused(path, tmp_path)


def test_an_embedding_is_looked_up_in_packed_form(tmp_path: Path) -> None:
    path = transformer().save(tmp_path / "model.onnx")
    (variant,) = variants(packed(WeightLayout.MATMUL_NBITS, symmetric=False), path, tmp_path / "out")
    assert "GatherBlockQuantized" in fused(variant.path, tmp_path)
    assert sqnr_db(path, variant.path) > 30


@pytest.mark.parametrize("layout", [WeightLayout.MATMUL_NBITS, WeightLayout.DEQUANTIZE, WeightLayout.UNPACK])
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("inputs", [33, 70])
def test_any_number_of_inputs_and_outputs(
    layout: WeightLayout, bits: int, symmetric: bool, inputs: int, tmp_path: Path
) -> None:
    net = Net()
    x = net.input("x", ["batch", inputs])
    net.op("Relu", net.gemm(x, (inputs, 37)), name="y")
    path = net.output("y", ["batch", 37]).save(tmp_path / "model.onnx")
    step = packed(layout, bits=bits, symmetric=symmetric, block_size=64)
    (variant,) = variants(step, path, tmp_path / "out")
    assert sqnr_db(path, variant.path) > LEAST_DB[bits]


@pytest.mark.parametrize("layout", [WeightLayout.MATMUL_NBITS, WeightLayout.UNPACK])
def test_a_weight_that_two_products_share_is_stored_once(layout: WeightLayout, tmp_path: Path) -> None:
    net = Net()
    x = net.input("x", ["batch", 96])
    weight = net.weight(96, 96, fan_in=96)
    net.op("MatMul", net.op("Tanh", net.op("MatMul", x, weight)), weight, name="y")
    path = net.output("y", ["batch", 96]).save(tmp_path / "model.onnx")
    (variant,) = variants(packed(layout), path, tmp_path / "out")
    large = [weight for weight in load(variant.path).graph.initializer if np.prod(weight.dims) >= 96 * 96]
    assert len(large) == 1
    assert sqnr_db(path, variant.path) > 30


def test_a_table_that_is_looked_up_and_multiplied_is_stored_once(tmp_path: Path) -> None:
    net = Net()
    table = net.weight(50, 64, fan_in=64)
    x = net.op("Gather", table, net.input("ids", ["batch", 5], TensorProto.INT64))
    net.op("MatMul", x, net.op("Transpose", table, perm=[1, 0]), name="y")
    path = net.output("y", ["batch", 5, 50]).save(tmp_path / "model.onnx")
    (variant,) = variants(QuantizeWeights(), path, tmp_path / "out")
    assert variant.path.stat().st_size < 0.45 * path.stat().st_size
    assert sqnr_db(path, variant.path) > 30


@pytest.mark.parametrize("version", [7, 9, 11, 13, 19])
def test_any_opset_and_only_blockwise_types_need_a_later_one(version: int, tmp_path: Path) -> None:
    net = Net()
    x = net.input("x", ["batch", 64])
    weight = net.random.standard_normal((64, 64)).astype(np.float32) / 8
    net.nodes.append(helper.make_node("Constant", [], ["w"], value=numpy_helper.from_array(weight)))
    net.op("Relu", net.op("MatMul", x, "w"), name="y")
    path = net.output("y", ["batch", 64]).save(tmp_path / "model.onnx", opset=version)
    for variant in variants(QuantizeWeights(bits=4), path, tmp_path / "out"):
        assert opset(load(variant.path)) == version
        assert sqnr_db(path, variant.path) > 15
    (variant,) = variants(packed(WeightLayout.DEQUANTIZE, bits=4), path, tmp_path / "out")
    assert opset(load(variant.path)) == 21
    assert sqnr_db(path, variant.path) > 15


def test_factors_of_a_gemm_and_stacked_weights_survive(tmp_path: Path) -> None:
    net = Net()
    x = net.op(
        "Gemm", net.input("x", ["batch", 64]), net.weight(64, 64, fan_in=64), net.weight(64), alpha=0.5, beta=2.0
    )
    x = net.op("MatMul", net.op("Unsqueeze", x, net.constant([0])), net.weight(3, 64, 40, fan_in=64))
    net.op("Relu", x, name="y")
    path = net.output("y", ["a", "b", 40]).save(tmp_path / "model.onnx")
    (variant,) = variants(packed(WeightLayout.UNPACK), path, tmp_path / "out")
    assert sqnr_db(path, variant.path) > 30
    assert variant.path.stat().st_size < 0.45 * path.stat().st_size


def test_half_precision_weights_are_packed_too(tmp_path: Path) -> None:
    net = Net()
    x = net.op("Cast", net.input("x", ["batch", 64]), to=TensorProto.FLOAT16)
    weight = net.constant((net.random.standard_normal((64, 64)) / 8).astype(np.float16))
    net.op("Cast", net.op("MatMul", x, weight), name="y", to=TensorProto.FLOAT)
    path = net.output("y", ["batch", 64]).save(tmp_path / "model.onnx")
    for variant in variants(QuantizeWeights(), path, tmp_path / "out"):
        assert sqnr_db(path, variant.path) > 30


@pytest.mark.parametrize("width", [4, 40])
def test_weights_inside_of_branches_are_packed_where_they_are_large(width: int, tmp_path: Path) -> None:
    net = Net()
    condition = net.input("condition", [], TensorProto.BOOL)
    net.input("x", ["batch", width])
    branches = []
    for name in ("then", "else"):  # both call their weight the same, as they may
        values = net.random.standard_normal((width, width)).astype(np.float32)
        nodes = [
            helper.make_node("Constant", [], ["w"], value=numpy_helper.from_array(values)),
            helper.make_node("MatMul", ["x", "w"], [f"{name}_product"]),
        ]
        value = helper.make_tensor_value_info(f"{name}_product", TensorProto.FLOAT, None)
        branches.append(helper.make_graph(nodes, name, [], [value]))
    net.op("If", condition, name="y", then_branch=branches[0], else_branch=branches[1])
    path = net.output("y", ["batch", width]).save(tmp_path / "model.onnx")
    outcome = run(QuantizeWeights(), path, tmp_path / "out")
    if width == 4:
        assert isinstance(outcome, Skipped)
        return
    assert isinstance(outcome, list)
    for variant in outcome:
        assert variant.path.stat().st_size < 0.5 * path.stat().st_size
        for choice in (True, False):
            feeds = {"condition": np.array(choice), "x": np.ones((2, width), np.float32)}
            before, after = (session(one).run(None, feeds)[0] for one in (path, variant.path))
            assert np.abs(before - after).max() < 0.02 * np.abs(before).max()


@pytest.mark.parametrize("entry", ["MatMul", "t0_MatMul", "t0"])
def test_what_is_to_stay_in_float_stays(entry: str, tmp_path: Path) -> None:
    net = Net()
    x = net.op("MatMul", net.input("x", ["batch", 64]), net.weight(64, 64))
    net.gemm(x, (64, 64), name="y")
    path = net.output("y", ["batch", 64]).save(tmp_path / "model.onnx")
    (original,) = (numpy_helper.to_array(weight) for weight in load(path).graph.initializer if weight.name == "w0")
    for variant in variants(QuantizeWeights(keep_float=(entry,)), path, tmp_path / "out"):
        kept = {weight.name: weight for weight in load(variant.path).graph.initializer}
        assert np.array_equal(numpy_helper.to_array(kept["w0"]), original)
        assert "MatMul" in operators(load(variant.path))
        assert "w1" not in kept


def test_an_unknown_name_to_keep_is_an_error(tmp_path: Path) -> None:
    path = mlp().save(tmp_path / "model.onnx")
    with pytest.raises(StepFailed, match="no such operator"):
        run(QuantizeWeights(keep_float=("matmul",)), path, tmp_path / "out")


def test_a_layout_that_fits_no_weight_is_refused_with_one_that_does(tmp_path: Path) -> None:
    path = small_cnn(width=32).save(tmp_path / "model.onnx")
    outcome = run(packed(WeightLayout.MATMUL_NBITS), path, tmp_path / "out")
    assert isinstance(outcome, Skipped)
    assert "unpack" in outcome.reason
    assert [variant.step.layout for variant in variants(QuantizeWeights(), path, tmp_path / "out")] == ["unpack"]


def test_nodes_keep_their_names_and_weights_without_numbers_are_left(tmp_path: Path) -> None:
    net = Net()
    x = net.op("MatMul", net.input("x", ["batch", 64]), net.weight(64, 64))
    broken = net.constant(np.full((64, 64), np.inf, np.float32))
    net.op("Add", x, net.op("MatMul", x, broken), name="y")
    path = net.output("y", ["batch", 64]).save(tmp_path / "model.onnx")
    (variant, _) = variants(QuantizeWeights(), path, tmp_path / "out")
    graph = load(variant.path)
    assert {"t0_MatMul", "t1_MatMul", "y_Add"} <= {node.name for node in all_nodes(graph)}
    assert broken in {weight.name for weight in graph.graph.initializer}
    onnx.checker.check_model(graph)


def test_a_model_without_large_weights_is_refused(tmp_path: Path) -> None:
    path = branching().save(tmp_path / "model.onnx")
    outcome = run(QuantizeWeights(), path, tmp_path / "out")
    assert isinstance(outcome, Skipped)
    assert "1024" in outcome.reason


@pytest.mark.parametrize("layout", [WeightLayout.MATMUL_NBITS, WeightLayout.DEQUANTIZE])
@pytest.mark.parametrize("symmetric", [True, False])
def test_four_bits_come_nearer_when_their_errors_cancel(layout: WeightLayout, symmetric: bool, tmp_path: Path) -> None:
    path = EXAMPLES / "transformer.onnx"
    step = packed(layout, bits=4, symmetric=symmetric, fit_rounding=False)
    (plain,) = variants(step, path, tmp_path / "plain")
    (fitted,) = variants(step.model_copy(update={"fit_rounding": True}), path, tmp_path / "fitted")
    assert sqnr_db(path, fitted.path) > sqnr_db(path, plain.path) + 3
    assert fitted.path.stat().st_size == plain.path.stat().st_size


@pytest.mark.parametrize(
    ("build", "width", "bits", "words"),
    [
        (small_cnn, 64, 8, "8-bit weights, since none of them is a matrix or a table"),
        (mlp, 64, 4, "4-bit weights in blocks of 32"),
        (small_cnn, 128, 4, "4-bit weights, and 8-bit ones where they are no matrix or table, in blocks of 32"),
    ],
)
def test_the_label_says_how_many_bits_the_file_really_holds(
    build: Callable[..., Net], width: int, bits: int, words: str, tmp_path: Path
) -> None:
    path = build(width).save(tmp_path / "model.onnx")
    (variant,) = variants(packed(WeightLayout.UNPACK, bits=4, fit_rounding=False), path, tmp_path / "out")
    assert variant.label.startswith(words) and variant.step.bits == bits
