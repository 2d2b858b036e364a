"""Widths for a target: a share of the original's run time, or of its multiply-accumulates."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from engine.graph import save
from engine.measure.complexity import Sizes
from engine.prune.basis import Basis
from engine.prune.budget import Allotment
from engine.prune.choice import least
from engine.prune.harm import Harm, harms
from engine.prune.importance import Scores
from engine.prune.pace import Pace, believable, paced, samples_of_pace
from engine.prune.surgery import without
from engine.prune.work import Kept, Work
from engine.surroundings import Tell

if TYPE_CHECKING:
    from engine.measure.glimpse import Glimpse


@dataclass(frozen=True)
class Narrowing:
    """In what order channels leave, and what the samples look like."""

    basis: Basis
    scores: Scores
    multiple: int
    sizes: Sizes
    tell: Tell

    @cached_property
    def work(self) -> Work:
        return Work(self.basis.walk, self.basis.found, sizes=self.sizes)

    @cached_property
    def harms(self) -> list[Harm]:
        return harms(self.basis, self.scores, self.multiple, self.tell)

    def for_macs(self, share: float, original_macs: int | None) -> Kept:
        """So that no more than this share of the original's multiply-accumulates is left."""
        allowed = share * (original_macs or self.work.at(self.work.whole))
        return Allotment(self.basis.found, self.harms, self.work, allowed, self.multiple).widths()

    def for_time(self, share: float, glimpse: "Glimpse") -> Kept:
        """So that it takes no more than this share of the original's run time on the target."""

        def choose(pace: Pace, allowed: float) -> Kept:
            return Allotment(self.basis.found, self.harms, pace, allowed, self.multiple).widths()

        def time(some: Sequence[Kept]) -> list[float]:
            paths = [self._saved(kept, glimpse.folder) for kept in some]
            times = [1 / speedup if speedup else math.inf for speedup in glimpse.times(paths)]
            for path in set(paths):
                path.unlink()
            return times

        networks = samples_of_pace(self.work, self.basis.found, self.multiple)
        timed = believable(networks, time(networks))
        return paced(choose, timed, self.work, lambda kept: time([kept])[0], share)

    def _saved(self, kept: Kept, folder: Path) -> Path:
        name = hashlib.sha256(repr(kept).encode()).hexdigest()[:16]
        return save(
            without(self.basis.walk, least(self.basis.found, self.scores, kept)), folder / f"narrower-{name}.onnx"
        )
