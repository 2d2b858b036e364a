"""How right a candidate is beside the original: both run on the same samples through ONNX Runtime on the target.

The metric looks at the first output, the fidelity (SQNR) at the worst of all outputs that are floats. A score is never
given without the fidelity, and never without what this number of samples can tell at all.
"""

import tempfile
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path

import numpy as np

from engine.data import Feeds, Samples, save_samples
from engine.errors import DataRejected, StepFailed
from engine.measure.accuracy.choice import AGAINST_ORIGINAL, choose_metric
from engine.measure.accuracy.decisions import Decision, plain
from engine.measure.accuracy.drop import Scores, block_of_each, drop_interval, values_of
from engine.measure.accuracy.metrics import MEASURES, Batch, Measure, in_decibels, noise_and_signal, noise_over_signal
from engine.measure.lock import HostLock
from engine.measure.probe.launch import run_probe
from engine.measure.probe.spec import EmulationSpec, OutputsSpec, Sums, write_feeds
from engine.recipe import Metric, Target
from engine.report import Accuracy, Interval
from engine.words import shown

CHUNK_BYTES = 16 << 20
BYTES_OF_A_CLASS = 48  #: hits, decisions and labels of one sample, as they are counted and as they are summed
LOW_FIDELITY_DB = 15.0  #: below, outputs differ so much that a better score is luck
LONGEST_LOOK_SECONDS = 90.0
LEFT_OUT = "This file is left out; nothing needs to be done."


@dataclass(frozen=True)
class Outputs:
    """All outputs of all samples, memory-mapped, in the model's order."""

    arrays: dict[str, np.ndarray]
    refused: dict[str, str]  #: outputs that cannot be compared, and why
    ragged: frozenset[str] = (
        frozenset()
    )  #: outputs whose shape changes from run to run, with zeros behind what is missing

    @property
    def first_is_ragged(self) -> bool:
        return next(iter(self.arrays)) in self.ragged

    @property
    def first(self) -> np.ndarray:
        return plain(next(iter(self.arrays.values())))


@dataclass(frozen=True)
class AccuracyComparison:
    reference: Accuracy
    candidate: Accuracy
    drop: Interval
    sqnr_db: float | None  #: None where the outputs are equal, or none of them is a float
    agreement: float | None  #: None where the outputs are no decisions
    warnings: list[str]


def run_outputs(
    model: Path,
    samples: Samples,
    target: Target,
    folder: Path,
    *,
    lock: HostLock | None = None,
    emulated: Sums | None = None,
) -> Outputs:
    """Run every sample, on this CPU or as one with such sums; the outputs stay in `folder`. Raises StepFailed."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="samples-") as name:
        spec = OutputsSpec(
            model=str(model),
            device=target.device,
            threads=target.threads,
            samples=str(save_samples(samples, Path(name))),
            batch_size=target.batch_size,
            folder=str(folder),
            emulated_sums=emulated,
        )
        answer = run_probe(spec, lock=lock)
    arrays = {output: np.load(path, mmap_mode="r") for output, path in answer["outputs"]}
    if not arrays:
        detail = "; ".join(f"{shown(output)}: {reason}" for output, reason in answer["refused"].items())
        remedy = "Give the model at least one output of numbers whose shape is the same in every run."
        raise DataRejected("outputs_not_comparable", f"No output can be compared ({detail}).", remedy)
    return Outputs(arrays, answer["refused"], frozenset(answer["ragged"]))


@dataclass(frozen=True)
class Look:
    """What an emulation of a file's 8-bit sums would find."""

    at_risk: int  #: products with pairs that may saturate
    is_complete: bool  #: nothing but those products may
    run_seconds: float  #: one emulated run


def look_at_sums(model: Path, feeds: Feeds, target: Target, *, lock: HostLock | None = None) -> Look:
    """Whether sums of the file may saturate. Raises StepFailed where that is not found out in time."""
    with tempfile.TemporaryDirectory(prefix="sums-") as name:
        path = Path(name) / "feeds.npz"
        write_feeds(feeds, path)
        spec = EmulationSpec(model=str(model), device=target.device, threads=target.threads, feeds=str(path))
        answer = run_probe(spec, seconds=LONGEST_LOOK_SECONDS, lock=lock)
    return Look(answer["at_risk"], answer["is_complete"], max(answer["seconds"], 1e-6))


