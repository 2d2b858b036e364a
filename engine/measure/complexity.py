"""What one run of a model costs on paper: multiply-accumulates, parameters, bytes moved, for each node.

Shapes are inferred; a symbolic dimension of an input is the batch if it is named so (or stands first, where none is),
and any other counts as 1 unless its size is given. The body of a branch or loop counts once, for how often it runs is
known only when it runs. Bytes moved are the inputs and outputs of each node as if nothing stayed in a cache; a tensor
that exists only between QuantizeLinear and DequantizeLinear counts at its quantized size, because that is how the fused
kernels read and write it.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from math import prod

import onnx
import onnx.inliner
from onnx import GraphProto, ModelProto, NodeProto, TensorProto

from engine.graph import all_graphs, constant_of, is_standard, subgraphs, tensor_types
from engine.measure.macs import Shape, macs_of

#: initializers up to this size may hold a shape, so that inference needs to see their values
LARGEST_SHAPE_CONSTANT = 1024
#: operators that only give another name or shape to the same bytes
VIEWS = {"Constant", "Dropout", "Flatten", "Identity", "Reshape", "Shape", "Size", "Squeeze", "Unsqueeze"}
#: operators whose output is as large as what they read, which ONNX's inference does not say
LIKE_THEIR_INPUT = ("GroupNormalization",)
CONVERSIONS = {"QuantizeLinear", "DequantizeLinear"}
FLOATS = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE}
HALF_BYTE = {TensorProto.INT4, TensorProto.UINT4, TensorProto.FLOAT4E2M1}


Sizes = Mapping[str, Sequence[int]]  #: shape of an input by its name


@dataclass(frozen=True)
class NodeCost:
    name: str
    operator: str
    macs: int | None  #: None where a needed shape is unknown
    bytes_moved: int | None
    shape: list[int] | None  #: of the first output


@dataclass(frozen=True)
class Complexity:
    macs: int | None
    parameters: int
    bytes_moved: int | None
    nodes: list[NodeCost]


@dataclass
class Tensors:
    """Shape and bytes per element of every tensor that is visible in a graph."""

    shapes: dict[str, Shape] = field(default_factory=dict)
    itemsizes: dict[str, float] = field(default_factory=dict)

    def add(self, name: str, element: int, shape: Sequence[int | str | None] | None) -> None:
        if element:
            self.itemsizes[name] = itemsize(element)
        sizes = tuple(size for size in shape or () if isinstance(size, int))
        if shape is not None and len(sizes) == len(shape):
            self.shapes[name] = sizes

    def bytes_of(self, name: str) -> float | None:
        if name not in self.shapes or name not in self.itemsizes:
            return None
        return prod(self.shapes[name]) * self.itemsizes[name]


def count(model: ModelProto, batch: int = 1, sizes: Sizes | None = None) -> Complexity:
    """Cost of one run. Never raises on a valid model: what cannot be known is None."""
    inferred = infer_shapes(model, batch, sizes)
    nodes = list(_costs(inferred.graph, Tensors()))
    return Complexity(
        macs=_total(node.macs for node in nodes),
        parameters=sum(_parameters(graph) for graph in all_graphs(model.graph)),
        bytes_moved=_total(node.bytes_moved for node in nodes),
        nodes=nodes,
    )


def _parameters(graph: GraphProto) -> int:
    """Some exporters keep their weights in Constant nodes; whole numbers in there are shapes and axes."""
    constants = [tensor for node in graph.node if (tensor := constant_of(node)) is not None]
    weights = [tensor for tensor in constants if tensor.data_type in FLOATS]
    return sum(prod(tensor.dims) for tensor in (*graph.initializer, *weights))


def infer_shapes(model: ModelProto, batch: int = 1, sizes: Sizes | None = None) -> ModelProto:
    """A copy without large weights, local functions inlined, and all shapes that can be inferred written down.

    A dimension that may vary gets the size that `sizes` gives for its input; without that, `batch` if it is the batch.
    """
    light = without_large_weights(model)
    try:
        if light.functions:
            light = onnx.inliner.inline_local_functions(light)
        _fix_dimensions(light.graph, batch, sizes or {})
        return inferred(light, check_type=False, strict_mode=False)
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError):
        return light  # shapes that the file itself declares are still there


def inferred(model: ModelProto, *, check_type: bool = False, strict_mode: bool = False) -> ModelProto:
    """A copy with the shapes that ONNX can infer, and those behind operators that it knows no shapes of.

    Raises what ONNX raises where nodes contradict each other.
    """
    plain = ModelProto()
    plain.CopyFrom(model)
    for node in plain.graph.node:
        if is_standard(node, *LIKE_THEIR_INPUT):
            node.CopyFrom(onnx.helper.make_node("Identity", node.input[:1], node.output[:1]))
    shaped = onnx.shape_inference.infer_shapes(plain, check_type=check_type, strict_mode=strict_mode, data_prop=True)
    for node, own in zip(shaped.graph.node, model.graph.node, strict=True):
        if is_standard(own, *LIKE_THEIR_INPUT):
            node.CopyFrom(own)
    return shaped


def without_large_weights(model: ModelProto) -> ModelProto:
    """Large initializers become inputs of the same name and shape: inference needs no values of theirs."""
    source, light = model.graph, ModelProto()
    light.ir_version = max(model.ir_version, 4)  # from 4 on an initializer needs no input beside it
    light.opset_import.extend(model.opset_import)
    light.functions.extend(model.functions)
    light.graph.name = source.name
    light.graph.node.extend(source.node)
    light.graph.input.extend(source.input)
    light.graph.output.extend(source.output)
    light.graph.value_info.extend(source.value_info)
    known = {value.name for value in source.input}
    for tensor in source.initializer:
        if prod(tensor.dims) <= LARGEST_SHAPE_CONSTANT:
            light.graph.initializer.append(tensor)
        elif tensor.name not in known:
            weight = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
            light.graph.input.append(weight)
    _open_negative_dimensions(light.graph)
    return light


def _open_negative_dimensions(graph: GraphProto) -> None:
    """Paddle writes -1 where a dimension may vary; it is no size."""
    for value in chain(graph.input, graph.output, graph.value_info):
        for dimension in value.type.tensor_type.shape.dim:
            if dimension.dim_value < 0:
                dimension.Clear()


def _fix_dimensions(graph: GraphProto, batch: int, sizes: Sizes) -> None:
    """Give every symbolic dimension of the inputs a size, and the same size wherever its symbol comes up again."""
    chosen: dict[str, int] = {}
    inputs = [(value.name, list(value.type.tensor_type.shape.dim)) for value in graph.input]
    batch_is_named = any("batch" in dimension.dim_param.lower() for _, shape in inputs for dimension in shape)
    for name, shape in inputs:
        for axis, dimension in enumerate(shape):
            if dimension.HasField("dim_value"):
                continue
            symbol, given = dimension.dim_param, sizes.get(name, ())
            is_batch = "batch" in symbol.lower() if batch_is_named else axis == 0
            size = given[axis] if axis < len(given) else batch if is_batch else 1
            dimension.dim_value = chosen.setdefault(symbol, size) if symbol else size
    for value in (*graph.value_info, *graph.output):
        for dimension in value.type.tensor_type.shape.dim:
            if dimension.dim_param in chosen:
                dimension.dim_value = chosen[dimension.dim_param]


# ── the walk ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _costs(graph: GraphProto, outer: Tensors) -> Iterator[NodeCost]:
    tensors = _tensors(graph, outer)
    for node in graph.node:
        shape = tensors.shapes.get(node.output[0]) if node.output else None
        yield NodeCost(
            name=node.name,
            operator=node.op_type,
            macs=macs_of(node, tensors.shapes),
            bytes_moved=_bytes_moved(node, tensors),
            shape=None if shape is None else list(shape),
        )
        for body in subgraphs(node):
            yield from _costs(body, tensors)


def _tensors(graph: GraphProto, outer: Tensors) -> Tensors:
    tensors = Tensors(dict(outer.shapes), dict(outer.itemsizes))
    for name, known in tensor_types(graph).items():
        tensors.add(name, known.element, known.shape)
    for node in graph.node:
        constant = constant_of(node)
        if constant is not None:
            tensors.add(node.output[0], constant.data_type, tuple(constant.dims))
    _count_quantized_at_their_size(graph, tensors.itemsizes)
    return tensors


def _count_quantized_at_their_size(graph: GraphProto, itemsizes: dict[str, float]) -> None:
    readers: dict[str, int] = Counter(name for node in graph.node for name in node.input)
    smallest: dict[str, float] = defaultdict(float)
    for node in graph.node:
        if node.op_type == "DequantizeLinear":
            smallest[node.output[0]] = itemsizes.get(node.input[0], 0.0)
        if node.op_type == "QuantizeLinear" and readers[node.input[0]] == 1:
            smallest[node.input[0]] = itemsizes.get(node.output[0], 0.0)
    itemsizes.update({name: size for name, size in smallest.items() if size})


def _bytes_moved(node: NodeProto, tensors: Tensors) -> int | None:
    return 0 if node.op_type in CONVERSIONS else bytes_moved(node, tensors)


def bytes_moved(node: NodeProto, tensors: Tensors) -> int | None:
    """What a node reads and writes; the nodes inside of a branch or loop count for themselves."""
    if node.op_type in VIEWS or any(True for _ in subgraphs(node)):
        return 0
    sizes = [tensors.bytes_of(name) for name in (*node.input, *node.output) if name]
    known = [size for size in sizes if size is not None]
    return int(sum(known)) if len(known) == len(sizes) else None


def _total(values: Iterable[int | None]) -> int | None:
    known = list(values)
    present = [value for value in known if value is not None]
    return sum(present) if len(present) == len(known) else None


def itemsize(element: int) -> float:
    if element in HALF_BYTE:
        return 0.5
    try:
        return float(onnx.helper.tensor_dtype_to_np_dtype(element).itemsize)
    except KeyError:
        return 0.0
