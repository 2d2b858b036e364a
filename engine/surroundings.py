"""Where a piece of work is done, and whom it tells."""

from dataclasses import dataclass
from pathlib import Path

from engine.events import Emit
from engine.measure.lock import HostLock


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