def compare(
    reference: Outputs,
    candidate: Outputs,
    labels: np.ndarray | None,
    metric: Metric,
    *,
    limit: float | None,
    seed: int,
) -> AccuracyComparison:
    """The candidate's metric, its drop and its fidelity.

    Raises DataRejected where metric and labels do not fit, StepFailed where the candidate's outputs are broken.
    """
    reference, candidate = _with_equal_room(reference, candidate)
    _check_same_shapes(reference, candidate)
    sqnr_db = _fidelity(reference, candidate)
    first, second = reference.first, candidate.first
    chosen, decision = _chosen(metric, reference, labels)
    measure = MEASURES[chosen]
    target = first if labels is None or chosen in AGAINST_ORIGINAL else plain(labels)
    scores = _scores(measure, (first, second, target), decision, seed)
    improvement = chosen is not Metric.AGREEMENT  # nothing agrees more than the original with itself
    drop = drop_interval(measure, scores, seed=seed, per_sample=decision.per_sample, improvement=improvement)
    before, after = (_accuracy(chosen, value, len(first)) for value in values_of(measure, scores))
    return AccuracyComparison(
        reference=before,
        candidate=after,
        drop=drop,
        sqnr_db=sqnr_db,
        agreement=_agreement(first, second, decision, seed),
        warnings=[
            *_ragged(reference.ragged),
            *_unused_labels(metric, chosen, labels),
            *_guessing(before, decision),
            *_cannot_resolve(drop, limit, len(first)),
            *_lucky(drop, sqnr_db, len(first)),
        ],
    )


def fidelity(reference: Outputs, candidate: Outputs) -> float | None:
    """SQNR of the worst output in dB; None where the outputs are equal. Without floats the share of other values is
    the noise. Raises StepFailed where outputs are broken.
    """
    reference, candidate = _with_equal_room(reference, candidate)
    _check_same_shapes(reference, candidate)
    if any(array.dtype.kind == "f" for array in reference.arrays.values()):
        return _fidelity(reference, candidate)
    pairs = [(array, candidate.arrays[name]) for name, array in reference.arrays.items()]
    changed = sum(int((before != after).sum()) for one, other in pairs for _, (before, after) in _chunks(one, other))
    return in_decibels(changed / max(sum(array.size for array, _ in pairs), 1))


# ── the passes over the outputs ──────────────────────────────────────────────────────────────────────────────────────


