"""Weights that lie in the file in fewer bytes, and the nodes that unpack them.

    w_packed ── Cast ── Mul ── w ── all readers, as before

Only standard operators on constants: ONNX Runtime computes them once, as it loads the model, and then runs what it ran
before. A runtime that does not computes the same with each run.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from engine.graph import Names, all_graphs, constant_of, replace_list

FEWEST_ELEMENTS = 1024  #: smaller weights do not repay the nodes that unpack them


def inside_out(model: onnx.ModelProto) -> list[onnx.GraphProto]:
    """All graphs, the main one last: a node that is put in its place again is a copy, with copies of its branches."""
    return list(all_graphs(model.graph))[::-1]


def lift_large_constants(model: onnx.ModelProto) -> None:
    """Make initializers of the Constant nodes that hold weights, inside branches and loops too."""
    for graph in inside_out(model):
        outputs = {value.name for value in graph.output}
        large = {
            node.output[0]: tensor
            for node in graph.node
            if (tensor := constant_of(node)) and math.prod(tensor.dims) >= FEWEST_ELEMENTS
        }
        lifted = {name: tensor for name, tensor in large.items() if name not in outputs}
        replace_list(graph.node, [node for node in graph.node if not lifted.keys() & set(node.output)])
        for name, tensor in lifted.items():
            weight = graph.initializer.add()
            weight.CopyFrom(tensor)
            weight.name = name


@dataclass
class Unpacker:
    """New weights of a graph, and new nodes before all others."""

    graph: onnx.GraphProto
    names: Names
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[tuple[str, str, bytes], str] = field(default_factory=dict)

    def store(self, values: np.ndarray, wish: str) -> str:
        """Name of a new weight."""
        return self.keep(numpy_helper.from_array(np.ascontiguousarray(values)), wish)

    def keep(self, tensor: onnx.TensorProto, wish: str) -> str:
        """Name of a new weight that is a tensor already."""
        tensor.name = self.names.fresh(wish)
        self.graph.initializer.append(tensor)
        return tensor.name

    def constant(self, value: Any, dtype: type[np.generic], wish: str) -> str:
        """Name of a small constant, which is stored once."""
        values = np.asarray(value, dtype)
        key = (values.dtype.name, str(values.shape), values.tobytes())
        if key not in self.constants:
            self.constants[key] = self.store(values, wish)
        return self.constants[key]

    def op(self, operator: str, inputs: Iterable[str], wish: str, **attributes: Any) -> str:
        """Name of the output of a new node."""
        output = self.names.fresh(wish)
        self.give(operator, inputs, output, **attributes)
        return output

    def give(self, operator: str, inputs: Iterable[str], output: str, **attributes: Any) -> None:
        """A new node that makes this very tensor."""
        name = self.names.fresh(f"{output}_{operator}")
        self.nodes.append(helper.make_node(operator, list(inputs), [output], name, **attributes))

    def finish(self, replaced: set[str]) -> None:
        """Put the nodes first, and drop the weights that they now make."""
        replace_list(self.graph.node, [*self.nodes, *self.graph.node])
        for index in reversed(range(len(self.graph.initializer))):
            if self.graph.initializer[index].name in replaced:
                del self.graph.initializer[index]
