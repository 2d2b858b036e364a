"""How an attempt ended, before it is decided what that means for the job."""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Self

from engine.protocol import Finished
from workers.problems import Problem


class End(StrEnum):
    FINISHED = "finished"  #: the child reported its success
    FAILED = "failed"  #: for a reason that another attempt would meet again
    CRASHED = "crashed"  #: by a signal, out of memory, or without a last word; tried once more
    UNAVAILABLE = "unavailable"  #: the storage failed; tried again later
    CANCELED = "canceled"  #: the user asked for the end
    DRAINED = "drained"  #: this worker is leaving; the attempt is not charged
    LOST = "lost"  #: the lease ran out or was taken: nothing may be written


@dataclass(frozen=True)
class Outcome:
    end: End
    problem: Problem | None = None
    finished: Finished | None = None
    checkpoint: str | None = None  #: folder of the last complete result, relative to the attempt's

    def with_checkpoint(self, checkpoint: str | None) -> Self:
        return replace(self, checkpoint=checkpoint)