def _chunks(*arrays: np.ndarray, beside_bytes: int = 0) -> Iterator[tuple[slice, list[np.ndarray]]]:
    """Some rows of each array at a time, read from disk; `beside_bytes` is what one row takes once it is counted."""
    row_bytes = max(array[:1].nbytes for array in arrays) + beside_bytes
    step = max(1, CHUNK_BYTES // max(row_bytes, 1))
    for start in range(0, len(arrays[0]), step):
        rows = slice(start, start + step)
        yield rows, [np.asarray(array[rows]) for array in arrays]


def _scores(
    measure: Measure, arrays: tuple[np.ndarray, np.ndarray, np.ndarray], decision: Decision, seed: int
) -> Scores:
    """Of the original's outputs and the candidate's, both against the target."""
    blocks = block_of_each(len(arrays[0]), seed)
    scores: Scores | None = None
    counts_bytes = BYTES_OF_A_CLASS * decision.classes if measure.by_class else 0
    for rows, (before, after, wanted) in _chunks(*arrays, beside_bytes=counts_bytes):
        reference = measure.numbers(Batch(before, wanted, decision))
        scores = scores or Scores.empty(int(blocks.max()) + 1, reference.shape[1])
        scores.add(blocks[rows], reference, measure.numbers(Batch(after, wanted, decision)))
    assert scores is not None, "a data set has at least one sample"
    return scores


def _agreement(first: np.ndarray, second: np.ndarray, decision: Decision, seed: int) -> float | None:
    if not decision.readable:
        return None
    measure = MEASURES[Metric.AGREEMENT]
    return values_of(measure, _scores(measure, (first, second, first), decision, seed))[1]


def _fidelity(reference: Outputs, candidate: Outputs) -> float | None:
    """SQNR of the worst output. Raises StepFailed where a candidate's output is not finite and the original's is."""
    worst = 0.0
    for name, original in reference.arrays.items():
        if original.dtype.kind != "f":
            continue
        sums = np.zeros(2)
        for _, (before, after) in _chunks(original, candidate.arrays[name]):
            sums += noise_and_signal(Batch(after, before, Decision())).sum(axis=0)
        if not np.isfinite(sums).all():
            detail = f"Output {shown(name)} holds NaN or infinity where the original's is finite."
            raise StepFailed("outputs_not_finite", detail, LEFT_OUT)
        worst = max(worst, float(noise_over_signal(sums)))
    return in_decibels(worst)


def _chosen(metric: Metric, reference: Outputs, labels: np.ndarray | None) -> tuple[Metric, Decision]:
    if not reference.first_is_ragged:
        return choose_metric(metric, reference.first, labels)
    if metric not in (Metric.AUTO, Metric.SQNR):
        detail = f"The first output changes its shape from run to run, which the metric {metric} cannot read."
        raise DataRejected("labels_shape", detail, "Choose the metric sqnr, which compares with the original.")
    return Metric.SQNR, Decision()


def _with_equal_room(*both: Outputs) -> tuple[Outputs, ...]:
    """Zeros behind what one of the two is missing: an entry that only one of them has is noise."""
    ragged = frozenset.union(*(outputs.ragged for outputs in both))
    arrays = [dict(outputs.arrays) for outputs in both]
    for name in ragged.intersection(*arrays):
        shapes = [one[name].shape for one in arrays]
        if len({(len(shape), shape[0]) for shape in shapes}) == 1:
            room = np.max(shapes, axis=0)
            for one in arrays:
                one[name] = np.pad(one[name], [(0, size) for size in room - one[name].shape])
    return tuple(replace(outputs, arrays=one, ragged=ragged) for outputs, one in zip(both, arrays, strict=True))


def _check_same_shapes(reference: Outputs, candidate: Outputs) -> None:
    shapes = {name: array.shape for name, array in reference.arrays.items()}
    others = {name: array.shape for name, array in candidate.arrays.items()}
    if shapes != others:
        detail = f"The outputs have the shapes {others}, those of the original {shapes}."
        raise StepFailed("outputs_differ", detail, LEFT_OUT)


# ── words ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _accuracy(metric: Metric, value: float, samples: int) -> Accuracy:
    measure = MEASURES[metric]
    return Accuracy(
        metric=metric,
        unit=measure.unit,
        higher_is_better=measure.higher_is_better or metric is Metric.SQNR,  # its value is shown in dB
        value=measure.shown(value),
        samples=samples,
    )


def _ragged(names: AbstractSet[str]) -> list[str]:
    listed = ", ".join(shown(name) for name in sorted(names))
    return (
        [f"The shape of {listed} changes from run to run; another number of entries counts as noise."] if names else []
    )


def _unused_labels(metric: Metric, chosen: Metric, labels: np.ndarray | None) -> list[str]:
    if metric is not Metric.AUTO or labels is None or chosen not in AGAINST_ORIGINAL:
        return []
    given = f"The labels (shape {labels.shape}, {labels.dtype}) are not classes of the first output"
    return [
        f"{given}, so candidates were compared with the original by {chosen}. Name a metric such as mse to use them."
    ]


def _guessing(original: Accuracy, decision: Decision) -> list[str]:
    chance = 1 / max(decision.classes, 2)
    if original.metric != Metric.TOP1 or original.value is None or original.value > chance:
        return []
    seen = f"The original is right on {original.value:.1%} of {original.samples} samples, no more than a guess would be"
    return [f"{seen}: check the labels and how the inputs were prepared, for what is not there cannot be lost."]


def _cannot_resolve(drop: Interval, limit: float | None, samples: int) -> list[str]:
    half = (drop.high - drop.low) / 2
    if not limit or half <= limit:
        return []
    needed = ceil(samples * (half / limit) ** 2)
    seen = f"{samples} samples cannot resolve a drop of {limit:g}: its 95 % interval is ± {half:.2g} wide"
    return [f"{seen}; about {needed} samples would."]


def _lucky(drop: Interval, sqnr_db: float | None, samples: int) -> list[str]:
    if drop.value >= 0 or sqnr_db is None or sqnr_db >= LOW_FIDELITY_DB:
        return []
    gain = f"The score rose by {-drop.value:.2g} although the outputs are only {sqnr_db:.1f} dB from the original's"
    return [f"{gain}; on {samples} samples such a gain is luck."]
