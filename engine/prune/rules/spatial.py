"""Operators on images: pooling, resizing, and moving channels into positions and back."""

import numpy as np
import onnx

from engine.graph import attribute
from engine.prune.rules.layers import ids_of, tie
from engine.prune.walk import Axes, Axis, Number, Rule, Unfollowed, Walk, length, stay, value_of

POOLS = ["AveragePool", "MaxPool", "LpPool"]
GLOBAL_POOLS = ["GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"]


def pool(walk: Walk, node: onnx.NodeProto) -> list[Axes | None]:
    if len([name for name in node.output if name]) > 1:
        raise Unfollowed  # positions of maxima count through all channels
    x = walk.input(node, 0)
    walk.freeze(*x[2:])
    return [[x[0], x[1], *walk.sizes(node.output[0], len(x) - 2)]]


def global_pool(walk: Walk, node: onnx.NodeProto) -> list[Axes | None]:
    x = walk.input(node, 0)
    walk.freeze(*x[2:])
    return [[x[0], x[1], *(stay(1) for _ in x[2:])]]


def resize(walk: Walk, node: onnx.NodeProto) -> list[Axes | None]:
    """Axes that keep their length keep their channels."""
    x = walk.input(node, 0)
    for name in node.input[1:]:
        walk.freeze_tensor(name)
    kept = _kept_by_resize(walk, node, x)
    walk.freeze(*(axis for index, axis in enumerate(x) if index not in kept))
    declared = walk.sizes(node.output[0], len(x))
    return [[axis if index in kept else declared[index] for index, axis in enumerate(x)]]


def _kept_by_resize(walk: Walk, node: onnx.NodeProto, x: Axes) -> set[int]:
    factors = walk.constant(node, 1 if node.op_type == "Upsample" else 2)
    axes = attribute(node, "axes", None) or list(range(len(x)))
    axes = [axis % len(x) for axis in axes]
    kept = set(range(len(x))) - set(axes)
    if attribute(node, "coordinate_transformation_mode", b"") == b"tf_crop_and_resize":
        raise Unfollowed
    if factors is not None and factors.size == len(axes):
        return kept | {axis for axis, factor in zip(axes, factors, strict=True) if factor == 1}
    numbers = walk.numbers.get(node.input[3]) if len(node.input) > 3 else None
    if numbers is None or len(numbers) != len(axes):
        raise Unfollowed
    return kept | {axis for axis, number in zip(axes, numbers, strict=True) if _is_length_of(walk, number, x[axis])}


def _is_length_of(walk: Walk, number: Number, axis: Axis) -> bool:
    """Whether a number is the length of this axis; read off another axis, that has to be of the same channels."""
    if isinstance(number, np.ndarray) and isinstance(axis, np.ndarray):
        same = number is axis or np.array_equal(walk.channels.roots(number), walk.channels.roots(axis))
        if not same:
            walk.freeze(number)
        return same or len(number) == len(axis)
    size = length(axis)
    return size is not None and value_of(number) == size


def depth_to_space(walk: Walk, node: onnx.NodeProto) -> list[Axes | None]:
    x, block = walk.input(node, 0), attribute(node, "blocksize", 1)
    ids = ids_of(x[1])
    if attribute(node, "mode", b"DCR") == b"CRD":
        ids = ids.reshape(-1, block * block).T.ravel()
    walk.freeze(*x[2:])
    return [[x[0], tie(walk, ids, block * block), *walk.sizes(node.output[0], 2)]]


def space_to_depth(walk: Walk, node: onnx.NodeProto) -> list[Axes | None]:
    x, block = walk.input(node, 0), attribute(node, "blocksize", 1)
    walk.freeze(*x[2:])
    return [[x[0], np.tile(ids_of(x[1]), block * block), *walk.sizes(node.output[0], 2)]]


def sampled(walk: Walk, node: onnx.NodeProto) -> list[Axes | None]:
    """GridSample, RoiAlign: each channel is sampled for itself, where the other inputs say."""
    x = walk.input(node, 0)
    walk.freeze(*x[2:])
    for name in node.input[1:]:
        walk.freeze_tensor(name)
    declared = walk.sizes(node.output[0], len(x))
    return [[declared[0], x[1], *declared[2:]]]


SPATIAL: dict[str, Rule] = {
    **dict.fromkeys(POOLS, pool),
    **dict.fromkeys(GLOBAL_POOLS, global_pool),
    **dict.fromkeys(("Resize", "Upsample"), resize),
    "DepthToSpace": depth_to_space,
    "GridSample": sampled,
    "RoiAlign": sampled,
    "SpaceToDepth": space_to_depth,
}
