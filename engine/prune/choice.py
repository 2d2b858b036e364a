"""Which channels leave: so many of each group that what stays is a width that kernels like."""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from math import gcd

import numpy as np
from numpy.typing import NDArray

from engine.prune.channels import Ids
from engine.prune.groups import Group


def widths(groups: Sequence[Group], ratio: float, multiple: int) -> list[int]:
    """How many channels of each group stay when the same share of each leaves."""
    return [_rounded(len(group) * (1 - ratio), group, multiple) for group in groups]


def only_dead(groups: Sequence[Group], dead: AbstractSet[int], multiple: int) -> Ids:
    """Channels that bring nothing, as far as the widths allow it."""
    scores = np.ones(max(int(group.channels.max()) for group in groups) + 1)
    scores[sorted(dead)] = 0
    kept = [_at_least(sum(int(one) not in dead for one in group.channels), group, multiple) for group in groups]
    return least(groups, scores, kept)


def least(groups: Sequence[Group], scores: NDArray[np.float64], kept: Sequence[int]) -> Ids:
    """The channels with the lowest scores; so many of each group stay."""
    removed = [
        group.channels[np.argsort(scores[group.channels], kind="stable")][: len(group) - count]
        for group, count in zip(groups, kept, strict=True)
    ]
    return np.concatenate(removed)


def unit(group: Group, multiple: int) -> int:
    """Channels that stay or leave together, so that the width is a multiple; fewer where the group is small."""
    step = multiple // gcd(multiple, group.positions)
    while step > 1 and 2 * step > len(group):
        step //= 2
    return step


def _rounded(wanted: float, group: Group, multiple: int) -> int:
    step = unit(group, multiple)
    return min(max(int(wanted / step + 0.5), 1) * step, len(group))  # a half stays


def _at_least(count: int, group: Group, multiple: int) -> int:
    step = unit(group, multiple)
    return min(max(-(-count // step), 1) * step, len(group))
