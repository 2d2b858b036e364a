"""From one element type to another; the gradient of a cast between floats is a cast."""

import math

import onnx
import torch
from onnx import TensorProto
from torch import Tensor

from engine.differentiable.elements import BITS, dtype_of
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
    return _to(element, dtype, node)


@operator("CastLike")
def cast_like(node: Node) -> Compute:
    """To the element type of the second input."""
    element = node.element(1)
    dtype = dtype_of(element)
    if dtype is not None:
        convert = _to(element, dtype, node)
        return lambda x, _: convert(x)
    if element != TensorProto.UNDEFINED:
        raise node.refuse(f"torch has no element type {TensorProto.DataType.Name(element)}")
    return lambda x, like: converting(like.dtype)(x)


def _to(element: int, dtype: torch.dtype, node: Node) -> Compute:
    if element in NARROW_BITS:
        return narrowing(NARROW_BITS[element], dtype)
    if element == TensorProto.FLOAT4E2M1:
        return four_bit_float
    if element == TensorProto.FLOAT8E8M0:
        return rounding_to_power(node.attribute("round_mode", "up"))
    return converting(dtype, saturate=bool(node.attribute("saturate", 1)))


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


def four_bit_float(x: Tensor) -> Tensor:
    """The nearest of 0, 0.5, 1, 1.5, 2, 3, 4 and 6, with a sign; of two as near the one with an even code."""
    x = torch.clamp(x.to(torch.float32).nan_to_num(), -6, 6)
    spacing = torch.where(x.abs() < 2, 0.5, torch.where(x.abs() < 4, 1.0, 2.0))
    return torch.round(x / spacing) * spacing


def rounding_to_power(mode: str) -> Compute:
    """A cast to float8_e8m0fnu, which holds powers of two: up, down, or to the nearest."""
    enough = {"up": 1, "nearest": 1 << 22, "down": 1 << 23}[mode]  # mantissas from here on go to the next power

    def compute(x: Tensor) -> Tensor:
        bits = x.to(torch.float32).view(torch.int32)
        exponent = (bits >> 23 & 0xFF) + ((bits & 0x7FFFFF) >= enough)
        exponent = torch.where(torch.isfinite(x), exponent.clamp(max=254), 255)
        return exponent.to(torch.uint8).view(torch.float8_e8m0fnu)

    return compute


@operator("BitCast")
def bit_cast(node: Node) -> Compute:
    """The same bits read as another type of the same size."""
    element = node.attribute("to")
    dtype = dtype_of(element)
    if dtype is None or element in NARROW_BITS:
        raise node.refuse(f"torch cannot read bits as {onnx.TensorProto.DataType.Name(element)}")
    return lambda x: x.contiguous().view(dtype)
