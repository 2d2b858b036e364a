"""What a model decides: the class of each sample, pixel or token, read off its outputs.

    integers                      are decisions already (an ArgMax or a label output inside of the graph)
    one axis more than labels     the largest score along that axis wins; of equal scores the first
    one number, labels 0 and 1    1 above the threshold: 0.5 if all scores lie in [0, 1], else 0

Axes of size 1 are dropped first, so that (N, C, 1, 1) is (N, C).
"""

from dataclasses import dataclass
from math import prod

import numpy as np


@dataclass(frozen=True)
class Decision:
    """How to come from outputs to decisions."""

    readable: bool = False  #: are there decisions at all?
    axis: int | None = None
    threshold: float | None = None
    classes: int = 0  #: those that labels may name
    per_sample: int = 1  #: decisions of one sample: pixels, tokens

    def of(self, outputs: np.ndarray) -> np.ndarray:
        if self.axis is not None:
            return np.argmax(outputs, axis=self.axis)
        return outputs > self.threshold if self.threshold is not None else outputs


def plain(array: np.ndarray) -> np.ndarray:
    """Without axes of size 1 behind the first."""
    return array.reshape(array.shape[0], *(size for size in array.shape[1:] if size != 1))


def decision_for_labels(outputs: np.ndarray, labels: np.ndarray) -> Decision | None:
    """How these outputs answer these labels; None if they do not. Both are plain."""
    if not are_classes(labels):
        return None
    per_sample, classes = prod(labels.shape[1:]), int(labels.max(initial=0)) + 1
    if outputs.shape == labels.shape:
        if outputs.dtype.kind in "biu":
            return Decision(readable=True, classes=classes, per_sample=per_sample)
        return (
            Decision(readable=True, threshold=_threshold(outputs), classes=2, per_sample=per_sample)
            if classes <= 2
            else None
        )
    for axis in (1, outputs.ndim - 1):
        if outputs.ndim == labels.ndim + 1 and np.delete(outputs.shape, axis).tolist() == list(labels.shape):
            return Decision(readable=True, axis=axis, classes=outputs.shape[axis], per_sample=per_sample)
    return None


def decision_without_labels(outputs: np.ndarray) -> Decision | None:
    """Outputs that look like a classifier's: integers, or one score per class. They are plain."""
    per_sample = prod(outputs.shape[1:])
    if outputs.dtype.kind in "biu":
        return Decision(readable=True, per_sample=per_sample)
    return Decision(readable=True, axis=1, classes=per_sample) if outputs.ndim == 2 else None


def are_classes(labels: np.ndarray) -> bool:
    return labels.dtype.kind in "biu" or (labels.dtype.kind == "f" and bool(np.all(labels == np.round(labels))))


def _threshold(outputs: np.ndarray) -> float:
    return 0.5 if float(outputs.min()) >= 0 and float(outputs.max()) <= 1 else 0.0
