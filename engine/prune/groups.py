"""Which channels can leave, and which of them belong to the same layers."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx

from engine.graph import replace_list
from engine.measure.complexity import inferred, without_large_weights
from engine.prune.channels import FROZEN, Ids
from engine.prune.heads import has_chains, with_heads_apart
from engine.prune.plain import with_own_vectors, with_plain_lengths, without_zero_states
from engine.prune.rules import NUMBERS, RULES
from engine.prune.walk import Walk

FEWEST = 2  #: channels of a group, so that one can leave and one stays

Place = tuple[str, int, int]  #: a weight, its axis, and how many positions there belong to one channel


@dataclass(frozen=True)
class Group:
    """Channels that lie along the same axes of the same weights, so that they differ in values only."""

    channels: Ids
    places: tuple[Place, ...]

    def __len__(self) -> int:
        return len(self.channels)

    @property
    def positions(self) -> int:
        """What one channel adds to the width of the layer that makes it."""
        return min(count for _, _, count in self.places)


def followed(model: onnx.ModelProto) -> Walk:
    """Channels of a graph whose weights are initializers."""
    plain = with_plain_lengths(_walked(with_own_vectors(without_zero_states(model)), {}))
    plain = with_heads_apart(_walked(plain, {})) or plain if has_chains(plain.graph) else plain
    choices: dict[str, int] = {}
    while True:
        walk = _walked(plain, choices)
        blocked = [name for name, (ids, _) in walk.open_choices.items() if _free(walk, ids) < FEWEST]
        others = {name: choices.get(name, 0) + 1 for name in blocked}
        others = {name: choice for name, choice in others.items() if choice < walk.open_choices[name][1]}
        if not others:
            return walk
        choices |= others


def _walked(model: onnx.ModelProto, choices: Mapping[str, int]) -> Walk:
    return Walk(model, shapes_of(model), RULES, NUMBERS, choices).run()


def shapes_of(model: onnx.ModelProto) -> onnx.GraphProto:
    """The graph with shapes that follow from its inputs; what the file declares counts only where nothing follows.

    An exporter's shapes may be older than its inputs: who opens an axis of an input seldom opens it everywhere.
    """
    light = without_large_weights(model)
    declared = list(light.graph.value_info)
    del light.graph.value_info[:]
    shaped = inferred(light)
    known = {value.name for value in shaped.graph.value_info if value.type.tensor_type.HasField("shape")}
    missing = [value for value in declared if value.name not in known]
    if not missing:
        return shaped.graph
    kept = [value for value in shaped.graph.value_info if value.name in known]
    replace_list(shaped.graph.value_info, [*kept, *missing])
    return inferred(shaped).graph


def _free(walk: Walk, ids: Ids) -> int:
    return len(set(walk.channels.roots(ids).tolist()) - {FROZEN})


def groups(walk: Walk) -> list[Group]:
    """All channels that can leave, group by group, in the order of the weights.

    What is taken apart is grouped by its parts, so that something stays of each of them.
    """
    places: dict[int, list[Place]] = defaultdict(list)
    for name in walk.weights:
        for axis, ids in enumerate(walk.axes[name] or ()):
            if isinstance(ids, np.ndarray):
                for channel, count in _counted(walk.channels.roots(ids)):
                    places[channel].append((name, axis, count))
    parts = [set(walk.channels.roots(ids).tolist()) for ids in walk.parts]
    members: dict[tuple[tuple[Place, ...], tuple[int, ...]], list[int]] = defaultdict(list)
    for channel, where in places.items():
        members[tuple(where), tuple(index for index, part in enumerate(parts) if channel in part)].append(channel)
    found = [Group(np.array(channels), where) for (where, _), channels in members.items()]
    return [group for group in found if len(group) >= FEWEST]


def _counted(roots: Ids) -> Iterable[tuple[int, int]]:
    channels, counts = np.unique(roots, return_counts=True)
    return [(int(one), int(count)) for one, count in zip(channels, counts, strict=True) if one != FROZEN]
