"""The final measurement decides: the finalists against the original, in several fresh processes, with the noise floor.

The original also runs against itself. A candidate is an improvement only where the whole interval of what it gained
lies above 1, and what it gained lies above what the original “gained” on itself. If the favourite does not hold, the
next best may.

Where the search kept samples apart, the finalists are judged by those first: whatever was chosen by luck shows there.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from engine import beside, goal
from engine.errors import EngineError
from engine.measure import latency
from engine.measure.latency import LatencyComparison
from engine.pipeline.bench import Bench
from engine.pipeline.trials import Candidate, Trials, unfaithfulness
from engine.quantize.formats import may_saturate
from engine.recipe import Minimize
from engine.report import Interval, LatencySeries
from engine.steps.base import cpu_is_x86

FINALISTS = 3
MOST_JUDGED = 6  #: by samples that the search never saw, until enough of them are inside the limits
JUDGING_SHARE = 0.4  #: of the time left, after which no other one is judged
HUGE_BYTES = 512 << 20  #: all finalists and the original, twice, are open side by side
MOST_PROCESSES, FEWEST_PROCESSES = 4, 2
PROFILES = 2  #: that follow it
ROUNDS = 60
SECONDS_PER_PROCESS = (1.2, 20.0)
LEAST_SECONDS = 0.3  #: in a process, where the budget is nearly spent
LARGEST_SHARE = 0.35  #: of the whole budget


@dataclass(frozen=True)
class Final:
    """What the final measurement found; `chosen` is the id of the improvement, if there is one."""

    chosen: str | None
    noise_floor: Interval | None
    series: dict[str, list[LatencySeries]]


def expected_seconds(bench: Bench, load_ms: float, budget_seconds: float) -> float:
    files = FINALISTS + 2
    judging = bench.pass_seconds * (MOST_JUDGED + 1) * len(bench.unseen or ()) / len(bench.samples)
    each = bench.start_seconds + files * load_ms / 1000 + _wanted_seconds(bench.run_ms, files)
    measuring = MOST_PROCESSES * each + (files + PROFILES) * bench.start_seconds
    return min(measuring + judging, LARGEST_SHARE * budget_seconds)


def affordable(left_seconds: float, start_seconds: float, wanted_seconds: float) -> tuple[int, float]:
    """Processes, and seconds to measure in each of them."""
    processes = int(left_seconds / (start_seconds + LEAST_SECONDS))
    processes = min(max(processes, FEWEST_PROCESSES), MOST_PROCESSES)
    return processes, min(wanted_seconds, max(left_seconds / processes - start_seconds, LEAST_SECONDS))


def _wanted_seconds(run_ms: float, files: int) -> float:
    """In one process."""
    least, most = SECONDS_PER_PROCESS
    return min(max(ROUNDS * files * run_ms / 1000, least), most)


def decide(bench: Bench, trials: Trials, left_seconds: float) -> Final:
    """Measure for as long as there is time, write the better figures into the table, and choose."""
    finalists = _finalists(bench, trials)
    if not finalists and trials.recipe.analyze is None:
        return Final(None, bench.noise_floor, {})
    if bench.unseen is not None:
        started = time.monotonic()
        finalists = _judged_by_unseen(bench, trials, finalists, JUDGING_SHARE * left_seconds)
        trials.choose_among(finalists)  # should the measurement fail
        left_seconds -= time.monotonic() - started
    measured = _measure(bench, [bench.original, *(finalist.path for finalist in finalists)], left_seconds)
    against_itself, *comparisons = measured
    baseline = bench.baseline.model_copy(
        update={"latency": against_itself.baseline, "peak_memory_bytes": bench.memory(bench.original)}
    )
    bench.baseline, trials.original = baseline, replace(trials.original, figures=baseline)
    for finalist, comparison in zip(finalists, comparisons, strict=True):
        _refine(bench, trials, finalist, comparison)
    found = {one.id: comparison for one, comparison in zip(finalists, comparisons, strict=True)}
    if trials.recipe.is_optimization:
        trials.chosen = _choice(trials, found, against_itself.speedup)
    _emulate(bench, trials)
    return Final(trials.chosen, against_itself.speedup, {name: one.series for name, one in found.items()})


def _finalists(bench: Bench, trials: Trials) -> list[Candidate]:
    """The best inside the limits, so that a favourite that does not hold has a stand-in; one only of huge files.

    Where other samples judge them, more, and the most faithful one of the rest last. Where models are compared, all.
    """
    if not trials.recipe.is_optimization:
        return list(trials.candidates.values())
    ranked = [candidate for candidate in trials.ranked() if candidate.path.exists()]
    promising = [candidate for candidate in ranked if goal.holds(trials.gain(candidate), trials.minimize)]
    if bench.unseen is None:
        return promising[: _most(bench)] or ranked[:1]
    first, rest = promising[: MOST_JUDGED - 1], promising[MOST_JUDGED - 1 :]
    return [*first, *([min(rest, key=unfaithfulness)] if rest else [])] or ranked[:1]


def _most(bench: Bench) -> int:
    return FINALISTS if beside.size_bytes(bench.original) < HUGE_BYTES else 1


def _judged_by_unseen(bench: Bench, trials: Trials, finalists: Sequence[Candidate], seconds: float) -> list[Candidate]:
    """The best of those that keep the limits on samples which the search never saw; the favourite where none does."""
    started = time.monotonic()
    searched, budget_seconds = len(bench.samples), 60 * bench.recipe.budget.minutes
    bench.judge_by_unseen(budget_seconds)
    trials.original = replace(trials.original, figures=bench.baseline)
    judged: list[Candidate] = []
    inside: list[Candidate] = []
    for finalist in finalists:
        if len(inside) == _most(bench) or (judged and time.monotonic() - started > seconds):
            break
        one = _judged_anew(bench, finalist)
        if one is None:
            continue
        judged.append(one)
        trials.candidates[one.id] = one
        if trials.excess(one) is None:
            inside.append(one)
    trials.notes.append(
        f"The search weighed files by {searched} samples; the finalists were judged by {len(bench.samples)} others, "
        "which it never saw."
    )
    if judged and (excess := trials.excess(judged[0])):
        trials.notes.append(
            f"The favourite of the search was {judged[0].id}, but on samples that it never saw {excess}"
        )
    return inside or judged[:1]


def _judged_anew(bench: Bench, finalist: Candidate) -> Candidate | None:
    try:
        quality = bench.quality(finalist.path)
    except EngineError as error:
        bench.warnings.append(f"{finalist.id} does not run on all samples, so it is not offered. {error.detail}")
        return None
    figures = finalist.figures.model_copy(update={"accuracy": quality.candidate})
    lost = {"accuracy_drop": quality.drop, "sqnr_db": quality.sqnr_db, "agreement": quality.agreement}
    comparison = finalist.comparison.model_copy(update=lost)
    return replace(finalist, figures=figures, comparison=comparison, warnings=tuple(quality.warnings))


def _measure(bench: Bench, candidates: Sequence[Path], left_seconds: float) -> list[LatencyComparison]:
    files = len(candidates) + 1
    left_seconds -= files * bench.start_seconds  # their memory is measured as well
    processes, each = affordable(left_seconds, bench.start_seconds, _wanted_seconds(bench.run_ms, files))
    with bench.lock.measuring():
        return latency.compare(
            bench.original,
            candidates,
            bench.feeds,
            bench.recipe.target,
            processes=processes,
            seconds=each * processes,
            precision=0.005,
            seed=bench.recipe.seed,
            rows=bench.rows,
        )


def _refine(bench: Bench, trials: Trials, finalist: Candidate, comparison: LatencyComparison) -> None:
    memory = bench.memory(finalist.path)
    figures = finalist.figures.model_copy(update={"latency": comparison.candidate, "peak_memory_bytes": memory})
    trials.refine(finalist.id, figures, finalist.comparison.model_copy(update={"speedup": comparison.speedup}))


def _emulate(bench: Bench, trials: Trials) -> None:
    """How right the chosen file is on x86 CPUs of the other class, if its sums may saturate on one of them."""
    chosen = trials.candidates[trials.chosen] if trials.chosen else None
    if chosen is None or not any(map(may_saturate, chosen.steps)) or not _can_be_emulated(bench, chosen.path):
        return
    try:
        comparison = bench.emulated(chosen.path, chosen.comparison)
    except EngineError as error:
        bench.warnings.append(f"What other CPUs make of the file could not be emulated. {error.detail}")
        return
    trials.refine(chosen.id, chosen.figures, comparison)


def _can_be_emulated(bench: Bench, path: Path) -> bool:
    """The kernels are those of x86 CPUs, and a file in two parts is too large to be cut to pieces."""
    return cpu_is_x86() and bench.recipe.target.device == "cpu" and not beside.is_apart(path)


def _choice(trials: Trials, found: Mapping[str, LatencyComparison], noise: Interval) -> str | None:
    candidates = [trials.candidates[name] for name in found]
    inside = [one for one in candidates if trials.excess(one) is None]
    held = [one for one in inside if goal.holds(trials.gain(one), trials.minimize, noise)]
    best = _fastest(trials, held, found) if trials.minimize is Minimize.LATENCY else trials.best(held)
    return best.id if best else None


def _fastest(trials: Trials, held: Sequence[Candidate], found: Mapping[str, LatencyComparison]) -> Candidate | None:
    """Where the two, timed in turns, cannot be told apart, the most faithful one."""
    first = max(held, key=trials.gained, default=None)
    if first is None:
        return None
    over = dict(zip(found, found[first.id].over[1:], strict=True))  # the original was the first candidate
    as_fast = [one for one in held if over[one.id].low <= 1 or over[one.id].value < 1 + goal.WITHIN_NOISE]
    return min(as_fast, key=unfaithfulness)
