"""Functions of one tensor, value by value: activations, roots, trigonometry, and rounding, which passes gradients.

Rounding is flat almost everywhere; its gradient is taken to be that of the identity (straight-through, Bengio et al.
2013).
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from engine.differentiable.elements import WIDER, widened
from engine.differentiable.registry import Compute, Node, operator, pointwise


class _Straight(torch.autograd.Function):
    """A function of one tensor whose gradient is that of the identity."""

    @staticmethod
    def forward(_context: Any, x: Tensor, function: Compute) -> Tensor:
        return function(x)

    @staticmethod
    def backward(_context: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


def straight_through(function: Compute) -> Compute:
    """The function, with the gradient of the identity."""
    return lambda x: _Straight.apply(x, function) if x.requires_grad else function(x)


pointwise(
    {
        "Abs": torch.abs,
        "Acos": torch.acos,
        "Acosh": torch.acosh,
        "Asin": torch.asin,
        "Asinh": torch.asinh,
        "Atan": torch.atan,
        "Atanh": torch.atanh,
        "BitwiseNot": widened(torch.bitwise_not),
        "Ceil": straight_through(torch.ceil),
        "Cos": torch.cos,
        "Cosh": torch.cosh,
        "Erf": torch.erf,
        "Exp": torch.exp,
        "Floor": straight_through(torch.floor),
        "HardSwish": functional.hardswish,
        "IsNaN": torch.isnan,
        "Log": torch.log,
        "Mish": functional.mish,
        "Neg": torch.neg,
        "Not": torch.logical_not,
        "Reciprocal": torch.reciprocal,
        "Relu": torch.relu,
        "Round": straight_through(torch.round),
        "Sigmoid": torch.sigmoid,
        "Sign": torch.sign,
        "Sin": torch.sin,
        "Sinh": torch.sinh,
        "Softplus": lambda x: functional.softplus(x, threshold=1e9),
        "Softsign": functional.softsign,
        "Sqrt": torch.sqrt,
        "Tan": torch.tan,
        "Tanh": torch.tanh,
    }
)


@operator("LeakyRelu")
def leaky_relu(node: Node) -> Compute:
    alpha = node.attribute("alpha", 0.01)
    return lambda x: functional.leaky_relu(x, alpha)


@operator("Elu")
def elu(node: Node) -> Compute:
    alpha = node.attribute("alpha", 1.0)
    return lambda x: functional.elu(x, alpha)


@operator("Celu")
def celu(node: Node) -> Compute:
    """max(0, x) + min(0, alpha · (exp(x / alpha) - 1))."""
    alpha = node.attribute("alpha", 1.0)
    return lambda x: functional.celu(x, alpha)


@operator("Selu")
def selu(node: Node) -> Compute:
    """gamma · x above zero, gamma · alpha · (exp(x) - 1) below (Klambauer et al. 2017)."""
    alpha, gamma = node.attribute("alpha", 1.6732632423543772), node.attribute("gamma", 1.0507009873554805)
    return lambda x: gamma * functional.elu(x, alpha)


@operator("Gelu")
def gelu(node: Node) -> Compute:
    approximate = node.attribute("approximate", "none")
    return lambda x: functional.gelu(x, approximate=approximate)


@operator("Swish")
def swish(node: Node) -> Compute:
    """x · sigmoid(alpha · x)."""
    alpha = node.attribute("alpha", 1.0)
    return functional.silu if alpha == 1.0 else lambda x: x * torch.sigmoid(alpha * x)


@operator("SwiGLU")
def swish_gated(node: Node) -> Compute:
    """Swish of the first input, times the second."""
    alpha = node.attribute("alpha", 1.0)
    return lambda gate, x: gate * torch.sigmoid(alpha * gate) * x


@operator("HardSigmoid")
def hard_sigmoid(node: Node) -> Compute:
    """max(0, min(1, alpha · x + beta))."""
    alpha, beta = node.attribute("alpha", 0.2), node.attribute("beta", 0.5)
    if math.isclose(alpha, 1 / 6, rel_tol=1e-6) and beta == 0.5:
        return functional.hardsigmoid
    return lambda x: torch.clamp(alpha * x + beta, 0, 1)


@operator("ThresholdedRelu")
def thresholded_relu(node: Node) -> Compute:
    alpha = node.attribute("alpha", 1.0)
    return lambda x: functional.threshold(x, alpha, 0.0)


@operator("Shrink")
def shrink(node: Node) -> Compute:
    """x moved towards zero by bias where it is farther than lambd from it; zero elsewhere."""
    bias, limit = node.attribute("bias", 0.0), node.attribute("lambd", 0.5)

    def compute(x: Tensor) -> Tensor:
        moved = torch.where(x < -limit, x + bias, torch.where(x > limit, x - bias, 0))
        return moved.to(x.dtype)

    return compute


@operator("IsInf")
def is_infinite(node: Node) -> Compute:
    negative, positive = node.attribute("detect_negative", 1), node.attribute("detect_positive", 1)

    def compute(x: Tensor) -> Tensor:
        found = torch.isinf(x)
        return found if negative and positive else found & (x > 0 if positive else x < 0) & bool(negative or positive)

    return compute


@operator("Clip")
def clip(node: Node) -> Compute:
    """Limits are attributes before opset 11 and inputs since; the gradient is that of the identity between them."""
    least, most = _limit(node, "min", 1), _limit(node, "max", 2)
    if (node.has(1) and least is None) or (node.has(2) and most is None):
        return _clamped
    if least is not None and most is not None and least <= most:
        return lambda x, *_: functional.hardtanh(x, least, most) if x.is_floating_point() else _clamped(x, least, most)
    return lambda x, *_: _clamped(x, least, most)


def _limit(node: Node, name: str, index: int) -> Any:
    value = node.attribute(name)
    constant = node.constant(index)
    return value if constant is None else constant.item()


def _clamped(x: Tensor, least: Any = None, most: Any = None) -> Tensor:
    if least is None and most is None:
        return x
    wide = WIDER.get(x.dtype)
    if wide is None:
        return torch.clamp(x, least, most)
    limits = (limit.to(wide) if isinstance(limit, Tensor) else limit for limit in (least, most))
    return torch.clamp(x.to(wide), *limits).to(x.dtype)
