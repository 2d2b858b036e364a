"""Small ONNX models with random weights, one line each, for every test that needs one.

residual_cnn().save(tmp_path / "model.onnx")       # a file, opset 17
residual_cnn().model(opset=11)                     # a ModelProto
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


class Net:
    """A graph under construction: each call adds a node and gives the name of its output."""

    def __init__(self, seed: int = 0) -> None:
        self.random = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []

    def input(self, name: str, shape: Sequence[int | str], element: int = TensorProto.FLOAT) -> str:
        self.inputs.append(helper.make_tensor_value_info(name, element, shape))
        return name

    def output(self, name: str, shape: Sequence[int | str], element: int = TensorProto.FLOAT) -> "Net":
        self.outputs.append(helper.make_tensor_value_info(name, element, shape))
        return self

    def constant(self, values: object, name: str = "") -> str:
        name = name or f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def weight(self, *shape: int, fan_in: int = 1) -> str:
        return self.constant((self.random.standard_normal(shape) / np.sqrt(fan_in)).astype(np.float32))

    def op(self, operator: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        output = name or f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [output], name=f"{output}_{operator}", **attributes))
        return output

    def conv(self, x: str, channels: tuple[int, int], kernel: int = 3, group: int = 1, *, bias: bool = True) -> str:
        came, goes = channels
        weight = self.weight(goes, came // group, kernel, kernel, fan_in=came // group * kernel**2)
        inputs = [x, weight, self.weight(goes)] if bias else [x, weight]
        return self.op("Conv", *inputs, pads=[kernel // 2] * 4, group=group)

    def norm(self, x: str, channels: int) -> str:
        spread = self.constant(np.abs(self.random.standard_normal(channels)).astype(np.float32) + 0.5)
        return self.op("BatchNormalization", x, *(self.weight(channels) for _ in range(3)), spread)

    def gemm(self, x: str, sizes: tuple[int, int], name: str = "") -> str:
        came, goes = sizes
        return self.op("Gemm", x, self.weight(goes, came, fan_in=came), self.weight(goes), name=name, transB=1)

    def linear(self, x: str, sizes: tuple[int, int]) -> str:
        product = self.op("MatMul", x, self.weight(*sizes, fan_in=sizes[0]))
        return self.op("Add", product, self.weight(sizes[1]))

    def model(self, opset: int = 17, ir_version: int = 8) -> onnx.ModelProto:
        graph = helper.make_graph(self.nodes, "net", self.inputs, self.outputs, self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version)
        helper.set_model_props(model, {"author": "nobody"})
        return model

    def save(self, path: Path, opset: int = 17, ir_version: int = 8) -> Path:
        onnx.save_model(self.model(opset, ir_version), path)
        return path


def small_cnn(width: int = 16) -> Net:
    """Conv, BatchNormalization, Relu, MaxPool, twice; then a Gemm."""
    net = Net()
    x = net.input("image", ["batch", 3, 16, 16])
    x = net.op("Relu", net.norm(net.conv(x, (3, width), bias=False), width))
    x = net.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    x = net.op("Relu", net.norm(net.conv(x, (width, width)), width))
    x = net.op("Flatten", net.op("GlobalAveragePool", x))
    net.gemm(x, (width, 10), name="scores")
    return net.output("scores", ["batch", 10])


def residual_cnn(width: int = 16) -> Net:
    """Two residual blocks, one with a 1×1 convolution on its shortcut, and a concatenation."""
    net = Net(1)
    x = net.input("image", ["batch", 3, 16, 16])
    x = net.op("Relu", net.conv(x, (3, width)))
    inner = net.conv(net.op("Relu", net.conv(x, (width, width))), (width, width))
    x = net.op("Relu", net.op("Add", inner, x))
    inner = net.conv(net.op("Relu", net.conv(x, (width, width))), (width, width))
    x = net.op("Relu", net.op("Add", inner, net.conv(x, (width, width), kernel=1)))
    x = net.op("Concat", x, net.op("Relu", net.conv(x, (width, width))), axis=1)
    x = net.op("Flatten", net.op("GlobalAveragePool", net.conv(x, (2 * width, width))))
    net.gemm(x, (width, 10), name="scores")
    return net.output("scores", ["batch", 10])


def depthwise_cnn(width: int = 16) -> Net:
    """Depthwise and pointwise convolutions with Relu6 and SiLU, as mobile networks have."""
    net = Net(2)
    x = net.input("image", ["batch", 3, 16, 16])
    zero, six = net.constant(np.float32(0)), net.constant(np.float32(6))
    x = net.op("Clip", net.conv(x, (3, width)), zero, six)
    for _ in range(2):
        x = net.op("Clip", net.conv(x, (width, width), group=width), zero, six)
        x = net.conv(x, (width, width), kernel=1)
        x = net.op("Mul", x, net.op("Sigmoid", x))
    x = net.op("Flatten", net.op("GlobalAveragePool", net.conv(x, (width, width), group=2)))
    net.gemm(x, (width, 10), name="scores")
    return net.output("scores", ["batch", 10])


def mlp(width: int = 64) -> Net:
    """Matrix products with biases; the last one a Gemm with factors."""
    net = Net(3)
    x = net.input("features", ["batch", 20])
    x = net.op("Relu", net.linear(x, (20, width)))
    x = net.op("Relu", net.linear(x, (width, width)))
    net.op("Gemm", x, net.weight(width, 5, fan_in=width), net.weight(1, 5), name="scores", alpha=0.5, beta=2.0)
    return net.output("scores", ["batch", 5])


def transformer(width: int = 64, length: int = 8) -> Net:
    """Token ids, an embedding and one encoder layer of one head."""
    net = Net(4)
    ids = net.input("ids", ["batch", length], TensorProto.INT64)
    x = net.op("Gather", net.weight(50, width), ids)
    query, key, value = (net.linear(x, (width, width)) for _ in range(3))
    scores = net.op("MatMul", query, net.op("Transpose", key, perm=[0, 2, 1]))
    scores = net.op("Softmax", net.op("Mul", scores, net.constant(np.float32(width**-0.5))), axis=-1)
    attended = net.linear(net.op("MatMul", scores, value), (width, width))
    x = net.op("LayerNormalization", net.op("Add", x, attended), net.constant(np.ones(width, np.float32)), axis=-1)
    inner = net.op("Tanh", net.linear(x, (width, 4 * width)))
    x = net.op("Add", x, net.linear(inner, (4 * width, width)))
    x = net.op("ReduceMean", x, axes=[1], keepdims=0)
    net.gemm(x, (width, 6), name="scores")
    return net.output("scores", ["batch", 6])


def recurrent(width: int = 16) -> Net:
    """An LSTM over a sequence, then a Gemm."""
    net = Net(5)
    x = net.input("sequence", [7, "batch", 4])
    net.nodes.append(
        helper.make_node(
            "LSTM",
            [x, net.weight(1, 4 * width, 4), net.weight(1, 4 * width, width), net.weight(1, 8 * width)],
            ["", "last"],
            hidden_size=width,
        )
    )
    last = net.op("Squeeze", "last", net.constant(np.array([0])))
    net.gemm(last, (width, 3), name="scores")
    return net.output("scores", ["batch", 3])


def branching() -> Net:
    """An If whose branches each hold a matrix product; the condition is an input."""
    net = Net(6)
    condition = net.input("condition", [], TensorProto.BOOL)
    net.input("x", ["batch", 4])
    branches = []
    for name in ("then", "else"):
        weight = numpy_helper.from_array(net.random.standard_normal((4, 4)).astype(np.float32), f"{name}_weight")
        node = helper.make_node("MatMul", ["x", f"{name}_weight"], [f"{name}_product"])
        value = helper.make_tensor_value_info(f"{name}_product", TensorProto.FLOAT, None)
        branches.append(helper.make_graph([node], name, [], [value], [weight]))
    net.op("If", condition, name="y", then_branch=branches[0], else_branch=branches[1])
    return net.output("y", ["batch", 4])
