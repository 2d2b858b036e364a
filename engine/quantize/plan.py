"""Which nodes compute in 8 bits, and which tensors get a range.

Layers (Conv, Gemm, MatMul with constant weights) are where int8 pays. What lies between two layers is quantized too
where every input of it already is: otherwise values would be unpacked and packed again. Everything else stays float.

    x ─Q─ Conv ── Relu ─Q─ MaxPool ─Q─ Conv ─Q─┬─ Add ─Q─ …        Relu needs no range: it is the lower end of
               └ absorbed ┘                 …──┘                   the range behind it
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import numpy_helper

from engine.graph import attribute, is_standard, outer_names
from engine.quantize.kept import LAYERS, is_kept

#: values only move, so the range of the input is the range of the output
MOVING = (
    "Reshape",
    "Flatten",
    "Transpose",
    "Squeeze",
    "Unsqueeze",
    "MaxPool",
    "Slice",
    "Gather",
    "DepthToSpace",
    "SpaceToDepth",
)
#: values change, and ONNX Runtime has an 8-bit kernel
COMPUTING = ("Add", "Mul", "Concat", "AveragePool", "GlobalAveragePool", "Sigmoid", "LeakyRelu")
#: only clip, which the range behind them does as well
CLIPPING = ("Relu", "Clip")
ALL_INPUTS = ("Add", "Mul", "Concat")  #: every input carries values; of the others only the first


@dataclass(frozen=True)
class Layer:
    """A node whose weights become int8."""

    weight: str
    axis: int | None  #: of the output channels; None where only one scale is possible
    bias: str | None


@dataclass(frozen=True)
class Plan:
    layers: dict[str, Layer]  #: by the name of the node's output
    passing: set[str]  #: first outputs of the other nodes that compute in 8 bits
    owners: dict[str, str]  #: tensor that is quantized → tensor that its range is learned from
    constants: set[str]  #: constants that meet activations

    def covers(self, node: onnx.NodeProto) -> bool:
        """Whether this node computes in 8 bits."""
        return bool(node.output) and (node.output[0] in self.layers or node.output[0] in self.passing)


def plan(model: onnx.ModelProto, unusable: AbstractSet[str] = frozenset(), keep_float: Collection[str] = ()) -> Plan:
    """Plan the quantization; `unusable` are tensors whose values have no finite range.

    `keep_float` holds operator types, and names of nodes or of their outputs, that are left as they are.
    """
    view = _View.of(model, keep_float)
    layers = layers_of(model, unusable, keep_float)
    passing = _passing(model.graph, view, layers, unusable)
    result = Plan(layers, passing, {}, set())
    for node in model.graph.node:
        if result.covers(node):
            _place_ranges(node, view, result)
    return result


@dataclass
class _View:
    """Who makes and who reads each tensor of a graph."""

    weights: dict[str, onnx.TensorProto]
    keep_float: Collection[str]
    producers: dict[str, onnx.NodeProto] = field(default_factory=dict)
    readers: dict[str, list[onnx.NodeProto]] = field(default_factory=lambda: defaultdict(list))
    uses: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of(cls, model: onnx.ModelProto, keep_float: Collection[str] = ()) -> "_View":
        graph = model.graph
        view = cls({weight.name: weight for weight in graph.initializer}, frozenset(keep_float))
        for node in graph.node:
            view.producers.update(dict.fromkeys(node.output, node))
            view.uses.update(node.input)
            for name in node.input:
                view.readers[name].append(node)
        view.uses.update(value.name for value in graph.output)
        view.uses.update(outer_names(graph))
        return view

    def float_weight(self, name: str) -> np.ndarray | None:
        """Values of a constant that can be quantized."""
        tensor = self.weights.get(name)
        if tensor is None or tensor.data_type != onnx.TensorProto.FLOAT:
            return None
        values = numpy_helper.to_array(tensor)
        return values if values.size and np.isfinite(values).all() else None


def layers_of(
    model: onnx.ModelProto, unusable: AbstractSet[str] = frozenset(), keep_float: Collection[str] = ()
) -> dict[str, Layer]:
    """Nodes whose weights can become int8, by the name of their output."""
    view = _View.of(model, keep_float)
    return {
        node.output[0]: layer
        for node in model.graph.node
        if (layer := _layer(node, view)) is not None and not {node.input[0], _end(node, view)} & unusable
    }


def replaced(model: onnx.ModelProto, layers: Mapping[str, Layer]) -> set[str]:
    """Weights that nothing but these layers reads, so that their float values are not needed any more."""
    view = _View.of(model)
    by_layers = Counter(layer.weight for layer in layers.values())
    return {name for name, count in by_layers.items() if view.uses[name] == count}


# ── layers ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _layer(node: onnx.NodeProto, view: _View) -> Layer | None:
    if not is_standard(node, *LAYERS) or len(node.input) < 2 or node.input[0] in view.weights:
        return None
    if is_kept(node, view.keep_float):
        return None
    weight = view.float_weight(node.input[1])
    if weight is None:
        return None
    bias = node.input[2] if len(node.input) > 2 and node.input[2] else None
    if node.op_type == "Conv":
        axis, channels = 0, weight.shape[0]
    elif node.op_type == "Gemm":
        axis = 0 if attribute(node, "transB", 0) else 1
        channels = weight.shape[axis]
    else:
        return Layer(node.input[1], weight.ndim - 1 if weight.ndim == 2 else None, None) if weight.ndim >= 2 else None
    if bias is not None and not _is_bias(view.float_weight(bias), channels):
        return None
    return None if node.op_type == "Gemm" and attribute(node, "transA", 0) else Layer(node.input[1], axis, bias)


def _is_bias(values: np.ndarray | None, channels: int) -> bool:
    """Whether these values are one per channel, or one for all."""
    return values is not None and (values.size == 1 or (values.size == channels == values.shape[-1]))


# ── between the layers ───────────────────────────────────────────────────────────────────────────────────────────────


def _passing(graph: onnx.GraphProto, view: _View, layers: dict[str, Layer], unusable: AbstractSet[str]) -> set[str]:
    """Nodes all whose values come from quantized nodes, and some of whose values reach another layer."""
    quantized = set(layers)
    candidates = []
    for node in graph.node:
        if _may_pass(node, view) and _fed_by(node, quantized, view) and node.output[0] not in unusable:
            quantized.add(node.output[0])
            candidates.append(node)
    kept: set[str] = set()
    for node in reversed(candidates):
        if any(
            reader.output[0] in kept or _takes(reader, node.output[0], layers)
            for reader in view.readers[node.output[0]]
        ):
            kept.add(node.output[0])
    return kept


def _takes(reader: onnx.NodeProto, name: str, layers: dict[str, Layer]) -> bool:
    return reader.output[0] in layers and reader.input[0] == name


def _may_pass(node: onnx.NodeProto, view: _View) -> bool:
    if not is_standard(node, *MOVING, *COMPUTING, *CLIPPING) or is_kept(node, view.keep_float):
        return False
    if any(view.uses[name] for name in node.output[1:]):
        return False
    return node.op_type != "Clip" or _clips_at_zero(node, view)


def _clips_at_zero(node: onnx.NodeProto, view: _View) -> bool:
    """Whether the lower bound is 0, so that the range behind the node clips just so."""
    low = view.float_weight(node.input[1]) if len(node.input) > 1 else None
    return low is not None and low.size == 1 and float(low.ravel()[0]) == 0


def _fed_by(node: onnx.NodeProto, quantized: set[str], view: _View) -> bool:
    names = carried(node)
    constant = [view.float_weight(name) is not None for name in names]
    return not all(constant) and all(fixed or name in quantized for fixed, name in zip(constant, names, strict=True))


def carried(node: onnx.NodeProto) -> list[str]:
    """Inputs that carry values, as against axes, shapes and bounds."""
    return list(node.input) if node.op_type in ALL_INPUTS else [node.input[0]]


# ── ranges ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _place_ranges(node: onnx.NodeProto, view: _View, result: Plan) -> None:
    """Give the node's inputs a range, and its output where 8-bit kernels need one there."""
    for name in carried(node):
        if name in view.weights:
            result.constants.add(name)
        elif not _is_absorbed(name, view, result):
            result.owners.setdefault(name, _owner(name, view, result))
    if node.op_type == "Conv":
        result.owners.setdefault(_end(node, view), _owner(_end(node, view), view, result))


