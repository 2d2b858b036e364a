"""float16 models as float32 ones, since the 8-bit kernels for CPUs start from float32, and weights learn in it.

    x ─ Cast ─ x_wide ─ … all in float32 … ─ y_wide ─ Cast ─ y          inputs and outputs keep their types

Every float16 inside becomes float32: weights, constants, declared types, and what Cast and its like cast to. Values are
the same but for what is no longer rounded on the way.
"""

import itertools
from collections.abc import Iterator, Mapping

import numpy as np
from onnx import AttributeProto, GraphProto, ModelProto, TensorProto, ValueInfoProto, helper, numpy_helper

from engine.graph import Names, all_graphs, all_nodes, constant_of, replace_list

HALF, SINGLE = TensorProto.FLOAT16, TensorProto.FLOAT
LARGEST = float(np.finfo(np.float16).max)
TYPE_ATTRIBUTES = ("to", "dtype", "output_dtype")


def has_half_weights(model: ModelProto) -> bool:
    """Whether constants anywhere in the model are float16."""
    return any(tensor.data_type == HALF for tensor in _stored(model))


def widened(model: ModelProto) -> ModelProto:
    """A copy that computes in float32 wherever the model computes in float16."""
    copy = ModelProto()
    copy.CopyFrom(model)
    for graph in all_graphs(copy.graph):
        for tensor in graph.initializer:
            _widen_tensor(tensor)
        for value in itertools.chain(graph.input, graph.output, graph.value_info):
            _widen_type(value)
    for node in all_nodes(copy):
        for attribute in node.attribute:
            _widen_attribute(attribute)
    _restore_interface(copy, model.graph)
    return copy


def narrowed(wide: ModelProto, model: ModelProto) -> ModelProto:
    """The float16 model with the values of its wide copy, rounded."""
    copy = ModelProto()
    copy.CopyFrom(model)
    for place, source in zip(_stored(copy), _stored(wide), strict=True):
        if place.data_type in (HALF, SINGLE):
            values = numpy_helper.to_array(source)
            place.CopyFrom(numpy_helper.from_array(_half(values) if place.data_type == HALF else values, place.name))
    return copy


def _half(values: np.ndarray) -> np.ndarray:
    """Rounded; what is finite stays so."""
    return np.where(np.isfinite(values), np.clip(values, -LARGEST, LARGEST), values).astype(np.float16)


def _stored(model: ModelProto) -> Iterator[TensorProto]:
    """All constants, in an order that is the same in a wide copy."""
    for graph in all_graphs(model.graph):
        yield from graph.initializer
        yield from (tensor for node in graph.node if (tensor := constant_of(node)) is not None)


def _widen_tensor(tensor: TensorProto) -> None:
    if tensor.data_type == HALF:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name))


def _widen_type(value: ValueInfoProto) -> None:
    if value.type.tensor_type.elem_type == HALF:
        value.type.tensor_type.elem_type = SINGLE


def _widen_attribute(attribute: AttributeProto) -> None:
    if attribute.type == AttributeProto.TENSOR:
        _widen_tensor(attribute.t)
    elif attribute.name in TYPE_ATTRIBUTES and attribute.type == AttributeProto.INT and attribute.i == HALF:
        attribute.i = SINGLE


def _restore_interface(copy: ModelProto, original: GraphProto) -> None:
    """Inputs and outputs have the types they had; casts stand between them and the rest."""
    graph, names = copy.graph, Names.of(copy)
    read = {value.name: names.fresh(f"{value.name}_wide") for value in original.input if _is_half(value)}
    made = {value.name: names.fresh(f"{value.name}_wide") for value in original.output if _is_half(value)}
    _rename(graph, made | read)
    for value in itertools.chain(graph.input, graph.output):
        if value.name in made or value.name in read:
            value.type.tensor_type.elem_type = HALF
    before = [helper.make_node("Cast", [name], [wide], to=SINGLE) for name, wide in read.items()]
    after = [helper.make_node("Cast", [wide], [name], to=HALF) for name, wide in made.items() if name not in read]
    replace_list(graph.node, [*before, *graph.node, *after])


def _is_half(value: ValueInfoProto) -> bool:
    return value.type.tensor_type.elem_type == HALF


def _rename(graph: GraphProto, renamed: Mapping[str, str]) -> None:
    """Give tensors other names wherever they are made or read; inputs and outputs of the graph keep theirs."""
    for inner in all_graphs(graph):
        for tensor in inner.initializer:
            tensor.name = renamed.get(tensor.name, tensor.name)
        for node in inner.node:
            for entries in (node.input, node.output):
                replace_list(entries, [renamed.get(name, name) for name in entries])
