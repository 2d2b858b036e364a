"""Attention as one operator: whole heads leave, with the queries, keys and values that are theirs.

    queries (batch, time, q · d) or (batch, q, time, d)        keys and values the same with k heads, where k divides q
    query head i meets key head i // (q / k)

Where there are several key heads, each leaves with the query heads that meet it; where all queries meet one (k = 1),
query heads leave alone. What is inside of a head stays, for the scale of its products depends on how wide it is.
"""

from collections.abc import Sequence

import numpy as np
import onnx

from engine.graph import attribute
from engine.prune.channels import Ids
from engine.prune.rules.layers import ids_of, whole
from engine.prune.walk import Axes, Reader, Rule, Unfollowed, Walk

HEADS = -3  #: axis of a mask or bias, where it has one


def attention(walk: Walk, node: onnx.NodeProto) -> list[Axes | None]:
    queries, keys, values = (walk.input(node, index) for index in range(3))
    many, few = attribute(node, "q_num_heads", 0), attribute(node, "kv_num_heads", 0)
    query, key, value = (_heads(walk, axes, count) for axes, count in ((queries, many), (keys, few), (values, few)))
    _meet(walk, query, key, value)
    _follow_mask(walk, node, 3, query)
    for index in (4, 5):  # keys and values of the steps before
        past = walk.optional(node, index)
        if past is not None:
            walk.unite(past[1], key)
            walk.freeze(*past[2:])
    made = _made(queries, values, query, len(value))
    present: list[Axes | None] = [
        [keys[0], key, f"{node.output[0]}[past]", *walk.sizes(name, 1)] for name in node.output[1:3]
    ]
    met: Axes = [queries[0], query, *walk.sizes(node.output[3], 2)] if len(node.output) > 3 else []
    return [made, *present, met]


def _heads(walk: Walk, axes: Axes, count: int) -> Ids:
    """One id for each head; nothing else along these axes leaves."""
    place = 1 if len(axes) == 4 else 2
    walk.freeze(*(axis for index, axis in enumerate(axes) if index != place))
    ids = ids_of(axes[place])
    return whole(walk, ids, len(ids) if len(axes) == 4 else count)


def _meet(walk: Walk, query: Ids, key: Ids, value: Ids) -> None:
    walk.unite(key, value)
    if len(query) % len(key):
        raise Unfollowed
    if len(key) > 1:
        walk.unite(np.repeat(key, len(query) // len(key)), query)
    else:
        walk.freeze(key)


def _made(queries: Axes, values: Axes, query: Ids, few: int) -> Axes:
    """Axes of the output: as many heads as queries have, each as wide as those of the values."""
    if len(queries) == 4:
        return [*queries[:3], values[3]]
    return [*queries[:2], np.repeat(query, len(ids_of(values[2])) // few)]


def _follow_mask(walk: Walk, node: onnx.NodeProto, index: int, query: Ids) -> None:
    """What is added to the products of queries and keys, perhaps for each head something else."""
    axes = walk.optional(node, index) or []
    for place, axis in enumerate(axes, start=-len(axes)):
        if place == HEADS and len(ids_of(axis)) == len(query) > 1:
            walk.unite(axis, query)
        else:
            walk.freeze(axis)


# ── ONNX Runtime's own ───────────────────────────────────────────────────────────────────────────────────────────────


def of_many_heads(walk: Walk, node: onnx.NodeProto) -> list[Axes | None]:
    """MultiHeadAttention: three inputs, and one bias for all of them."""
    _refuse(node, range(6, len(node.input)))
    queries, keys, values = (walk.input(node, index) for index in range(3))
    if not len(queries) == len(keys) == len(values) == 3:
        raise Unfollowed
    query, key, value = (_heads(walk, axes, attribute(node, "num_heads", 0)) for axes in (queries, keys, values))
    _meet(walk, query, key, value)
    bias = walk.optional(node, 3)
    if bias is not None:
        walk.unite(bias[0], np.concatenate([ids_of(axes[2]) for axes in (queries, keys, values)]))
    walk.freeze(*(walk.optional(node, 4) or ()))
    _follow_mask(walk, node, 5, query)
    return [_made(queries, values, query, len(value))]


def with_projection(walk: Walk, node: onnx.NodeProto) -> list[Axes | None]:
    """Attention of ONNX Runtime: one weight makes queries, keys and values, side by side."""
    _refuse(node, (4, *range(6, len(node.input))))
    x, weight = walk.input(node, 0), walk.input(node, 1)
    walk.unite(x[2], weight[0])
    parts = np.split(ids_of(weight[1]), ends_of_parts(node, len(ids_of(weight[1]))))
    heads = [whole(walk, part, attribute(node, "num_heads", 0)) for part in parts]
    _meet(walk, *heads)
    bias = walk.optional(node, 2)
    if bias is not None:
        walk.unite(bias[0], weight[1])
    walk.freeze(*(walk.optional(node, 3) or ()))
    _follow_mask(walk, node, 5, heads[0])
    if node.input[1] in walk.weights:
        walk.readers.append(Reader(node, node.input[0], -1, node.input[1], 0))
    else:
        walk.mixed.append((node.input[0], -1))
    return [[x[0], x[1], parts[2]]]


def ends_of_parts(node: onnx.NodeProto, width: int) -> Sequence[int]:
    """Where queries and where keys end."""
    sizes = attribute(node, "qkv_hidden_sizes", None) or [width // 3] * 3
    return np.cumsum(sizes)[:-1].tolist()


def _refuse(node: onnx.NodeProto, inputs: Sequence[int]) -> None:
    """Steps before, which are kept from run to run, are not followed."""
    given = [node.input[index] for index in inputs if index < len(node.input)]
    if any(given) or any(node.output[1:]):
        raise Unfollowed


ATTENTION: dict[str, Rule] = {
    "Attention": attention,
    "com.microsoft.Attention": with_projection,
    "com.microsoft.MultiHeadAttention": of_many_heads,
}
