"""Tensors that hold shapes: each element is a number, or the length of an axis that is followed."""

from collections.abc import Callable

import numpy as np
import onnx

from engine.graph import attribute
from engine.prune.rules.parts import slices
from engine.prune.walk import WHOLE, Axes, Number, Rule, Unfollowed, Walk, stay, value_of

Numbers = list[Number]
NumberRule = Callable[[Walk, onnx.NodeProto], Numbers | None]


def shape(walk: Walk, node: onnx.NodeProto) -> list[Axes | None]:
    """Nothing is read but lengths."""
    return [[stay(len(_lengths(walk, node)))]]


def _lengths(walk: Walk, node: onnx.NodeProto) -> Axes:
    axes = walk.input(node, 0)
    return axes[slice(attribute(node, "start", 0), attribute(node, "end", len(axes)))]


def lengths(walk: Walk, node: onnx.NodeProto) -> Numbers | None:
    return list(_lengths(walk, node)) if walk.axes.get(node.input[0]) is not None else None


def kept(walk: Walk, node: onnx.NodeProto) -> Numbers | None:
    """The same elements, whatever the axes."""
    return walk.numbers.get(node.input[0])


def cast(walk: Walk, node: onnx.NodeProto) -> Numbers | None:
    return kept(walk, node) if attribute(node, "to", 0) in WHOLE else None


def picked(walk: Walk, node: onnx.NodeProto) -> Numbers | None:
    numbers, indices = walk.numbers.get(node.input[0]), walk.constant(node, 1)
    if numbers is None or indices is None:
        return None
    return [numbers[int(index)] for index in np.ravel(indices)]


def cut(walk: Walk, node: onnx.NodeProto) -> Numbers | None:
    numbers = walk.numbers.get(node.input[0])
    if numbers is None:
        return None
    try:
        ((_, start, end, step),) = slices(walk, node, 1)
    except (Unfollowed, ValueError):
        return None
    return numbers[start:end:step]


def joined(walk: Walk, node: onnx.NodeProto) -> Numbers | None:
    parts = [walk.numbers.get(name) for name in node.input]
    if any(part is None for part in parts):
        return None
    return [number for part in parts for number in part or ()]


def computed(operator: Callable[[int, int], int]) -> NumberRule:
    """Arithmetic on numbers, element by element."""

    def rule(walk: Walk, node: onnx.NodeProto) -> Numbers | None:
        one, other = (walk.numbers.get(name) for name in node.input)
        if not one or not other or len(one) != len(other):
            return None
        for name in node.input:
            walk.freeze_numbers(name)
        return [_computed(operator, first, second) for first, second in zip(one, other, strict=True)]

    return rule


def _computed(operator: Callable[[int, int], int], first: Number, second: Number) -> Number:
    one, other = value_of(first), value_of(second)
    return operator(one, other) if isinstance(one, int) and isinstance(other, int) else None


def positive(walk: Walk, node: onnx.NodeProto) -> Numbers | None:
    """Lengths are as they are."""
    numbers = walk.numbers.get(node.input[0])
    return None if numbers is None else [abs(one) if isinstance(one, int) else one for one in numbers]


def equal(walk: Walk, node: onnx.NodeProto) -> Numbers | None:
    """1 where two numbers are the same. A length, whatever it is, is not the -1 that stands for what is left open."""
    one, other = (walk.numbers.get(name) for name in node.input)
    if not one or not other or len(one) != len(other):
        return None
    return [_is_equal(walk, first, second) for first, second in zip(one, other, strict=True)]


def _is_equal(walk: Walk, one: Number, other: Number) -> Number:
    if any(isinstance(number, int) and number < 0 for number in (one, other)):
        return int(isinstance(one, int) and one == other)
    walk.freeze(*(number for number in (one, other) if isinstance(number, np.ndarray)))
    first, second = value_of(one), value_of(other)
    return int(first == second) if isinstance(first, int) and isinstance(second, int) else None


def chosen(walk: Walk, node: onnx.NodeProto) -> Numbers | None:
    """Where: from one tensor or the other."""
    where, one, other = (walk.numbers.get(name) for name in node.input)
    if not where or not one or not other or not len(where) == len(one) == len(other):
        return None
    if not all(isinstance(holds, int) for holds in where):
        return None
    return [first if holds else second for holds, first, second in zip(where, one, other, strict=True)]


def _divided(one: int, other: int) -> int:
    return int(one / other) if other else 0


SHAPE: dict[str, Rule] = {"Shape": shape}
NUMBERS: dict[str, NumberRule] = {
    **dict.fromkeys(("Identity", "Reshape", "Squeeze", "Unsqueeze"), kept),
    "Abs": positive,
    "Add": computed(lambda one, other: one + other),
    "Cast": cast,
    "Concat": joined,
    "Div": computed(_divided),
    "Equal": equal,
    "Gather": picked,
    "Mul": computed(lambda one, other: one * other),
    "Shape": lengths,
    "Slice": cut,
    "Sub": computed(lambda one, other: one - other),
    "Where": chosen,
}
