"""Candidates made up from figures, to test what is chosen and why without measuring anything."""

from pathlib import Path

from engine.pipeline.trials import Candidate, Trials
from engine.recipe import Goal, Limits, Minimize, QuantizeStatic, Recipe, Step
from engine.report import Accuracy, Comparison, Figures, Interval, Latency, Trial


def interval(value: float, half: float = 0.02) -> Interval:
    return Interval(value=value, low=value - half, high=value + half)


def figures(median_ms: float, size_bytes: int = 1000, memory: int | None = None) -> Figures:
    latency = Latency(
        median_ms=median_ms,
        p90_ms=median_ms,
        p95_ms=median_ms,
        p99_ms=median_ms,
        runs=100,
        processes=1,
        load_ms=1,
        first_run_ms=1,
        throughput_per_s=1000 / median_ms,
    )
    accuracy = Accuracy(metric="top1", unit="share", higher_is_better=True, value=0.9, samples=500)
    return Figures(
        size_bytes=size_bytes,
        parameters=10,
        macs=10,
        latency=latency,
        accuracy=accuracy,
        peak_memory_bytes=memory,
    )


def candidate(
    name: str,
    speedup: float,
    drop: float = 0.0,
    *,
    size_bytes: int = 1000,
    sqnr_db: float | None = 30.0,
    steps: tuple[Step, ...] = (),
) -> Candidate:
    return Candidate(
        id=name,
        path=Path(f"{name}.onnx"),
        steps=steps or (QuantizeStatic(samples=int(name.strip("t")) + 1),),
        label=f"candidate {name}",
        figures=figures(10 / speedup, size_bytes),
        comparison=Comparison(speedup=interval(speedup), accuracy_drop=interval(drop, 0.004), sqnr_db=sqnr_db),
        sha256="0" * 64,
    )


def table(
    *candidates: Candidate, limit: float | None = 0.01, minimize: Minimize = Minimize.LATENCY
) -> tuple[Trials, list[Trial]]:
    """A table that holds these, and what was told while it was filled."""
    told: list[Trial] = []
    original = Candidate(
        id="original",
        path=Path("original.onnx"),
        steps=(),
        label="the original",
        figures=figures(10),
        comparison=Comparison(speedup=interval(1, 0), accuracy_drop=interval(0, 0)),
        sha256="1" * 64,
    )
    recipe = Recipe(goal=Goal(minimize=minimize), limits=Limits(accuracy_drop=limit))
    trials = Trials(recipe, original, told.append)
    trials.add(*candidates)
    return trials, told
