"""Nodes that are computed as one give the same outputs and gradients, and only where they are what they look like."""

import numpy as np
import onnx
import pytest
import torch
from onnx import helper

from engine.differentiable import DifferentiableGraph
from engine.differentiable.fuse import fused
from tests.engine.differentiable.test_graph import feeds_of, ours, theirs
from tests.models import Net


def number(net: Net, value: float) -> str:
    return net.constant(np.float32(value))


def gelu(net: Net, x: str, *, halved_first: bool = False, root: float = 2**0.5) -> str:
    shifted = net.op("Add", net.op("Erf", net.op("Div", x, number(net, root))), number(net, 1))
    if halved_first:
        return net.op("Mul", net.op("Mul", x, number(net, 0.5)), shifted)
    return net.op("Mul", net.op("Mul", x, shifted), number(net, 0.5))


def layer_norm(net: Net, x: str, *, axis: int = -1) -> str:
    """As exporters write it before opset 17."""
    centered = net.op("Sub", x, net.op("ReduceMean", x, axes=[axis]))
    square = net.op("ReduceMean", net.op("Pow", centered, number(net, 2)), axes=[axis])
    normed = net.op("Div", centered, net.op("Sqrt", net.op("Add", square, number(net, 1e-3))))
    return net.op("Add", net.op("Mul", normed, net.weight(6)), net.weight(6))


def swish(net: Net, x: str) -> str:
    return net.op("Mul", net.op("Sigmoid", x), x)


def linear(net: Net, x: str) -> str:
    return net.linear(x, (6, 6))


MADE = {
    "Gelu": gelu,
    "Gelu, halved first": lambda net, x: gelu(net, x, halved_first=True),
    "LayerNormalization": layer_norm,
    "Swish": swish,
    "Linear": linear,
}
LEFT = {
    "another root": lambda net, x: gelu(net, x, root=1.5),
    "another axis": lambda net, x: layer_norm(net, x, axis=1),
    "the gate of another tensor": lambda net, x: net.op("Mul", net.op("Sigmoid", x), net.op("Neg", x)),
    "a bias for each row": lambda net, x: net.op("Add", net.op("MatMul", x, net.weight(6, 6)), net.weight(5, 1)),
}


def model_of(build: object) -> onnx.ModelProto:
    net = Net()
    y = net.op("Neg", build(net, net.op("Tanh", net.input("x", ["batch", 5, 6]))), name="y")
    return net.output(y, ["batch", 5, 6]).model(opset=13)


@pytest.mark.parametrize("name", MADE)
def test_fused_nodes_give_the_same_outputs_and_gradients(name: str) -> None:
    model = model_of(MADE[name])
    assert [node.op_type for node in fused(model.graph)] == ["Tanh", name.split(",")[0], "Neg"]
    feeds = feeds_of(model)
    graph = DifferentiableGraph(model)
    np.testing.assert_allclose(ours(graph, feeds)[0], theirs(model, feeds)[0], rtol=1e-5, atol=1e-5)
    gradients = []
    for each in (graph, DifferentiableGraph(without_patterns(model))):
        x = torch.from_numpy(feeds["x"]).requires_grad_()
        each({"x": x})["y"].square().sum().backward()
        gradients.append([x.grad, *(weight.grad for weight in each.parameters())])
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-4)


def without_patterns(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph with an Identity behind each node, so that nothing looks like a pattern."""
    copy = onnx.ModelProto.FromString(model.SerializeToString())
    nodes = []
    for node in model.graph.node:
        inner = [f"{name}_before" for name in node.output]
        nodes.append(helper.make_node(node.op_type, node.input, inner, node.name))
        nodes[-1].attribute.extend(node.attribute)
        nodes.append(helper.make_node("Identity", inner, node.output))
    del copy.graph.node[:]
    copy.graph.node.extend(nodes)
    return copy


@pytest.mark.parametrize("name", LEFT)
def test_what_only_looks_alike_is_left_as_it_is(name: str) -> None:
    model = model_of(LEFT[name])
    assert [node.op_type for node in fused(model.graph)] == [node.op_type for node in model.graph.node]
    feeds = feeds_of(model)
    np.testing.assert_allclose(ours(DifferentiableGraph(model), feeds)[0], theirs(model, feeds)[0], atol=1e-5)


def test_a_tensor_inside_that_is_wanted_is_computed() -> None:
    model = model_of(gelu)
    inside = next(node.output[0] for node in model.graph.node if node.op_type == "Erf")
    results = DifferentiableGraph(model, taps=[inside])({"x": torch.ones(1, 5, 6)})
    assert results[inside][0, 0, 0].item() == pytest.approx(torch.erf(torch.tanh(torch.tensor(1.0)) / 2**0.5).item())
