"""The training twin of an 8-bit graph: the same graph, with float weights that it rounds as it runs.

    stored      q (int8) ─────────────────────────── DequantizeLinear ─ w      b (int32) ─ DequantizeLinear ─ bias
    twin        v ─ QuantizeLinear(1/8) ─ Clip ─ q ─ DequantizeLinear ─ w      u ─ Div ─ bias

The twin computes what the stored graph computes, but v and u are floats and can follow gradients. They count levels, in
eights, so that one learning rate suits all layers: what a weight is worth is its distance to the next level. What they
have become is rounded into the stored graph, of which nothing else changes: same nodes, same scales, same kernels.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from engine.graph import Names, Wiring, attribute, copied, is_standard, opset, replace_list, weights_of
from engine.quantize.integers import FULL_LEVELS, REDUCED_LEVELS, quantize_weight

LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
WEIGHT, BIAS = 1, 2  #: where a layer reads them
LOWEST_OPSET = 13  #: from here on QuantizeLinear has an axis
STEP = np.float32(1 / 8)  #: of a level; 1 is a large change for a weight, as elsewhere
LARGEST_BIAS = np.iinfo(np.int32).min, np.iinfo(np.int32).max
FULL_INPUT = 128  #: levels of an input at its largest: a bias moves as far as the weight that meets it
STORED = "_quantized"  #: what `qdq` appends to the name of a weight


@dataclass(frozen=True)
class Stored:
    """A tensor of integers, and what they stand for: values times scale."""

    name: str
    values: np.ndarray
    scale: np.ndarray  #: a scalar, or one per channel
    axis: int | None  #: of the channels; None for one scale
    node: onnx.NodeProto  #: the DequantizeLinear that reads it

    def in_levels(self, floats: np.ndarray) -> np.ndarray:
        """How many levels each of these values is."""
        shape = [1] * floats.ndim
        if self.axis is not None:
            shape[self.axis] = -1
        return floats / self.scale.reshape(shape)


@dataclass
class Twin:
    """`floats` are the weights that the stored ones were rounded from, as far as they are known."""

    stored: onnx.ModelProto
    floats: Mapping[str, np.ndarray] = field(default_factory=dict)
    model: onnx.ModelProto = field(init=False)
    _weights: dict[str, Stored] = field(default_factory=dict)  #: by the names of their floats in the twin
    _biases: dict[str, Stored] = field(default_factory=dict)

    def __post_init__(self) -> None:
        weights, biases = list(stored_weights(self.stored)), list(_stored_biases(self.stored))
        self.levels = _levels(weights)
        self.model = copied(self.stored, without={one.name for one in (*weights, *biases)})
        self._names = Names.of(self.stored)
        rounding = [node for one in weights for node in self._rounding(one)]
        scaling = {one.node.output[0]: self._scaling(one) for one in biases}
        nodes = [scaling.get(node.output[0], node) for node in self.model.graph.node]
        replace_list(self.model.graph.node, rounding + nodes)

    def _rounding(self, one: Stored) -> list[onnx.NodeProto]:
        """The nodes that make the integers of a float weight."""
        learning = self._store(self._levels_of(one) * STEP, f"{one.name}_learning")
        self._weights[learning] = one
        rounded = self._names.fresh(f"{one.name}_rounded")
        step, zero = self._store(STEP, f"{one.name}_step"), self._store(np.int8(0), f"{one.name}_zero")
        limits = [self._store(np.int8(level), f"{one.name}_limit") for level in (-self.levels, self.levels)]
        return [
            helper.make_node("QuantizeLinear", [learning, step, zero], [rounded]),
            helper.make_node("Clip", [rounded, *limits], [one.name]),
        ]

    def _scaling(self, one: Stored) -> onnx.NodeProto:
        """The node that makes a float bias, in place of the one that makes it of integers."""
        learning = self._store((one.values * (STEP / FULL_INPUT)).astype(np.float32), f"{one.name}_learning")
        self._biases[learning] = one
        divisor = self._store((STEP / FULL_INPUT / one.scale).astype(np.float32), f"{one.name}_divisor")
        return helper.make_node("Div", [learning, divisor], one.node.output)

    def _levels_of(self, one: Stored) -> np.ndarray:
        """How many levels each weight was before it was rounded, else since."""
        known = self.floats.get(one.name.removesuffix(STORED))
        if known is not None and known.shape == one.values.shape:
            again = quantize_weight(known, one.scale, one.axis, self.levels)
            if np.array_equal(again.values, one.values):
                return one.in_levels(known)
        return one.values.astype(np.float32)

    def _store(self, values: np.ndarray | np.generic, wish: str) -> str:
        name = self._names.fresh(wish)
        self.model.graph.initializer.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def rounded(self, trained: onnx.ModelProto) -> onnx.ModelProto:
        """The stored graph with the weights of the trained twin."""
        result, learned = copied(self.stored), weights_of(trained)
        places = weights_of(result)
        for name, one in self._weights.items():
            levels = np.rint(numpy_helper.to_array(learned[name]) / STEP)
            _put(places[one.name], np.clip(levels, -self.levels, self.levels).astype(np.int8))
        for name, one in self._biases.items():
            levels = np.rint(numpy_helper.to_array(learned[name]) / np.float64(STEP / FULL_INPUT))
            _put(places[one.name], np.clip(levels, *LARGEST_BIAS).astype(np.int32))
        for name in set(places) & set(learned):
            if places[name].data_type == TensorProto.FLOAT:
                places[name].CopyFrom(learned[name])  # of layers that compute in float
        return result


def refusal(model: onnx.ModelProto) -> str | None:
    """Why a quantized model has no twin, in words for the user."""
    if opset(model) < LOWEST_OPSET:
        return f"it is quantized already, at an opset older than {LOWEST_OPSET}"
    if not any(True for _ in stored_weights(model)):
        return (
            "it is quantized already, and has no int8 weights behind DequantizeLinear that could learn; "
            "quantize_static writes them with the layout qdq"
        )
    return None


def stored_weights(model: onnx.ModelProto) -> Iterator[Stored]:
    """The int8 weights of layers."""
    return _stored(model, WEIGHT, TensorProto.INT8)


def _stored_biases(model: onnx.ModelProto) -> Iterator[Stored]:
    uses = Wiring.of(model.graph).uses
    return (one for one in _stored(model, BIAS, TensorProto.INT32) if uses[one.name] == 1)


def _stored(model: onnx.ModelProto, position: int, element: int) -> Iterator[Stored]:
    """Constants of this type that layers read at this position through DequantizeLinear, each once."""
    constants = weights_of(model)
    read = {
        node.input[position]
        for node in model.graph.node
        if is_standard(node, *LAYERS) and len(node.input) > position and node.input[position]
    }
    seen: set[str] = set()
    for node in model.graph.node:
        if not is_standard(node, "DequantizeLinear") or node.output[0] not in read or node.input[0] in seen:
            continue
        one = _read(node, constants, element)
        if one is not None:
            seen.add(one.name)
            yield one


def _read(node: onnx.NodeProto, constants: Mapping[str, onnx.TensorProto], element: int) -> Stored | None:
    """What the node dequantizes; None where it is no constant, or not symmetric around zero."""
    if any(name not in constants for name in node.input) or constants[node.input[0]].data_type != element:
        return None
    values, scale, *zero = (numpy_helper.to_array(constants[name]) for name in node.input)
    if scale.dtype != np.float32 or scale.ndim > 1 or any(one.any() for one in zero):
        return None
    axis = None if scale.size == 1 else attribute(node, "axis", 1) % values.ndim
    return Stored(node.input[0], values, scale.reshape(()) if axis is None else scale, axis, node)


def _levels(weights: list[Stored]) -> int:
    """Whether all weights keep to the reduced range."""
    largest = max((int(np.abs(one.values.astype(np.int32)).max(initial=0)) for one in weights), default=0)
    return REDUCED_LEVELS if largest <= REDUCED_LEVELS else FULL_LEVELS


def _put(place: onnx.TensorProto, values: np.ndarray) -> None:
    place.CopyFrom(numpy_helper.from_array(values, place.name))
