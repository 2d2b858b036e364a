"""Small graphs that can stand at a site: made node by node, with names that nothing else in the model has."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from engine.graph import TensorType, copied, drop_unused, replace_list, weights_of
from engine.recipe import Move
from engine.replace.sites import Site

Array = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Part:
    """What could stand at a site: a graph from the site's input to its output."""

    site: Site
    move: Move
    model: onnx.ModelProto


@dataclass
class Draft:
    """A part under construction."""

    site: Site
    move: Move
    opsets: onnx.ModelProto  #: a model with the same operators
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: list[onnx.TensorProto] = field(default_factory=list)

    def weight(self, values: Array) -> str:
        """A constant of float32."""
        name = f"{self.site.output}/{self.move}_w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(values, np.float32), name))
        return name

    def op(self, operator: str, *inputs: str, last: bool = False, **attributes: Any) -> str:
        """A node; the last one gives the output of the site."""
        output = self.site.output if last else f"{self.site.output}/{self.move}_{len(self.nodes)}"
        name = f"{self.site.name}/{self.move}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [output], name=name, **attributes))
        return output

    def done(self) -> Part:
        model = copied(self.opsets, without=weights_of(self.opsets))
        replace_list(model.graph.node, self.nodes)
        replace_list(model.graph.initializer, self.weights)
        replace_list(model.graph.input, [open_value(self.site.input, {})])
        replace_list(model.graph.output, [open_value(self.site.output, {})])
        del model.graph.value_info[:]
        return Part(self.site, self.move, model)


def open_value(name: str, types: Mapping[str, TensorType]) -> onnx.ValueInfoProto:
    """Of floats; in whatever shape where it is not known."""
    known = types.get(name)
    shape = None if known is None or known.shape is None else list(known.shape)
    return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)


def grafted(model: onnx.ModelProto, parts: list[Part]) -> onnx.ModelProto:
    """The model with these parts at their sites; whatever else it holds keeps its name."""
    result = copied(model)
    ends = {part.site.output: part for part in parts}
    gone = {name for part in parts for name in part.site.covered}
    nodes: list[onnx.NodeProto] = []
    for node in result.graph.node:
        part = ends.get(node.output[0]) if node.output else None
        if part is not None:
            nodes += part.model.graph.node
        elif not gone.intersection(node.output):
            nodes.append(node)
    replace_list(result.graph.node, nodes)
    for part in parts:
        result.graph.initializer.extend(part.model.graph.initializer)
    drop_unused(result)
    made = {name for node in result.graph.node for name in node.output}
    replace_list(result.graph.value_info, [value for value in result.graph.value_info if value.name in made])
    return result


def cut_out(model: onnx.ModelProto, site: Site, types: Mapping[str, TensorType]) -> onnx.ModelProto:
    """The region of a site as a graph of its own."""
    result = copied(model)
    replace_list(result.graph.node, [node for node in model.graph.node if site.covered.intersection(node.output)])
    replace_list(result.graph.input, [open_value(site.input, types)])
    replace_list(result.graph.output, [open_value(site.output, types)])
    del result.graph.value_info[:]
    drop_unused(result)
    return result
