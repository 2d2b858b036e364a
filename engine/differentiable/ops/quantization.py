"""Quantization and back, with gradients that go straight through the rounding.

    QuantizeLinear       q = clip(round(x / s) + z)
    DequantizeLinear     y = (q − z) · s

    ∂q/∂x = 1 / s   inside the range, 0 outside                                   (Bengio et al. 2013)
    ∂q/∂s = −x / s² inside the range, 0 outside: with ∂y/∂s = q − z both are LSQ   (Esser et al. 2020)

torch has no gradients for integers. So while gradients are recorded, quantized values are held as floats (whole numbers
in the range of their type); otherwise, and always where no gradient leads to them, they have their integer type. One
scale serves a tensor, each index of an axis, or each block along an axis.
"""

from dataclasses import dataclass
from typing import Any

import torch
from onnx import TensorProto
from torch import Tensor

from engine.differentiable.elements import dtype_of
from engine.differentiable.fuse import DOMAIN as FUSED
from engine.differentiable.ops.cast import converting
from engine.differentiable.registry import Compute, Node, operator

#: limits of the types that are held in 8 bits
NARROW = {
    TensorProto.INT4: (-8, 7),
    TensorProto.UINT4: (0, 15),
    TensorProto.INT2: (-2, 1),
    TensorProto.UINT2: (0, 3),
}


@dataclass(frozen=True)
class Levels:
    """The values of a quantized type."""

    dtype: torch.dtype
    low: float
    high: float
    saturate: bool = True  #: for 8-bit floats: what is out of range becomes the largest value

    @classmethod
    def of(cls, element: int, node: Node) -> "Levels":
        """The levels of an ONNX element type."""
        dtype = dtype_of(element)
        if dtype is None or element == TensorProto.FLOAT4E2M1:
            raise node.refuse(f"torch has no element type {TensorProto.DataType.Name(element)}")
        if element in NARROW:
            return cls(dtype, *NARROW[element])
        limits = torch.finfo(dtype) if dtype.is_floating_point else torch.iinfo(dtype)
        return cls(dtype, limits.min, limits.max, bool(node.attribute("saturate", 1)))

    def nearest(self, ratio: Tensor, zero: Tensor | None) -> Tensor:
        """The nearest level, not yet clipped, as a float."""
        if self.dtype.is_floating_point:
            return converting(self.dtype, saturate=self.saturate)(ratio).to(ratio.dtype)
        levels = ratio.round()
        return levels if zero is None else levels + zero


UINT8, INT8 = Levels(torch.uint8, 0, 255), Levels(torch.int8, -128, 127)


def eight_bits(zero: Tensor | None) -> Levels:
    """The levels that a zero point belongs to; unsigned where there is none."""
    return INT8 if zero is not None and zero.dtype == torch.int8 else UINT8


class _StraightThrough(torch.autograd.Function):
    """Levels of x / scale, as floats; the rounding has the gradient of the identity."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, zero: Tensor | None, levels: Levels) -> Tensor:
        ratio = x / scale
        nearest = levels.nearest(ratio, zero)
        clipped = nearest.clamp(levels.low, levels.high)
        inside = nearest == clipped
        ctx.save_for_backward(scale, inside, ratio if ctx.needs_input_grad[1] else None)
        return clipped

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        scale, inside, ratio = ctx.saved_tensors
        at_ratio = gradient * inside
        at_x = at_ratio / scale
        at_scale = None if ratio is None else -(at_x * ratio).sum_to_size(scale.shape)
        return at_x, at_scale, None, None


class _ThereAndBack(torch.autograd.Function):
    """What the levels of x / scale stand for: both operators of a pair in one, with the gradients of both."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, zero: Tensor | float, levels: Levels) -> Tensor:
        ratio = x / scale
        nearest = ratio.round()
        clipped = nearest.clamp(levels.low - zero, levels.high - zero)
        inside = nearest == clipped
        ctx.save_for_backward(scale, inside, clipped - ratio * inside if ctx.needs_input_grad[1] else None)
        return clipped.mul_(scale)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        scale, inside, slope = ctx.saved_tensors
        at_scale = None if slope is None else (gradient * slope).sum_to_size(scale.shape)
        return gradient * inside, at_scale, None, None


