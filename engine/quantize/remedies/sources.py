"""From a tensor back to the constants that set the scale of its channels.

    Conv W₁, b₁ ── Relu ── MaxPool ── x          x/s  ⇐  W₁/s, b₁/s          s > 0, one for each channel

The walk goes through nodes that are homogeneous, f(x/s) = f(x)/s, and through sums with constants, which are scaled as
well. It ends at a layer, a norm or a product with a constant, and fails where something else reads what lies between.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import onnx
from onnx import numpy_helper

from engine.graph import attribute, is_standard, tensor_types
from engine.measure.complexity import infer_shapes
from engine.quantize.plan import LAYERS
from engine.quantize.remedies.draft import Draft

FIRST, LAST = 1, -1  #: axis of the channels: of images, and of what matrix products read
UNLIKELY_SIZE = 61  #: stands for axes that may vary: a prime that no number of channels is mistaken for
LONGEST_WALK = 8
SPACE = 2  #: the first axis of space in an image
HOMOGENEOUS = ("Relu", "LeakyRelu", "Identity", "Dropout")
POOLS = ("MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool")
#: inputs that set the scale of what a norm gives out, by its domain and operator
NORMS = {
    ("", "LayerNormalization"): (1, 2),
    ("", "RMSNormalization"): (1,),
    ("", "SimplifiedLayerNormalization"): (1,),
    ("com.microsoft", "SkipLayerNormalization"): (2, 3),
    ("com.microsoft", "SkipSimplifiedLayerNormalization"): (2,),
}


@dataclass(frozen=True, eq=False)
class Part:
    """A constant of a node that has the channels on one of its axes, or one value for all."""

    node: onnx.NodeProto
    index: int  #: which input of the node
    axis: int


@dataclass(frozen=True, eq=False)
class Source:
    """All constants that set the scale of a tensor's channels."""

    node: onnx.NodeProto  #: layer, norm or product where they come from
    parts: tuple[Part, ...]
    channels: int | None  #: None where any number will do
    flattened: bool = False  #: each channel becomes a run of channels

    @property
    def is_layer(self) -> bool:
        return is_standard(self.node, *LAYERS)


@dataclass(frozen=True)
class _Stop:
    """Where a walk goes on."""

    name: str
    axis: int
    parts: tuple[Part, ...] = ()
    flattened: bool = False


