"""Histograms of activations, and the ranges that three methods read from them.

    percentile   leave out the outermost values, so many percent of all
    entropy      P is what was seen, with what lies outside moved to the ends; Q is P as 8 bits tell it apart. The range
                 with the smallest KL(P‖Q) = Σ P log(P / Q). After Migacz, “8-bit inference with TensorRT” (2017), which
                 moves one end; here both do
    mse          the range with the smallest mean squared error: (x - end)² outside, step² / 12 inside

Zeros are counted apart. Every range represents zero exactly, so they cost neither method anything; among the values,
the many zeros behind a Relu would weigh more than what is to be represented.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

BINS = 4096
SMALLEST_WIDTH = 1e-30  #: far below the smallest scale
LEVELS = 256  #: of 8 bits
LEVELS_OF_ONE_SIGN = 128  #: where the range is symmetric, zero among them
COARSE_STEPS, SHORTEST = 16, 1 / 64  #: ends tried first on a side: all of it down to so much of it
FINE_STEPS, FINE_ROUNDS = 9, 3
LEAST_INSIDE = 0.99  #: share of values inside a range that entropy may choose
SAME_NATS = 9  #: divergences that agree in so many decimal places are the same

Interval = tuple[float, float]
Costs = Callable[[np.ndarray, np.ndarray], np.ndarray]  #: of the ranges between these bin edges


@dataclass
class Histogram:
    """Counts in equal bins over a range; zero is an edge between two bins, or the first or last edge."""

    low: float
    high: float
    width: float  #: of a bin
    origin: int  #: bins below zero
    counts: np.ndarray  #: int64: of values other than zero
    zeros: int = 0

    @classmethod
    def over(cls, low: float, high: float) -> "Histogram":
        """An empty one for values between these two, and zero."""
        low, high = min(low, 0.0), max(high, 0.0)
        origin = round(BINS * low / (low - high)) if low < high else 0
        origin = min(max(origin, low < 0), BINS - (high > 0))
        width = max(-low / max(origin, 1), high / max(BINS - origin, 1), SMALLEST_WIDTH)
        return cls(low, high, width, origin, np.zeros(BINS, np.int64))

    @property
    def zero_bin(self) -> int:
        """Where zeros would be counted."""
        return min(self.origin, len(self.counts) - 1)

    def add(self, values: np.ndarray) -> None:
        """Count these float32 values; those outside go to the outermost bins."""
        places = values.ravel() * np.float32(1 / self.width)
        places += np.float32(self.origin)
        self.counts += np.bincount(np.clip(places, 0, BINS - 1, out=places).astype(np.intp), minlength=BINS)
        zeros = values.size - int(np.count_nonzero(values))
        self.counts[self.zero_bin] -= zeros
        self.zeros += zeros

    def folded(self) -> "Histogram":
        """The same of the absolute values."""
        above, below = self.counts[self.origin :], self.counts[: self.origin][::-1]
        counts = np.zeros(max(len(above), len(below)), np.int64)
        counts[: len(above)] += above
        counts[: len(below)] += below
        return Histogram(0.0, max(self.high, -self.low), self.width, 0, counts, self.zeros)

    def between(self, first: int, last: int) -> Interval:
        """The range between two bin edges, widened to include zero."""
        low, high = (first - self.origin) * self.width, (last - self.origin) * self.width
        return max(min(low, 0.0), self.low), min(max(high, 0.0), self.high)


def percentile(histogram: Histogram, percent: float) -> Interval:
    """The range without the outermost values, half of them on either side."""
    counts = histogram.counts.copy()
    counts[histogram.zero_bin] += histogram.zeros
    outside = counts.sum() * (100 - percent) / 200
    if not outside:
        return histogram.low, histogram.high
    below = int(np.searchsorted(np.cumsum(counts), outside, side="right"))
    above = int(np.searchsorted(np.cumsum(counts[::-1]), outside, side="right"))
    return histogram.between(below, len(counts) - above)


def entropy(histogram: Histogram, levels: int) -> Interval:
    """The range with the least divergence between the values and their 8-bit picture."""
    return _best(histogram, divergences(histogram.counts, levels))


def mse(histogram: Histogram, levels: int) -> Interval:
    """The range with the least mean squared error of clipping and rounding."""
    return _best(histogram, squared_errors(histogram, levels))


# ── what a range costs ───────────────────────────────────────────────────────────────────────────────────────────────


def squared_errors(histogram: Histogram, levels: int) -> Costs:
    """Summed squared errors, in squares of a bin's width. The range shifts until zero is one of its levels."""
    bins = len(histogram.counts)
    centres = np.arange(bins) + 0.5
    number, first, second = (_prefix_sums(histogram.counts * centres**power) for power in range(3))

    def costs(lows: np.ndarray, highs: np.ndarray) -> np.ndarray:
        steps = np.maximum(highs - lows, 1) / (levels - 1)
        bottom = histogram.origin - np.rint((histogram.origin - lows) / steps) * steps
        top = bottom + (levels - 1) * steps
        below, above = (np.clip(np.rint(end), 0, bins).astype(np.intp) for end in (bottom, top))
        clipped = second[below] - 2 * bottom * first[below] + bottom**2 * number[below]
        clipped += (second[-1] - second[above]) - 2 * top * (first[-1] - first[above])
        clipped += top**2 * (number[-1] - number[above])
        return clipped + (number[above] - number[below]) * steps**2 / 12

    return costs


