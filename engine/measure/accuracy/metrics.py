"""How right a model is: each metric with its unit, its direction and its denominator.

    top1, top5    share of decisions that equal the label, or whose label is among the five best; of equal scores the
                  first counts as better. Where a sample has many labels, its own share is taken first
    f1            2 TP / (2 TP + FP + FN) by class, averaged over the classes seen in labels or decisions
    miou          TP / (TP + FP + FN) by class over all pixels, averaged likewise; labels that are no class, such as
                  255, are left out of both
    mse, mae      mean squared or absolute error of all elements
    cosine        cosine between output and target, averaged over samples; two zero vectors are equal
    agreement     share of decisions that equal the original's
    sqnr          signal power over noise power, in dB; its drop is noise over signal: 0.01 is 20 dB

mse, mae and cosine compare with the original's outputs where there are no labels; agreement and sqnr always do. A
metric turns each sample into a few numbers, and its value is a function of their means: one bootstrap serves all.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from engine.measure.accuracy.decisions import Decision
from engine.recipe import Metric


@dataclass(frozen=True)
class Batch:
    """Some samples: outputs, what they are compared with, and how both are read as decisions."""

    outputs: np.ndarray
    target: np.ndarray  #: labels, or the original's outputs
    decision: Decision


@dataclass(frozen=True)
class Measure:
    numbers: Callable[[Batch], np.ndarray]  #: (samples, numbers)
    value: Callable[[np.ndarray], np.ndarray]  #: from the means of the numbers, (…, numbers) → (…)
    unit: str = "share"
    higher_is_better: bool = True
    needs_labels: bool = False
    by_class: bool = False  #: the numbers are counts of each class
    missed: Callable[[np.ndarray, float], np.ndarray] | None = None  #: numbers of a sample that misses a share of hits
    shown: Callable[[float], float | None] = float  #: the value as a reader wants it


def in_decibels(noise_over_signal: float) -> float | None:
    """None where there is no noise."""
    return None if noise_over_signal == 0 else float(-10 * np.log10(noise_over_signal))


# ── values ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _mean(means: np.ndarray) -> np.ndarray:
    return means[..., 0]


def noise_over_signal(means: np.ndarray) -> np.ndarray:
    noise, signal = means[..., 0], means[..., 1]
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(noise == 0, 0.0, noise / signal)


def _over_classes(means: np.ndarray) -> np.ndarray:
    """Mean over the classes of (hits / possible), where a class that never occurs does not count."""
    hits, possible = np.split(means, 2, axis=-1)
    seen = possible > 0
    return np.sum(hits / np.where(seen, possible, 1), axis=-1) / np.maximum(np.sum(seen, axis=-1), 1)


# ── numbers of a sample ──────────────────────────────────────────────────────────────────────────────────────────────


def _share(facts: np.ndarray) -> np.ndarray:
    return facts.reshape(len(facts), -1).mean(axis=1, dtype=np.float64)[:, None]


def _flat(values: np.ndarray) -> np.ndarray:
    return values.reshape(len(values), -1).astype(np.float64)


def _hit(batch: Batch) -> np.ndarray:
    return _share(batch.decision.of(batch.outputs) == batch.target)


def _among_five(batch: Batch) -> np.ndarray:
    if batch.decision.axis is None:
        return _hit(batch)
    scores = np.moveaxis(batch.outputs, batch.decision.axis, -1)
    wanted = np.clip(batch.target.astype(int), 0, batch.decision.classes - 1)[..., None]
    own = np.take_along_axis(scores, wanted, axis=-1)
    earlier = np.arange(scores.shape[-1]) < wanted
    better = np.sum((scores > own) | ((scores == own) & earlier), axis=-1)
    return _share((better < 5) & (wanted[..., 0] == batch.target))


def _same_decision(batch: Batch) -> np.ndarray:
    return _share(batch.decision.of(batch.outputs) == batch.decision.of(batch.target))


def _squared_error(batch: Batch) -> np.ndarray:
    return np.mean((_flat(batch.outputs) - _flat(batch.target)) ** 2, axis=1)[:, None]


def _absolute_error(batch: Batch) -> np.ndarray:
    return np.mean(np.abs(_flat(batch.outputs) - _flat(batch.target)), axis=1)[:, None]


def _cosine(batch: Batch) -> np.ndarray:
    left, right = _flat(batch.outputs), _flat(batch.target)
    lengths = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    cosines = np.sum(left * right, axis=1) / np.where(lengths > 0, lengths, 1)
    return np.where(left.any(axis=1) | right.any(axis=1), cosines, 1.0)[:, None]


def noise_and_signal(batch: Batch) -> np.ndarray:
    """Where the original itself is not finite, as in a mask of -inf, there is nothing to compare."""
    signal, given = _flat(batch.target), _flat(batch.outputs)
    finite = np.isfinite(signal)
    signal, given = np.where(finite, signal, 0), np.where(finite, given, 0)
    return np.stack([np.sum((given - signal) ** 2, axis=1), np.sum(signal**2, axis=1)], axis=1)


def _f1_counts(batch: Batch) -> np.ndarray:
    hits, decided, labelled = _class_counts(batch)
    return np.concatenate([2 * hits, decided + labelled], axis=1)


def _overlap_counts(batch: Batch) -> np.ndarray:
    hits, decided, labelled = _class_counts(batch)
    return np.concatenate([hits, decided + labelled - hits], axis=1)


def _f1_missed(numbers: np.ndarray, share: float) -> np.ndarray:
    """As many decisions and labels in each class, and fewer hits."""
    hits, all_counted = np.split(numbers, 2)
    return np.concatenate([(1 - share) * hits, all_counted])


def _overlap_missed(numbers: np.ndarray, share: float) -> np.ndarray:
    """A decision and a label that met before are two now."""
    hits, union = np.split(numbers, 2)
    return np.concatenate([(1 - share) * hits, union + share * hits])


def _class_counts(batch: Batch) -> np.ndarray:
    """Hits, decisions and labels by sample and class, (3, samples, classes)."""
    classes, labels = batch.decision.classes, batch.target
    decided = batch.decision.of(batch.outputs)
    sample = np.broadcast_to(np.arange(len(labels)).reshape(-1, *[1] * (labels.ndim - 1)), labels.shape)
    known = (labels >= 0) & (labels < classes)

    def tally(chosen: np.ndarray, classed: np.ndarray) -> np.ndarray:
        places = sample[chosen] * classes + classed[chosen].astype(int)
        return np.bincount(places, minlength=len(labels) * classes).reshape(len(labels), classes)

    in_range = known & (decided >= 0) & (decided < classes)
    return np.stack([tally(known & (decided == labels), labels), tally(in_range, decided), tally(known, labels)])


MEASURES: dict[Metric, Measure] = {
    Metric.TOP1: Measure(_hit, _mean, needs_labels=True, missed=np.subtract),
    Metric.TOP5: Measure(_among_five, _mean, needs_labels=True, missed=np.subtract),
    Metric.F1: Measure(_f1_counts, _over_classes, needs_labels=True, by_class=True, missed=_f1_missed),
    Metric.MIOU: Measure(_overlap_counts, _over_classes, needs_labels=True, by_class=True, missed=_overlap_missed),
    Metric.AGREEMENT: Measure(_same_decision, _mean, missed=np.subtract),
    Metric.MSE: Measure(_squared_error, _mean, unit="squared error", higher_is_better=False),
    Metric.MAE: Measure(_absolute_error, _mean, unit="error", higher_is_better=False),
    Metric.COSINE: Measure(_cosine, _mean, unit="cosine"),
    Metric.SQNR: Measure(noise_and_signal, noise_over_signal, unit="dB", higher_is_better=False, shown=in_decibels),
}
