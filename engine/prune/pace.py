"""The run time of a network at any widths, learned from a few narrower networks that were timed whole.

    time(w) / time(original) ≈ rest + Σ over nodes  share_n · work_n(w) / work_n(original)

Shares start as the multiply-accumulates of a node say, and move as far as the measured times ask for (least squares
without negative shares). Whole networks are timed, not layers cut out of them, since fusion and the layout of blocks
cross the borders of layers. What is chosen by this is timed as well, and learned from until it fits.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from engine.prune.choice import unit
from engine.prune.groups import Group
from engine.prune.work import Kept, NodeWork, Work, changed

MACS_PER_ELEMENT = 8  #: that take about as long as writing one element
REST = 0.02  #: share of time that is taken for no node's, at first
NOISE = 0.01  #: of a measured share of time
MOST_ALONE = 12  #: groups that are timed alone
MOST_DOUBT = 0.1  #: of the time of the original beside itself
TOLERANCE, ROUNDS = 0.03, 4  #: how near to what is allowed, and how often it is tried

Timed = list[tuple[Kept, float]]  #: widths, and the measured share of the original's time


@dataclass(frozen=True)
class Pace:
    """Shares of the original's time, by node."""

    work: Work
    shares: Sequence[float]
    rest: float

    @classmethod
    def learned(cls, work: Work, timed: Timed) -> "Pace":
        from scipy.optimize import nnls  # takes a second, and inspection needs none of it

        full = np.array([_effort(node, work.whole) for node in work.nodes])
        guess = np.append(full / max(full.sum(), 1) * (1 - REST), REST) + np.finfo(float).tiny
        narrow = [[_effort(node, kept) for node in work.nodes] for kept, _ in timed]
        seen = np.hstack([np.reshape(narrow, (-1, len(full))) / np.maximum(full, 1), np.ones((len(timed), 1))])
        rows = np.vstack([seen / NOISE * guess, np.eye(len(guess))])  # in units of the guess
        wanted = np.concatenate([[share / NOISE for _, share in timed], np.ones(len(guess))])
        shares = nnls(rows, wanted)[0] * guess
        return cls(work, (shares[:-1] / np.maximum(full, 1)).tolist(), float(shares[-1]))

    def at(self, kept: Kept) -> float:
        """Share of the original's time."""
        efforts = (_effort(node, kept) for node in self.work.nodes)
        return self.rest + sum(share * effort for share, effort in zip(self.shares, efforts, strict=True))

    def saved(self, kept: Kept, group: int, count: int) -> float:
        """By narrowing one group from there to so many channels."""
        narrower = changed(kept, group, count)
        return sum(
            share * (_effort(node, kept) - _effort(node, narrower))
            for share, node in zip(self.shares, self.work.nodes, strict=True)
            if group in node.groups
        )


def _effort(node: NodeWork, kept: Kept) -> int:
    return node.at(kept) * (1 if node.multiplies else MACS_PER_ELEMENT)


def samples_of_pace(work: Work, found: Sequence[Group], multiple: int) -> list[Kept]:
    """Networks to time: the original, all groups halved and quartered, and those that cost most halved alone."""
    whole, half, quarter = ([_part(group, share, multiple) for group in found] for share in (1, 0.5, 0.25))
    savings = [work.saved(work.whole, index, count) for index, count in enumerate(half)]
    costly = np.argsort(savings)[::-1][:MOST_ALONE].tolist()
    alone = [changed(tuple(whole), index, half[index]) for index in costly]
    return list(dict.fromkeys([tuple(whole), tuple(half), tuple(quarter), *alone]))


def _part(group: Group, share: float, multiple: int) -> int:
    step = unit(group, multiple)
    return len(group) if share == 1 else max(round(len(group) * share / step), 1) * step


def believable(networks: Sequence[Kept], shares: Sequence[float]) -> Timed:
    """Networks with their measured shares of time; none where the first one, the original, took another time than 1.

    Then the machine was too busy to tell, or an earlier step has changed the pace of the whole.
    """
    if abs(shares[0] - 1) > MOST_DOUBT:
        return []
    return [(kept, share) for kept, share in zip(networks, shares, strict=True) if 0 < share < 1 + MOST_DOUBT]


def paced(
    choose: Callable[[Pace, float], Kept], timed: Timed, work: Work, time: Callable[[Kept], float], share: float
) -> Kept:
    """Widths that take no more than this share of the original's time, as measured; the nearest where none does.

    `choose` gives widths for a pace and a share of time. What a pace was wrong by at the last ones, it is wrong by near
    them too.
    """
    tried: list[tuple[bool, float, Kept]] = []
    for _ in range(ROUNDS):
        pace = Pace.learned(work, timed)
        kept = choose(pace, share - (tried[-1][1] - pace.at(tried[-1][2]) if tried else 0))
        if any(kept == before for _, _, before in tried):
            break
        measured = time(kept)
        timed.append((kept, measured))
        tried.append((measured > share * (1 + TOLERANCE), measured, kept))
        if abs(measured - share) <= TOLERANCE * share:
            break
    return min(tried, key=lambda one: (one[0], abs(one[1] - share)))[2]
