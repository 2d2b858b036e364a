"""Products of integers, and layers that take and give 8-bit values.

    MatMulInteger, ConvInteger     Σ (a − z_a)(b − z_b)                  in 32 bits
    QLinearMatMul, QLinearConv     quantize(dequantize(a) · dequantize(b) + bias)

Integers are multiplied as doubles: exact, and quicker than torch's integer products. Values that carry gradients come
as floats (see `quantization`), and the result stays one then.
"""

import torch
from torch import Tensor

from engine.differentiable.ops.convolution import convolved
from engine.differentiable.ops.quantization import dequantized, eight_bits, quantized, spread_over
from engine.differentiable.ops.window import Window
from engine.differentiable.registry import Compute, Node, operator


def centred(values: Tensor, zero: Tensor | None, precision: torch.dtype, axis: int = 0) -> Tensor:
    """Levels less their zero point, of the whole or of each index of an axis."""
    values = values.to(precision)
    return values if zero is None else values - along(zero, values, axis).to(precision)


def along(values: Tensor, x: Tensor, axis: int) -> Tensor:
    """Spread over an axis; values with the rank of x already fit."""
    return values if values.dim() == x.dim() and values.numel() > 1 else spread_over(values, x, axis, 0)


def _precision(x: Tensor) -> torch.dtype:
    return x.dtype if x.is_floating_point() else torch.float64


def _whole(products: Tensor) -> Tensor:
    """32-bit integers, unless a gradient must go on."""
    return products if products.requires_grad else products.to(torch.int32)


@operator("MatMulInteger")
def matmul_integer(_: Node) -> Compute:
    def multiply(a: Tensor, b: Tensor, a_zero: Tensor | None = None, b_zero: Tensor | None = None) -> Tensor:
        precision = _precision(a)
        return _whole(centred(a, a_zero, precision, -2) @ centred(b, b_zero, precision, -1))

    return multiply


@operator("ConvInteger")
def conv_integer(node: Node) -> Compute:
    window, group = Window.of(node), node.attribute("group", 1)

    def convolve(x: Tensor, w: Tensor, x_zero: Tensor | None = None, w_zero: Tensor | None = None) -> Tensor:
        precision = _precision(x)
        return _whole(convolved(centred(x, x_zero, precision), centred(w, w_zero, precision), None, window, group))

    return convolve


@operator("QLinearMatMul")
def qlinear_matmul(_: Node) -> Compute:
    def multiply(
        a: Tensor,
        a_scale: Tensor,
        a_zero: Tensor,
        b: Tensor,
        b_scale: Tensor,
        b_zero: Tensor,
        y_scale: Tensor,
        y_zero: Tensor,
    ) -> Tensor:
        left = dequantized(a, along(a_scale.float(), a, -2), along(a_zero, a, -2))
        right = dequantized(b, along(b_scale.float(), b, -1), along(b_zero, b, -1))
        y = left @ right
        return quantized(y, along(y_scale.float(), y, -2), along(y_zero, y, -2), eight_bits(y_zero))

    return multiply


@operator("QLinearConv")
def qlinear_conv(node: Node) -> Compute:
    window, group = Window.of(node), node.attribute("group", 1)

    def convolve(
        x: Tensor,
        x_scale: Tensor,
        x_zero: Tensor,
        w: Tensor,
        w_scale: Tensor,
        w_zero: Tensor,
        y_scale: Tensor,
        y_zero: Tensor,
        bias: Tensor | None = None,
    ) -> Tensor:
        weight = dequantized(w, along(w_scale, w, 0), along(w_zero, w, 0))
        bias = None if bias is None else bias * x_scale * w_scale
        y = convolved(dequantized(x, x_scale, x_zero), weight, bias, window, group)
        return quantized(y, y_scale, y_zero, eight_bits(y_zero))

    return convolve
