"""Layers with weights: where channels are made and where they are summed up."""

from collections.abc import Callable

import numpy as np
import onnx

from engine.graph import attribute
from engine.prune.channels import Ids
from engine.prune.rules.pointwise import broadcast, together
from engine.prune.walk import Axes, Axis, Key, Reader, Rule, Unfollowed, Walk, length


def ids_of(axis: Axis) -> Ids:
    if not isinstance(axis, np.ndarray):
        raise Unfollowed
    return axis


def tie(walk: Walk, ids: Ids, parts: int) -> Ids:
    """Position i of each part can only leave together, so that all parts stay equally long; the ids of one part."""
    if len(ids) % parts:
        raise Unfollowed
    table = ids.reshape(parts, -1)
    for row in table[1:]:
        walk.unite(table[0], row)
    return table[0]


def whole(walk: Walk, ids: Ids, parts: int) -> Ids:
    """Each part can only leave as a whole; one id for each."""
    if not parts or len(ids) % parts:
        raise Unfollowed
    return tie(walk, ids.reshape(parts, -1).T.ravel(), len(ids) // parts)


def convolution(walk: Walk, node: onnx.NodeProto) -> list[Axes | None]:
    x, weight = walk.input(node, 0), walk.input(node, 1)
    came, made, inside = ids_of(x[1]), ids_of(weight[0]), ids_of(weight[1])
    walk.freeze(*x[2:], *weight[2:])
    groups = attribute(node, "group", 1)
    if groups == 1:
        walk.unite(came, inside)
    elif groups == len(came):  # depthwise: each channel makes its own
        walk.unite(np.repeat(came, len(made) // groups), made)
    else:
        walk.unite(tie(walk, came, groups), inside)
        tie(walk, made, groups)
    _add_bias(walk, node, 2, made)
    if groups == 1 or groups < len(came):
        _add_reader(walk, node, x_axis=1, weight_axis=1, groups=groups)
    return [[x[0], made, *walk.sizes(node.output[0], len(x) - 2)]]


def transposed_convolution(walk: Walk, node: onnx.NodeProto) -> list[Axes | None]:
    x, weight = walk.input(node, 0), walk.input(node, 1)
    came, inside, made = ids_of(x[1]), ids_of(weight[0]), ids_of(weight[1])
    walk.freeze(*x[2:], *weight[2:])
    groups = attribute(node, "group", 1)
    walk.unite(came, inside)
    if groups == len(came) and groups > 1:  # depthwise
        walk.freeze(made)
        made = np.repeat(came, len(made))
    elif groups > 1:
        tie(walk, came, groups)
        made = np.tile(made, groups)
    _add_bias(walk, node, 2, made)
    if groups == 1 or groups < len(came):
        _add_reader(walk, node, x_axis=1, weight_axis=0, groups=groups)
    return [[x[0], made, *walk.sizes(node.output[0], len(x) - 2)]]


def _add_bias(walk: Walk, node: onnx.NodeProto, index: int, made: Ids) -> None:
    bias = walk.optional(node, index)
    if bias is not None:
        walk.unite(bias[0], made)


def _add_reader(walk: Walk, node: onnx.NodeProto, *, x_axis: int, weight_axis: int, groups: int = 1) -> None:
    if node.input[1] not in walk.weights:
        walk.mixed.append((node.input[0], x_axis))
    else:
        walk.readers.append(Reader(node, node.input[0], x_axis, node.input[1], weight_axis, groups))


def _add_product(walk: Walk, node: onnx.NodeProto, left: Key, right: Key) -> None:
    """Channels along an axis of one tensor are summed up with those of another; either may be a weight."""
    for (tensor, axis), (weight, weight_axis) in ((left, right), (right, left)):
        if weight in walk.weights:
            walk.readers.append(Reader(node, tensor, axis, weight, weight_axis))
            return
    walk.mixed.append(left)


def gemm(walk: Walk, node: onnx.NodeProto) -> list[Axes | None]:
    left, right = walk.input(node, 0), walk.input(node, 1)
    rows, came = left[::-1] if attribute(node, "transA", 0) else left
    inside, made = right[::-1] if attribute(node, "transB", 0) else right
    walk.unite(came, inside)
    added = walk.optional(node, 2)
    out = [rows, made]
    if added is not None:
        out = broadcast(walk, [out, added])
    summed = (-2 if attribute(node, "transA", 0) else -1, -1 if attribute(node, "transB", 0) else -2)
    _add_product(walk, node, (node.input[0], summed[0]), (node.input[1], summed[1]))
    return [out]


def product(walk: Walk, node: onnx.NodeProto) -> list[Axes | None]:
    left, right = walk.input(node, 0), walk.input(node, 1)
    if min(len(left), len(right)) < 1:
        raise Unfollowed
    summed = -2 if len(right) > 1 else -1
    walk.unite(left[-1], right[summed])
    batch = broadcast(walk, [left[:-2], right[:-2]])
    _add_product(walk, node, (node.input[0], -1), (node.input[1], summed))
    return [[*batch, *left[-2:-1], *(right[-1:] if len(right) > 1 else [])]]


def recurrent(gates: int) -> Callable[[Walk, onnx.NodeProto], list[Axes | None]]:
    """LSTM, GRU, RNN: all gates and directions share the hidden channels."""

    def rule(walk: Walk, node: onnx.NodeProto) -> list[Axes | None]:
        x, weight, back = (walk.input(node, index) for index in range(3))
        hidden = ids_of(back[2])
        walk.unite(x[2], weight[2])
        walk.unite(weight[1], np.tile(hidden, gates))
        walk.unite(back[1], np.tile(hidden, gates))
        walk.freeze(weight[0], back[0])
        _add_recurrent_readers(walk, node, directions=length(weight[0]))
        for index, repeats in ((3, 2 * gates), (5, 1), (6, 1), (7, 3)):
            given = walk.optional(node, index)
            if given is not None:
                walk.unite(given[-1], np.tile(hidden, repeats))
                walk.freeze(*given[:-1])
        directions = weight[0]
        if attribute(node, "layout", 0):
            state: Axes = [x[0], directions, hidden]
            return [[x[0], x[1], directions, hidden], state, list(state)]
        state = [directions, x[1], hidden]
        return [[x[0], directions, x[1], hidden], state, list(state)]

    return rule


def _add_recurrent_readers(walk: Walk, node: onnx.NodeProto, *, directions: int | str | None) -> None:
    """The layer reads its input, and its own output of the step before; which of two directions is not told apart."""
    if node.input[1] in walk.weights:
        walk.readers.append(Reader(node, node.input[0], 2, node.input[1], 2))
    else:
        walk.mixed.append((node.input[0], 2))
    if node.input[2] in walk.weights and node.output[0] and directions == 1:
        walk.readers.append(Reader(node, node.output[0], -1, node.input[2], 2, of_itself=True))
    else:
        walk.mixed.append((node.input[2], 2))


def einsum(walk: Walk, node: onnx.NodeProto) -> list[Axes | None]:
    equation = attribute(node, "equation", b"").decode().replace(" ", "")
    terms, arrow, result = equation.partition("->")
    if "." in equation or not arrow:
        raise Unfollowed
    columns: dict[str, list[Axis]] = {}
    for index, term in enumerate(terms.split(",")):
        for letter, axis in zip(term, walk.input(node, index), strict=True):
            columns.setdefault(letter, []).append(axis)
    for letter in [letter for letter in columns if letter not in result]:
        _add_summed(walk, node, terms.split(","), letter)
    merged = {letter: together(walk, column) for letter, column in columns.items()}
    walk.freeze(*(merged[letter] for letter, column in columns.items() if letter not in result and len(column) == 1))
    return [[merged[letter] for letter in result]]


def _add_summed(walk: Walk, node: onnx.NodeProto, terms: list[str], letter: str) -> None:
    columns = zip(node.input, terms, strict=True)
    places = [(name, term.index(letter) - len(term)) for name, term in columns if letter in term]
    if len(places) == len(terms) == 2:
        _add_product(walk, node, *places)
    else:
        walk.mixed += places


LAYERS: dict[str, Rule] = {
    "Conv": convolution,
    "ConvTranspose": transposed_convolution,
    "Einsum": einsum,
    "GRU": recurrent(3),
    "Gemm": gemm,
    "LSTM": recurrent(4),
    "MatMul": product,
    "RNN": recurrent(1),
}
