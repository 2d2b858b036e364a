"""Layers that stay in float between 8-bit neighbours, kept so in ONNX Runtime.

When it loads DequantizeLinear → Conv, ConvTranspose or Gemm with float weights → QuantizeLinear, ONNX Runtime rounds
these weights to 8 bits with one scale per tensor, on its own account (`WeightBiasQuantization`). A layer that was left
in float for its accuracy would lose most of it, unseen in the file. It does so only where the input has a single scale,
so these layers read their input with a scale for each channel, all of them equal:

    q ─ DequantizeLinear(s) ─ x ─ Conv         →         q ─ DequantizeLinear([s … s], axis=1) ─ x′ ─ Conv
"""

import numpy as np
import onnx
from onnx import helper, numpy_helper

from engine.graph import Names, Wiring, attribute, is_standard, replace_list, weights_of
from engine.quantize.plan import CLIPPING

CHANNEL_AXIS = 1


def keep_weights_float(model: onnx.ModelProto) -> int:
    """Give each float layer between 8-bit neighbours an input with a scale per channel; how many there were."""
    weights, names = weights_of(model), Names.of(model)
    sources = {node.output[0]: node for node in model.graph.node if is_standard(node, "DequantizeLinear")}
    wiring = Wiring.of(model.graph)
    nodes: list[onnx.NodeProto] = []
    guarded = 0
    for node in model.graph.node:
        channels = _channels(node, weights)
        source = sources.get(node.input[0]) if channels > 1 else None
        if source is not None and _has_one_scale(source, weights) and _ends_in_8_bits(node, wiring):
            nodes.append(_per_channel(model.graph, source, channels, names))
            node.input[0] = nodes[-1].output[0]
            guarded += 1
        nodes.append(node)
    if guarded:
        replace_list(model.graph.node, nodes)
    return guarded


def _channels(node: onnx.NodeProto, weights: dict[str, onnx.TensorProto]) -> int:
    """Channels of the input of a layer with float weights; 0 for any other node."""
    weight = weights.get(node.input[1]) if len(node.input) > 1 else None
    if weight is None or weight.data_type != onnx.TensorProto.FLOAT:
        return 0
    if is_standard(node, "Conv"):
        return weight.dims[1] * attribute(node, "group", 1)
    if is_standard(node, "ConvTranspose"):
        return weight.dims[0]
    if is_standard(node, "Gemm") and not attribute(node, "transA", 0):
        return weight.dims[1 if attribute(node, "transB", 0) else 0]
    return 0


def _has_one_scale(source: onnx.NodeProto, weights: dict[str, onnx.TensorProto]) -> bool:
    stored = [weights[name] for name in source.input[1:] if name in weights]
    return len(stored) == len(source.input) - 1 and all(list(one.dims) in ([], [1]) for one in stored)


def _ends_in_8_bits(node: onnx.NodeProto, wiring: Wiring) -> bool:
    """Whether nothing but clipping lies between the layer and the only reader, which quantizes."""
    while True:
        found = wiring.readers[node.output[0]]
        if wiring.uses[node.output[0]] != 1 or not found:
            return False
        if is_standard(found[0], "QuantizeLinear"):
            return True
        if not is_standard(found[0], *CLIPPING):
            return False
        node = found[0]


def _per_channel(graph: onnx.GraphProto, source: onnx.NodeProto, channels: int, names: Names) -> onnx.NodeProto:
    """The same dequantization, with its scale and zero point repeated for each channel."""
    stored = {weight.name: weight for weight in graph.initializer}
    inputs = [source.input[0]]
    for name in source.input[1:]:
        repeated = np.repeat(numpy_helper.to_array(stored[name]).ravel(), channels)
        inputs.append(names.fresh(f"{name}_per_channel"))
        graph.initializer.append(numpy_helper.from_array(repeated, inputs[-1]))
    output = names.fresh(f"{source.output[0]}_per_channel")
    node = helper.make_node("DequantizeLinear", inputs, [output], name=names.fresh(f"{output}_DequantizeLinear"))
    node.attribute.append(helper.make_attribute("axis", CHANNEL_AXIS))
    return node
