"""Which scales of a quantized graph can be learned, and which of them only together.

    x ─ Q(s) ─ DQ(s) ─ MaxPool ─ Q(s′) ─ DQ(s′) ─ …      s and s′ are equal and must stay so: the kernel moves integers
    q ─ DQ(s),   q ─ DQ(s/6)                             the same integers read in two ways: one factor for both

So what is learned is a factor for each set of scales that belong together. A bias is stored in steps of the scale of
its layer's input times that of the weight; where it cannot follow these two, they stay as they are.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import numpy_helper

from engine.graph import Wiring, finite_floats, is_standard, weights_of
from engine.quantize.plan import MOVING
from engine.quantize.stored import BIAS, LAYERS, WEIGHT, Stored


@dataclass(frozen=True)
class Factor:
    """What some scales are multiplied by; a number, or one for each of a weight's scales."""

    scales: tuple[str, ...]  #: names of initializers
    shape: tuple[int, ...] = ()
    most: float = math.inf  #: 1 where a Clip stands in front: a kernel takes it in only while the range ends inside

    @property
    def is_number(self) -> bool:
        return math.prod(self.shape) == 1


@dataclass(frozen=True)
class Layer:
    """What a layer's bias is stored in steps of."""

    bias: str  #: output of the DequantizeLinear
    input_scale: str | None
    weight_scale: str | None


def learnable(model: onnx.ModelProto, weights: Sequence[Stored], biases: Sequence[Stored]) -> list[Factor]:
    """The factors that these weights and the activations may have."""
    uses = Wiring.of(model.graph).uses
    followed = {one.node.output[0] for one in biases if uses[one.scale_name] == 1}
    pinned = {
        name
        for layer in layers_with_bias(model)
        if layer.bias not in followed
        for name in (layer.input_scale, layer.weight_scale)
    }
    factors = [*_of_activations(model)]
    factors += [Factor((one.scale_name,), one.scale.shape) for one in weights if uses[one.scale_name] == 1]
    return [one for one in factors if pinned.isdisjoint(one.scales)]


def layers_with_bias(model: onnx.ModelProto) -> Iterator[Layer]:
    """Layers whose bias is dequantized."""
    producers = Wiring.of(model.graph).producers

    def scale_of(name: str) -> str | None:
        node = producers.get(name)
        return node.input[1] if node is not None and is_standard(node, "DequantizeLinear") else None

    for node in model.graph.node:
        if is_standard(node, *LAYERS) and len(node.input) > BIAS and scale_of(node.input[BIAS]):
            yield Layer(node.input[BIAS], scale_of(node.input[0]), scale_of(node.input[WEIGHT]))


# ── activations ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _of_activations(model: onnx.ModelProto) -> Iterator[Factor]:
    """One for each set of scales that belong together, none of which belongs to a constant as well."""
    constants, producers = weights_of(model), Wiring.of(model.graph).producers
    together, clipped, unfit = _Together(), set[str](), set[str]()
    for node in model.graph.node:
        source = producers.get(node.input[0]) if is_standard(node, "QuantizeLinear", "DequantizeLinear") else None
        if is_standard(node, "QuantizeLinear"):
            _tie_to_moved(node, producers, constants, together)
            clipped.update([node.input[1]] if source is not None and is_standard(source, "Clip") else [])
        elif is_standard(node, "DequantizeLinear"):
            if source is not None and is_standard(source, "QuantizeLinear"):
                together.tie(source.input[1], node.input[1])
            else:
                unfit.add(node.input[1])
    for names in together.sets():
        if unfit.isdisjoint(names) and all(finite_floats(constants.get(name)) is not None for name in names):
            yield Factor(tuple(sorted(names)), most=math.inf if clipped.isdisjoint(names) else 1.0)


def _tie_to_moved(
    node: onnx.NodeProto,
    producers: dict[str, onnx.NodeProto],
    constants: dict[str, onnx.TensorProto],
    together: "_Together",
) -> None:
    """Tie the scale of a QuantizeLinear to that of the integers it gets, where these have only been moved."""
    together.add(node.input[1])
    moved = _moved_from(node, producers)
    if moved is not None and _same(constants, moved.input[1:], node.input[1:]):
        together.tie(moved.input[1], node.input[1])


def _moved_from(node: onnx.NodeProto, producers: dict[str, onnx.NodeProto]) -> onnx.NodeProto | None:
    """The DequantizeLinear whose values reach this QuantizeLinear through nodes that only move them."""
    source = producers.get(node.input[0])
    while source is not None and is_standard(source, *MOVING):
        source = producers.get(source.input[0])
    return source if source is not None and is_standard(source, "DequantizeLinear") else None


def _same(constants: dict[str, onnx.TensorProto], first: Sequence[str], second: Sequence[str]) -> bool:
    """Whether scales, and zero points, are equal."""
    if not all(name in constants for name in (*first, *second)):
        return False
    arrays = [[numpy_helper.to_array(constants[name]) for name in names] for names in (first, second)]
    return all(np.array_equal(one.ravel(), other.ravel()) for one, other in zip(*arrays, strict=False))


class _Together:
    """Names in sets that grow together."""

    def __init__(self) -> None:
        self._set_of: dict[str, set[str]] = {}

    def add(self, name: str) -> set[str]:
        return self._set_of.setdefault(name, {name})

    def tie(self, first: str, second: str) -> None:
        united = self.add(first) | self.add(second)
        self._set_of |= dict.fromkeys(united, united)

    def sets(self) -> list[set[str]]:
        """Each once, in the order in which they were begun."""
        return list({id(one): one for one in self._set_of.values()}.values())
