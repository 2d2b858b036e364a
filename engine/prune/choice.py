"""Which channels leave: so many of each group that what stays is a width that kernels like."""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from math import gcd

import numpy as np
from numpy.typing import NDArray

from engine.prune.channels import Ids
from engine.prune.groups import Group

LEAST_SHARE = 0.25  #: of what a group would keep if all kept the same, that it keeps in any case


def least_important(groups: Sequence[Group], scores: NDArray[np.float64], ratio: float, multiple: int) -> Ids:
    """The same share of each group, the least important ones."""
    kept = [_rounded(len(group) * (1 - ratio), group, multiple) for group in groups]
    return _least(groups, scores, kept)


def ranked(groups: Sequence[Group], scores: NDArray[np.float64], ratio: float, multiple: int) -> Ids:
    """The least important ones of all groups together; from each, some stay."""
    relative = [scores[group.channels] / (scores[group.channels].mean() or 1) for group in groups]
    sizes = [np.full(len(group), group.positions) for group in groups]
    values, widths = np.concatenate(relative), np.concatenate(sizes)
    order = np.argsort(values, kind="stable")
    gone = np.searchsorted(np.cumsum(widths[order]), ratio * widths.sum(), side="right")
    limit = values[order[min(gone, len(order) - 1)]]
    kept = [
        _rounded(max(float((one >= limit).sum()), LEAST_SHARE * len(group) * (1 - ratio)), group, multiple)
        for one, group in zip(relative, groups, strict=True)
    ]
    return _least(groups, scores, kept)


def only_dead(groups: Sequence[Group], dead: AbstractSet[int], multiple: int) -> Ids:
    """Channels that bring nothing, as far as the widths allow it."""
    scores = np.ones(max(int(group.channels.max()) for group in groups) + 1)
    scores[sorted(dead)] = 0
    kept = [_at_least(sum(int(one) not in dead for one in group.channels), group, multiple) for group in groups]
    return _least(groups, scores, kept)


def _least(groups: Sequence[Group], scores: NDArray[np.float64], kept: Sequence[int]) -> Ids:
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
    return min(max(int(wanted / step + 0.5), 1) * step, len(group))


def _at_least(count: int, group: Group, multiple: int) -> int:
    step = unit(group, multiple)
    return min(max(-(-count // step), 1) * step, len(group))
