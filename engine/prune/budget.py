"""Widths of groups, unevenly, so that the whole costs no more than is allowed and its outputs change least.

From the full widths on, again and again the narrowing goes through that does least harm for what it saves. What a layer
costs depends on what it reads and on what it makes, so savings are counted anew after each one.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from engine.prune.choice import unit
from engine.prune.groups import Group
from engine.prune.harm import Harm
from engine.prune.work import Kept, changed

STRIDES = (1, 2, 4)  #: units that leave in one go; one alone may save nothing on its way to two that do


class Cost(Protocol):
    """Of a network at any widths, in whatever it is that is scarce."""

    def at(self, kept: Kept) -> float:
        """The whole."""
        ...

    def saved(self, kept: Kept, group: int, count: int) -> float:
        """By narrowing one group from there to so many channels."""
        ...


@dataclass(frozen=True)
class Allotment:
    found: Sequence[Group]
    harms: Sequence[Harm]
    cost: Cost
    allowed: float
    multiple: int

    def widths(self) -> Kept:
        """How many channels of each group stay; more than is allowed costs only what cannot be narrowed further."""
        kept = tuple(map(len, self.found))
        left = self.cost.at(kept)
        while left > self.allowed:
            moves = [move for index in range(len(kept)) for move in self._moves(kept, index)]
            if not moves:
                return kept
            _, saved, index, count = min(moves)
            kept, left = changed(kept, index, count), left - saved
        return self._filled(kept)

    def _moves(self, kept: Kept, index: int) -> Iterator[tuple[float, float, int, int]]:
        """Harm for what is saved, what is saved, and how many channels of this group stay then."""
        step, harm = unit(self.found[index], self.multiple), self.harms[index]
        for stride in STRIDES:
            count = (-(-kept[index] // step) - stride) * step
            saved = self.cost.saved(kept, index, count) if count > 0 else 0
            if saved > 0:
                yield (harm.at(count) - harm.at(kept[index])) / saved, saved, index, count

    def _filled(self, kept: Kept) -> Kept:
        """What the last narrowing saved beyond need is given back where it does most good."""
        while True:
            fitting = [wider for wider in self._wider(kept) if self.cost.at(wider) <= self.allowed]
            if not fitting:
                return kept
            kept = min(fitting, key=self._harm)

    def _wider(self, kept: Kept) -> Iterator[Kept]:
        for index, (group, count) in enumerate(zip(self.found, kept, strict=True)):
            if count < len(group):
                yield changed(kept, index, min(count + unit(group, self.multiple), len(group)))

    def _harm(self, kept: Kept) -> float:
        return sum(harm.at(count) for harm, count in zip(self.harms, kept, strict=True))
