"""How far a job is, and how long it still needs: by what its parts cost so far, never backwards."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from engine.pipeline.clock import Clock
from engine.protocol import Progress

LAST = 0.99  #: until the job has ended
BEAT_SECONDS = 2.0


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

    @contextmanager
    def beating(self, every_seconds: float = BEAT_SECONDS) -> Iterator[None]:
        """Move on through long stages as well, from a thread of its own."""
        ended = threading.Event()

        def beat() -> None:
            while not ended.wait(every_seconds):
                self.move()

        thread = threading.Thread(target=beat, name="progress", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
