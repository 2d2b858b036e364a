"""Rounding: how much of what few bits take comes back by least squares, and by training.

Networks that lose by rounding: the residual one with uneven channels of the ablation, without the remedies that would
help it otherwise, and products in 4 bits. Judged on all test images, each beside the float network: points of top-1
lost, with the 95 % interval of the paired comparison.

    STROP_BENCH_STEPS=20 python -m benchmarks rounding      # shorter trainings
"""

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from benchmarks.ablation import EXAMPLES, PLAIN, SUFFERING, TARGET
from benchmarks.table import Row
from engine.data import Samples, open_samples
from engine.graph import load, save
from engine.measure import accuracy
from engine.quantize.prepare import prepared
from engine.recipe import (
    EightBits,
    Metric,
    QuantizeAwareTraining,
    QuantizeStatic,
    QuantizeWeights,
    Scales,
    Step,
    Target,
    WeightLayout,
)
from engine.signature import Signature
from engine.steps import STEPS, Skipped, StepContext
from examples.fashion import data as fashion

DATA = ("learned", "judged")
LEARNED = 2048  #: images without labels
JUDGING = Target(threads=1, batch_size=50)
TRAINING = {"steps": int(os.environ.get("STROP_BENCH_STEPS", "150")), "batch_size": 32, "learning_rate": 1e-3}
COARSE = PLAIN.model_copy(update={"weight_scales": Scales.PER_TENSOR})
FOUR_BITS = QuantizeWeights(bits=4, block_size=256, layout=WeightLayout.DEQUANTIZE, fit_rounding=False)


@dataclass(frozen=True)
class Case:
    words: str
    kind: str
    step: QuantizeStatic | QuantizeWeights
    spoil: Callable[[onnx.ModelProto], onnx.ModelProto] | None = None


CASES = (
    Case("uneven residual, 7 bits, a scale per channel", "residual", PLAIN, SUFFERING["residual"]),
    Case("uneven residual, 7 bits, one scale", "residual", COARSE, SUFFERING["residual"]),
    Case("residual, 7 bits, a scale per channel", "residual", PLAIN),
    Case("transformer, weights in 4 bits, blocks of 256", "transformer", FOUR_BITS),
)


def run() -> list[Row]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.savez(folder / "learned.npz", image=fashion.load("train")[0][:LEARNED])
        images, labels = fashion.load("test")
        np.savez(folder / "judged.npz", image=images, labels=labels)
        return [_row(case, folder, folder / str(number)) for number, case in enumerate(CASES)]


def _row(case: Case, data: Path, folder: Path) -> Row:
    folder.mkdir()
    signature = Signature.of(load(EXAMPLES / f"{case.kind}.onnx"))
    learned, judged = (open_samples(data / f"{name}.npz", signature, None, folder / name) for name in DATA)
    graph = prepared(EXAMPLES / f"{case.kind}.onnx", learned, folder)
    assert not isinstance(graph, str), graph
    model = save(case.spoil(graph) if case.spoil else graph, folder / "float.onnx")
    reference = accuracy.run_outputs(model, judged, JUDGING, folder / "reference")
    row = {"network": case.words}
    for words, made in _ways(case.step, model, learned, folder).items():
        outputs = accuracy.run_outputs(made, judged, JUDGING, folder / f"outputs-{words}")
        found = accuracy.compare(reference, outputs, judged.labels, Metric.TOP1, limit=None, seed=0)
        row |= {"float": _percent(found.reference.value), words: _lost(found)}
    return row


def _ways(step: QuantizeStatic | QuantizeWeights, model: Path, learned: Samples, folder: Path) -> dict[str, Path]:
    """The files that come of the step with plain rounding, by least squares, and trained with and without scales."""
    plain = _made(step, model, folder / "nearest", model, learned)
    fitted = _made(step.model_copy(update={"fit_rounding": True}), model, folder / "fitted", model, learned)
    ways = {"to the nearest level": plain, "by least squares": fitted}
    options = {name: getattr(step, name) for name in EightBits.model_fields} if isinstance(step, QuantizeStatic) else {}
    start = model if options else plain
    for learn_scales in (False, True):
        training = QuantizeAwareTraining(**options, **TRAINING, learn_scales=learn_scales)
        words = f"trained{', scales too' * learn_scales}"
        ways[words] = _made(training, start, folder / words.replace(" ", "-"), model, learned, otherwise=plain)
    return ways


def _made(
    step: Step, model: Path, folder: Path, original: Path, learned: Samples, *, otherwise: Path | None = None
) -> Path:
    """What the step proposes first; where it finds nothing better, what there was."""
    folder.mkdir()
    outcome = STEPS[type(step)].run(step, model, StepContext(learned, folder, TARGET, 0, original=original))
    if isinstance(outcome, Skipped):
        assert otherwise is not None, outcome.reason
        return otherwise
    return (outcome if isinstance(outcome, list) else next(outcome))[0].path


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.2f} %"


def _lost(found: accuracy.AccuracyComparison) -> str:
    drop = found.drop
    return f"{100 * drop.value:.2f} ({100 * drop.low:.2f}–{100 * drop.high:.2f}), {found.sqnr_db or 0:.1f} dB"
