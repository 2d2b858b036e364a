"""Sixteen-bit floats: how close outputs stay, what stays in float32, and that nothing overflows."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from engine.data import Samples
from engine.graph import all_graphs, all_nodes, load, tensor_types
from engine.half.rounding import rounded_half, unsafe_tensors
from engine.recipe import Arithmetic, ConvertFloat16, Half, QuantizeStatic
from engine.steps import Skipped
from tests.engine.steps.outcome import fused, run, session, sqnr_db, variants
from tests.models import Net, depthwise_cnn, mlp, recurrent, residual_cnn, small_cnn, transformer

EXAMPLES = Path("examples/fashion")
STORED = ConvertFloat16(arithmetic=Arithmetic.FLOAT32)
COMPUTED = ConvertFloat16(arithmetic=Arithmetic.HALF)


def halves(path: Path) -> set[str]:
    """Operators that read or write half precision, apart from casts."""
    graph = load(path)
    types = {weight.name for weight in graph.graph.initializer if weight.data_type == TensorProto.FLOAT16}
    for node in graph.graph.node:
        to = next((entry.i for entry in node.attribute if node.op_type == "Cast" and entry.name == "to"), None)
        types.update(node.output if to == TensorProto.FLOAT16 else [])
    return {node.op_type for node in graph.graph.node if types & set(node.input)} - {"Cast"}


@pytest.mark.parametrize("name", ["residual", "transformer", "recurrent"])
@pytest.mark.parametrize("step", [STORED, COMPUTED])
def test_trained_models_keep_their_outputs_in_half_the_bytes(name: str, step: ConvertFloat16, tmp_path: Path) -> None:
    path = EXAMPLES / f"{name}.onnx"
    (variant,) = variants(step, path, tmp_path / "out")
    assert sqnr_db(path, variant.path) > 55
    assert variant.path.stat().st_size < 0.54 * path.stat().st_size


@pytest.mark.parametrize("net", [small_cnn, residual_cnn, depthwise_cnn, mlp, transformer, recurrent])
@pytest.mark.parametrize("version", [9, 11, 15, 21])
def test_any_net_at_any_opset(net: Callable[[int], Net], version: int, tmp_path: Path) -> None:
    if net is transformer and version not in (17, 15):
        pytest.skip("its reductions are written as they were from opset 13 to 17")
    if net is recurrent and version < 13:
        pytest.skip("its Squeeze is written as from opset 13 on")
    if net is depthwise_cnn and version < 11:
        pytest.skip("its Clip is written as from opset 11 on")
    path = net(64).save(
        tmp_path / "model.onnx", opset=max(version, 17) if net is transformer else version, ir_version=8
    )
    (variant,) = variants(COMPUTED, path, tmp_path / "out")
    assert sqnr_db(path, variant.path) > 50


def test_stored_weights_leave_nothing_to_do_once_the_model_is_loaded(tmp_path: Path) -> None:
    path = transformer().save(tmp_path / "model.onnx")
    (variant,) = variants(STORED, path, tmp_path / "out")
    assert fused(variant.path, tmp_path) == fused(path, tmp_path)


def test_bfloat16_is_stored_and_computing_in_it_is_refused_with_the_reason(tmp_path: Path) -> None:
    path = mlp(width=64).save(tmp_path / "model.onnx", opset=11)
    (variant,) = variants(ConvertFloat16(format=Half.BFLOAT16), path, tmp_path / "out")
    assert sqnr_db(path, variant.path) > 40
    outcome = run(COMPUTED.model_copy(update={"format": Half.BFLOAT16}), path, tmp_path / "out")
    assert isinstance(outcome, Skipped)
    assert "bfloat16" in outcome.reason


def test_products_and_convolutions_compute_in_half(tmp_path: Path) -> None:
    path = small_cnn(width=64).save(tmp_path / "model.onnx")
    (variant,) = variants(COMPUTED, path, tmp_path / "out")
    assert {"Conv", "Gemm"} <= halves(variant.path)


@pytest.mark.parametrize("entry", ["MatMul", "t0_MatMul", "t0"])
@pytest.mark.parametrize("step", [STORED, COMPUTED])
def test_what_is_to_stay_in_float_stays(entry: str, step: ConvertFloat16, tmp_path: Path) -> None:
    net = Net()
    x = net.op("MatMul", net.input("x", ["batch", 64]), net.weight(64, 64, fan_in=64))
    net.gemm(x, (64, 64), name="y")
    path = net.output("y", ["batch", 64]).save(tmp_path / "model.onnx")
    (variant,) = variants(step.model_copy(update={"keep_float": (entry,)}), path, tmp_path / "out")
    elements = {weight.name: weight.data_type for weight in load(variant.path).graph.initializer}
    assert elements["w0"] == TensorProto.FLOAT
    assert "w1" not in elements
    assert "MatMul" not in halves(variant.path)


def deep(spread: float) -> Net:
    """A product whose result is this large, squeezed into a small range behind it."""
    net = Net()
    x = net.op("MatMul", net.input("x", ["batch", 64]), net.weight(64, 64, fan_in=64))
    x = net.op("Mul", x, net.constant(np.float32(spread)), name="large")
    x = net.op("Mul", x, net.constant(np.float32(1 / spread)), name="small")
    net.op("MatMul", x, net.weight(64, 64, fan_in=64), name="y")
    return net.output("y", ["batch", 64])


@pytest.mark.parametrize("spread", [3e4, 1e9, 1e-6])
def test_what_would_overflow_or_vanish_stays_in_float32(spread: float, tmp_path: Path) -> None:
    path = deep(spread).save(tmp_path / "model.onnx")
    (variant,) = variants(COMPUTED, path, tmp_path / "out")
    assert "Mul" not in halves(variant.path)
    assert "MatMul" in halves(variant.path)
    assert "of 4 nodes in float32" in variant.label
    assert sqnr_db(path, variant.path) > 50


def test_a_mask_of_huge_numbers_and_a_tiny_epsilon_stay_in_float32(tmp_path: Path) -> None:
    net = Net()
    x = net.op("MatMul", net.input("x", ["batch", 64]), net.weight(64, 64, fan_in=64))
    mask = net.op("Mul", net.input("mask", ["batch", 64]), net.constant(np.float32(-3.4e38)), name="masked")
    x = net.op("Mul", net.op("Add", x, mask, name="added"), net.constant(np.float32(1)))
    x = net.op("Div", net.op("Relu", x), net.op("Add", net.op("Abs", x), net.constant(np.float32(1e-12)), name="safe"))
    net.op("MatMul", x, net.weight(64, 64, fan_in=64), name="y")
    path = net.output("y", ["batch", 64]).save(tmp_path / "model.onnx")
    x_values = np.random.default_rng(0).standard_normal((16, 64)).astype(np.float32)
    assert {"masked", "added"} <= unsafe_tensors(load(path), Half.FLOAT16, {})
    calm = _samples(path, {"x": x_values, "mask": np.zeros((16, 64), np.float32)})  # ranges show nothing of the mask
    outcome = run(COMPUTED, path, tmp_path / "out", samples=calm)
    assert isinstance(outcome, list)
    mask_values = np.zeros((2, 64), np.float32)
    mask_values[:, ::2] = 1
    feeds = {"x": x_values[:2], "mask": mask_values}
    before, after = (session(one).run(None, feeds)[0] for one in (path, outcome[0].path))
    assert np.isfinite(after).all()
    assert np.abs(before - after).max() < 0.01 * np.abs(before).max()


def _samples(path: Path, arrays: dict[str, np.ndarray]) -> Samples:
    from engine.data.samples import Column, Layout  # the plain parts that a data set becomes

    columns = {name: Column(array, "float32", Layout.BATCHED) for name, array in arrays.items()}
    return Samples(columns, np.arange(16), None, None)


def test_a_branch_reads_what_it_read_before(tmp_path: Path) -> None:
    net = Net()
    condition = net.input("condition", [], TensorProto.BOOL)
    x = net.op("MatMul", net.input("x", ["batch", 64]), net.weight(64, 64, fan_in=64))
    branches = []
    for name in ("then", "else"):
        values = net.random.standard_normal((64, 64)).astype(np.float32)
        node = helper.make_node("MatMul", [x, "w"], [f"{name}_product"])
        value = helper.make_tensor_value_info(f"{name}_product", TensorProto.FLOAT, None)
        branches.append(helper.make_graph([node], name, [], [value], [numpy_helper.from_array(values, "w")]))
    net.op("If", condition, name="z", then_branch=branches[0], else_branch=branches[1])
    net.op("MatMul", "z", net.weight(64, 64, fan_in=64), name="y")
    path = net.output("y", ["batch", 64]).save(tmp_path / "model.onnx")
    (variant,) = variants(COMPUTED, path, tmp_path / "out")
    assert "MatMul" in halves(variant.path)
    inside = [
        weight.data_type for graph in list(all_graphs(load(variant.path).graph))[1:] for weight in graph.initializer
    ]
    assert inside == [TensorProto.FLOAT16] * 2
    for choice in (True, False):
        feeds = {"condition": np.array(choice), "x": np.ones((2, 64), np.float32)}
        before, after = (session(one).run(None, feeds)[0] for one in (path, variant.path))
        assert np.abs(before - after).max() < 0.01 * np.abs(before).max()


def test_a_weight_that_float_and_half_read_is_stored_once(tmp_path: Path) -> None:
    net = Net()
    weight = net.weight(64, 64, fan_in=64)
    x = net.op("MatMul", net.input("x", ["batch", 64]), weight, name="kept")
    net.op("MatMul", x, weight, name="y")
    path = net.output("y", ["batch", 64]).save(tmp_path / "model.onnx")
    (variant,) = variants(COMPUTED.model_copy(update={"keep_float": ("kept",)}), path, tmp_path / "out")
    assert sum(np.prod(weight.dims) > 1000 for weight in load(variant.path).graph.initializer) == 1
    assert sqnr_db(path, variant.path) > 50


def test_inner_tensors_that_are_outputs_too_keep_their_names_and_types(tmp_path: Path) -> None:
    net = Net()
    x = net.op("MatMul", net.input("x", ["batch", 64]), net.weight(64, 64, fan_in=64), name="inner")
    net.op("Relu", net.op("MatMul", x, net.weight(64, 64, fan_in=64)), name="y")
    net.output("inner", ["batch", 64])
    path = net.output("y", ["batch", 64]).save(tmp_path / "model.onnx")
    (variant,) = variants(COMPUTED, path, tmp_path / "out")
    assert [entry.name for entry in session(variant.path).get_outputs()] == ["inner", "y"]
    assert {entry.type for entry in session(variant.path).get_outputs()} == {"tensor(float)"}
    types = tensor_types(load(variant.path).graph)
    assert types["inner"].element == TensorProto.FLOAT


def test_a_quantized_model_is_only_stored(tmp_path: Path) -> None:
    path = transformer().save(tmp_path / "model.onnx")
    (variant, *_) = variants(QuantizeStatic(mixed=False), path, tmp_path / "static")
    outcome = run(COMPUTED, variant.path, tmp_path / "out")
    assert isinstance(outcome, Skipped)
    assert "quantized already" in outcome.reason


def test_a_model_in_half_precision_is_refused(tmp_path: Path) -> None:
    path = mlp(width=64).save(tmp_path / "model.onnx")
    graph = load(path)
    for weight in graph.graph.initializer:
        weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight).astype(np.float16), weight.name))
    for node in all_nodes(graph):
        assert node.op_type != "Cast"
    path.write_bytes(graph.SerializeToString())
    outcome = run(ConvertFloat16(), path, tmp_path / "out")
    assert outcome == Skipped("its weights are 16-bit floats already")


@pytest.mark.parametrize(
    ("values", "is_faithful"),
    [
        ([1.0, -0.5], True),
        ([0.0], True),
        ([np.inf, 1.0], True),
        ([70000.0, 1.0], False),
        ([1e-12], False),
        ([1e-5], True),
    ],
)
def test_only_what_half_precision_holds_is_rounded(values: list[float], is_faithful: bool) -> None:
    assert (rounded_half(np.array(values, np.float32), Half.FLOAT16) is not None) == is_faithful
