"""The course of a training: how long it is, how fast it learns, and what came of it so far.

rate(step) = peak · step / warm-up                      over the first twentieth
rate(step) = peak · (1 + cos(π · rest)) / 2             then down to nothing (Loshchilov and Hutter 2017)
"""

import math
from dataclasses import dataclass, field
from typing import Any

WARM_UP = 0.05  #: share of all steps
POINTS = 20  #: of the curve, and looks at what is held out
LOOKED_AT = 1 / 3  #: what a row costs that is only looked at, as a share of one that is learned from
LOOKING = 0.15  #: what all looks may cost, as a share of all learning
FEWEST_LOOKED_AT = 32
PATIENCE = 6  #: looks without a better one, in the second half: a loss that rises while the rate is high means nothing


@dataclass
class Point:
    """One look at the training."""

    step: int
    loss: float | None  #: mean over the steps since the last point
    held_out: float


@dataclass
class Course:
    """`steps` may be cut down on the way, where time runs out, and grow again as far as they were planned."""

    steps: int
    rows: int  #: of one step
    rate: float  #: the largest
    step: int = 0  #: steps taken
    best_step: int = 0
    seconds: float = 0.0
    restarts: int = 0  #: after a loss that was no number
    planned: int | None = None  #: steps, before they were cut down
    points: list[Point] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, values: dict[str, Any]) -> "Course":
        """As `asdict` wrote it."""
        return cls(**values | {"points": [Point(**point) for point in values["points"]]})

    def note(self, note: str) -> None:
        """Say it once, however often the training is gone on with."""
        if note not in self.notes:
            self.notes.append(note)

    def rate_now(self) -> float:
        """Of the next step; half as large after each restart."""
        peak, warm_up = self.rate / 2**self.restarts, max(self.steps * WARM_UP, 1)
        if self.step < warm_up:
            return peak * (self.step + 1) / (warm_up + 1)
        gone = (self.step - warm_up) / max(self.steps - warm_up, 1)
        return peak * (1 + math.cos(math.pi * min(gone, 1.0))) / 2

    def end_at(self, steps: int) -> None:
        """End sooner than planned, or not so soon any more; the rate comes down to nothing all the same."""
        self.planned = self.planned or self.steps
        self.steps = max(min(steps, self.planned), self.step)

    @property
    def looks_every(self) -> int:
        """Steps between two looks at what is held out."""
        return max(self.steps // POINTS, 1)

    @property
    def looked_at(self) -> int:
        """Rows held out that a look sees at most: a short training has less time to spare for it."""
        learned = (self.planned or self.steps) * self.rows
        return max(int(LOOKING * learned / LOOKED_AT / POINTS), FEWEST_LOOKED_AT)

    @property
    def best(self) -> float:
        """The smallest loss on what is held out."""
        return min((point.held_out for point in self.points), default=math.inf)

    @property
    def stands_still(self) -> bool:
        """Whether the last looks found nothing better."""
        late = [point.held_out for point in self.points if point.step > self.steps / 2][-PATIENCE:]
        return len(late) == PATIENCE and self.best < min(late)
