"""Sequences, which are lists of tensors, and optionals, of which an empty one is None."""

from typing import Any

import torch
from torch import Tensor

from engine.differentiable.registry import Compute, Node, given, operator


@operator("SequenceEmpty")
def empty(_node: Node) -> Compute:
    return list


@operator("SequenceConstruct")
def construct(_node: Node) -> Compute:
    return lambda *values: list(values)


@operator("SequenceInsert", host=(2,))
def insert(_node: Node) -> Compute:
    """Before a position; at the end where none is given."""

    def compute(values: list[Any], value: Any, position: Tensor | None = None) -> list[Any]:
        place = len(values) if position is None else int(position) % (len(values) + (int(position) >= 0) or 1)
        return [*values[:place], value, *values[place:]]

    return compute


@operator("SequenceErase", host=(1,))
def erase(_node: Node) -> Compute:
    def compute(values: list[Any], position: Tensor | None = None) -> list[Any]:
        place = (-1 if position is None else int(position)) % len(values)
        return [*values[:place], *values[place + 1 :]]

    return compute


@operator("SequenceAt", host=(1,))
def at(_node: Node) -> Compute:
    return lambda values, position: values[int(position)]


@operator("SequenceLength")
def length(_node: Node) -> Compute:
    return lambda values: torch.tensor(len(values), dtype=torch.int64)


@operator("SplitToSequence", host=(1,))
def split(node: Node) -> Compute:
    """Into pieces of given sizes or of one size; where none is given into slices, on request without the axis."""
    axis, keeps = node.attribute("axis", 0), node.attribute("keepdims", 1)
    fixed = node.listed("split", 1)
    scalar = node.shape(1) == ()

    def compute(x: Tensor, sizes: Tensor | None = None) -> list[Tensor]:
        chosen = given(fixed, sizes)
        if chosen is None:
            pieces = torch.split(x, 1, axis)
            return list(pieces) if keeps else [piece.squeeze(axis) for piece in pieces]
        one = scalar or (sizes is not None and sizes.dim() == 0)
        return list(torch.split(x, chosen[0] if one else chosen, axis))

    return compute


@operator("ConcatFromSequence")
def concatenate(node: Node) -> Compute:
    axis, stacks = node.attribute("axis"), node.attribute("new_axis", 0)
    return lambda values: torch.stack(values, axis) if stacks else torch.cat(values, axis)


@operator("SequenceMap")
def map_each(node: Node) -> Compute:
    """The body on each tensor of a sequence; further inputs are walked along where they are sequences."""
    body = node.body("body")
    explicit = len(node.inputs)

    def compute(*values: Any) -> Any:
        inputs, outer = values[:explicit], values[explicit:]
        count = len(inputs[0])
        rows = [body([each[n] if isinstance(each, list) else each for each in inputs], outer) for n in range(count)]
        columns = [[row[n] for row in rows] for n in range(len(node.outputs))]
        return columns[0] if len(columns) == 1 else tuple(columns)

    return compute


@operator("Optional")
def optional(_node: Node) -> Compute:
    return lambda value=None: value


@operator("OptionalGetElement")
def get_element(_node: Node) -> Compute:
    return lambda value: value


@operator("OptionalHasElement")
def has_element(_node: Node) -> Compute:
    return lambda value=None: torch.tensor(value is not None)