def _end(node: onnx.NodeProto, view: _View) -> str:
    """Where the node's 8-bit result is read: behind the Relu that becomes part of it, if there is one."""
    behind = _clipping_reader(node.output[0], view)
    return node.output[0] if behind is None else behind.output[0]


def _is_absorbed(name: str, view: _View, result: Plan) -> bool:
    """Whether the tensor lies between a quantized node and the Relu that becomes part of it."""
    producer = view.producers.get(name)
    return producer is not None and result.covers(producer) and _clipping_reader(name, view) is not None


def _clipping_reader(name: str, view: _View) -> onnx.NodeProto | None:
    """The Relu or Clip that alone reads this tensor."""
    readers = view.readers[name]
    if view.uses[name] != 1 or not readers or not is_standard(readers[0], *CLIPPING):
        return None
    if is_kept(readers[0], view.keep_float):
        return None
    return readers[0] if readers[0].op_type == "Relu" or _clips_at_zero(readers[0], view) else None


def _owner(name: str, view: _View, result: Plan) -> str:
    """The tensor that this one has its values from, through nodes that only move them."""
    producer = view.producers.get(name)
    while producer is not None and result.covers(producer) and producer.op_type in MOVING:
        name = producer.input[0]
        producer = view.producers.get(name)
    return name
