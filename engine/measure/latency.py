"""How long one run takes, and how many times faster a candidate is than the original.

Original and candidates are timed in turns (`timing`) in several fresh processes; the order in which their sessions are
opened changes from process to process, since it decides where memory lies. The interval of the speed-up holds over
processes (`intervals`). Pass the original as one more candidate to learn the noise floor: the speed-up of a file over
itself, which should hold 1. Take `HostLock.measuring()` around it.
"""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from engine.errors import StepFailed
from engine.measure.intervals import speedup_interval
from engine.measure.probe.launch import MOST_SECONDS, run_probe
from engine.measure.probe.spec import Feeds, LatencySpec, write_feeds
from engine.measure.spread import median_interval
from engine.recipe import Target
from engine.report import Interval, Latency, LatencySeries

MOST_SAMPLES = 400  #: of each process that go into the report


@dataclass(frozen=True)
class LatencyComparison:
    baseline: Latency
    candidate: Latency
    speedup: Interval
    series: list[LatencySeries]  #: one per process
    over: list[Interval]  #: how many times as fast as each of the candidates, in their order


@dataclass(frozen=True)
class Process:
    """What one probe answered: milliseconds by round and file, and what opening and the first run took."""

    samples: np.ndarray
    load_ms: list[float]
    first_run_ms: list[float]


def compare(
    baseline: Path,
    candidates: Sequence[Path],
    feeds: Feeds,
    target: Target,
    *,
    processes: int,
    seconds: float,
    precision: float = 0.02,
    seed: int = 0,
    rows: int | None = None,
) -> list[LatencyComparison]:
    """One comparison per candidate, in their order.

    `seconds` caps the timed part of all processes together, opening the files comes on top. A process ends early when
    the 95 % interval of every median ratio is narrower than `precision`. `rows` is the number of samples that one run
    takes, where it is not the target's batch size.
    """
    models = [baseline, *candidates]
    measured = [
        _measure(models, feeds, target, number, seconds=seconds / processes, precision=precision, seed=seed)
        for number in range(processes)
    ]
    latencies = [_latency(measured, slot, rows or target.batch_size) for slot in range(len(models))]
    return [
        LatencyComparison(
            baseline=latencies[0],
            candidate=latencies[slot],
            speedup=_speedup(measured, slot, over=0),
            series=[_series(process, slot) for process in measured],
            over=[_speedup(measured, slot, over=other) for other in range(1, len(models))],
        )
        for slot in range(1, len(models))
    ]


def compare_apart(
    paths: Sequence[Path],
    compare_all: Callable[[Sequence[Path]], list[LatencyComparison]],
    failed: Callable[[Path, StepFailed], None],
) -> dict[Path, LatencyComparison]:
    """All files at once; where that breaks one by one, so that only what breaks is left out and told of."""
    try:
        return dict(zip(paths, compare_all(paths), strict=True))
    except StepFailed as error:
        if len(paths) == 1:
            failed(paths[0], error)
            return {}
    return {path: one for each in paths for path, one in compare_apart([each], compare_all, failed).items()}


def _measure(
    models: list[Path], feeds: Feeds, target: Target, number: int, *, seconds: float, precision: float, seed: int
) -> Process:
    with tempfile.TemporaryDirectory(prefix="latency-") as name:
        write_feeds(feeds, Path(name) / "feeds.npz")
        spec = LatencySpec(
            model=str(models[0]),
            rivals=[str(model) for model in models[1:]],
            device=target.device,
            threads=target.threads,
            feeds=str(Path(name) / "feeds.npz"),
            order=opening_order(len(models), number),
            seconds=seconds,
            precision=precision,
            seed=seed + number,
            samples=str(Path(name) / "samples.npy"),
        )
        answer: dict[str, Any] = run_probe(spec, seconds=MOST_SECONDS + 2 * seconds)
        return Process(np.load(spec.samples), answer["load_ms"], answer["first_run_ms"])


def opening_order(files: int, process: int) -> list[int]:
    """Every file comes first in turn, and every second time backwards."""
    order = [(slot + process // 2) % files for slot in range(files)]
    return order[::-1] if process % 2 else order


def _speedup(measured: list[Process], slot: int, *, over: int) -> Interval:
    ratios = (np.log(process.samples[:, over] / process.samples[:, slot]) for process in measured)
    return speedup_interval([median_interval(ratio) for ratio in ratios])


def _latency(measured: list[Process], slot: int, rows: int) -> Latency:
    times = np.concatenate([process.samples[:, slot] for process in measured])
    median, p90, p95, p99 = (float(value) for value in np.percentile(times, [50, 90, 95, 99]))
    return Latency(
        median_ms=median,
        p90_ms=p90,
        p95_ms=p95,
        p99_ms=p99,
        runs=len(times),
        processes=len(measured),
        load_ms=float(np.median([process.load_ms[slot] for process in measured])),
        first_run_ms=float(np.median([process.first_run_ms[slot] for process in measured])),
        throughput_per_s=1000 * rows / median,
    )


def _series(process: Process, slot: int) -> LatencySeries:
    """Rounds spread evenly over the whole measurement, so that a drift stays visible."""
    count = len(process.samples)
    kept = np.unique(np.linspace(0, count - 1, min(count, MOST_SAMPLES)).round().astype(int))
    baseline, candidate = process.samples[kept, 0], process.samples[kept, slot]
    return LatencySeries(baseline_ms=baseline.round(6).tolist(), candidate_ms=candidate.round(6).tolist())
