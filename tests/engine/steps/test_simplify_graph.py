"""Simplification: fewer nodes, the same outputs, nothing of the machine in the file."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from engine.graph import ONNX_DOMAINS, load, save
from engine.recipe import QuantizeStatic, SimplifyGraph
from engine.steps import Skipped
from tests.engine.steps.outcome import made_up, outputs, run, session, variants
from tests.models import Net, branching, depthwise_cnn, recurrent, residual_cnn, small_cnn, transformer


def test_batch_norms_go_into_their_convolutions(tmp_path: Path) -> None:
    path = small_cnn().save(tmp_path / "model.onnx")
    (variant,) = variants(SimplifyGraph(), path, tmp_path / "out")
    assert "BatchNormalization" not in _operators(variant.path)


@pytest.mark.parametrize("net", [small_cnn, residual_cnn, depthwise_cnn, transformer, recurrent, branching])
def test_outputs_stay_equal(net: Callable[[], Net], tmp_path: Path) -> None:
    path = net().save(tmp_path / "model.onnx")
    outcome = run(SimplifyGraph(), path, tmp_path / "out")
    for variant in [] if isinstance(outcome, Skipped) else outcome:
        for before, after in zip(outputs(path, made_up(path)), outputs(variant.path, made_up(path)), strict=True):
            np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-5)


def test_nodes_without_effect_and_constant_branches_go_away(tmp_path: Path) -> None:
    net = Net()
    x = net.input("x", ["batch", 4])
    x = net.op("Dropout", net.op("Identity", x))
    shape = net.op("Concat", net.constant(np.array([-1])), net.constant(np.array([4])), axis=0)
    net.op("Add", net.op("Reshape", x, shape), net.op("Mul", net.weight(4), net.weight(4)), name="y")
    path = net.output("y", ["batch", 4]).save(tmp_path / "model.onnx")
    (variant,) = variants(SimplifyGraph(), path, tmp_path / "out")
    assert set(_operators(variant.path)) <= {"Reshape", "Add"}


def test_only_standard_operators_are_written(tmp_path: Path) -> None:
    path = transformer().save(tmp_path / "model.onnx")
    outcome = run(SimplifyGraph(), path, tmp_path / "out")
    assert isinstance(outcome, Skipped) or all(
        node.domain in ONNX_DOMAINS for variant in outcome for node in load(variant.path).graph.node
    )


def test_a_classifier_that_gives_its_probabilities_as_maps_is_simplified(tmp_path: Path) -> None:
    model = onnx.parser.parse_model("""<ir_version: 8, opset_import: ["" : 17, "ai.onnx.ml" : 3]>
        maps (float[N,3] x) => (seq(map(int64, float)) y) {
        i = Identity (x)
        s = Softmax (i)
        y = ai.onnx.ml.ZipMap <classlabels_int64s = [5, 6, 7]> (s)
    }""")
    path = save(model, tmp_path / "model.onnx")
    (variant,) = variants(SimplifyGraph(), path, tmp_path / "out")
    assert "Identity" not in _operators(variant.path)
    assert load(variant.path).graph.output == model.graph.output
    x = np.ones((1, 3), np.float32)
    assert session(variant.path).run(None, {"x": x}) == session(path).run(None, {"x": x})


def test_initializers_listed_as_inputs_become_constants(tmp_path: Path) -> None:
    net = small_cnn()
    for weight in net.weights:
        net.inputs.append(helper.make_tensor_value_info(weight.name, weight.data_type, weight.dims))
    path = net.save(tmp_path / "model.onnx", opset=13, ir_version=3)
    (variant,) = variants(SimplifyGraph(), path, tmp_path / "out")
    assert [value.name for value in load(variant.path).graph.input] == ["image"]
    session(variant.path)


def test_folding_does_not_blow_the_file_up(tmp_path: Path) -> None:
    net = Net()
    x = net.input("x", ["batch", 1])
    large = net.op("Expand", net.weight(1, 1), net.constant(np.array([1, 3_000_000])))
    net.op("Add", x, net.op("ReduceMean", large, axes=[1]), name="y")
    net.op("Identity", net.op("Identity", x), name="z")
    path = net.output("y", ["batch", 1]).output("z", ["batch", 1]).save(tmp_path / "model.onnx", opset=13)
    outcome = run(SimplifyGraph(), path, tmp_path / "out")
    assert isinstance(outcome, Skipped) or outcome[0].path.stat().st_size < 100_000


def test_weights_stored_in_8_bits_are_not_unpacked(tmp_path: Path) -> None:
    path = small_cnn(width=64).save(tmp_path / "model.onnx")
    quantized = variants(QuantizeStatic(), path, tmp_path / "quantized")[0].path
    outcome = run(SimplifyGraph(), quantized, tmp_path / "out")
    assert isinstance(outcome, Skipped) or outcome[0].path.stat().st_size <= quantized.stat().st_size * 1.05


def test_a_simple_graph_is_skipped_with_the_reason(tmp_path: Path) -> None:
    net = Net()
    net.op("Relu", net.input("x", ["batch", 4]), name="y")
    path = net.output("y", ["batch", 4]).save(tmp_path / "model.onnx")
    assert run(SimplifyGraph(), path, tmp_path / "out") == Skipped("the graph has nothing to fold, fuse or drop")


def test_functions_are_inlined(tmp_path: Path) -> None:
    body = [helper.make_node("Relu", ["a"], ["b"]), helper.make_node("Neg", ["b"], ["c"])]
    function = helper.make_function("local", "NegRelu", ["a"], ["c"], body, [helper.make_opsetid("", 17)])
    net = Net()
    net.input("x", ["batch", 4])
    net.nodes.append(helper.make_node("NegRelu", ["x"], ["y"], domain="local"))
    model = net.output("y", ["batch", 4]).model()
    model.functions.append(function)
    model.opset_import.append(helper.make_opsetid("local", 1))
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    (variant,) = variants(SimplifyGraph(), path, tmp_path / "out")
    assert _operators(variant.path) == ["Relu", "Neg"]


def _operators(path: Path) -> list[str]:
    return [node.op_type for node in load(path).graph.node]
