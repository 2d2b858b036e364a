"""A graph computes what ONNX Runtime does, is trained and goes back into its file; what cannot be trained is told."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from engine.differentiable import DifferentiableGraph, UnsupportedOperator, supported
from engine.differentiable.elements import to_numpy, to_torch
from engine.differentiable.fuse import DOMAIN
from engine.differentiable.names import NAMES
from engine.differentiable.registry import OPERATORS
from engine.graph import load
from tests import models
from tests.models import Net

EXAMPLES = Path(__file__).parents[3] / "examples"
FILES = {path.parent.name + "/" + path.stem: path for path in sorted(EXAMPLES.glob("*/*.onnx"))}
NETS = {
    net.__name__: net().model()
    for net in (models.small_cnn, models.residual_cnn, models.depthwise_cnn, models.mlp, models.transformer,
                models.recurrent, models.branching)
}  # fmt: skip


def feeds_of(model: onnx.ModelProto, batch: int = 3) -> dict[str, np.ndarray]:
    """Random inputs; axes that vary get the size of the batch."""
    generator = np.random.default_rng(0)
    feeds = {}
    for value in model.graph.input:
        kind = value.type.tensor_type
        shape = [size.dim_value or batch for size in kind.shape.dim]
        dtype = helper.tensor_dtype_to_np_dtype(kind.elem_type)
        draws = generator.standard_normal(shape) if dtype.kind == "f" else generator.integers(0, 2, shape)
        feeds[value.name] = np.asarray(draws, dtype)
    return feeds


def theirs(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    return onnxruntime.InferenceSession(model.SerializeToString()).run(None, feeds)


def ours(graph: DifferentiableGraph, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    return [to_numpy(value) for value in graph({name: to_torch(value) for name, value in feeds.items()}).values()]


def trained_a_little(graph: DifferentiableGraph, feeds: dict[str, np.ndarray]) -> None:
    """One step towards smaller outputs."""
    results = graph({name: to_torch(value) for name, value in feeds.items()}).values()
    torch.stack([value.square().sum() for value in results]).sum().backward()
    with torch.no_grad():
        for weight in graph.parameters():
            if weight.grad is not None:
                weight.sub_(0.1 * weight.grad.sign())


# ── outputs ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", FILES)
def test_outputs_of_the_examples_are_those_of_onnx_runtime(name: str) -> None:
    model = load(FILES[name])
    feeds = feeds_of(model)
    for mine, their in zip(ours(DifferentiableGraph(model), feeds), theirs(model, feeds), strict=True):
        np.testing.assert_allclose(mine, their, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", NETS)
def test_a_trained_graph_goes_back_into_its_file_and_serves_what_was_trained(name: str) -> None:
    model = NETS[name]
    feeds = feeds_of(model)
    graph = DifferentiableGraph(model)
    before = ours(graph, feeds)
    trained_a_little(graph, feeds)
    after = ours(graph, feeds)
    for mine, their in zip(after, theirs(graph.written_back(), feeds), strict=True):
        np.testing.assert_allclose(mine, their, rtol=1e-4, atol=1e-4)
    assert all(np.abs(first - second).max() > 1e-3 for first, second in zip(before, after, strict=True))


def test_inner_tensors_are_given_beside_the_outputs() -> None:
    model = NETS["small_cnn"]
    inner = next(node.output[0] for node in model.graph.node if node.op_type == "MaxPool")
    results = DifferentiableGraph(model, taps=[inner])({"image": torch.ones(2, 3, 16, 16)})
    assert list(results) == [model.graph.output[0].name, inner]
    assert results[inner].shape[2:] == (8, 8)


# ── gradients ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["residual_cnn", "transformer", "recurrent"])
def test_gradients_of_all_weights_together_are_finite_differences(name: str) -> None:
    graph = DifferentiableGraph(NETS[name]).double()
    feeds = {name: to_torch(value).double() for name, value in feeds_of(NETS[name], batch=2).items()}

    def loss() -> torch.Tensor:
        return torch.stack([value.tanh().sum() for value in graph(feeds).values()]).sum()

    loss().backward()
    generator = torch.Generator().manual_seed(0)
    for weight in graph.parameters():
        direction = torch.randn(weight.shape, generator=generator, dtype=torch.float64) * 1e-6
        with torch.no_grad():
            weight.add_(direction)
            ahead = loss()
            weight.sub_(2 * direction)
            behind = loss()
            weight.add_(direction)
        assert (ahead - behind).item() == pytest.approx(2 * (weight.grad * direction).sum().item(), rel=1e-3, abs=1e-12)


# ── the file ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", FILES)
def test_an_untrained_graph_goes_back_bit_for_bit(name: str) -> None:
    model = load(FILES[name])
    before = model.SerializeToString(deterministic=True)
    assert DifferentiableGraph(model).written_back().SerializeToString(deterministic=True) == before


def test_nothing_but_the_values_of_weights_changes_in_the_file() -> None:
    model = load(FILES["fashion/transformer"])
    graph = DifferentiableGraph(model)
    trained_a_little(graph, feeds_of(model))
    changed = graph.written_back()
    for before, after in zip(model.graph.initializer, changed.graph.initializer, strict=True):
        assert before.name not in graph.weights() or before.raw_data != after.raw_data
        after.raw_data = before.raw_data
    assert changed.SerializeToString(deterministic=True) == model.SerializeToString(deterministic=True)


def test_weights_of_half_precision_stay_so_in_the_file() -> None:
    net = Net()
    x = net.input("x", ["batch", 4], TensorProto.FLOAT16)
    product = net.op("MatMul", x, net.constant(np.ones((4, 2), np.float16), "weight"), name="y")
    graph = DifferentiableGraph(net.output(product, ["batch", 2], TensorProto.FLOAT16).model())
    with torch.no_grad():
        graph.weights()["weight"].add_(0.5)
    assert numpy_helper.to_array(graph.written_back().graph.initializer[0]).tolist() == [[1.5, 1.5]] * 4


# ── what is a weight ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_weights_of_branches_are_trained_and_written_into_them() -> None:
    model = NETS["branching"]
    graph = DifferentiableGraph(model)
    assert graph.weights().keys() == {"then_weight", "else_weight"}
    feeds = {"condition": np.array(True), "x": np.ones((2, 4), np.float32)}
    trained_a_little(graph, feeds)
    branches = {entry.name: entry.g for entry in graph.written_back().graph.node[0].attribute}
    old = {entry.name: entry.g for entry in model.graph.node[0].attribute}
    assert branches["then_branch"].initializer[0] != old["then_branch"].initializer[0]
    assert branches["else_branch"] == old["else_branch"]


def test_weights_in_constant_nodes_are_trained() -> None:
    weight = numpy_helper.from_array(np.ones((4, 2), np.float32))
    net = Net()
    x = net.input("x", ["batch", 4])
    product = net.op("MatMul", x, net.op("Constant", name="weight", value=weight), name="y")
    model = net.output(product, ["batch", 2]).model()
    graph = DifferentiableGraph(model)
    assert graph.weights().keys() == {"weight"}
    feeds = feeds_of(model)
    trained_a_little(graph, feeds)
    np.testing.assert_allclose(ours(graph, feeds)[0], theirs(graph.written_back(), feeds)[0], rtol=1e-5)


def test_weights_that_a_function_reads_are_trained_in_the_main_graph() -> None:
    model = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17, "own" : 1]>
        net (float[N, 2] x) => (float[N, 2] y) <float[2, 2] weight = {1, 2, 3, 4}> { y = own.twice (x, weight) }
        <domain: "own", opset_import: ["" : 17]>
        twice (a, b) => (d) { c = MatMul (a, b)  d = MatMul (c, b) }
    """)
    graph = DifferentiableGraph(model)
    trained_a_little(graph, feeds_of(model))
    changed = graph.written_back()
    assert changed.graph.initializer[0] != model.graph.initializer[0]
    assert changed.functions == model.functions


