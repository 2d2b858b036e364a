"""Quantized operators of ONNX Runtime's own domain.

    MatMulNBits               y = x Wᵀ + b, W unpacked once from blocks of 2, 4 or 8 bits; it stays as it is
    DynamicQuantizeMatMul     y = dequantize(quantize(x) · W) + b
    DynamicQuantizeLSTM       an LSTM of dequantized weights; its activations stay floats while it trains
    GatherBlockQuantized      rows of a table, unpacked when they are looked up
    QLinear…, QGemm           8 bits in, computed in float, 8 bits out

Gradients reach the inputs and the bias; weights in integers, with their scales, are constants.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from engine.differentiable.elements import to_torch
from engine.differentiable.ops.contrib import MICROSOFT
from engine.differentiable.ops.integers import centred
from engine.differentiable.ops.quantization import (
    dequantize_linear,
    dequantized,
    dynamically_quantized,
    eight_bits,
    quantize_linear,
    quantized,
    spread_over,
)
from engine.differentiable.ops.recurrent import lstm
from engine.differentiable.registry import Compute, Node, operator

operator("QuantizeLinear", domain=MICROSOFT)(quantize_linear)
operator("DequantizeLinear", domain=MICROSOFT)(dequantize_linear)


@operator("MatMulNBits", domain=MICROSOFT)
def matmul_n_bits(node: Node) -> Compute:
    packed, scales = node.constant(1), node.constant(2)
    if packed is None or scales is None or (node.has(3) and node.constant(3) is None) or node.has(4):
        raise node.refuse("weights that are not constant, or in another order")
    weight = to_torch(unpacked(node, packed, scales.astype(np.float32), node.constant(3)))

    def multiply(x: Tensor, *others: Tensor | None) -> Tensor:
        bias = others[4] if len(others) > 4 else None
        return torch.nn.functional.linear(x, weight.to(x), bias)

    return multiply


def unpacked(node: Node, packed: np.ndarray, scales: np.ndarray, zeros: np.ndarray | None) -> np.ndarray:
    """The weight (outputs, inputs) of a MatMulNBits node; the lowest bits of a byte come first."""
    bits, block, inputs = node.attribute("bits", 4), node.attribute("block_size"), node.attribute("K")
    outputs = node.attribute("N")
    if bits not in (2, 4, 8):
        raise node.refuse(f"weights of {bits} bits")
    scales = scales.reshape(outputs, -1, 1)
    levels = _bits(packed.reshape(outputs, -1), bits).reshape(outputs, scales.shape[1], block)
    offset = np.float32(2 ** (bits - 1))
    if zeros is not None and zeros.dtype == np.uint8:
        offset = _bits(zeros.reshape(outputs, -1), bits)[:, : scales.shape[1], None]
    elif zeros is not None:
        offset = zeros.astype(np.float32).reshape(scales.shape)
    return ((levels - offset) * scales).reshape(outputs, -1)[:, :inputs].astype(np.float32)


def _bits(packed: np.ndarray, bits: int) -> np.ndarray:
    """Whole numbers as floats from the bytes of each row."""
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    return ((packed[..., None] >> shifts) & (2**bits - 1)).reshape(packed.shape[0], -1).astype(np.float32)


@operator("GatherBlockQuantized", domain=MICROSOFT)
def gather_block_quantized(node: Node) -> Compute:
    table, scales, zeros = node.constant(0), node.constant(2), node.constant(3)
    bits, block = node.attribute("bits", 4), node.attribute("block_size", 128)
    if (
        table is None
        or scales is None
        or table.dtype != np.uint8
        or table.ndim != 2
        or node.attribute("gather_axis", 0)
    ):
        raise node.refuse("a table that is not constant, or not packed in bytes by rows")
    if zeros is None:
        zeros = np.full(scales.shape, 2 ** (bits - 1), np.float32)
    else:
        zeros = _bits(zeros, bits)[:, : scales.shape[1]]
    levels, scale, zero = (torch.from_numpy(part) for part in (_bits(table, bits).astype(np.uint8), scales, zeros))

    def look_up(_: Tensor, index: Tensor, *_others: Tensor | None) -> Tensor:
        place = index.long().to(levels.device)
        rows = levels[place]
        spread = (spread_over(part[place], rows, -1, block) for part in (scale, zero))
        return dequantized(rows, *spread).to(index.device)

    return look_up


@operator("DynamicQuantizeLSTM", domain=MICROSOFT, host=(4,))
def dynamic_quantize_lstm(node: Node) -> Compute:
    weights = [_stored_weight(node, *places) for places in ((1, 8, 9), (2, 10, 11))]
    layer = lstm(node)

    def run(x: Tensor, _weight: Tensor, _recurrent: Tensor, *others: Tensor | None) -> tuple[Tensor, ...]:
        return layer(x, *(weight.to(x) for weight in weights), *others[:5])

    return run


def _stored_weight(node: Node, place: int, scale_place: int, zero_place: int) -> Tensor:
    """A weight (directions, gates · hidden, inputs) from levels that are stored the other way round."""
    levels, scale, zero = (node.constant(index) for index in (place, scale_place, zero_place))
    if levels is None or scale is None or zero is None:
        raise node.refuse("weights that are not constant")
    scale, zero = (part.reshape(levels.shape[0], 1, -1).astype(np.float32) for part in (scale, zero))
    return to_torch(((levels.astype(np.float32) - zero) * scale).swapaxes(1, 2))


@operator("DynamicQuantizeMatMul", domain=MICROSOFT)
def dynamic_quantize_matmul(node: Node) -> Compute:
    node.constant(2)  # the weight's scale belongs to its integers

    def multiply(
        x: Tensor, weight: Tensor, scale: Tensor, zero: Tensor | None = None, bias: Tensor | None = None
    ) -> Tensor:
        levels, x_scale, x_zero = dynamically_quantized(x)
        return _scaled_product(levels, weight, x_scale * scale, (x_zero, zero), bias)

    return multiply


@operator("MatMulIntegerToFloat", domain=MICROSOFT)
def matmul_integer_to_float(node: Node) -> Compute:
    node.constant(3)

    def multiply(
        a: Tensor,
        b: Tensor,
        a_scale: Tensor,
        b_scale: Tensor,
        a_zero: Tensor | None = None,
        b_zero: Tensor | None = None,
        bias: Tensor | None = None,
    ) -> Tensor:
        return _scaled_product(a, b, a_scale * b_scale, (a_zero, b_zero), bias)

    return multiply


def _scaled_product(
    a: Tensor, b: Tensor, scale: Tensor, zeros: tuple[Tensor | None, Tensor | None], bias: Tensor | None
) -> Tensor:
    """The product of levels less their zero points, in the scale's type."""
    y = centred(a, zeros[0], scale.dtype, -2) @ centred(b, zeros[1], scale.dtype, -1) * scale
    return y if bias is None else y + bias


