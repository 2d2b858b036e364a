"""Nodes that compute in half precision.

    x ─ Cast ─ x_half ─ node ─ y_half ─ node ─ z_half ─ Cast ─ z

A tensor keeps its name in float32 and has another one in half precision, so inputs, outputs and what branches read stay
as they are. A node is converted where the standard lets it read and write the type: no list of operators is kept here.

On CPUs, an operator that the standard also defines as a function of others stays in float32, such as Softmax: ONNX
Runtime has no kernel for most of them in half precision, and would run the function instead of its kernel for float32.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import onnx
from onnx import helper, numpy_helper

from engine.graph import (
    ONNX_DOMAINS,
    Names,
    all_graphs,
    drop_unused,
    opset,
    outer_names,
    replace_list,
    subgraphs,
    tensor_types,
    weights_of,
)
from engine.half.rounding import rounded_half
from engine.measure.complexity import infer_shapes
from engine.recipe import Device, Half

T = onnx.TensorProto
ELEMENTS = {Half.FLOAT16: T.FLOAT16, Half.BFLOAT16: T.BFLOAT16}


@dataclass(frozen=True)
class Slots:
    """Which inputs and outputs of a node are in half precision."""

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def float_tensors(model: onnx.ModelProto) -> set[str]:
    """Names of the float32 tensors of the main graph, as far as they can be known."""
    return {name for name, known in tensor_types(infer_shapes(model).graph).items() if known.element == T.FLOAT}


def slots_of(model: onnx.ModelProto, half: Half, device: Device) -> dict[str, Slots]:
    """Nodes of the main graph that can compute in half precision there, by their first output."""
    types = {name: known.element for name, known in tensor_types(infer_shapes(model).graph).items() if known.element}
    found = {}
    for node in model.graph.node:
        schema = _schema(node, opset(model))
        if schema is None or (device is Device.CPU and _is_function(schema)):
            continue
        slots = _slots(node, schema, types, half)
        if slots is not None:
            found[node.output[0]] = slots
    return found


def compute_half(model: onnx.ModelProto, half: Half, slots: dict[str, Slots]) -> None:
    """Convert these nodes of a model in place."""
    conversion = _Conversion(model, half, slots)
    conversion.operate()
    drop_unused(model)


# ── which nodes ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _schema(node: onnx.NodeProto, version: int) -> onnx.defs.OpSchema | None:
    """What the standard says of the operator; None for others, and for those with branches."""
    if node.domain not in ONNX_DOMAINS or not node.output or any(True for _ in subgraphs(node)):
        return None
    try:
        return onnx.defs.get_schema(node.op_type, version)
    except onnx.defs.SchemaError:
        return None


def _is_function(schema: Any) -> bool:  # the types that onnx ships leave these out
    return schema.has_function or schema.has_context_dependent_function


def _slots(node: onnx.NodeProto, schema: onnx.defs.OpSchema, types: dict[str, int], half: Half) -> Slots | None:
    """By the variables of the standard that stand for both types: each that is converted is converted everywhere."""
    if any(name and name not in types for name in (*node.input, *node.output)):
        return None
    both = {"tensor(float)", f"tensor({half})"}
    variables = {entry.type_param_str for entry in schema.type_constraints if both <= set(entry.allowed_type_strs)}
    inputs = _floats(node.input, schema.inputs, types)
    outputs = _floats(node.output, schema.outputs, types)
    converted = {index: variable for index, variable in inputs.items() if variable in variables}
    if not converted or not outputs or not set(outputs.values()) <= set(converted.values()):
        return None
    return Slots(tuple(converted), tuple(outputs))


def _floats(
    names: Sequence[str], formal: Sequence[onnx.defs.OpSchema.FormalParameter], types: dict[str, int]
) -> dict[int, str]:
    """Type variable of each float32 tensor among these, by its place; the last one may stand for many."""
    return {
        index: formal[min(index, len(formal) - 1)].type_str
        for index, name in enumerate(names)
        if name and types[name] == T.FLOAT
    }


# ── the conversion ───────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class _Conversion:
    model: onnx.ModelProto
    half: Half
    slots: dict[str, Slots]
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    halves: dict[str, str] = field(default_factory=dict)  #: name of a tensor in half precision, by its name in float32
    missing: set[str] = field(default_factory=set)  #: tensors that are not there in float32

    def __post_init__(self) -> None:
        self.graph = self.model.graph
        self.names = Names.of(self.model)
        self.weights = weights_of(self.model)
        self.float_uses = self._count_uses()

    def operate(self) -> None:
        for node in list(self.graph.node):
            slots = self.slots.get(node.output[0]) if node.output else None
            if slots is None:
                self._provide_floats(node)
            else:
                self._convert(node, slots)
            self.nodes.append(node)
        for value in self.graph.output:
            self._provide_float(value.name)
        replace_list(self.graph.node, self.nodes)
        replace_list(self.graph.value_info, [one for one in self.graph.value_info if one.name not in self.missing])

    def _convert(self, node: onnx.NodeProto, slots: Slots) -> None:
        for index in slots.inputs:
            node.input[index] = self._in_half(node.input[index])
        for index in slots.outputs:
            name = node.output[index]
            self.halves[name] = node.output[index] = self._fresh(name)
            self.missing.add(name)

    def _in_half(self, name: str) -> str:
        if name not in self.halves:
            weight = self.weights.get(name)
            own = weight is not None and not self.float_uses[name]
            rounded = rounded_half(numpy_helper.to_array(weight), self.half) if own else None
            self.halves[name] = self._fresh(name)
            if rounded is None:
                self._cast(name, self.halves[name], ELEMENTS[self.half])
            else:
                self.graph.initializer.append(numpy_helper.from_array(rounded, self.halves[name]))
        return self.halves[name]

    def _provide_floats(self, node: onnx.NodeProto) -> None:
        """Everything in float32 that the node reads, itself or in its branches."""
        for name in node.input:
            self._provide_float(name)
        for inner in subgraphs(node):
            for graph in all_graphs(inner):
                for name in [value.name for value in graph.output] + [name for one in graph.node for name in one.input]:
                    self._provide_float(name)

    def _provide_float(self, name: str) -> None:
        if name in self.missing:
            self.missing.remove(name)
            self._cast(self.halves[name], name, T.FLOAT)

    def _cast(self, source: str, target: str, element: int) -> None:
        name = self.names.fresh(f"{target}_Cast")
        self.nodes.append(helper.make_node("Cast", [source], [target], name, to=element))

    def _fresh(self, name: str) -> str:
        return self.names.fresh(f"{name}_{self.half}")

    def _count_uses(self) -> Counter[str]:
        """How often a tensor is read in float32."""
        uses = Counter(value.name for value in self.graph.output)
        uses.update(outer_names(self.graph))
        for node in self.graph.node:
            slots = self.slots.get(node.output[0]) if node.output else None
            halves = () if slots is None else slots.inputs
            uses.update(name for index, name in enumerate(node.input) if index not in halves)
        return uses
