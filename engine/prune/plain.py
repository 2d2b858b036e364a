"""A graph in plainer words, so that more of its channels can be followed; its outputs stay the same."""

import numpy as np
import onnx
from onnx import numpy_helper

from engine.graph import NO_INPUT, Names, Wiring, attribute, copied, drop_unused, is_standard, replace_list
from engine.prune.walk import FLOATS, WHOLE, Walk

STATES = (5, 6)  #: inputs of a recurrent layer with which it starts
MOVING = ("Expand", "Identity", "Slice", "Squeeze", "Transpose", "Unsqueeze")


def with_plain_lengths(walk: Walk) -> onnx.ModelProto:
    """The graph with constants where it computed numbers from lengths that never vary.

    So a scale of 1 / √width stays what it was in training, whatever becomes of the width.
    """
    model = copied(walk.model)
    for node in model.graph.node:
        for name in node.output:
            values, axes, element = walk.known_numbers(name), walk.axes.get(name), walk.elements.get(name)
            if values is not None and axes is not None and len(axes) <= 1 and element in WHOLE:
                dtype = onnx.helper.tensor_dtype_to_np_dtype(element)
                shaped = np.array(values, dtype).reshape([-1] * len(axes))
                model.graph.initializer.append(numpy_helper.from_array(shaped, name))
                node.output[0] = NO_INPUT
    replace_list(model.graph.node, [node for node in model.graph.node if any(node.output)])
    drop_unused(model)
    return model


def with_own_vectors(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph in which each node has biases and scales of its own.

    Equal ones are often one initializer, such as zeros, which would tie the channels of layers that have nothing to do
    with each other. Shared matrices stay shared: a network that was trained so is meant so.
    """
    model = copied(model)
    names, uses = Names.of(model), Wiring.of(model.graph).uses
    vectors = {weight.name: weight for weight in model.graph.initializer if len(weight.dims) == 1}
    for node in model.graph.node:
        for index, name in enumerate(node.input):
            if name in vectors and uses[name] > 1 and vectors[name].data_type in FLOATS:
                uses[name] -= 1
                node.input[index] = names.fresh(name)
                model.graph.initializer.append(vectors[name])
                model.graph.initializer[-1].name = node.input[index]
    return model


def without_zero_states(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph whose recurrent layers start from zeros by default, not from zeros of a shape that is written out."""
    model = copied(model)
    producers = Wiring.of(model.graph).producers
    for node in model.graph.node:
        if is_standard(node, "LSTM", "GRU", "RNN"):
            names = [NO_INPUT if index in STATES and _is_zero(producers, name) else name
                     for index, name in enumerate(node.input)]  # fmt: skip
            replace_list(node.input, names)
    drop_unused(model)
    return model


def _is_zero(producers: dict[str, onnx.NodeProto], name: str) -> bool:
    """Whether a tensor is filled with zeros, whatever its shape."""
    node = producers.get(name)
    while node is not None and is_standard(node, *MOVING):
        node = producers.get(node.input[0])
    if node is None or not is_standard(node, "ConstantOfShape"):
        return False
    value = attribute(node, "value", None)
    return value is None or not numpy_helper.to_array(value).any()
