"""Attention heads that share an axis with the batch get one of their own; the graph computes the same.

    (T, B, h·d) → (T, B·h, d) → transposed → (B, h, T, d)     becomes     (T, B, h, d) → transposed → (B, h, T, d)
    (B, h, T, d) → (B·h, T, d) → transposed → (B, h, d, T)    becomes     (B, h, T, d) → transposed → (B, h, d, T)

So torch spells nn.MultiheadAttention. Along B·h no channel can be followed, since how long B is shows only at run time.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import onnx
from onnx import helper, numpy_helper

from engine.graph import Names, Wiring, attribute, copied, drop_unused, is_standard, replace_list
from engine.prune.walk import Walk, length

Sizes = list[int | str | None]


class Chain(NamedTuple):
    """Two Reshapes with a Transpose between them, which nobody else reads."""

    first: onnx.NodeProto
    turn: onnx.NodeProto
    last: onnx.NodeProto


def has_chains(graph: onnx.GraphProto) -> bool:
    """Whether it may have such heads, as far as a glance can tell."""
    return next(_chains(graph), None) is not None


def with_heads_apart(walk: Walk) -> onnx.ModelProto | None:
    """The graph in plainer words; None where there is nothing to change."""
    shorter = {chain.last.output[0]: made for chain in _chains(walk.model.graph) if (made := _shorter(walk, chain))}
    if not shorter:
        return None
    model = copied(walk.model)
    names = Names.of(model)
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        made = shorter.get(node.output[0]) if node.output else None
        nodes += [node] if made is None else _written(model, names, node.output[0], made)
    replace_list(model.graph.node, nodes)
    drop_unused(model)
    return model


class Shorter(NamedTuple):
    source: str
    shape: list[int] | None  #: that it gets first
    order: list[int]  #: of axes, after that


def _chains(graph: onnx.GraphProto) -> Iterator[Chain]:
    wiring = Wiring.of(graph)
    for last in graph.node:
        turn = wiring.producers.get(last.input[0]) if is_standard(last, "Reshape") else None
        first = wiring.producers.get(turn.input[0]) if turn is not None and is_standard(turn, "Transpose") else None
        if turn is None or first is None or not is_standard(first, "Reshape"):
            continue
        if wiring.uses[first.output[0]] == wiring.uses[turn.output[0]] == 1:
            yield Chain(first, turn, last)


def _shorter(walk: Walk, chain: Chain) -> Shorter | None:
    before, between, after = (
        _sizes(walk, name) for name in (chain.first.input[0], chain.first.output[0], chain.last.output[0])
    )
    order, source = list(attribute(chain.turn, "perm", [])), chain.first.input[0]
    if (len(before), len(between), len(after)) == (3, 3, 4) and order == [1, 0, 2]:
        time, batch, width = before
        heads, size = after[1], after[3]
        if not (isinstance(heads, int) and isinstance(size, int) and heads * size == width):
            return None
        same = between[0] == time and between[2] == size and after[0] == batch and after[2] == time
        return Shorter(source, [0, 0, heads, size], [1, 2, 0, 3]) if same and None not in (time, batch) else None
    if (len(before), len(between), len(after)) == (4, 3, 4) and order == [0, 2, 1]:
        same = between[1:] == before[2:] and after == [before[0], before[1], before[3], before[2]]
        return Shorter(source, None, [0, 1, 3, 2]) if same and None not in before else None
    return None


def _sizes(walk: Walk, name: str) -> Sizes:
    return [length(axis) for axis in walk.axes.get(name) or ()]


def _written(model: onnx.ModelProto, names: Names, output: str, made: Shorter) -> list[onnx.NodeProto]:
    if made.shape is None:
        return [helper.make_node("Transpose", [made.source], [output], perm=made.order)]
    shape, apart = names.fresh(f"{output}_heads"), names.fresh(f"{output}_apart")
    model.graph.initializer.append(numpy_helper.from_array(np.array(made.shape, np.int64), shape))
    return [
        helper.make_node("Reshape", [made.source, shape], [apart]),
        helper.make_node("Transpose", [apart], [output], perm=made.order),
    ]