class Sources:
    """Walks back through a model."""

    def __init__(self, draft: Draft) -> None:
        self.draft = draft
        inputs = draft.model.graph.input
        sizes = {value.name: [UNLIKELY_SIZE] * len(value.type.tensor_type.shape.dim) for value in inputs}
        self.types = tensor_types(infer_shapes(draft.model, sizes=sizes).graph)

    def of(self, name: str, axis: int, left: int = LONGEST_WALK) -> Source | None:
        """What sets the scale of the tensor's channels, None where it is not all constant."""
        node = self.draft.wiring.producers.get(name)
        if node is None or node.output[0] != name or not left:
            return None
        end = self._end(node, axis)
        if end is not None:
            return end
        for stop in self._before(node, axis):
            found = self.of(stop.name, stop.axis, left - 1) if self.draft.uses(stop.name) == 1 else None
            if found is not None and not (found.flattened and (stop.parts or stop.flattened)):
                flattened = found.flattened or stop.flattened
                return replace(found, parts=found.parts + stop.parts, flattened=flattened)
        return None

    # ── where it ends ────────────────────────────────────────────────────────────────────────────────────────────────

    def _end(self, node: onnx.NodeProto, axis: int) -> Source | None:
        if is_standard(node, *LAYERS):
            return self._layer(node, axis)
        if axis != LAST:
            return None
        if is_standard(node, "Mul"):
            indices = [index for index, name in enumerate(node.input) if self.draft.constant(name) is not None]
            return Source(node, (Part(node, indices[0], LAST),), None) if len(indices) == 1 else None
        return self._norm(node)

    def _layer(self, node: onnx.NodeProto, axis: int) -> Source | None:
        weight = self.draft.constant(node.input[1])
        if weight is None or self.draft.wiring.uses[node.input[1]] != 1:
            return None
        parts = [Part(node, 1, 0 if node.op_type == "Conv" or attribute(node, "transB", 0) else 1)]
        if len(node.input) > 2 and node.input[2]:
            if self.draft.constant(node.input[2]) is None:
                return None
            parts.append(Part(node, 2, LAST))
        if node.op_type == "Conv":
            fits = axis == FIRST
        else:
            fits = weight.ndim == 2 and (axis == LAST or node.op_type == "Gemm")
        return Source(node, tuple(parts), weight.shape[parts[0].axis]) if fits else None

    def _norm(self, node: onnx.NodeProto) -> Source | None:
        indices = NORMS.get((node.domain.removeprefix("ai.onnx"), node.op_type), ())
        given = [index for index in indices if index < len(node.input) and node.input[index]]
        values = [self.draft.constant(node.input[index]) for index in given]
        sizes = [value.size for value in values if value is not None and value.ndim == 1]
        if not given or given[0] not in indices[:1] or len(sizes) < len(given):
            return None
        return Source(node, tuple(Part(node, index, LAST) for index in given), sizes[0])

    # ── where it goes on ─────────────────────────────────────────────────────────────────────────────────────────────

    def _before(self, node: onnx.NodeProto, axis: int) -> Iterator[_Stop]:
        """Where the channels of a node's output come from."""
        first = node.input[0] if node.input else ""
        if self._is_homogeneous(node) or (axis == FIRST and self._pools(node)):
            yield _Stop(first, axis)
        elif is_standard(node, "Transpose"):
            yield from _transposed(node, axis)
        elif is_standard(node, "Reshape") and axis == LAST and self._keeps_last_axis(node):
            yield _Stop(first, LAST)
        elif self._flattens(node):
            yield _Stop(first, FIRST, flattened=True)
        elif axis == LAST and is_standard(node, "Add"):
            yield from self._summand(node)
        elif axis == LAST and is_standard(node, "Mul"):
            yield from (_Stop(name, LAST) for name in node.input)

    def _is_homogeneous(self, node: onnx.NodeProto) -> bool:
        if is_standard(node, "PRelu"):
            return self.draft.constant(node.input[1]) is not None
        if is_standard(node, "Clip"):
            low = self.draft.constant(node.input[1]) if len(node.input) > 1 else None
            unbounded = len(node.input) < 3 or not node.input[2]
            return unbounded and low is not None and not low.any()
        return is_standard(node, *HOMOGENEOUS)

    def _pools(self, node: onnx.NodeProto) -> bool:
        return is_standard(node, *POOLS) or (self._over_space(node) and bool(attribute(node, "keepdims", 1)))

    def _flattens(self, node: onnx.NodeProto) -> bool:
        """Whether it makes (N, C·H·W) of (N, C, H, W), or (N, C) of what it pools."""
        if is_standard(node, "Flatten"):
            return bool(attribute(node, "axis", 1) == 1)
        if is_standard(node, "Squeeze"):
            return self._axes(node) == self._space(node)
        if is_standard(node, "Reshape"):
            before, after = self._shape(node.input[0]), self._shape(node.output[0])
            known = [size for size in before[1:] if isinstance(size, int)]
            return len(before) > SPACE and len(known) == len(before) - 1 and after[1:] == (int(np.prod(known)),)
        return self._over_space(node) and not attribute(node, "keepdims", 1)

    def _keeps_last_axis(self, node: onnx.NodeProto) -> bool:
        before, after = self._shape(node.input[0]), self._shape(node.output[0])
        return bool(before and after and before[-1] == after[-1] and isinstance(after[-1], int))

    def _over_space(self, node: onnx.NodeProto) -> bool:
        """Whether it is a mean or maximum over the axes of space."""
        return is_standard(node, "ReduceMean", "ReduceMax") and self._axes(node) == self._space(node)

    def _axes(self, node: onnx.NodeProto) -> set[int]:
        """Axes of a node's first input that it works on; empty where they are not known."""
        axes = attribute(node, "axes", ())
        if len(node.input) > 1 and node.input[1] in self.draft.weights:
            axes = numpy_helper.to_array(self.draft.weights[node.input[1]]).ravel().tolist()
        rank = len(self._shape(node.input[0]))
        return {int(axis) % rank for axis in axes} if rank else set()

    def _space(self, node: onnx.NodeProto) -> set[int] | None:
        """The axes of space of a node's first input; None where they are not known."""
        rank = len(self._shape(node.input[0]))
        return set(range(SPACE, rank)) if rank > SPACE else None

    def _shape(self, name: str) -> tuple[int | str | None, ...]:
        """Shape of a tensor, empty where it is not known."""
        known = self.types.get(name)
        return known.shape or () if known is not None else ()

    def _summand(self, node: onnx.NodeProto) -> Iterator[_Stop]:
        """The input to which a constant is added."""
        for index, name in enumerate(node.input):
            if self.draft.constant(name) is not None:
                yield _Stop(node.input[1 - index], LAST, (Part(node, index, LAST),))


def _transposed(node: onnx.NodeProto, axis: int) -> Iterator[_Stop]:
    order = attribute(node, "perm", None)
    if order is None:
        return
    before = order[axis % len(order)]
    if before == len(order) - 1:
        yield _Stop(node.input[0], LAST)
    elif before == FIRST:
        yield _Stop(node.input[0], FIRST)
