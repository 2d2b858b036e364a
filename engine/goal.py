"""What better means: the quantity that a goal makes small, how many times smaller it became, and the Pareto front."""

from collections.abc import Sequence

from engine.recipe import Minimize
from engine.report import Comparison, Figures, Interval, Trial

MEMORY_SPREAD = 0.02  #: two processes that serve the same file were seen to differ by so much in their peak
WITHIN_NOISE = 0.02  #: a quick measurement does not tell files apart that differ by less
IN_DOUBT = 0.05  #: nor files whose intervals overlap, if they differ by less than this
LEAST_GAIN = 1.02  #: in size or memory; for less nobody wants another file


def quantity(figures: Figures, minimize: Minimize) -> float | None:
    """Milliseconds or bytes; None where it was not measured."""
    if minimize is Minimize.SIZE:
        return figures.size_bytes
    if minimize is Minimize.MEMORY:
        return figures.peak_memory_bytes
    return figures.latency.median_ms if figures.latency else None


def gain(minimize: Minimize, baseline: Figures, figures: Figures, comparison: Comparison) -> Interval | None:
    """How many times smaller the quantity became. A file's size is exact; times and memory carry their interval."""
    if minimize is Minimize.LATENCY:
        return comparison.speedup
    before, after = quantity(baseline, minimize), quantity(figures, minimize)
    if not before or not after:
        return None
    spread = MEMORY_SPREAD if minimize is Minimize.MEMORY else 0.0
    ratio = before / after
    return Interval(value=ratio, low=ratio * (1 - spread), high=ratio * (1 + spread))


def holds(gain: Interval | None, minimize: Minimize, noise_floor: Interval | None = None) -> bool:
    """Is it an improvement beyond doubt? Time must also beat what the original “gains” on itself."""
    if gain is None or gain.low <= 1:
        return False
    if minimize is Minimize.LATENCY:
        return noise_floor is None or gain.value > noise_floor.high
    return gain.value >= LEAST_GAIN


def gain_of(trial: Trial, minimize: Minimize, baseline: Figures) -> Interval | None:
    if trial.figures is None or trial.comparison is None:
        return None
    return gain(minimize, baseline, trial.figures, trial.comparison)


def drop_of(trial: Trial) -> Interval | None:
    return trial.comparison.accuracy_drop if trial.comparison else None


def front(trials: Sequence[Trial], minimize: Minimize, baseline: Figures) -> set[str]:
    """Ids of the trials that gain something and that no other one beats in both gain and accuracy."""
    points = [
        (trial.id, got.value, lost.value)
        for trial in trials
        if (got := gain_of(trial, minimize, baseline)) and (lost := drop_of(trial)) and got.value > 1
    ]
    return {
        name
        for name, got, lost in points
        if not any(
            other_got >= got and other_lost <= lost and (other_got, other_lost) != (got, lost)
            for _, other_got, other_lost in points
        )
    }
