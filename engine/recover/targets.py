"""What a teacher's output is, and how far a student's output is from it.

    scores          one number for each class     softened cross-entropy between the distributions (Hinton et al. 2015)
                                                  plus squared error over the variance within a sample
    probabilities   scores after a Softmax        the same, of their logarithms
    values          anything else                 squared error over the teacher's variance

Each is 0 for equal outputs and about 1 for a student that knows nothing, so that several outputs can be added. What is
no float, or what the teacher itself makes infinite, is left out.
"""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

SUM_TOLERANCE = 1e-3
LEAST_PROBABILITY = 1e-7
RULED_OUT = -1e4  #: a score that leaves no probability


class Kind(StrEnum):
    SCORES = "scores"
    PROBABILITIES = "probabilities"
    VALUES = "values"


@dataclass(frozen=True)
class Target:
    """One output of the teacher."""

    name: str
    kind: Kind
    axis: int = 1  #: of the classes
    power: float = 1.0  #: mean square of the values (of scores: around the mean of their sample)
    weight: float = 1.0  #: in the sum of all distances


def target_of(name: str, values: np.ndarray) -> Target | None:
    """What this output is, by values of some samples; None where nothing can be learned from it."""
    if (
        not isinstance(values, np.ndarray)
        or values.dtype.kind != "f"
        or not values.size
        or not np.isfinite(values).any()
    ):
        return None
    values = values.astype(np.promote_types(values.dtype, np.float32))  # sums of float16 are too coarse
    axis = _class_axis(values)
    finite = np.where(np.isfinite(values), values, 0).astype(np.float64)
    if axis is None:
        return Target(name, Kind.VALUES, power=_positive(float(np.var(finite))))
    if _are_probabilities(values, axis):
        return Target(name, Kind.PROBABILITIES, axis)
    centred = finite - finite.mean(axis=axis, keepdims=True)
    return Target(name, Kind.SCORES, axis, _positive(float(np.mean(centred**2))))


def _class_axis(values: np.ndarray) -> int | None:
    """Where the classes lie: along the only axis behind the samples, or wherever probabilities add up to one."""
    large = [axis for axis in range(1, values.ndim) if values.shape[axis] > 1]
    if len(large) == 1:
        return large[0]
    return next((axis for axis in (values.ndim - 1, 1) if axis in large and _are_probabilities(values, axis)), None)


def _are_probabilities(values: np.ndarray, axis: int) -> bool:
    return bool(values.min() >= 0 and np.abs(values.sum(axis=axis) - 1).max() < SUM_TOLERANCE)


def _positive(power: float) -> float:
    return power if power > 0 else 1.0


def distance(target: Target, student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """How far the student's output is from the teacher's, as a mean over samples.

    Nothing is said of outputs whose number of rows depends on the data, where the two came to different numbers.
    """
    student, teacher = single(student), single(teacher).to(student.device)
    if student.shape != teacher.shape or not teacher.numel():
        return student.sum() * 0
    if target.kind is Kind.VALUES:
        return _squared_error(student, teacher) / target.power
    student, teacher = (values.movedim(target.axis, -1).flatten(0, -2) for values in (student, teacher))
    if target.kind is Kind.PROBABILITIES:
        student, teacher = (values.clamp_min(LEAST_PROBABILITY).log() for values in (student, teacher))
        return divergence(student, teacher, temperature)
    return divergence(student, teacher, temperature) + _squared_error(student, teacher) / target.power


def single(values: Tensor) -> Tensor:
    """What a loss computes in: float16 is too coarse, and ends at 65,504."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Kullback-Leibler divergence of softened scores (rows, classes), times T² so that its gradient keeps its size.

    Classes that the teacher rules out with a score of -∞ are ruled out for both.
    """
    known = torch.isfinite(teacher)
    student, teacher = (torch.where(known, scores, RULED_OUT) for scores in (student, teacher))
    soft = functional.log_softmax(student / temperature, -1)
    wanted = functional.log_softmax(teacher / temperature, -1)
    return functional.kl_div(soft, wanted, reduction="batchmean", log_target=True) * temperature**2


def _squared_error(student: Tensor, teacher: Tensor) -> Tensor:
    known = torch.isfinite(teacher)
    error = torch.where(known, student - torch.where(known, teacher, 0), 0)
    return error.square().mean()
