"""The budget of a job: what is left of it, and what the end of the job will need."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Clock:
    """`reserve_seconds` are kept for the final measurement, without which nothing can be promised."""

    seconds: float
    now: Callable[[], float] = time.monotonic
    reserve_seconds: float = 0.0
    started: float = field(init=False)

    def __post_init__(self) -> None:
        self.started = self.now()

    @property
    def elapsed_seconds(self) -> float:
        return self.now() - self.started

    @property
    def left_seconds(self) -> float:
        """What may still be spent on trials."""
        return self.seconds - self.elapsed_seconds - self.reserve_seconds

    def allows(self, seconds: float) -> bool:
        return seconds <= self.left_seconds
