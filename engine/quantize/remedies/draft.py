"""A copy of a model that is being changed: constants and nodes are added, inputs of nodes get other constants."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from engine.graph import Names, Wiring, copied, finite_floats, opset, replace_list, weights_of

SHAPE_READERS = ("Shape", "Size")  #: read no values
#: the opset from which an operator takes its axes as an input
AXES_BY_INPUT = {"ReduceMax": 18, "ReduceMean": 18}


class Draft:
    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = copied(model)
        self.weights = weights_of(self.model)
        self.wiring = Wiring.of(self.model.graph)
        self.names = Names.of(self.model)
        self._in_front: dict[str, onnx.NodeProto] = {}  #: new nodes, by the output of the node behind

    def constant(self, name: str) -> np.ndarray | None:
        """Values of a float constant, None where it is none or not finite."""
        return finite_floats(self.weights.get(name))

    def uses(self, name: str) -> int:
        """How many read the tensor's values."""
        blind = sum(node.op_type in SHAPE_READERS for node in self.wiring.readers.get(name, ()))
        return self.wiring.uses[name] - blind

    def store(self, values: np.ndarray, wish: str) -> str:
        """Add a constant; the name that it got."""
        tensor = self.model.graph.initializer.add()
        tensor.CopyFrom(numpy_helper.from_array(values, self.names.fresh(wish)))
        self.weights[tensor.name] = tensor
        self.wiring.uses[tensor.name] = 1
        return tensor.name

    def put(self, node: onnx.NodeProto, index: int, values: np.ndarray) -> None:
        """Give a node's input another constant; where others read the old one too, that stays as it is."""
        values = np.ascontiguousarray(values, np.float32)
        name = node.input[index]
        if self.wiring.uses[name] > 1:
            self.wiring.uses[name] -= 1
            node.input[index] = self.store(values, f"{name}_changed")
        else:
            self.weights[name].CopyFrom(numpy_helper.from_array(values, name))

    def add(self, operator: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """Add a node at the end; the name of its output."""
        self.model.graph.node.append(self._node(operator, inputs, output, **attributes))
        return self.model.graph.node[-1].output[0]

    def insert(self, operator: str, inputs: Sequence[str], output: str, *, before: onnx.NodeProto) -> str:
        """Add a node in front of another one; the name of its output."""
        node = self._node(operator, inputs, output)
        self._in_front[before.output[0]] = node
        return node.output[0]

    def reduce(self, operator: str, name: str, axes: Sequence[int]) -> str:
        """Add a node that reduces a tensor over some of its axes; the name of its output."""
        output = f"{name}_{operator}"
        if opset(self.model) < AXES_BY_INPUT[operator]:
            return self.add(operator, [name], output, axes=list(axes), keepdims=0)
        return self.add(operator, [name, self.store(np.array(axes), f"{output}_axes")], output, keepdims=0)

    def as_rows(self, name: str, width: int) -> str:
        """Add a node that makes rows of so many values of a tensor; the name of its output."""
        return self.add("Reshape", [name, self.store(np.array([-1, width]), f"{name}_shape")], f"{name}_rows")

    def _node(self, operator: str, inputs: Sequence[str], output: str, **attributes: Any) -> onnx.NodeProto:
        output = self.names.fresh(output)
        return helper.make_node(operator, inputs, [output], name=self.names.fresh(f"{output}_{operator}"), **attributes)

    def giving(self, outputs: Sequence[str]) -> onnx.ModelProto:
        """The model with these float tensors as its outputs."""
        values = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in outputs]
        replace_list(self.model.graph.output, values)
        return self.model

    def finished(self) -> onnx.ModelProto:
        """The model with all that was done to it."""
        nodes = []
        for node in self.model.graph.node:
            inserted = self._in_front.get(node.output[0] if node.output else "")
            nodes += [node] if inserted is None else [inserted, node]
        replace_list(self.model.graph.node, nodes)
        return self.model