def divergences(counts: np.ndarray, levels: int) -> Costs:
    """KL(P‖Q) in nats. Infinite for ranges of less than one bin a level, which a histogram cannot tell apart, and for
    those that leave out too much: were all values moved into one bin, nothing would be left to tell apart.

    A level stands for the bins nearest to it, so the outermost two have half the width of the others. Q spreads the
    values of a level evenly over those of its bins that hold any. What lies outside is added to the outermost such bin.
    """
    filled = np.flatnonzero(counts)
    number, places, information = (_prefix_sums(of) for of in (counts, counts > 0, _x_log_x(counts)))
    total = number[-1]
    borders = np.concatenate([[0], (np.arange(1, levels) - 0.5) / (levels - 1), [1]])

    def costs(lows: np.ndarray, highs: np.ndarray) -> np.ndarray:
        bounds = lows[:, None] + np.rint((highs - lows)[:, None] * borders).astype(np.intp)
        values, bins = np.diff(number[bounds], axis=1), np.diff(places[bounds], axis=1)
        code_lengths = np.log(np.maximum(bins, 1) / np.maximum(values, 1))  # of Q, but for the sum of its values
        inside, below, above = number[highs] - number[lows], number[lows], total - number[highs]
        lowest = counts[filled[np.minimum(places[lows], len(filled) - 1)]]
        highest = counts[filled[np.maximum(places[highs], 1) - 1]]
        divergence = (values * code_lengths).sum(axis=1) + information[highs] - information[lows]
        for outside, outermost, inwards in ((below, lowest, 1), (above, highest, -1)):
            level = np.argmax(values[:, ::inwards] > 0, axis=1)
            divergence += outside * code_lengths[:, ::inwards][np.arange(len(level)), level]
            divergence += _x_log_x(outermost + outside) - _x_log_x(outermost)
        divergence = divergence / total + np.log(np.maximum(inside, 1) / total)
        return np.where((inside < LEAST_INSIDE * total) | (highs - lows < levels), np.inf, divergence.round(SAME_NATS))

    return costs


def _prefix_sums(values: np.ndarray) -> np.ndarray:
    return np.concatenate([np.zeros(1, values.dtype), np.cumsum(values)])


def _x_log_x(counts: np.ndarray) -> np.ndarray:
    return counts * np.log(np.maximum(counts, 1))


# ── the search ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _best(histogram: Histogram, costs: Costs) -> Interval:
    """The cheapest range: on a coarse grid of both ends, then on finer ones around it; of equals the widest."""
    if not histogram.counts.any():
        return histogram.low, histogram.high
    sides = (histogram.origin, len(histogram.counts) - histogram.origin)
    steps = COARSE_STEPS if all(sides) else COARSE_STEPS**2
    spans = [_coarse(side, steps) for side in sides]
    chosen = list(sides)
    for _ in range(1 + FINE_ROUNDS):
        pairs = np.stack(np.meshgrid(*spans, indexing="ij"), axis=-1).reshape(-1, 2)
        costly = costs(histogram.origin - pairs[:, 0], histogram.origin + pairs[:, 1])
        chosen = pairs[np.argmin(costly)].tolist()
        spans = [_fine(span, length) for span, length in zip(spans, chosen, strict=True)]
    return histogram.between(histogram.origin - chosen[0], histogram.origin + chosen[1])


def _coarse(side: int, steps: int) -> np.ndarray:
    """Lengths of a side of the range, in bins, the longest first."""
    return np.unique(np.rint(side * SHORTEST ** np.linspace(0, 1, steps)).astype(np.intp))[::-1]


def _fine(span: np.ndarray, chosen: int) -> np.ndarray:
    """Lengths between those before and behind the chosen one, and that one."""
    place = int(np.flatnonzero(span == chosen)[0])
    longer, shorter = span[max(place - 1, 0)], span[min(place + 1, len(span) - 1)]
    return np.unique([*np.linspace(shorter, longer, FINE_STEPS).astype(np.intp), chosen])[::-1]