def test_settings_are_not_trained() -> None:
    net = Net()
    x = net.op("Clip", net.input("x", ["batch", 4]), net.constant(np.float32(0)), net.constant(np.float32(6)))
    x = net.op("Pow", x, net.constant(np.float32([2])))
    net.op("Add", x, net.constant(np.float32([1e-5])), name="y")
    assert not DifferentiableGraph(net.output("y", ["batch", 4]).model()).weights()


# ── refusals ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def with_unknown() -> onnx.ModelProto:
    net = Net()
    x = net.input("x", ["batch", 4])
    net.nodes.append(helper.make_node("Magic", [x], ["y"], name="trick", domain="my.company"))
    return net.output("y", ["batch", 4]).model()


def test_an_unknown_operator_is_named_with_its_domain_and_node() -> None:
    with pytest.raises(UnsupportedOperator) as caught:
        DifferentiableGraph(with_unknown())
    assert "“Magic” of the domain “my.company” (node “trick”)" in caught.value.detail
    assert "without this operator" in caught.value.remedy


def test_what_cannot_be_trained_is_told_without_importing_torch(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save_model(with_unknown(), path)
    script = (
        f"import onnx, sys; from engine.differentiable import supported; print(*supported(onnx.load({str(path)!r})))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script + "; print('torch' in sys.modules)"], capture_output=True, text=True, check=True
    )
    assert done.stdout.split("\n")[0] == "“Magic” of the domain “my.company” (node “trick”) cannot be trained through."
    assert done.stdout.split("\n")[1] == "False"


def test_nothing_is_said_of_a_model_that_can_be_trained() -> None:
    assert all(not supported(model) for model in NETS.values())


def test_the_names_that_inspection_knows_are_those_of_the_registry() -> None:
    entered: dict[str, set[str]] = {}
    for domain, name in OPERATORS:
        entered.setdefault(domain, set()).add(name)
    assert {domain: set(names) for domain, names in NAMES.items()} == {
        domain: names for domain, names in entered.items() if domain != DOMAIN
    }


def test_a_failure_names_the_node_that_it_happened_in() -> None:
    net = Net()
    net.gemm(net.input("x", ["batch", 4]), (4, 2), name="y")
    graph = DifferentiableGraph(net.output("y", ["batch", 2]).model())
    with pytest.raises(RuntimeError) as caught:
        graph({"x": torch.ones(3, 5)})
    assert caught.value.__notes__ == ["in “Gemm” (node “y_Gemm”)"]
