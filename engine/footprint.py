"""How much memory a run will take, estimated from shapes: weights, and the activations that are alive at once."""

import math

import onnx

from engine.admission.tensors import BITS
from engine.graph import outer_names, tensor_types
from engine.measure.complexity import infer_shapes


def activation_sizes(model: onnx.ModelProto, batch_size: int) -> dict[str, int]:
    """Bytes of each tensor of the main graph, as far as its shape can be inferred, weights left out."""
    graph = infer_shapes(model, batch_size).graph
    made = {name for node in graph.node for name in node.output}
    inputs = {value.name for value in model.graph.input}
    return {
        name: math.prod(size for size in tensor.shape if isinstance(size, int)) * BITS.get(tensor.element, 8) // 8
        for name, tensor in tensor_types(graph).items()
        if tensor.shape is not None and (name in made or name in inputs)
    }


def peak_activations(model: onnx.ModelProto) -> int:
    """The largest sum of tensors alive at once when the nodes run in their order, for one sample."""
    graph = model.graph
    sizes = activation_sizes(model, 1)
    kept = {value.name for value in graph.output} | outer_names(graph)
    last = {name: index for index, node in enumerate(graph.node) for name in node.input}
    alive = peak = sum(sizes.get(value.name, 0) for value in graph.input)
    for index, node in enumerate(graph.node):
        alive += sum(sizes.get(name, 0) for name in node.output)
        peak = max(peak, alive)
        freed = {name for name in (*node.input, *node.output) if last.get(name, index) == index and name not in kept}
        alive -= sum(sizes.get(name, 0) for name in freed)
    return peak