@operator("QGemm", domain=MICROSOFT)
def qgemm(node: Node) -> Compute:
    turn_a, turn_b = node.attribute("transA", 0), node.attribute("transB", 0)
    alpha = node.attribute("alpha", 1.0)

    def multiply(
        a: Tensor,
        a_scale: Tensor,
        a_zero: Tensor,
        b: Tensor,
        b_scale: Tensor,
        b_zero: Tensor,
        bias: Tensor | None = None,
        y_scale: Tensor | None = None,
        y_zero: Tensor | None = None,
    ) -> Tensor:
        """Scale and zero point of b are those of the outputs; the bias has the scale of the product."""
        left = centred(a.T if turn_a else a, a_zero, torch.float32)
        product = left @ centred(b.T if turn_b else b, b_zero, torch.float32, 1)
        y = (product if bias is None else product + bias) * (alpha * a_scale * b_scale)
        return y if y_scale is None else quantized(y, y_scale, y_zero, eight_bits(y_zero))

    return multiply


def _pairwise(function: Callable[[Tensor, Tensor], Tensor]) -> Compute:
    def compute(
        a: Tensor,
        a_scale: Tensor,
        a_zero: Tensor | None,
        b: Tensor,
        b_scale: Tensor,
        b_zero: Tensor | None,
        y_scale: Tensor,
        y_zero: Tensor | None = None,
    ) -> Tensor:
        y = function(dequantized(a, a_scale, a_zero), dequantized(b, b_scale, b_zero))
        return quantized(y, y_scale, y_zero, eight_bits(y_zero))

    return compute


@operator("QLinearAdd", domain=MICROSOFT)
def qlinear_add(_: Node) -> Compute:
    return _pairwise(torch.add)


@operator("QLinearMul", domain=MICROSOFT)
def qlinear_mul(_: Node) -> Compute:
    return _pairwise(torch.mul)


def _single(function: Callable[[Tensor], Tensor]) -> Compute:
    def compute(
        x: Tensor, x_scale: Tensor, x_zero: Tensor | None, y_scale: Tensor, y_zero: Tensor | None = None
    ) -> Tensor:
        return quantized(function(dequantized(x, x_scale, x_zero)), y_scale, y_zero, eight_bits(y_zero))

    return compute


@operator("QLinearSigmoid", domain=MICROSOFT)
def qlinear_sigmoid(_: Node) -> Compute:
    return _single(torch.sigmoid)


@operator("QLinearLeakyRelu", domain=MICROSOFT)
def qlinear_leaky_relu(node: Node) -> Compute:
    alpha = node.attribute("alpha", 0.01)
    return _single(lambda x: torch.nn.functional.leaky_relu(x, alpha))


@operator("QLinearGlobalAveragePool", domain=MICROSOFT)
def qlinear_global_average_pool(node: Node) -> Compute:
    if node.attribute("channels_last", 0):
        raise node.refuse("channels behind the image")
    return _single(lambda x: x.mean(list(range(2, x.dim())), keepdim=True))


@operator("QLinearConcat", domain=MICROSOFT)
def qlinear_concat(node: Node) -> Compute:
    axis = node.attribute("axis")

    def concatenate(y_scale: Tensor, y_zero: Tensor, *parts: Tensor) -> Tensor:
        triples = zip(parts[0::3], parts[1::3], parts[2::3], strict=True)
        return quantized(
            torch.cat([dequantized(*triple) for triple in triples], axis), y_scale, y_zero, eight_bits(y_zero)
        )

    return concatenate
