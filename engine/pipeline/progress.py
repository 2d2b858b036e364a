"""How far a job is, and how long it still needs: by what its parts cost so far, never backwards."""

from collections.abc import Callable
from dataclasses import dataclass, field

from engine.pipeline.clock import Clock
from engine.protocol import Progress

LAST = 0.99  #: until the job has ended


@dataclass
class Gauge:
    clock: Clock
    tell: Callable[[Progress], None]
    expected_seconds: float = field(default=30.0, init=False)  #: of the whole job
    fraction: float = field(default=0.0, init=False)

    def expect(self, more_seconds: float) -> None:
        """So much is still to come, the final measurement included."""
        self.expected_seconds = self.clock.elapsed_seconds + more_seconds
        self.move()

    def move(self) -> None:
        elapsed = self.clock.elapsed_seconds
        left = min(max(self.expected_seconds - elapsed, 0.0), max(self.clock.seconds - elapsed, 0.0))
        self.fraction = min(max(self.fraction, elapsed / max(elapsed + left, 1e-9)), LAST)
        self.tell(Progress(fraction=round(self.fraction, 4), eta_seconds=round(left, 1)))
