"""Norms, softmax and reductions. What is averaged over stays, for an average over fewer channels is another one."""

import numpy as np
import onnx

from engine.graph import attribute
from engine.prune.rules.layers import ids_of, whole
from engine.prune.walk import Axes, Rule, Unfollowed, Walk, length, stay

REDUCTIONS = (
    "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd",
    "ReduceSum", "ReduceSumSquare",
)  # fmt: skip


def batch_normalization(walk: Walk, node: onnx.NodeProto) -> list[Axes | None]:
    """Scale, shift, mean and variance belong to the channels."""
    if len([name for name in node.output if name]) > 1:
        raise Unfollowed
    x = walk.input(node, 0)
    for index in range(1, len(node.input)):
        walk.unite(x[1], walk.input(node, index)[0])
    return [list(x)]


def instance_normalization(walk: Walk, node: onnx.NodeProto) -> list[Axes | None]:
    """Averages over positions, each channel for itself."""
    walk.freeze(*walk.input(node, 0)[2:])
    return batch_normalization(walk, node)


def group_normalization(walk: Walk, node: onnx.NodeProto) -> list[Axes | None]:
    """Averages over the channels of each group, so that only whole groups leave."""
    x, scale, shift = (walk.input(node, index) for index in range(3))
    walk.freeze(*x[2:])
    groups = whole(walk, ids_of(x[1]), attribute(node, "num_groups", 0))
    for weight in (scale, shift):  # one number for each group, or from opset 21 on for each channel
        walk.unite(weight[0], groups if length(weight[0]) == len(groups) else x[1])
    return [list(x)]


def layer_normalization(walk: Walk, node: onnx.NodeProto) -> list[Axes | None]:
    """Averages over all axes from one on."""
    x = walk.input(node, 0)
    first = attribute(node, "axis", -1)
    walk.freeze(*x[first:])
    for index in (1, 2):
        walk.freeze(*(walk.optional(node, index) or ()))
    if len([name for name in node.output if name]) > 1:
        raise Unfollowed
    return [list(x)]


def along_axis(default: int) -> Rule:
    """Softmax and its like, LpNormalization, CumSum: positions along one axis meet each other."""

    def rule(walk: Walk, node: onnx.NodeProto) -> list[Axes | None]:
        x = walk.input(node, 0)
        walk.freeze(x[attribute(node, "axis", default)])
        return [list(x)]

    return rule


def local_response(walk: Walk, node: onnx.NodeProto) -> list[Axes | None]:
    x = walk.input(node, 0)
    walk.freeze(x[1])
    return [list(x)]


def reduction(walk: Walk, node: onnx.NodeProto) -> list[Axes | None]:
    x = walk.input(node, 0)
    axes = axes_of(walk, node)
    if axes is None and attribute(node, "noop_with_empty_axes", 0):
        return [list(x)]
    return [_without(walk, x, set(range(len(x))) if axes is None else {axis % len(x) for axis in axes}, node)]


def selection(walk: Walk, node: onnx.NodeProto) -> list[Axes | None]:
    """ArgMax and ArgMin: which position it is depends on all of them."""
    x = walk.input(node, 0)
    return [_without(walk, x, {attribute(node, "axis", 0) % len(x)}, node)]


def _without(walk: Walk, x: Axes, gone: set[int], node: onnx.NodeProto) -> Axes:
    walk.freeze(*(x[axis] for axis in gone))
    if attribute(node, "keepdims", 1):
        return [stay(1) if index in gone else axis for index, axis in enumerate(x)]
    return [axis for index, axis in enumerate(x) if index not in gone]


def axes_of(walk: Walk, node: onnx.NodeProto) -> list[int] | None:
    """Axes as an attribute or, in later opsets, as an input; None where they are left out."""
    written = attribute(node, "axes", None)
    if written is not None:
        return list(written)
    if len(node.input) < 2 or not node.input[1]:
        return None
    values = walk.constant(node, 1)
    if values is None:
        raise Unfollowed
    return [int(value) for value in np.ravel(values)]


NORMALIZATIONS: dict[str, Rule] = {
    **dict.fromkeys(REDUCTIONS, reduction),
    **dict.fromkeys(("ArgMax", "ArgMin"), selection),
    **dict.fromkeys(("Softmax", "LogSoftmax", "Hardmax", "LpNormalization"), along_axis(-1)),
    "BatchNormalization": batch_normalization,
    "GroupNormalization": group_normalization,
    "InstanceNormalization": instance_normalization,
    "LRN": local_response,
    "LayerNormalization": layer_normalization,
    "RMSNormalization": layer_normalization,
}
