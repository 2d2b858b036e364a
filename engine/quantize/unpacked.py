"""The nodes that make a float weight of its levels, block by block.

    w = (Cast(q) - z) · Cast(s)          q in int8, or two 4-bit levels a byte: byte = low + 16 · high

Scales are stored in float16 where they are in its range; the levels are rounded to them as they are stored.
"""

import math

import numpy as np
import onnx

from engine.quantize.blockwise import Blocks
from engine.quantize.weights import Weight
from engine.unpack import Unpacker


def unpack(new: Unpacker, weight: Weight, blocks: Blocks, *, symmetric: bool) -> None:
    """Store the levels and scales, and make the weight of them under its name."""
    whole = _whole(new, weight, blocks, symmetric=symmetric)
    scales = new.store(blocks.scales[..., None], f"{weight.name}_scales")
    if blocks.scales.dtype != np.float32:
        scales = _cast(new, scales)
    rows = new.op("Mul", [whole, scales], f"{weight.name}_blocks")
    if math.prod(blocks.levels.shape[1:]) > blocks.inputs:
        flat = new.constant([len(blocks.levels), -1], np.int64, "unpack_rows")
        first = new.constant(np.arange(blocks.inputs), np.int64, "unpack_first")
        padded = new.op("Reshape", [rows, flat], f"{weight.name}_padded")
        rows = new.op("Gather", [padded, first], f"{weight.name}_rows", axis=1)
    _place(new, weight, rows)


def _place(new: Unpacker, weight: Weight, rows: str) -> None:
    """From rows back to the axes and the type of the weight."""
    order = weight.view.order
    shape = new.constant([weight.tensor.dims[axis] for axis in order], np.int64, "unpack_shape")
    placed = new.op("Reshape", [rows, shape], f"{weight.name}_shaped")
    if order != tuple(range(len(order))):
        placed = new.op("Transpose", [placed], f"{weight.name}_placed", perm=np.argsort(order).tolist())
    new.give("Cast", [placed], weight.name, to=weight.tensor.data_type)


def _whole(new: Unpacker, weight: Weight, blocks: Blocks, *, symmetric: bool) -> str:
    """The levels less their zero points, as whole numbers in float32."""
    if blocks.bits == 8 and symmetric:
        return _cast(new, new.store((blocks.levels ^ 128).view(np.int8), f"{weight.name}_packed"))
    levels = _levels(new, weight.name, blocks)
    if symmetric:
        return new.op("Sub", [levels, new.constant(8, np.float32, "unpack_zero")], f"{weight.name}_whole")
    zero_points = new.store(blocks.zero_points[..., None], f"{weight.name}_zero_points")
    return new.op("Sub", [levels, _cast(new, zero_points)], f"{weight.name}_whole")


def _levels(new: Unpacker, name: str, blocks: Blocks) -> str:
    """The levels in float32; two of 4 bits share a byte, one from either half of the block."""
    if blocks.bits == 8:
        return _cast(new, new.store(blocks.levels, f"{name}_packed"))
    low, high = np.split(blocks.levels, 2, axis=-1)
    sixteen = new.constant(16, np.float32, "unpack_sixteen")
    byte = _cast(new, new.store(low | high << 4, f"{name}_packed"))
    upper = new.op("Floor", [new.op("Div", [byte, sixteen], f"{name}_shifted")], f"{name}_upper")
    lower = new.op("Sub", [byte, new.op("Mul", [upper, sixteen], f"{name}_taken")], f"{name}_lower")
    return new.op("Concat", [lower, upper], f"{name}_levels", axis=2)


def _cast(new: Unpacker, name: str) -> str:
    return new.op("Cast", [name], f"{name}_float", to=onnx.TensorProto.FLOAT)