def quantized(x: Tensor, scale: Tensor, zero: Tensor | None, levels: Levels) -> Tensor:
    """Levels of a tensor; scale and zero point are spread over it, or a single value each."""
    zero = None if zero is None else zero.to(scale.dtype)
    x = x.to(scale.dtype)
    if torch.is_grad_enabled() and (x.requires_grad or scale.requires_grad):
        return _StraightThrough.apply(x, scale, zero, levels)
    nearest = levels.nearest(x / scale, zero)
    if levels.dtype.is_floating_point:
        return nearest.to(levels.dtype)
    return nearest.clamp(levels.low, levels.high).to(levels.dtype)


def dequantized(q: Tensor, scale: Tensor, zero: Tensor | None) -> Tensor:
    """What levels stand for; scale and zero point are spread over them, or a single value each."""
    values = q.to(scale.dtype)
    return (values if zero is None else values - zero.to(scale.dtype)) * scale


def rounded(x: Tensor, scale: Tensor, zero: Tensor | None, levels: Levels) -> Tensor:
    """Quantized and dequantized; all are of one type of floats."""
    if levels.dtype.is_floating_point or x.dtype != scale.dtype:
        return dequantized(quantized(x, scale, zero, levels), scale, zero)
    return _ThereAndBack.apply(x, scale, 0.0 if zero is None else zero.to(scale.dtype), levels)


def spread_over(values: Tensor, x: Tensor, axis: int, block: int) -> Tensor:
    """One value for all, one for each index of the axis, or one for each block along it: broadcast against x."""
    if values.numel() == 1:
        return values.reshape(())
    if values.dim() == x.dim() and values.dim() > 1:
        size = block or -(-x.shape[axis] // values.shape[axis])
        return values.repeat_interleave(size, dim=axis).narrow(axis, 0, x.shape[axis])
    shape = [1] * x.dim()
    shape[axis] = -1
    return values.reshape(shape)


@operator("QuantizeLinear")
def quantize_linear(node: Node) -> Compute:
    axis, block = node.attribute("axis", 1), node.attribute("block_size", 0)
    element = node.attribute("output_dtype", 0) or node.element(2) or TensorProto.UINT8
    levels, precision = Levels.of(element, node), dtype_of(node.attribute("precision", 0))
    zeros = _are_zeros(node, 2)

    def quantize(x: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
        zero = None if zeros or zero is None else spread_over(zero, x, axis, block)
        scale = spread_over(scale, x, axis, block)
        if not scale.is_floating_point() or precision is not None:
            scale = scale.to(precision or torch.float32)
        return quantized(x, scale, zero, levels)

    return quantize


@operator("FakeQuantize", domain=FUSED)
def fake_quantize(node: Node) -> Compute:
    """A QuantizeLinear with the DequantizeLinear behind it, by the attributes of the first."""
    axis, block = node.attribute("axis", 1), node.attribute("block_size", 0)
    levels = Levels.of(node.attribute("output_dtype", 0) or node.element(2) or TensorProto.UINT8, node)
    zeros = _are_zeros(node, 2)

    def round_off(x: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
        zero = None if zeros or zero is None else spread_over(zero, x, axis, block)
        return rounded(x, spread_over(scale, x, axis, block), zero, levels)

    return round_off


@operator("DequantizeLinear")
def dequantize_linear(node: Node) -> Compute:
    axis, block = node.attribute("axis", 1), node.attribute("block_size", 0)
    dtype = dtype_of(node.attribute("output_dtype", 0))
    zeros = _are_zeros(node, 2)

    def dequantize(x: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
        zero = None if zeros or zero is None else spread_over(zero, x, axis, block)
        scale = spread_over(scale, x, axis, block)
        return dequantized(x, scale if dtype is None else scale.to(dtype), zero)

    return dequantize


def _are_zeros(node: Node, index: int) -> bool:
    """Whether the zero points are known to be zero, so that none need be added."""
    zeros = node.constant(index)
    return zeros is not None and not zeros.astype("float32").any()


@operator("DynamicQuantizeLinear")
def dynamic_quantize_linear(_: Node) -> Compute:
    return dynamically_quantized


def dynamically_quantized(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Levels of 8 bits over the range of x and zero, the scale and the zero point; the range has no gradient."""
    low, high = torch.aminmax(x.detach())
    low, high = low.clamp_max(0), high.clamp_min(0)
    scale = (high - low) / 255
    scale = torch.where(scale == 0, torch.ones_like(scale), scale)
    zero = (-low / scale).round().clamp(0, 255)
    return quantized(x, scale, zero, UINT8), scale, zero.to(torch.uint8)
