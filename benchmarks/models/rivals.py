"""What rivals make of one model: their files judged by the same samples and timed in turns, as rows of a table."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.models.cases import Case
from benchmarks.table import Row
from engine.data import open_samples
from engine.errors import EngineError
from engine.graph import load
from engine.measure import accuracy, latency
from engine.measure.accuracy import AccuracyComparison
from engine.measure.lock import HostLock
from engine.recipe import Metric, Target
from engine.report import Interval, Latency, Outcome
from engine.signature import Signature

STROP = "Strop"
LIMIT = 0.01  #: of top-1
ROUNDING = 1e-9  #: 2 of 200 samples are not more than 0.01
PROCESSES, SECONDS = 5, 25.0
LONGEST = 240  #: characters of what went wrong
TARGET = Target(threads=1, batch_size=1)

Maker = Callable[[Path], str | None]  #: leaves a file at the path and says a word about it, or raises


@dataclass(frozen=True)
class Result:
    """What one of the rivals made of a model; without a file `problem` says why, without figures too."""

    by: str
    seconds: float
    path: Path | None = None
    words: str = ""
    problem: str = ""
    comparison: AccuracyComparison | None = None
    speedup: Interval | None = None
    baseline: Latency | None = None

    @property
    def within_limit(self) -> bool:
        return self.comparison is not None and self.comparison.drop.value <= LIMIT + ROUNDING


def rows(case: Case, makers: Mapping[str, Maker], folder: Path) -> list[Row]:
    """One for each maker. Strop's own is the one that the others are held against."""
    results = [_attempted(by, folder / f"{number}.onnx", make) for number, (by, make) in enumerate(makers.items())]
    results = _timed(case, _judged(case, results, folder), folder)
    ours = next((result for result in results if result.by == STROP), None)
    return [_row(case.name, result, ours) for result in results]


def without(name: str, problem: str) -> Row:
    """Of a model that is not there."""
    return _row(name, Result("", 0, problem=problem), None)


def _attempted(name: str, path: Path, make: Maker) -> Result:
    begun = time.monotonic()
    try:
        words = make(path) or ""
    except Exception as error:  # noqa: BLE001 - whatever a rival raises is its result
        return Result(name, time.monotonic() - begun, problem=f"{type(error).__name__}: {error}")
    return Result(name, time.monotonic() - begun, path, words)


# ── measuring ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _judged(case: Case, results: list[Result], folder: Path) -> list[Result]:
    samples = open_samples(case.evaluation, Signature.of(load(case.model)), None, folder / "samples")
    reference = accuracy.run_outputs(case.model, samples, TARGET, folder / "reference", lock=HostLock(None))

    def judged(result: Result) -> Result:
        if result.path is None:
            return result
        try:
            outputs = accuracy.run_outputs(result.path, samples, TARGET, folder / f"{result.by}-outputs")
            comparison = accuracy.compare(reference, outputs, samples.labels, Metric.AUTO, limit=LIMIT, seed=0)
        except EngineError as error:
            return replace(result, path=None, problem=error.detail)
        return replace(result, comparison=comparison)

    return [judged(result) for result in results]


def _timed(case: Case, results: list[Result], folder: Path) -> list[Result]:
    samples = open_samples(case.evaluation, Signature.of(load(case.model)), None, folder / "feeds")
    paths = {result.by: result.path for result in results if result.path is not None}
    comparisons = latency.compare(
        case.model, list(paths.values()), next(samples.batches(1)), TARGET, processes=PROCESSES, seconds=SECONDS
    )
    found = dict(zip(paths, comparisons, strict=True))
    return [
        replace(result, speedup=found[result.by].speedup, baseline=found[result.by].baseline)
        if result.by in found
        else result
        for result in results
    ]


# ── the table ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _row(model: str, result: Result, ours: Result | None) -> Row:
    speedup, comparison = result.speedup, result.comparison
    return {
        "model": model,
        "by": result.by,
        "original": f"{result.baseline.median_ms:.3f} ms, {_score(comparison)}" if result.baseline else "",
        "speed-up": f"{speedup.value:.2f} ({speedup.low:.2f}–{speedup.high:.2f})" if speedup else "",
        "drop, points": _points(comparison.drop) if comparison else "",
        "SQNR dB": _decibels(comparison) if comparison else "",
        "seconds": f"{result.seconds:.0f}",
        "what": result.problem[:LONGEST] or _verdict(result, ours),
    }


def _score(comparison: AccuracyComparison | None) -> str:
    return f"{comparison.reference.metric} {comparison.reference.value or 0:.2%}" if comparison else ""


def _points(drop: Interval) -> str:
    return f"{100 * drop.value:+.2f} ({100 * drop.low:+.2f}…{100 * drop.high:+.2f})"


def _decibels(comparison: AccuracyComparison) -> str:
    return "equal" if comparison.sqnr_db is None else f"{comparison.sqnr_db:.1f}"


def _verdict(result: Result, ours: Result | None) -> str:
    """How a result stands beside Strop's, what must not happen in capitals."""
    assert result.speedup is not None, "a file that runs was timed"
    if result.by == STROP:  # where nothing helps its file is the original, and only noise can tell the two apart
        changed = not result.words.startswith(Outcome.NO_IMPROVEMENT)
        return "SLOWER THAN THE ORIGINAL" if changed and result.speedup.high < 1 else result.words
    if not result.within_limit:
        return "loses more than the limit"
    if result.speedup.high < 1:
        return "slower than the original"
    return _beside(result.speedup, ours.speedup if ours else None)


def _beside(theirs: Interval, ours: Interval | None) -> str:
    if ours is None or theirs.low > ours.high:
        return "FASTER THAN STROP WITHIN THE LIMIT"
    return "slower than Strop" if theirs.high < ours.low else "as fast as Strop, as far as can be told"
