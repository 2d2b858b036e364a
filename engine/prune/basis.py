"""What is known before anything leaves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from engine.prune.groups import Group
from engine.prune.moments import Moments
from engine.prune.walk import Key, Walk
from engine.quantize.calibrate import Calibrator


@dataclass(frozen=True)
class Basis:
    walk: Walk
    found: Sequence[Group]
    seen: Mapping[Key, Moments]  #: what layers read on the samples
    calibrator: Calibrator
