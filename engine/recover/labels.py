"""Learning from labels: how they answer an output, as the metrics read them; the first one that they fit.

classes along an axis      cross-entropy of the scores, or of the logarithms of probabilities
one number, labels 0 and 1 binary cross-entropy
values of the same shape   squared error over the labels' variance
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from engine.measure.accuracy.decisions import Decision, decision_for_labels, plain
from engine.recover.targets import LEAST_PROBABILITY, Kind, Target, single, target_of


@dataclass(frozen=True)
class LabelTarget:
    """How the labels answer an output."""

    output: str
    decision: Decision | None  #: None: they are values, not classes
    are_probabilities: bool
    power: float  #: variance of labels that are values


def label_target(output: str, values: np.ndarray, labels: np.ndarray) -> LabelTarget | None:
    """How labels answer the values of this output on the same samples; None where they do not."""
    if not isinstance(values, np.ndarray) or values.dtype.kind != "f" or len(values) != len(labels):
        return None  # the output is a decision already, and has no gradient
    shown, wanted = plain(values), plain(labels)
    decision = decision_for_labels(shown, wanted)
    if decision is None and shown.shape != wanted.shape:
        return None
    looks: Target | None = target_of(output, values)
    probabilities = looks is not None and looks.kind is Kind.PROBABILITIES
    bounded = decision is not None and decision.threshold == 0.5
    return LabelTarget(output, decision, probabilities or bounded, float(np.var(wanted.astype(np.float64))) or 1.0)


def label_loss(target: LabelTarget, output: Tensor, labels: Tensor) -> Tensor:
    """Mean over the samples."""
    shown, wanted = _plain(single(output)), _plain(labels).to(output.device)
    if target.decision is None:
        return functional.mse_loss(shown, wanted.to(shown.dtype)) / target.power
    if target.decision.axis is None:
        score = torch.logit(shown, LEAST_PROBABILITY) if target.are_probabilities else shown
        return functional.binary_cross_entropy_with_logits(score, wanted.to(score.dtype))
    scores = shown.movedim(target.decision.axis, 1)
    if target.are_probabilities:
        scores = scores.clamp_min(LEAST_PROBABILITY).log()
    known = torch.where((wanted >= 0) & (wanted < scores.shape[1]), wanted, -1).long()
    return functional.cross_entropy(scores, known, ignore_index=-1)


def _plain(values: Tensor) -> Tensor:
    """Without axes of size 1 behind the first, as `decisions.plain`."""
    return values.reshape(values.shape[0], *(size for size in values.shape[1:] if size != 1))
