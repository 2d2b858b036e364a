"""Operators that put tensors together, take them apart, or pick positions."""

import numpy as np
import onnx

from engine.graph import attribute
from engine.prune.rules.layers import ids_of
from engine.prune.rules.pointwise import together
from engine.prune.walk import Axes, Axis, Rule, Unfollowed, Walk


def concat(walk: Walk, node: onnx.NodeProto) -> list[Axes | None]:
    given = [walk.input(node, index) for index in range(len(node.input))]
    place = attribute(node, "axis", 1) % len(given[0])
    return [
        [_joined(walk, list(column)) if index == place else together(walk, list(column))
         for index, column in enumerate(zip(*given, strict=True))]
    ]  # fmt: skip


def _joined(walk: Walk, column: list[Axis]) -> Axis:
    known = [axis for axis in column if isinstance(axis, np.ndarray)]
    if len(known) < len(column):
        walk.freeze(*known)
        return None
    return np.concatenate(known)


def split(walk: Walk, node: onnx.NodeProto) -> list[Axes | None]:
    x = walk.input(node, 0)
    place = attribute(node, "axis", 0) % len(x)
    ids = ids_of(x[place])
    ends = np.cumsum(split_sizes(walk, node, len(ids)))
    walk.parts += np.split(ids, ends[:-1])
    return [[*x[:place], part, *x[place + 1 :]] for part in np.split(ids, ends[:-1])]


def split_sizes(walk: Walk, node: onnx.NodeProto, size: int) -> list[int]:
    sizes = walk.whole_numbers(node, 1)
    if sizes is not None:
        return sizes
    if len(node.input) > 1 and node.input[1]:
        raise Unfollowed
    part = -(-size // len(node.output))
    return [min(part, size - start) for start in range(0, size, part)]


def slice_(walk: Walk, node: onnx.NodeProto) -> list[Axes | None]:
    out = list(walk.input(node, 0))
    for axis, start, end, step in slices(walk, node, len(out)):
        ids = out[axis]
        if step != 1:
            walk.freeze(ids)
        if isinstance(ids, np.ndarray):
            out[axis] = part = ids[slice(start, end if step > 0 or end >= -len(ids) else None, step)]
            walk.parts.append(part)
        elif (start, step) != (0, 1) or end < np.iinfo(np.int32).max:
            out[axis] = None
    return [out]


def slices(walk: Walk, node: onnx.NodeProto, rank: int) -> list[tuple[int, int, int, int]]:
    """Axis, start, end and step of each axis that is cut."""
    starts, ends = walk.whole_numbers(node, 1), walk.whole_numbers(node, 2)
    if starts is None or ends is None:
        raise Unfollowed
    axes = _or_default(walk, node, 3, list(range(len(starts))))
    steps = _or_default(walk, node, 4, [1] * len(starts))
    columns = zip(axes, starts, ends, steps, strict=True)
    return [(axis % rank, start, end, step) for axis, start, end, step in columns]


def _or_default(walk: Walk, node: onnx.NodeProto, index: int, default: list[int]) -> list[int]:
    if index >= len(node.input) or not node.input[index]:
        return default
    values = walk.whole_numbers(node, index)
    if values is None:
        raise Unfollowed
    return values


def gather(walk: Walk, node: onnx.NodeProto) -> list[Axes | None]:
    """Constant indices pick channels; others may pick any."""
    x, places = walk.input(node, 0), walk.input(node, 1)
    axis = attribute(node, "axis", 0) % len(x)
    indices = walk.constant(node, 1)
    walk.freeze(*places)
    ids = x[axis]
    if indices is not None and indices.ndim == 1 and isinstance(ids, np.ndarray):
        walk.parts.append(ids[indices])
        return [[*x[:axis], ids[indices], *x[axis + 1 :]]]
    walk.freeze(ids)
    return [[*x[:axis], *places, *x[axis + 1 :]]]


def pad(walk: Walk, node: onnx.NodeProto) -> list[Axes | None]:
    """Axes without padding keep their channels."""
    x = walk.input(node, 0)
    amounts, axes = walk.constant(node, 1), list(range(len(x)))
    if len(node.input) > 3 and node.input[3]:
        chosen = walk.constant(node, 3)
        if chosen is None:
            raise Unfollowed
        axes = [int(axis) % len(x) for axis in chosen]
    if amounts is None:
        raise Unfollowed
    padded = {axis for axis, both in zip(axes, np.reshape(amounts, (2, -1)).T, strict=True) if both.any()}
    return [_changed(walk, node, x, padded)]


def tile(walk: Walk, node: onnx.NodeProto) -> list[Axes | None]:
    x, repeats = walk.input(node, 0), walk.constant(node, 1)
    if repeats is None:
        raise Unfollowed
    return [_changed(walk, node, x, {axis for axis, count in enumerate(repeats) if count != 1})]


def _changed(walk: Walk, node: onnx.NodeProto, x: Axes, changed: set[int]) -> Axes:
    walk.freeze(*(x[axis] for axis in changed))
    declared = walk.sizes(node.output[0], len(x))
    return [declared[index] if index in changed else axis for index, axis in enumerate(x)]


PARTS: dict[str, Rule] = {
    "Concat": concat,
    "Gather": gather,
    "Pad": pad,
    "Slice": slice_,
    "Split": split,
    "Tile": tile,
}
