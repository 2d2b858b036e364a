"""From one element type to another; the gradient of a cast between floats is a cast."""

import math

import numpy as np
import onnx
import torch
from onnx import TensorProto
from torch import Tensor

from engine.differentiable.elements import BITS, DTYPES, dtype_of
from engine.differentiable.registry import Compute, Node, operator

#: bits of the types that are held in 8
NARROW_BITS = {TensorProto.INT4: 4, TensorProto.UINT4: 4, TensorProto.INT2: 2, TensorProto.UINT2: 2}
OUT_OF_E4M3 = 464  #: what is above is nearer to the next value after the largest
EIGHT_BIT_FLOATS = frozenset(dtype for _, dtype in BITS.values() if dtype.itemsize == 1)


@operator("Cast")
def cast(node: Node) -> Compute:
    element = node.attribute("to")
    dtype = dtype_of(element)
    if dtype is None:
        raise node.refuse(f"torch has no element type {TensorProto.DataType.Name(element)}")
    if element in NARROW_BITS:
        return narrowing(NARROW_BITS[element], dtype)
    return converting(dtype, saturate=bool(node.attribute("saturate", 1)))


@operator("CastLike")
def cast_like(node: Node) -> Compute:
    """To the element type of the second input."""
    saturate = bool(node.attribute("saturate", 1))
    element = node.element(1)
    if element in NARROW_BITS:
        narrow = narrowing(NARROW_BITS[element], DTYPES[element])
        return lambda x, _: narrow(x)

    def compute(x: Tensor, like: Tensor) -> Tensor:
        if isinstance(like, np.ndarray):
            raise NotImplementedError("a cast to strings")
        return converting(like.dtype, saturate=saturate)(x)

    return compute


def converting(dtype: torch.dtype, *, saturate: bool = True) -> Compute:
    """A cast; 8-bit floats take the largest value for what is out of their range, if they saturate."""
    if dtype not in EIGHT_BIT_FLOATS:
        return lambda x: x.to(dtype)
    largest = torch.finfo(dtype).max
    if saturate:
        return lambda x: torch.clamp(x.to(torch.float32), -largest, largest).to(dtype)
    if dtype == torch.float8_e4m3fn:  # the type has no infinity, and torch would saturate
        return lambda x: torch.where(x.abs() > OUT_OF_E4M3, math.nan, x.to(torch.float32)).to(dtype)
    return lambda x: x.to(dtype)


def narrowing(bits: int, dtype: torch.dtype) -> Compute:
    """A cast to an integer of a few bits, which drops the higher ones."""
    size = 2**bits
    low = 0 if dtype == torch.uint8 else -size // 2

    def compute(x: Tensor) -> Tensor:
        whole = torch.trunc(x.to(torch.float32)).to(torch.int32)
        return (torch.remainder(whole - low, size) + low).to(dtype)

    return compute


@operator("BitCast")
def bit_cast(node: Node) -> Compute:
    """The same bits read as another type of the same size."""
    element = node.attribute("to")
    dtype = dtype_of(element)
    if dtype is None or element in NARROW_BITS:
        raise node.refuse(f"torch cannot read bits as {onnx.TensorProto.DataType.Name(element)}")
    return lambda x: x.contiguous().view(dtype)
