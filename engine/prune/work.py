"""What a graph costs at any widths of its groups, without making it.

    length of an axis = what stays anyway + Σ over groups  positions of a channel · channels kept
    work of a node    = its multiply-accumulates; of nodes without any, the elements that they write

Both are products of lengths, so that the work of a node changes with what it reads and with what it makes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import prod

import numpy as np
import onnx
from numpy.typing import NDArray

from engine.graph import tensor_types
from engine.measure.complexity import Sizes, infer_shapes
from engine.measure.macs import COUNTERS, macs_of
from engine.prune.groups import Group
from engine.prune.walk import Walk

Kept = tuple[int, ...]  #: how many channels of each group stay


def changed(kept: Kept, group: int, count: int) -> Kept:
    """The same with another width of one group."""
    return (*kept[:group], count, *kept[group + 1 :])


@dataclass(frozen=True)
class Shape:
    """The shape of a tensor at any widths."""

    fixed: NDArray[np.float64]  #: (axes,) positions that stay anyway
    positions: NDArray[np.float64]  #: (axes, groups) of one channel

    def at(self, kept: Sequence[int]) -> tuple[int, ...]:
        lengths = self.fixed + self.positions @ np.asarray(kept)
        return tuple(lengths.round().astype(int).tolist())


@dataclass
class NodeWork:
    """One node, and what it costs at the widths of the groups that it touches."""

    node: onnx.NodeProto
    shapes: Mapping[str, Shape]
    groups: tuple[int, ...]  #: that it touches
    _known: dict[Kept, int] = field(default_factory=dict)

    @property
    def multiplies(self) -> bool:
        return self.node.op_type in COUNTERS

    def at(self, kept: Sequence[int]) -> int:
        """Multiply-accumulates, or elements written."""
        key = tuple(kept[group] for group in self.groups)
        if key not in self._known:
            shapes = {name: shape.at(kept) for name, shape in self.shapes.items()}
            self._known[key] = (macs_of(self.node, shapes) or 0) if self.multiplies else self._written(shapes)
        return self._known[key]

    def _written(self, shapes: Mapping[str, tuple[int, ...]]) -> int:
        return sum(prod(shapes[name]) for name in self.node.output if name in shapes)


@dataclass
class Work:
    """All nodes of the main graph, at any widths."""

    walk: Walk
    found: Sequence[Group]
    batch: int = 1
    sizes: Sizes = field(default_factory=dict)  #: of the inputs, where dimensions may vary

    @cached_property
    def nodes(self) -> list[NodeWork]:
        inferred = infer_shapes(self.walk.model, self.batch, self.sizes).graph
        self._known = {name: known.shape for name, known in tensor_types(inferred).items()}
        roots = self.walk.channels.all_roots()
        of_channel = np.full(len(roots), len(self.found))  # the last column counts what stays anyway
        for index, group in enumerate(self.found):
            of_channel[group.channels] = index
        self._group_of = of_channel[roots]
        self._shapes: dict[str, Shape | None] = {}
        return [self._node(node) for node in self.walk.model.graph.node]

    @property
    def whole(self) -> Kept:
        """Nothing has left."""
        return tuple(map(len, self.found))

    @cached_property
    def touching(self) -> list[list[NodeWork]]:
        """The nodes that multiply with channels of each group."""
        return [
            [node for node in self.nodes if node.multiplies and index in node.groups]
            for index in range(len(self.found))
        ]

    def at(self, kept: Kept) -> int:
        """Multiply-accumulates of the whole."""
        return sum(node.at(kept) for node in self.nodes if node.multiplies)

    def saved(self, kept: Kept, group: int, count: int) -> int:
        """Multiply-accumulates that go when this group is narrowed to so many channels."""
        narrower = changed(kept, group, count)
        return sum(node.at(kept) - node.at(narrower) for node in self.touching[group])

    def _node(self, node: onnx.NodeProto) -> NodeWork:
        names = [name for name in (*node.input, *node.output) if name]
        shapes = {name: shape for name in names if (shape := self._shape(name)) is not None}
        touched = {int(group) for shape in shapes.values() for group in np.flatnonzero(shape.positions.any(0))}
        return NodeWork(node, shapes, tuple(sorted(touched)))

    def _shape(self, name: str) -> Shape | None:
        if name not in self._shapes:
            known = self._known.get(name)
            fits = known is not None and all(isinstance(size, int) for size in known)
            self._shapes[name] = self._followed(name) if fits else None
        return self._shapes[name]

    def _followed(self, name: str) -> Shape:
        sizes = self._known[name] or ()
        axes = self.walk.axes.get(name) or [None] * len(sizes)
        counts = np.zeros((len(sizes), len(self.found) + 1))
        for index, (size, axis) in enumerate(zip(sizes, axes, strict=True)):
            if isinstance(axis, np.ndarray):
                counts[index] = np.bincount(self._group_of[axis], minlength=counts.shape[1])
            else:
                counts[index, -1] = size
        return Shape(counts[:, -1], counts[:, :-1] / np.array([max(len(group), 1) for group in self.found]))
