"""What a step is: it proposes files, and never judges them.

The caller checks that a file loads and keeps its interface, measures it, and keeps or drops it. A step that has nothing
to do says why, in words for the user. A step may propose in several rounds, each in the light of how the one before
did, and may choose among formats of its own by a quick look (`Glimpse`).
"""

import math
import os
import platform
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import onnx

from engine.data import Samples
from engine.recipe import Step, Target
from engine.report import LayerChoice, Replacements, Training
from engine.surroundings import Tell, never_pause, tell_nobody

if TYPE_CHECKING:
    from engine.measure.glimpse import Glimpse  # its libraries take a second to import, and inspection needs none

CPU_INFO = Path("/proc/cpuinfo")

S = TypeVar("S", bound=Step)


def usable_cores() -> int:
    """Those this process may use; training happens before a model is served, so `target.threads` does not bind it."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_is_x86() -> bool:
    return platform.machine() in ("x86_64", "AMD64")


def cpu_saturates() -> bool:
    """Whether this CPU sums pairs of uint8·int8 products in 16 bits, where full 8-bit weights overflow.

    So do x86 CPUs without VNNI. Weights of 7 bits stay exact there.
    """
    if not cpu_is_x86():
        return False
    flags = CPU_INFO.read_text() if CPU_INFO.exists() else ""
    return not any(flag in flags for flag in ("avx512_vnni", "avx_vnni", "amx_int8"))


@dataclass(frozen=True)
class Variant(Generic[S]):
    """One file a step proposes."""

    path: Path
    step: S  #: with the options actually used, none of them `auto`
    label: str  #: in words, such as “static int8, unsigned activations, reduced range”
    layers: tuple[LayerChoice, ...] = ()  #: what each layer costs and gains, where that decided
    training: Training | None = None  #: how its weights were taught, if they were
    replacements: Replacements | None = None  #: what could take the place of layers, and what does


@dataclass(frozen=True)
class Other:
    """A model that the user has uploaded beside the original."""

    path: Path
    name: str  #: for people


@dataclass(frozen=True)
class StepContext:
    """What a step may use apart from the model and its own options."""

    calibration: Samples
    folder: Path  #: where the step writes its files; its own
    target: Target
    seed: int
    pause: Callable[[], None] = never_pause  #: called between batches: waits while another job measures
    saturates: bool = field(default_factory=cpu_saturates)
    glimpse: "Glimpse | None" = None  #: a quick look at files beside the original; None where nobody asked for a choice
    looked_at: list[Variant] = field(default_factory=list)  #: files of the step's own choice, for the table
    original: Path | None = None  #: the model as it was uploaded, which a step may learn from
    seconds: float = math.inf  #: what the step may take of the budget
    tell: Tell = tell_nobody
    cores: int = field(default_factory=usable_cores)  #: that a long computation may keep busy
    others: Mapping[str, Other] = field(default_factory=dict)  #: models that the recipe names, by what it calls them
    kept: Path | None = None  #: a folder that a later attempt at this job finds again


@dataclass(frozen=True)
class Standing:
    """How the first file of a round did in full: the one that the step thinks most of."""

    inside: bool  #: it keeps the limits, or the file that the step was given did not
    loss_over_limit: float | None = None  #: above 1 where it loses more than is allowed


Rounds = Generator[list[Variant], Standing | None, None]


@dataclass(frozen=True)
class Skipped:
    """The step has nothing to do for this model."""

    reason: str


class Technique(Protocol):
    """How one kind of step is done; a module of this package."""

    def refuse(self, model: onnx.ModelProto) -> str | None:
        """Why the step can do nothing for this model, in words for the user; None where it can."""

    def run(self, step: Any, model: Path, context: StepContext) -> list[Variant] | Rounds | Skipped:
        """Propose files, the most promising first. Raises StepFailed where something broke that should not."""
