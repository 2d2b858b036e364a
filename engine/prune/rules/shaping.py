"""Operators that give a tensor other axes: the same elements in another order or under other numbers."""

from dataclasses import dataclass

import numpy as np
import onnx

from engine.graph import attribute
from engine.prune.channels import Ids
from engine.prune.rules.normalization import axes_of
from engine.prune.rules.pointwise import broadcast
from engine.prune.walk import Axes, Axis, Number, Rule, Unfollowed, Walk, length, stay, value_of

Size = int | str | None


def transpose(walk: Walk, node: onnx.NodeProto) -> list[Axes | None]:
    x = walk.input(node, 0)
    order = attribute(node, "perm", None) or range(len(x))[::-1]
    return [[x[axis] for axis in order]]


def squeeze(walk: Walk, node: onnx.NodeProto) -> list[Axes | None]:
    x = walk.input(node, 0)
    axes = axes_of(walk, node)
    if axes is None:
        if not all(isinstance(axis, np.ndarray) for axis in x):
            raise Unfollowed
        axes = [index for index, axis in enumerate(x) if length(axis) == 1]
    gone = {axis % len(x) for axis in axes}
    walk.freeze(*(x[axis] for axis in gone))
    return [[axis for index, axis in enumerate(x) if index not in gone]]


def unsqueeze(walk: Walk, node: onnx.NodeProto) -> list[Axes | None]:
    x, axes = walk.input(node, 0), axes_of(walk, node) or []
    rank = len(x) + len(axes)
    new = {axis % rank for axis in axes}
    rest = iter(x)
    return [[stay(1) if index in new else next(rest) for index in range(rank)]]


def expand(walk: Walk, node: onnx.NodeProto) -> list[Axes | None]:
    numbers = walk.numbers.get(node.input[1])
    if numbers is None:
        raise Unfollowed
    x = walk.input(node, 0)
    own: Axes = [*[None] * (len(numbers) - len(x)), *x][-len(numbers) :]
    wanted = [_expanded(axis, number) for axis, number in zip(own, numbers, strict=True)]
    return [broadcast(walk, [x, wanted])]


def _expanded(axis: Axis, number: Number) -> Axis:
    """An axis that is as long already stays what it is."""
    return axis if isinstance(number, int) and number == length(axis) else _axis_of(number)


def filled(walk: Walk, node: onnx.NodeProto) -> list[Axes | None]:
    numbers = walk.numbers.get(node.input[0])
    if numbers is None:
        raise Unfollowed
    walk.freeze_numbers(node.input[0])
    return [[_axis_of(number) for number in numbers]]


def _axis_of(number: Number) -> Axis:
    return stay(number) if isinstance(number, int) else number


def flatten(walk: Walk, node: onnx.NodeProto) -> list[Axes | None]:
    x = walk.input(node, 0)
    cut = attribute(node, "axis", 1)
    cut = cut + len(x) if cut < 0 else cut
    return [[_flat(walk, x[:cut]), _flat(walk, x[cut:])]]


def _flat(walk: Walk, axes: Axes) -> Axis:
    if len(axes) == 1:
        return axes[0]
    known = [axis for axis in axes if isinstance(axis, np.ndarray)]
    if len(known) < len(axes):
        walk.freeze(*known)
        return None
    return merged(walk, known)


def merged(walk: Walk, axes: list[Ids]) -> Ids:
    """Several axes as one. Only one of them can carry channels; the others have to stay."""
    carrying = [index for index, axis in enumerate(axes) if not walk.is_frozen(axis)]
    carrier = max(carrying, key=lambda index: len(axes[index]), default=0)
    walk.freeze(*(axes[index] for index in carrying if index != carrier))
    shape = [len(axis) for axis in axes]
    own = [len(axes[carrier]) if index == carrier else 1 for index in range(len(axes))]
    return np.broadcast_to((axes[carrier] if axes else stay(1)).reshape(own), shape).ravel()


# ── reshape ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Piece:
    """Axes of the input that become axes of the output; `sound` where both hold the same number of elements."""

    before: slice
    after: slice
    sound: bool


def reshape(walk: Walk, node: onnx.NodeProto) -> list[Axes | None]:
    x = walk.input(node, 0)
    wanted = walk.numbers.get(node.input[1])
    if wanted is None:
        raise Unfollowed
    before = [length(axis) for axis in x]
    sizes = resolved(before, wanted, copies_zero=not attribute(node, "allowzero", 0))
    after: list[Size] = [f"{node.output[0]}[{axis}]" if size is None else size for axis, size in enumerate(sizes)]
    out: Axes = []
    for piece in pieces(before, after):
        out += _piece(walk, node, x[piece.before], after[piece.after], sound=piece.sound)
    if not can_be_written(x, out):
        walk.freeze(*x, *out)
    return [out]


def resolved(before: list[Size], wanted: list[Number], *, copies_zero: bool) -> list[Size]:
    """The shape that comes out: zeros are copied, and what -1 stands for is what the others leave."""
    sizes: list[Size] = [value_of(number) for number in wanted]
    if copies_zero:
        sizes = [before[index] if size == 0 else size for index, size in enumerate(sizes)]
    if -1 not in sizes:
        return sizes
    place, left = sizes.index(-1), list(before)
    product = 1
    for size in sizes[:place] + sizes[place + 1 :]:
        if isinstance(size, int):
            product *= size
        elif size in left:
            left.remove(size)
        else:
            return [None if size == -1 else size for size in sizes]
    numbers = int(np.prod([size for size in left if isinstance(size, int)]))
    symbols = [size for size in left if not isinstance(size, int)]
    if not symbols and product and numbers % product == 0:
        sizes[place] = numbers // product
    else:
        sizes[place] = symbols[0] if len(symbols) == 1 and numbers == product else None
    return sizes


