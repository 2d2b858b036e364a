"""What it costs to narrow one group alone, in errors of the model's outputs: a figure that compares across groups.

    harm_g(w) = Σ over outputs  E|y_w - y|² / Var[y] / outputs        y_w with g alone narrowed to w channels

Layers that read the group take over what left, by the moments of the original. What the layers say of a channel does
not compare across groups: half of the input of one layer may matter less than a tenth of another's, when a shortcut
leads around it. So each group is narrowed alone, to a few widths, and the network tells. Errors of several groups are
taken to add up.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx
from numpy.typing import NDArray

from engine.prune.basis import Basis
from engine.prune.choice import least, unit
from engine.prune.importance import Scores
from engine.prune.reconstruct import roughly
from engine.quantize.calibrate import Calibrator
from engine.surroundings import Tell, tell_nobody

SHARES = (0.75, 0.5, 0.25, 0.125, 0.0)  #: of a group's channels that stay, at least a unit of them

LEAST = 1e-6  #: errors below are nothing

Outputs = list[NDArray[np.float64]]


@dataclass(frozen=True)
class Harm:
    """One group's error at some widths; between them its logarithm is a straight line."""

    widths: Sequence[int]  #: rising, the last one is that of the original
    errors: Sequence[float]

    def at(self, width: int) -> float:
        """Noise for signal left, so that what ruins the outputs by itself is not weighed against little things."""
        error = math.exp(np.interp(width, self.widths, np.log(np.maximum(self.errors, LEAST))))
        return error / max(1 - error, LEAST)


def harms(basis: Basis, scores: Scores, multiple: int, tell: Tell = tell_nobody) -> list[Harm]:
    """The harm of each group, whose channels leave in the order of their scores."""
    outputs = Compared.to(basis.walk.model, basis.calibrator)
    found: list[Harm] = []
    started = time.monotonic()
    for done, group in enumerate(basis.found):
        if done:
            left = (time.monotonic() - started) / done * (len(basis.found) - done)
            tell(left, f"narrowing layers alone, {done + 1} of {len(basis.found)}")
        widths = sorted({max(int(len(group) * share), unit(group, multiple)) for share in SHARES} - {len(group)})
        removed = [least([group], scores, [width]) for width in widths]
        errors = [outputs.error(roughly(basis.walk, one, basis.seen)) for one in removed]
        falling = np.maximum.accumulate([0.0, *errors[::-1]])[::-1].tolist()
        found.append(Harm([*widths, len(group)], falling))
    return found


@dataclass(frozen=True)
class Compared:
    """The original's outputs on samples, for comparison."""

    calibrator: Calibrator
    names: Sequence[str]
    answers: Sequence[Outputs]
    powers: Sequence[float]  #: variance of each output

    @classmethod
    def to(cls, model: onnx.ModelProto, calibrator: Calibrator) -> "Compared":
        names = [value.name for value in model.graph.output]
        answers = [list(map(_finite, values)) for values in calibrator.run(model, names)]
        powers = [
            float(np.var(np.concatenate([each.ravel() for each in column]))) for column in zip(*answers, strict=True)
        ]
        return cls(calibrator, names, answers, [power or 1.0 for power in powers])

    def error(self, model: onnx.ModelProto) -> float:
        """Mean squared error over the variance, as a mean over the outputs."""
        tool = replace(self.calibrator, model=model)
        errors = [
            [_error(one, _finite(other)) / power for one, other, power in zip(before, after, self.powers, strict=True)]
            for before, after in zip(self.answers, tool.run(model, self.names), strict=True)
        ]
        return float(np.mean(errors))


def _finite(values: np.ndarray) -> NDArray[np.float64]:
    """What errors are counted in; of whole numbers, sequences and what holds nothing, none."""
    if not isinstance(values, np.ndarray) or values.dtype.kind != "f" or not values.size:
        return np.zeros(1)
    return np.nan_to_num(values.astype(np.float64), posinf=0, neginf=0)


def _error(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    return float(((one - other) ** 2).mean()) if one.shape == other.shape else 1.0
