"""Which metric is meant, and whether outputs and labels allow it.

AUTO, labels that are classes of the first output    miou where they are an image of few classes, else top1
AUTO otherwise, outputs that look like a classifier's agreement
AUTO otherwise                                       sqnr
"""

import numpy as np

from engine.errors import DataRejected
from engine.measure.accuracy.decisions import Decision, decision_for_labels, decision_without_labels, plain
from engine.measure.accuracy.metrics import MEASURES
from engine.recipe import Metric

AGAINST_ORIGINAL = {Metric.AGREEMENT, Metric.SQNR}  #: labels or not
ON_DECISIONS = {Metric.TOP1, Metric.TOP5, Metric.F1, Metric.MIOU, Metric.AGREEMENT}
ON_VALUES = {Metric.MSE, Metric.MAE, Metric.COSINE}
MOST_CLASSES = 1024  #: that are counted one by one, for each of up to 5000 blocks of samples: 80 MB a model


def choose_metric(metric: Metric, outputs: np.ndarray, labels: np.ndarray | None) -> tuple[Metric, Decision]:
    """The metric that AUTO stands for, and how outputs are read as decisions. Raises DataRejected."""
    answers = None if labels is None else plain(labels)
    decision = None if answers is None else decision_for_labels(outputs, answers)
    if metric is Metric.AUTO:
        return _automatic(outputs, answers, decision)
    if MEASURES[metric].needs_labels and answers is None:
        detail = f"The metric {metric} compares decisions with labels, and the data set has none."
        remedy = "Add an array of labels named “labels” or “y”, or choose the metric agreement or sqnr."
        raise DataRejected("labels_missing", detail, remedy)
    if metric is Metric.AGREEMENT:
        decision = decision or decision_without_labels(outputs)
    if metric in ON_DECISIONS and decision is None:
        raise _misfit(metric, outputs, answers, "one class per sample, pixel or token")
    if MEASURES[metric].by_class and decision is not None and decision.classes > MOST_CLASSES:
        raise _too_many_classes(metric, decision.classes)
    if metric in ON_VALUES and answers is not None and answers.shape != outputs.shape:
        raise _misfit(metric, outputs, answers, "targets of the output's shape")
    return metric, decision or decision_without_labels(outputs) or Decision()


def _automatic(outputs: np.ndarray, answers: np.ndarray | None, decision: Decision | None) -> tuple[Metric, Decision]:
    if decision is not None and answers is not None:
        by_class = answers.ndim > 2 and decision.classes <= MOST_CLASSES
        return (Metric.MIOU if by_class else Metric.TOP1), decision
    decision = decision_without_labels(outputs)
    return (Metric.AGREEMENT, decision) if decision else (Metric.SQNR, Decision())


def _too_many_classes(metric: Metric, classes: int) -> DataRejected:
    detail = (
        f"The metric {metric} counts each class by itself, {MOST_CLASSES} at most; the labels go up to {classes - 1}."
    )
    return DataRejected("labels_classes", detail, "Number the classes from 0 without gaps, or choose the metric top1.")


def _misfit(metric: Metric, outputs: np.ndarray, answers: np.ndarray | None, wanted: str) -> DataRejected:
    labels = "no labels" if answers is None else f"labels of the shape {answers.shape} and type {answers.dtype}"
    detail = f"The metric {metric} needs {wanted}; there are outputs of the shape {outputs.shape} and {labels}."
    return DataRejected("labels_shape", detail, "Give labels that fit the first output, or choose another metric.")
