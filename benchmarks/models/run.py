"""Each model through Strop and its peers, then all files measured in turns."""

import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.models import cases
from benchmarks.models.cases import Case
from benchmarks.models.job import run_engine
from benchmarks.models.peers import PEERS
from benchmarks.table import Row
from engine.data import open_samples
from engine.errors import EngineError
from engine.graph import load
from engine.measure import accuracy, latency
from engine.measure.accuracy import AccuracyComparison
from engine.measure.lock import HostLock
from engine.recipe import Budget, Goal, Limits, Metric, Recipe, Target
from engine.report import Interval, Latency, Outcome, Report
from engine.signature import Signature

STROP = "Strop"
LIMIT = 0.01  #: of top-1
ROUNDING = 1e-9  #: 2 of 200 samples are not more than 0.01
PROCESSES, SECONDS = 5, 25.0
LONGEST = 240  #: characters of what went wrong
TARGET = Target(threads=1, batch_size=1)


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


def run() -> list[Row]:
    """All models, or those with STROP_BENCH_ONLY in their name."""
    logging.disable(logging.WARNING)  # the peers' advice
    only = os.environ.get("STROP_BENCH_ONLY", "")
    names = [name for name in cases.MAKERS if only in name]
    if not names:
        raise SystemExit(f"STROP_BENCH_ONLY={only} is in the name of no model: {'; '.join(cases.MAKERS)}")
    rows = [row for name in names for row in _rows_of(name)]
    for row in rows:
        if row["what"].isupper():
            print(f"{row['model']}, {row['by']}: {row['what']}", file=sys.stderr)
    return rows


def _rows_of(name: str) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        try:
            case = cases.made(name, Path(folder))
        except (FileNotFoundError, ImportError) as error:
            return [_row(name, Result("", 0, problem=str(error)), None)]
        results = _results(case, Path(folder))
    ours = next(result for result in results if result.by == STROP)
    rows = [_row(name, result, ours) for result in results]
    print(*rows, sep="\n", file=sys.stderr)  # a run takes hours; what is there should not be lost
    return rows


# ── making ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _results(case: Case, folder: Path) -> list[Result]:
    results = [_attempted(STROP, folder / "best.onnx", lambda path: optimize(case, path))]
    for name, make in PEERS.items():
        results.append(_attempted(name, folder / f"{name}.onnx", lambda path, make=make: make(case, path)))
    return _timed(case, _judged(case, results, folder), folder)


def _attempted(name: str, path: Path, make: Callable[[Path], str | None]) -> Result:
    begun = time.monotonic()
    try:
        words = make(path) or ""
    except Exception as error:  # noqa: BLE001 - whatever a rival raises is its result
        return Result(name, time.monotonic() - begun, problem=f"{type(error).__name__}: {error}")
    return Result(name, time.monotonic() - begun, path, words)


def optimize(case: Case, path: Path) -> str:
    """A whole job for the lowest latency; its file is left at the path."""
    budget = Budget(minutes=float(os.environ.get("STROP_BENCH_MINUTES", "20")))
    recipe = Recipe(goal=Goal(), limits=Limits(accuracy_drop=LIMIT), target=TARGET, budget=budget)
    attempt = path.with_suffix("")
    report = run_engine(recipe, attempt, case.model, case.calibration, case.evaluation)
    (attempt / "out" / "model.onnx").rename(path)
    return _chosen(report)


def _chosen(report: Report) -> str:
    label = next((trial.label for trial in report.trials if trial.id == report.verdict.chosen), "the original")
    return f"{report.verdict.outcome}: {label}"


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
