"""Arithmetic of two or more tensors, comparisons, logic on values and bits, and products of matrices."""

from functools import reduce
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engine.differentiable.elements import WIDER, widened
from engine.differentiable.registry import Compute, Node, operator, pointwise


def _quotient(a: Tensor, b: Tensor) -> Tensor:
    """Integers are divided towards zero."""
    return torch.div(a, b) if a.is_floating_point() or a.is_complex() else torch.div(a, b, rounding_mode="trunc")


def _equal(a: Any, b: Any) -> Tensor:
    if isinstance(a, np.ndarray):
        return torch.from_numpy(np.asarray(a == b, dtype=np.bool_))
    return torch.eq(a, b)


def _each(function: Compute) -> Compute:
    """A function of two tensors for any number of them."""
    return lambda *values: reduce(function, values)


def _mean(*values: Tensor) -> Tensor:
    return reduce(torch.add, values) / len(values)


pointwise(
    {
        "Add": widened(torch.add),
        "Sub": widened(torch.sub),
        "Mul": widened(torch.mul),
        "Div": widened(_quotient),
        "And": torch.logical_and,
        "Or": torch.logical_or,
        "Xor": torch.logical_xor,
        "BitwiseAnd": widened(torch.bitwise_and),
        "BitwiseOr": widened(torch.bitwise_or),
        "BitwiseXor": widened(torch.bitwise_xor),
        "Equal": _equal,
        "Greater": widened(torch.gt),
        "GreaterOrEqual": widened(torch.ge),
        "Less": widened(torch.lt),
        "LessOrEqual": widened(torch.le),
        "Max": _each(widened(torch.maximum)),
        "Min": _each(widened(torch.minimum)),
        "Sum": _each(torch.add),
        "Mean": _mean,
        "MatMul": widened(torch.matmul),
        "PRelu": widened(lambda x, slope: torch.where(x < 0, x * slope, x)),
        "Det": torch.det,
    }
)


@operator("Pow")
def power(node: Node) -> Compute:
    """The result has the type of the base."""
    constant = node.constant(1)
    if constant is not None and constant.size == 1 and constant.ndim == 0:
        exponent = constant.item()
        return lambda x, _: torch.pow(x, exponent).to(x.dtype)

    def compute(x: Tensor, exponent: Tensor) -> Tensor:
        wide = WIDER.get(exponent.dtype)
        return torch.pow(x, exponent if wide is None else exponent.to(wide)).to(x.dtype)

    return compute


@operator("Mod")
def modulo(node: Node) -> Compute:
    """The remainder has the sign of the divisor, or with fmod that of the dividend."""
    return widened(torch.fmod if node.attribute("fmod", 0) else torch.remainder)


@operator("BitShift")
def bit_shift(node: Node) -> Compute:
    left = node.attribute("direction") == "LEFT"
    return widened(torch.bitwise_left_shift if left else torch.bitwise_right_shift)


@operator("Where")
def where(_node: Node) -> Compute:
    def compute(condition: Tensor, a: Any, b: Any) -> Any:
        if isinstance(a, np.ndarray):
            return np.where(condition.numpy(), a, b)
        return torch.where(condition, a, b)

    return compute


@operator("Gemm")
def gemm(node: Node) -> Compute:
    """alpha · A B + beta · C, each of A and B transposed on request."""
    first, second = node.attribute("transA", 0), node.attribute("transB", 0)
    alpha, beta = node.attribute("alpha", 1.0), node.attribute("beta", 1.0)

    def compute(a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
        a, b = (a.mT if first else a), (b.mT if second else b)
        if not a.is_floating_point():
            alpha_times = (alpha * (a @ b)).to(a.dtype)
            return alpha_times if c is None else (alpha_times + beta * c).to(a.dtype)
        if c is None:
            return a @ b if alpha == 1.0 else alpha * (a @ b)
        return torch.addmm(c, a, b, beta=beta, alpha=alpha)

    return compute
