"""Which nodes compute in 8 bits, and which tensors get a range.

Layers (Conv, Gemm, MatMul with constant weights) are where int8 pays. What lies between two layers is quantized too
where every input of it already is: otherwise values would be unpacked and packed again. Everything else stays float.

    x ─Q─ Conv ── Relu ─Q─ MaxPool ─Q─ Conv ─Q─┬─ Add ─Q─ …        Relu needs no range: it is the lower end of
               └ absorbed ┘                 …──┘                   the range behind it

    x ─Q─┬─ HardSigmoid ─Q─ Mul ─Q─ …      clip(α·x + β, 0, 1): x's integers read at the scale α·s, plus β, in the range
         └───────────────────┘             0…1; so it becomes an addition. x · c is no work at all: the scale c·s.
"""

import itertools
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import numpy as np
import onnx

from engine.graph import Wiring, attribute, finite_floats, is_standard, weights_of
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
    "Split",
    "Resize",
)
#: become an addition whose range clips
HARD = ("HardSigmoid", "HardSwish")
#: values change, and ONNX Runtime has an 8-bit kernel
COMPUTING = ("Add", "Mul", "Concat", "AveragePool", "GlobalAveragePool", "Sigmoid", "LeakyRelu", *HARD)
#: only clip, which the range behind them does as well
CLIPPING = ("Relu", "Clip")
#: by a positive constant, the same integers at another scale
SCALING = ("Mul", "Div")
LEAST_FACTOR, MOST_FACTOR = 1e-6, 1e6
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
    scaled: dict[str, tuple[str, float]]  #: output of a node that only scales → what it scales, and the factor

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
    scaled = {node.output[0]: found for node in model.graph.node if (found := _scaling(node, view)) is not None}
    result = Plan(layers, passing, {}, set(), {name: scaled[name] for name in sorted(passing & set(scaled))})
    for node in model.graph.node:
        if result.covers(node):
            _place_ranges(node, view, result)
    return result


@dataclass
class _View:
    """Who makes and who reads each tensor of a graph."""

    weights: dict[str, onnx.TensorProto]
    keep_float: Collection[str]
    producers: dict[str, onnx.NodeProto]
    readers: dict[str, list[onnx.NodeProto]]
    uses: Counter[str]

    @classmethod
    def of(cls, model: onnx.ModelProto, keep_float: Collection[str] = ()) -> "_View":
        wiring = Wiring.of(model.graph)
        return cls(weights_of(model), frozenset(keep_float), wiring.producers, wiring.readers, wiring.uses)

    def float_weight(self, name: str) -> np.ndarray | None:
        """Values of a constant that can be quantized."""
        return finite_floats(self.weights.get(name))


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
        if _may_pass(node, view) and _fed_by(node, quantized, view) and not unusable & set(node.output):
            quantized.update(node.output)
            candidates.append(node)
    kept: set[str] = set()
    for node in reversed(candidates):
        if _completes_layer(node, layers, view) or any(
            reader.output[0] in kept or _takes(reader, name, layers)
            for name in node.output
            for reader in view.readers[name]
        ):
            kept.add(node.output[0])
    return kept


def _completes_layer(node: onnx.NodeProto, layers: dict[str, Layer], view: _View) -> bool:
    """Whether this is the Relu without which the convolution before it would have no 8-bit result."""
    name = node.input[0]
    if name not in layers or view.producers[name].op_type != "Conv":
        return False
    behind = _clipping_reader(name, view)
    return behind is not None and behind.output[0] == node.output[0]


def _takes(reader: onnx.NodeProto, name: str, layers: dict[str, Layer]) -> bool:
    return reader.output[0] in layers and reader.input[0] == name


def _may_pass(node: onnx.NodeProto, view: _View) -> bool:
    if not is_standard(node, *MOVING, *COMPUTING, *CLIPPING, *SCALING) or is_kept(node, view.keep_float):
        return False
    if node.op_type != "Split" and any(view.uses[name] for name in node.output[1:]):
        return False
    condition = CONDITIONS.get(node.op_type)
    return condition is None or condition(node, view)


def _interpolates(node: onnx.NodeProto, _view: _View) -> bool:
    """Whether a Resize gives values between those it reads, by a kernel that there is for 8 bits."""
    if attribute(node, "coordinate_transformation_mode", b"half_pixel") == b"tf_crop_and_resize":
        return False
    return attribute(node, "mode", b"nearest") in (b"nearest", b"linear") and not attribute(node, "antialias", 0)


def _rises(node: onnx.NodeProto, _view: _View) -> bool:
    return attribute(node, "alpha", 0.2) > 0


def _divides(node: onnx.NodeProto, view: _View) -> bool:
    return _scaling(node, view) is not None


def _scaling(node: onnx.NodeProto, view: _View) -> tuple[str, float] | None:
    """What the node multiplies by a positive constant, and the constant."""
    if not is_standard(node, *SCALING) or _clipping_reader(node.output[0], view) is not None:
        return None
    pairs = [(node.input[0], node.input[1])] if node.op_type == "Div" else itertools.permutations(node.input)
    for source, constant in pairs:
        values = view.float_weight(constant)
        if values is None or source in view.weights or values.size != 1 or values.ndim > 1:
            continue
        factor = float(values.ravel()[0])
        if LEAST_FACTOR <= factor <= MOST_FACTOR:
            return source, 1 / factor if node.op_type == "Div" else factor
    return None


def _clips_at_zero(node: onnx.NodeProto, view: _View) -> bool:
    """Whether the lower bound is 0, so that the range behind the node clips just so."""
    low = view.float_weight(node.input[1]) if len(node.input) > 1 else None
    return low is not None and low.size == 1 and float(low.ravel()[0]) == 0


#: what an operator must fulfil apart from its type
CONDITIONS: dict[str, Callable[[onnx.NodeProto, _View], bool]] = {
    "Clip": _clips_at_zero,
    "Div": _divides,
    "Resize": _interpolates,
    "HardSigmoid": _rises,
}


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
    scaled = result.scaled.get(node.output[0])
    for name in carried(node) if scaled is None else scaled[:1]:
        if name in view.weights:
            result.constants.add(name)
        elif name not in result.scaled and not _is_absorbed(name, view, result):
            result.owners.setdefault(name, _owner(name, view, result))
    ends = {"Conv": [_end(node, view)], "Split": list(node.output)}
    for name in ends.get(node.op_type, []):
        result.owners.setdefault(name, _owner(name, view, result))


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