def pieces(before: list[Size], after: list[Size]) -> list[Piece]:
    """Matches axes from the left, then from the right; what is left in the middle is not sound."""
    left = _matched(before, after)
    start, begin = (left[-1][0].stop, left[-1][1].stop) if left else (0, 0)
    rest, remaining = before[start:], after[begin:]
    right = _matched(rest[::-1], remaining[::-1])
    found = [Piece(*both, sound=True) for both in left]
    end, finish = len(before), len(after)
    tail = []
    for one, other in right:
        tail.append(
            Piece(slice(end - one.stop, end - one.start), slice(finish - other.stop, finish - other.start), sound=True)
        )
    stop = tail[-1].before.start if tail else end
    halt = tail[-1].after.start if tail else finish
    if start < stop or begin < halt:
        found.append(Piece(slice(start, stop), slice(begin, halt), sound=False))
    return found + tail[::-1]


def _matched(before: list[Size], after: list[Size]) -> list[tuple[slice, slice]]:
    """Shortest runs of axes with equal products, from the front on, as far as sizes are known."""
    found: list[tuple[slice, slice]] = []
    i = j = 0
    while i < len(before) or j < len(after):
        first = _first_match(before[i:], after[j:])
        if first is None:
            break
        found.append((slice(i, i + first[0]), slice(j, j + first[1])))
        i, j = i + first[0], j + first[1]
    return found


def _first_match(before: list[Size], after: list[Size]) -> tuple[int, int] | None:
    """How many axes of each side hold the same number of elements; None where that cannot be told."""
    if before and after and before[0] is not None and before[0] == after[0]:
        return 1, 1
    for sizes, match in ((before, (1, 0)), (after, (0, 1))):
        if sizes and sizes[0] == 1:
            return match
    taken, given, many, few = 0, 0, 1, 1
    while not taken or not given or many != few:
        behind = taken == 0 or (given > 0 and many < few)
        sizes, index = (before, taken) if behind else (after, given)
        size = sizes[index] if index < len(sizes) else None
        if not isinstance(size, int):
            return None
        if behind:
            taken, many = taken + 1, many * size
        else:
            given, few = given + 1, few * size
    return taken, given


def _piece(walk: Walk, node: onnx.NodeProto, axes: Axes, sizes: list[Size], *, sound: bool) -> Axes:
    known = [axis for axis in axes if isinstance(axis, np.ndarray)]
    if len(axes) == len(sizes) == 1 and sound:
        return list(axes)
    if not sound or not sizes:
        walk.freeze(*known)
        return [stay(size) if isinstance(size, int) else size for size in sizes]
    return _parted(walk, node, merged(walk, known), [size for size in sizes if isinstance(size, int)])


def _parted(walk: Walk, node: onnx.NodeProto, ids: Ids, sizes: list[int]) -> Axes:
    """One axis as several. One of them carries the channels; positions along the others are tied."""
    table = walk.channels.roots(ids).reshape(sizes)
    options = [index for index, size in enumerate(sizes) if size > 1]
    plain = [index for index in options if _depends_only_on(table, index)]
    if not table.any() or not options:
        walk.freeze(ids)
        return [stay(size) for size in sizes]
    if not plain:
        walk.open_choices[node.output[0]] = (ids, len(options))
    chosen = plain[0] if plain else options[walk.choices.get(node.output[0], 0) % len(options)]
    columns = np.moveaxis(ids.reshape(sizes), chosen, 0).reshape(sizes[chosen], -1)
    for column in columns.T[1:]:
        walk.unite(columns[:, 0], column)
    return [columns[:, 0] if index == chosen else stay(size) for index, size in enumerate(sizes)]


def _depends_only_on(table: Ids, axis: int) -> bool:
    rows = np.moveaxis(table, axis, 0).reshape(table.shape[axis], -1)
    return bool((rows == rows[:, :1]).all())


def can_be_written(before: Axes, after: Axes) -> bool:
    """Whether the new shape can be a constant: of what is not known, all but one are copied from the input."""
    return shape_constant(before, [length(axis) for axis in after]) is not None


def shape_constant(before: Axes, sizes: list[Size]) -> list[int] | None:
    """The constant that gives these sizes: 0 copies the axis in the same place, -1 is what the others leave."""
    written = []
    for index, size in enumerate(sizes):
        if isinstance(size, int):
            written.append(size)
            continue
        same = index < len(before) and size is not None and length(before[index]) == size
        written.append(0 if same else -1)
    return written if written.count(-1) <= 1 and 0 not in sizes else None


SHAPING: dict[str, Rule] = {
    "ConstantOfShape": filled,
    "Expand": expand,
    "Flatten": flatten,
    "Reshape": reshape,
    "Squeeze": squeeze,
    "Transpose": transpose,
    "Unsqueeze": unsqueeze,
}
