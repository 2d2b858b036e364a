"""Operators that work position by position, with broadcasting."""

import numpy as np
import onnx

from engine.prune.walk import Axes, Axis, Rule, Walk, stay

UNARY = (
    "Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "BitwiseNot", "Cast", "CastLike", "Ceil", "Celu", "Cos",
    "Cosh", "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid", "HardSwish", "Identity", "IsInf", "IsNaN",
    "LeakyRelu", "Log", "Mish", "Neg", "Not", "Reciprocal", "Relu", "Round", "Selu", "Shrink", "Sigmoid", "Sign",
    "Sin", "Sinh", "Softplus", "Softsign", "Sqrt", "Swish", "Tan", "Tanh", "ThresholdedRelu",
)  # fmt: skip
BROADCASTING = (
    "Add", "And", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "Clip", "Div", "Equal", "Greater", "GreaterOrEqual",
    "Less", "LessOrEqual", "Max", "Mean", "Min", "Mod", "Mul", "Or", "PRelu", "Pow", "Sub", "Sum", "Where", "Xor",
)  # fmt: skip


def unary(walk: Walk, node: onnx.NodeProto) -> list[Axes | None]:
    return [list(walk.input(node, 0))]


def dropout(walk: Walk, node: onnx.NodeProto) -> list[Axes | None]:
    return [list(walk.input(node, 0)) for _ in node.output]


def broadcasting(walk: Walk, node: onnx.NodeProto) -> list[Axes | None]:
    given = [walk.input(node, index) for index, name in enumerate(node.input) if name]
    return [broadcast(walk, given)]


def broadcast(walk: Walk, given: list[Axes]) -> Axes:
    """Axes of what is computed position by position from tensors of these axes."""
    rank = max((len(axes) for axes in given), default=0)
    padded = [[*(stay(1) for _ in range(rank - len(axes))), *axes] for axes in given]
    return [together(walk, list(column)) for column in zip(*padded, strict=True)]


def together(walk: Walk, column: list[Axis]) -> Axis:
    """One axis that several tensors share; those of length one are repeated along it."""
    known = [axis for axis in column if isinstance(axis, np.ndarray)]
    longest = max((len(axis) for axis in known), default=1)
    walk.freeze(*(axis for axis in known if len(axis) < longest))
    full = [axis for axis in known if len(axis) == longest]
    unknown = [axis for axis in column if not isinstance(axis, np.ndarray)]
    if unknown:
        walk.freeze(*full)
    if longest == 1 and unknown:
        return unknown[0] if len(set(unknown)) == 1 else None
    for axis in full[1:]:
        walk.unite(full[0], axis)
    return full[0] if full else stay(1)


POINTWISE: dict[str, Rule] = {
    **dict.fromkeys(UNARY, unary),
    **dict.fromkeys(BROADCASTING, broadcasting),
    "Dropout": dropout,
}
