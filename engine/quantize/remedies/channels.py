"""Factors per channel, moved from where a tensor comes from into the layers that read it; the outputs stay the same.

Conv W₁, b₁ ── Relu ── x ── Conv W₂          W₁/s, b₁/s ── x/s ── W₂·s          s > 0, one for each channel
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import numpy_helper

from engine.graph import attribute, is_standard
from engine.quantize.plan import LAYERS
from engine.quantize.remedies.draft import Draft
from engine.quantize.remedies.sources import FIRST, LAST, Source, Sources


@dataclass(frozen=True, eq=False)
class Place:
    """A tensor that layers read, channel by channel."""

    name: str
    readers: tuple[onnx.NodeProto, ...]  #: the layers, which share their weights with nobody
    inputs: int  #: channels as they read them
    alone: bool  #: nobody else reads the tensor
    source: Source | None  #: None where its scale cannot be set

    @property
    def channels(self) -> int:
        """How many factors it takes."""
        return self.source.channels or self.inputs if self.source is not None else self.inputs


class Channels:
    """A copy of a model whose channels get other scales."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.draft = Draft(model)

    def places(self) -> Iterator[Place]:
        """Tensors that layers read."""
        sources = Sources(self.draft)
        for name, readers in list(self.draft.wiring.readers.items()):
            layers = tuple(node for node in readers if self._is_layer(node, name))
            axes = {FIRST if node.op_type == "Conv" else LAST for node in layers}
            if len(axes) != 1:
                continue
            inputs = self._inputs(layers[0])
            source = sources.of(name, axes.pop())
            if source is not None and source.channels not in (None, inputs) and not source.flattened:
                source = None
            yield Place(name, layers, inputs, len(layers) == self.draft.uses(name), source)

    def _is_layer(self, node: onnx.NodeProto, name: str) -> bool:
        """Whether the node is a layer that reads this tensor, with a weight of its own."""
        if not is_standard(node, *LAYERS) or len(node.input) < 2 or node.input[0] != name:
            return False
        weight = self.draft.constant(node.input[1])
        if weight is None or self.draft.wiring.uses[node.input[1]] != 1 or attribute(node, "transA", 0):
            return False
        return node.op_type == "Conv" or weight.ndim == 2

    def _inputs(self, layer: onnx.NodeProto) -> int:
        groups, _, inputs, _ = blocks(layer, self._weight(layer)).shape
        return groups * inputs

    def kernel(self, layer: onnx.NodeProto) -> np.ndarray:
        """Largest weight between each input and output channel: (groups, outputs of a group, inputs of a group)."""
        return np.abs(blocks(layer, self._weight(layer))).max(axis=3)

    def _weight(self, layer: onnx.NodeProto) -> np.ndarray:
        return numpy_helper.to_array(self.draft.weights[layer.input[1]])

    def rescale(self, place: Place, factors: np.ndarray) -> None:
        """Divide each channel of the tensor by its factor, and let the layers that read it make up for that."""
        for part in place.source.parts if place.source else ():
            values = numpy_helper.to_array(self.draft.weights[part.node.input[part.index]])
            shape = [1] * max(values.ndim, 1)
            shape[part.axis] = -1
            self.draft.put(part.node, part.index, values / factors.reshape(shape))
        for layer in place.readers:
            self._multiply(layer, np.repeat(factors, place.inputs // place.channels))

    def divide_in_front(self, place: Place, factors: np.ndarray) -> None:
        """The same for these layers alone, by a product in front of them."""
        inverse = self.draft.store((1 / factors).astype(np.float32), f"{place.name}_factors")
        target = self.draft.insert("Mul", [place.name, inverse], f"{place.name}_divided", before=place.readers[0])
        for layer in place.readers:
            self._multiply(layer, factors)
            layer.input[0] = target

    def _multiply(self, layer: onnx.NodeProto, factors: np.ndarray) -> None:
        """Multiply what a layer makes of each channel that it reads."""
        weight = self._weight(layer).astype(np.float64)
        viewed = blocks(layer, weight)
        groups, _, inputs, _ = viewed.shape
        viewed *= factors.reshape(groups, 1, inputs, 1)
        self.draft.put(layer, 1, weight)


def blocks(layer: onnx.NodeProto, weight: np.ndarray) -> np.ndarray:
    """A view of a layer's weight as (groups, outputs of a group, inputs of a group, taps)."""
    if layer.op_type == "Conv":
        groups = attribute(layer, "group", 1)
        return weight.reshape(groups, weight.shape[0] // groups, weight.shape[1], -1)
    matrix = weight if attribute(layer, "transB", 0) else weight.T
    return matrix[None, :, :, None]
