"""Weights and biases that a quantized graph holds as integers, behind DequantizeLinear."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from engine.graph import Wiring, attribute, is_standard, weights_of

LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
WEIGHT, BIAS = 1, 2  #: where a layer reads them


@dataclass(frozen=True)
class Stored:
    """A tensor of integers, and what they stand for: values times scale."""

    name: str
    values: np.ndarray  #: in 8 or 32 bits, however few are stored
    scale: np.ndarray  #: a scalar, one per channel, or one for each block along the axis
    axis: int | None  #: of the channels or blocks; None for one scale
    node: onnx.NodeProto  #: the DequantizeLinear that reads it
    bits: int

    @property
    def scale_name(self) -> str:
        return self.node.input[1]

    @property
    def block_size(self) -> int:
        """Values along the axis that share a scale; 0 where the scales are not for blocks."""
        return attribute(self.node, "block_size", 0)

    def spread(self, scales: np.ndarray) -> np.ndarray:
        """Scales, or what is shaped as they are, for each value."""
        if self.axis is None:
            return scales.reshape(())
        if self.block_size:
            repeated = scales.repeat(self.block_size, self.axis)
            return repeated.take(range(self.values.shape[self.axis]), self.axis)
        return scales.reshape([-1 if axis == self.axis else 1 for axis in range(self.values.ndim)])

    def in_levels(self, floats: np.ndarray) -> np.ndarray:
        """How many levels each of these values is."""
        return floats / self.spread(self.scale)


def stored_weights(model: onnx.ModelProto) -> Iterator[Stored]:
    """The weights of layers in 8 or 4 bits."""
    return _stored(model, WEIGHT, {TensorProto.INT8: 8, TensorProto.INT4: 4})


def stored_biases(model: onnx.ModelProto) -> Iterator[Stored]:
    """The biases of layers, each of which a single layer reads."""
    uses = Wiring.of(model.graph).uses
    found = _stored(model, BIAS, {TensorProto.INT32: 32})
    return (one for one in found if uses[one.name] == 1 and uses[one.node.output[0]] == 1)


def _stored(model: onnx.ModelProto, position: int, bits: Mapping[int, int]) -> Iterator[Stored]:
    """Constants of these types that layers read at this position through DequantizeLinear, each once."""
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
        one = _read(node, constants, bits)
        if one is not None:
            seen.add(one.name)
            yield one


def _read(node: onnx.NodeProto, constants: Mapping[str, onnx.TensorProto], bits: Mapping[int, int]) -> Stored | None:
    """What the node dequantizes; None where it is no constant, or not symmetric around zero."""
    if any(name not in constants for name in node.input) or constants[node.input[0]].data_type not in bits:
        return None
    stored, scale, *zero = (numpy_helper.to_array(constants[name]) for name in node.input)
    by_blocks = attribute(node, "block_size", 0) > 0
    fits = scale.ndim == stored.ndim if by_blocks else scale.ndim <= 1
    if scale.dtype != np.float32 or not fits or any(one.any() for one in zero):
        return None
    width = bits[constants[node.input[0]].data_type]
    values = stored if width == 32 else stored.astype(np.int8)
    axis = None if scale.size == 1 and not by_blocks else attribute(node, "axis", 1) % values.ndim
    return Stored(node.input[0], values, scale.reshape(()) if axis is None else scale, axis, node, width)
