"""95 % interval of an accuracy drop: a paired bootstrap over the samples.

Original and candidate are scored on the same samples, and a resample draws both scores of a sample together. Above 5000
samples they are gathered at random into 5000 blocks, which are drawn instead; that changes the spread of a mean by
nothing that one could see.

Where hardly any decision changes, a bootstrap believes too much: of samples that all agree, every resample agrees. So
for metrics of decisions two imagined samples stand among those that are drawn, average ones, of which one got worse and
one got better. With nothing seen to change in N samples the interval becomes ± 3/N of what can be lost, as the rule of
three has it, and with many changes the two weigh nothing. The estimate itself does not know them.
"""

from dataclasses import dataclass

import numpy as np

from engine.measure.accuracy.metrics import Measure
from engine.report import Interval

RESAMPLES = 2000
MOST_BLOCKS = 5000
CELLS_AT_ONCE = 4_000_000  #: cells of a resampling table that are in memory at a time


@dataclass(frozen=True)
class Scores:
    """Sums of the numbers of each block of samples, for original and candidate, and the samples in it."""

    reference: np.ndarray  #: (blocks, numbers)
    candidate: np.ndarray
    samples: np.ndarray  #: (blocks, 1)

    @classmethod
    def empty(cls, blocks: int, numbers: int) -> "Scores":
        return cls(np.zeros((blocks, numbers)), np.zeros((blocks, numbers)), np.zeros((blocks, 1)))

    def add(self, blocks: np.ndarray, reference: np.ndarray, candidate: np.ndarray) -> None:
        np.add.at(self.reference, blocks, reference)
        np.add.at(self.candidate, blocks, candidate)
        np.add.at(self.samples, blocks, 1)

    def with_imagined_changes(self, right: np.ndarray, wrong: np.ndarray, *, improvement: bool) -> "Scores":
        """And a sample that went from right to wrong, and one that went back; beside all others, so they count none."""
        return Scores(
            np.concatenate([self.reference, [right, wrong if improvement else right]]),
            np.concatenate([self.candidate, [wrong, right]]),
            np.concatenate([self.samples, [[0.0], [0.0]]]),
        )


def block_of_each(samples: int, seed: int) -> np.ndarray:
    """Which block a sample belongs to; one of its own where there are few."""
    places = np.arange(samples) % min(samples, MOST_BLOCKS)
    return np.random.default_rng(seed).permutation(places)


def values_of(measure: Measure, scores: Scores) -> tuple[float, float]:
    """Of the original and of the candidate."""
    samples = scores.samples.sum()
    reference = measure.value(scores.reference.sum(axis=0) / samples)
    return float(reference), float(measure.value(scores.candidate.sum(axis=0) / samples))


def drop_interval(measure: Measure, scores: Scores, *, seed: int, per_sample: int, improvement: bool) -> Interval:
    """The loss, positive where the candidate is worse. `per_sample` is the number of decisions of a sample."""
    sign = 1 if measure.higher_is_better else -1
    reference, candidate = values_of(measure, scores)
    value = sign * (reference - candidate)
    drawn = scores
    if measure.missed is not None:
        average = scores.reference.sum(axis=0) / scores.samples.sum()
        wrong = measure.missed(average, _size_of_a_change(scores, per_sample))
        drawn = scores.with_imagined_changes(average, wrong, improvement=improvement)
    drops = sign * _resampled(measure, drawn, seed)
    low, high = (float(bound) for bound in np.percentile(drops, [2.5, 97.5]))
    if measure.missed is not None:  # an imagined change on top of all others
        low, high = max(low, -1.0), min(high, 1.0)
    return Interval(value=value, low=min(low, value), high=max(high, value))


def _size_of_a_change(scores: Scores, per_sample: int) -> float:
    """The share of its hits that one changed sample misses: 1 for a single decision, else the largest change seen."""
    changes = np.abs(scores.reference - scores.candidate).sum(axis=1)
    whole = 1.0 if scores.reference.shape[1] == 1 else scores.reference.sum(axis=1)  # of shares; of counts by class
    largest = float(np.max(changes / np.maximum(whole, 1.0)))
    return 1.0 if per_sample == 1 else min(1.0, max(largest, 1 / per_sample))


def _resampled(measure: Measure, scores: Scores, seed: int) -> np.ndarray:
    """Value of the original less that of the candidate in each resample. Equal blocks are drawn as one kind."""
    generator = np.random.default_rng(seed)
    drawn = int(np.count_nonzero(scores.samples))
    width = scores.reference.shape[1]
    table = np.concatenate([scores.reference, scores.candidate, scores.samples], axis=1)
    kinds, members = np.unique(table, axis=0, return_counts=True)
    step = max(1, CELLS_AT_ONCE // len(kinds))
    differences = []
    for start in range(0, RESAMPLES, step):
        size = min(step, RESAMPLES - start)
        times = generator.multinomial(drawn, members / members.sum(), size=size).astype(np.float64)
        sums = times @ kinds
        means = sums[:, :-1] / np.maximum(sums[:, -1:], 1)  # of few samples, some draws hold imagined ones only
        differences.append(measure.value(means[:, :width]) - measure.value(means[:, width:]))
    return np.concatenate(differences)
