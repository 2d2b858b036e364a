"""Layers replaced by cheaper ones: what a prediction of their time is worth, and what depthwise pairs bring.

prediction   networks in which moves were drawn by lot, a move at half of the sites. Their time is predicted by the sum
             of what each move saves: alone in the whole network, or as a small graph of its own. Against what is
             measured: the rank correlation (Spearman), the mean and the worst error. A third way corrects the sum in
             the whole network by one factor for each network, as the search does with the first one that it measures.
depthwise    every dense convolution that gets faster becomes a depthwise and a pointwise one, taught layer by layer,
             then all together (`distill`), without labels: 10,000 training images, top-1 on the 10,000 test images.

STROP_BENCH_ONLY takes networks with that in their name; STROP_BENCH_STEPS is the number of steps together (600).
"""

import os
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from benchmarks.table import Row
from engine.data import Samples, open_samples
from engine.graph import copied, load
from engine.measure import accuracy, latency
from engine.measure.complexity import count
from engine.measure.layers import LayerTimes
from engine.quantize.calibrate import Calibrator
from engine.quantize.prepare import prepared
from engine.recipe import Distill, Metric, Move, ReplaceLayers, Target
from engine.replace.parts import Part, cut_out, open_value
from engine.replace.work import Work
from engine.signature import Signature
from engine.steps import Skipped, StepContext, distill, replace_layers
from engine.surroundings import never_pause, tell_nobody
from examples.fashion import data as fashion

EXAMPLES = Path(__file__).parent.parent / "examples" / "fashion"
NETWORKS = ("plain", "residual", "depthwise", "dense")
TAUGHT = ("plain", "residual")
LEARNED, DRAWN = 10_000, 24  #: images, and networks that are drawn
TARGET = Target(threads=1, batch_size=1)


def run() -> list[Row]:
    only = os.environ.get("STROP_BENCH_ONLY", "")
    there = [name for name in NETWORKS if only in name and (EXAMPLES / f"{name}.onnx").exists()]
    rows: list[Row] = []
    for name in there:
        with tempfile.TemporaryDirectory() as folder:
            rows += _prediction(name, Path(folder))
            rows += _depthwise(name, Path(folder)) if name in TAUGHT else []
    return rows


def _samples(name: str, part: str, count_: int | None, folder: Path) -> Samples:
    images, labels = fashion.load("train" if part == "train" else "test")
    np.savez(folder / f"{part}.npz", image=images[:count_], labels=labels[:count_])
    signature = Signature.of(load(EXAMPLES / f"{name}.onnx"))
    return open_samples(folder / f"{part}.npz", signature, None, folder / part)


# ── prediction ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _prediction(name: str, folder: Path) -> list[Row]:
    samples = _samples(name, "train", 64, folder)
    model = prepared(EXAMPLES / f"{name}.onnx", samples, folder)
    assert not isinstance(model, str), model
    calibrator = Calibrator(model, samples, folder, 1, never_pause)
    work = Work(model, calibrator, samples, LayerTimes(TARGET), None, 0, tell_nobody)
    parts = work.parts(frozenset(Move))
    whole, in_place = work.whole_ms(), work.saved_ms(parts)
    by_itself = _alone(work, parts)
    drawn = _drawn(parts)
    measured = np.array([work.whole_ms([parts[index] for index in some]) for some in drawn])
    predicted = {
        "whole networks": np.array([whole - sum(in_place[index] for index in some) for some in drawn]),
        "small graphs": np.array([whole - sum(by_itself[index] for index in some) for some in drawn]),
    }
    saved = whole - predicted["whole networks"]
    factor = float((saved @ (whole - measured)) / (saved @ saved))
    predicted[f"whole networks, times {factor:.2f}"] = whole - factor * saved
    return [
        {
            "model": name,
            "what": f"{len(drawn)} networks of {len(parts)} moves, by {way}",
            "rank correlation": f"{spearmanr(values, measured).statistic:.2f}",
            "error": f"mean {_error(values, measured).mean():.0%}, worst {_error(values, measured).max():.0%}",
        }
        for way, values in predicted.items()
    ]


def _error(predicted: np.ndarray, measured: np.ndarray) -> np.ndarray:
    return np.abs(predicted - measured) / measured


def _alone(work: Work, parts: Sequence[Part]) -> list[float]:
    """What each part saves by the times of two small graphs, its own and that of what it replaces."""
    before = [cut_out(work.model, part.site, work.types) for part in parts]
    after = [copied(part.model) for part in parts]
    for model, part in zip(after, parts, strict=True):
        model.graph.input[0].CopyFrom(open_value(part.site.input, work.types))
    times = work.times.milliseconds([*before, *after])
    return [times[index] - times[index + len(parts)] for index in range(len(parts))]


def _drawn(parts: Sequence[Part]) -> list[list[int]]:
    random = np.random.default_rng(0)
    return [_one(parts, random) for _ in range(DRAWN)]


def _one(parts: Sequence[Part], random: np.random.Generator) -> list[int]:
    """At about half of the sites a move, no site inside of another one."""
    taken: set[str] = set()
    chosen = []
    for index in random.permutation(len(parts))[: len(parts) // 2].tolist():
        if not taken & parts[index].site.covered and random.random() < 0.5:
            taken |= parts[index].site.covered
            chosen.append(index)
    return chosen


# ── depthwise pairs ──────────────────────────────────────────────────────────────────────────────────────────────────


def _depthwise(name: str, folder: Path) -> list[Row]:
    original = EXAMPLES / f"{name}.onnx"
    learned, judged = (_samples(name, part, size, folder) for part, size in (("train", LEARNED), ("test", None)))
    (folder / "taught").mkdir()
    context = StepContext(learned, folder / "taught", TARGET, 0, original=original, seconds=1200)
    alone = replace_layers.run(ReplaceLayers(moves=(Move.DEPTHWISE,), time_share=0.01), original, context)
    assert not isinstance(alone, Skipped), alone
    together = Distill(steps=int(os.environ.get("STROP_BENCH_STEPS", "600")))
    (folder / "together").mkdir()
    after = distill.run(together, alone[0].path, replace(context, folder=folder / "together"))
    assert not isinstance(after, Skipped), after
    files = {"the original": original, "taught layer by layer": alone[0].path, "and together": after[0].path}
    rows = [_figures(path, original, judged, folder / what) for what, path in files.items()]
    return [{"model": name, "what": f"depthwise pairs: {what}", **row} for what, row in zip(files, rows, strict=True)]


def _figures(path: Path, original: Path, judged: Samples, folder: Path) -> Row:
    before, after = (accuracy.run_outputs(one, judged, TARGET, folder / one.stem) for one in (original, path))
    found = accuracy.compare(before, after, judged.labels, Metric.TOP1, limit=None, seed=0)
    feeds = next(judged.batches(1))
    (speed,) = latency.compare(original, [path], feeds, TARGET, processes=3, seconds=4)
    macs = [count(load(one)).macs or 0 for one in (original, path)]
    assert found.candidate.value is not None
    return {
        "operations": f"1 / {macs[0] / max(macs[1], 1):.1f}",
        "speed-up": _interval(speed.speedup.value, speed.speedup.low, speed.speedup.high),
        "top-1": f"{100 * found.candidate.value:.2f} %",
    }


def _interval(value: float, low: float, high: float) -> str:
    return f"{value:.2f} ({low:.2f} … {high:.2f})"
