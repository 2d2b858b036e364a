"""How well a median is known, from order statistics: no assumption on how times are distributed."""

from typing import NamedTuple

import numpy as np

NORMAL_95 = 1.959964


class MedianInterval(NamedTuple):
    low: float
    median: float
    high: float

    @property
    def standard_error(self) -> float:
        return (self.high - self.low) / (2 * NORMAL_95)


def median_interval(values: np.ndarray) -> MedianInterval:
    """The median of some values and its 95 % interval; with fewer than six values that is their whole range."""
    ordered = np.sort(values)
    count = len(ordered)
    below = max(int(np.floor(count / 2 - NORMAL_95 / 2 * np.sqrt(count))), 0)
    return MedianInterval(float(ordered[below]), float(np.median(ordered)), float(ordered[count - 1 - below]))
