"""The final measurement decides: the finalists against the original, in several fresh processes, with the noise floor.

The original also runs against itself. A candidate is an improvement only where the whole interval of what it gained
lies above 1, and what it gained lies above what the original “gained” on itself. If the favourite does not hold, the
next best may.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from engine import goal
from engine.measure import latency
from engine.measure.latency import LatencyComparison
from engine.pipeline.bench import Bench
from engine.pipeline.trials import Candidate, Trials
from engine.report import Interval, LatencySeries

FINALISTS = 3
HUGE_BYTES = 512 << 20  #: all finalists and the original, twice, are open side by side
PROCESSES = 4
START_SECONDS = 1.2  #: of a probe, with its imports
ROUNDS = 60
SECONDS_PER_PROCESS = (1.2, 20.0)
LARGEST_SHARE = 0.35  #: of the whole budget


@dataclass(frozen=True)
class Final:
    """What the final measurement found; `chosen` is the id of the improvement, if there is one."""

    chosen: str | None
    noise_floor: Interval | None
    series: dict[str, list[LatencySeries]]


def expected_seconds(run_ms: float, load_ms: float, budget_seconds: float) -> float:
    files = FINALISTS + 2
    each = START_SECONDS + files * load_ms / 1000 + _seconds_per_process(run_ms, files, budget_seconds)
    return min(PROCESSES * each + 4 * START_SECONDS, LARGEST_SHARE * budget_seconds)


def _seconds_per_process(run_ms: float, files: int, budget_seconds: float) -> float:
    least, most = SECONDS_PER_PROCESS
    wanted = min(max(ROUNDS * files * run_ms / 1000, least), most)
    return min(wanted, LARGEST_SHARE * budget_seconds / PROCESSES)


def decide(bench: Bench, trials: Trials, budget_seconds: float) -> Final:
    """Measure, write the better figures into the table, and choose."""
    finalists = _finalists(bench, trials)
    if not finalists:
        return Final(None, bench.noise_floor, {})
    measured = _measure(bench, [bench.original, *(finalist.path for finalist in finalists)], budget_seconds)
    against_itself, *comparisons = measured
    baseline = bench.baseline.model_copy(
        update={"latency": against_itself.baseline, "peak_memory_bytes": bench.memory(bench.original)}
    )
    bench.baseline, trials.original = baseline, replace(trials.original, figures=baseline)
    for finalist, comparison in zip(finalists, comparisons, strict=True):
        _refine(bench, trials, finalist, comparison)
    trials.chosen = _choice(trials, [finalist.id for finalist in finalists], against_itself.speedup)
    series = {one.id: comparison.series for one, comparison in zip(finalists, comparisons, strict=True)}
    return Final(trials.chosen, against_itself.speedup, series)


def _finalists(bench: Bench, trials: Trials) -> list[Candidate]:
    """The best inside the limits, so that a favourite that does not hold has a stand-in; one only of huge files."""
    ranked = [candidate for candidate in trials.ranked() if candidate.path.exists()]
    promising = [candidate for candidate in ranked if trials.gained(candidate) > 1]
    most = FINALISTS if bench.original.stat().st_size < HUGE_BYTES else 1
    return promising[:most] or ranked[:1]


def _measure(bench: Bench, candidates: Sequence[Path], budget_seconds: float) -> list[LatencyComparison]:
    each = _seconds_per_process(bench.run_ms, len(candidates) + 1, budget_seconds)
    with bench.lock.measuring():
        return latency.compare(
            bench.original,
            candidates,
            bench.feeds,
            bench.recipe.target,
            processes=PROCESSES,
            seconds=each * PROCESSES,
            precision=0.005,
            seed=bench.recipe.seed,
            rows=bench.rows,
        )


def _refine(bench: Bench, trials: Trials, finalist: Candidate, comparison: LatencyComparison) -> None:
    memory = bench.memory(finalist.path)
    figures = finalist.figures.model_copy(update={"latency": comparison.candidate, "peak_memory_bytes": memory})
    trials.refine(finalist.id, figures, finalist.comparison.model_copy(update={"speedup": comparison.speedup}))


def _choice(trials: Trials, finalists: Sequence[str], noise: Interval) -> str | None:
    candidates = [trials.candidates[name] for name in finalists]
    held = [one for one in candidates if goal.holds(trials.gain(one), trials.minimize, noise)]
    best = trials.best(held)
    return best.id if best else None
