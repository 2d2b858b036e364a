"""Where a piece of work is done, and whom it tells."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from engine.events import Emit
from engine.measure.lock import HostLock

Tell = Callable[[float, str], None]  #: of a long work: seconds left, and a word on how it goes


def never_pause() -> None:
    """For callers who share the machine with nobody."""


def tell_nobody(seconds_left: float, detail: str) -> None:
    """For callers whom nobody waits for."""


@dataclass(frozen=True)
class Surroundings:
    attempt: Path
    lock: HostLock
    emit: Emit
    sandbox: str  #: confinement reached

    @property
    def work(self) -> Path:
        """The only folder that may be written to."""
        return self.attempt / "work"
