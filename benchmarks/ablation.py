"""Ablation: what each measure that keeps the accuracy of an 8-bit model brings, on two models that suffer.

Both are trained networks whose channels were scaled by factors that the next layer takes back, so that the float
outputs stay the same: a residual CNN with uneven channels, as depthwise networks often have them, and a transformer
whose layer normalizations make outliers, as those of large language models do. What that does to 8 bits is real; that
it is so strong is made.
"""

import tempfile
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from benchmarks.table import Row
from engine.data import Samples, open_samples
from engine.graph import load, save
from engine.measure import accuracy
from engine.measure.glimpse import Glimpse
from engine.quantize.prepare import prepared
from engine.quantize.remedies.channels import Channels
from engine.recipe import Activations, Calibration, Layout, Metric, QuantizeStatic, Range, Scales, Target
from engine.signature import Signature
from engine.steps import Standing, StepContext, quantize_static
from engine.steps.base import cpu_saturates
from examples.fashion import data as fashion

EXAMPLES = Path(__file__).parent.parent / "examples" / "fashion"
LEARNED, JUDGED = 256, 2000  #: samples
TARGET = Target(threads=1, batch_size=1)
UNEVEN = 1.5  #: standard deviation of the factors' logarithm
OUTLIERS, SIZES = 3, (20, 60)  #: channels of a normalization that stick out, and how many times

PLAIN = QuantizeStatic(
    activations=Activations.UNSIGNED,
    weight_range=Range.REDUCED if cpu_saturates() else Range.FULL,
    weight_scales=Scales.PER_CHANNEL,
    layout=Layout.QDQ,
    calibration=Calibration.MINMAX,
    samples=LEARNED,
    equalize=False,
    smooth=False,
    fit_rounding=False,
    correct_bias=False,
    mixed=False,
)
MEASURES: dict[str, dict[str, Any]] = {
    "min-max ranges, nothing else": {},
    "percentile ranges": {"calibration": Calibration.PERCENTILE},
    "entropy ranges": {"calibration": Calibration.ENTROPY},
    "MSE ranges": {"calibration": Calibration.MSE},
    "one scale per tensor": {"weight_scales": Scales.PER_TENSOR},
    "channels equalized": {"equalize": True},
    "outliers smoothed": {"smooth": True},
    "weights rounded by least squares": {"fit_rounding": True},
    "biases corrected": {"correct_bias": True},
    "some layers in float": {"mixed": "auto"},
    "what quantize_static finds by itself": {
        **dict.fromkeys(("equalize", "smooth", "fit_rounding", "correct_bias"), "auto"),
        "calibration": Calibration.AUTO,
    },
}


def run() -> list[Row]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.savez(folder / "calibration.npz", image=fashion.load("train")[0][:LEARNED])
        images, labels = fashion.load("test")
        np.savez(folder / "evaluation.npz", image=images[:JUDGED], labels=labels[:JUDGED])
        return [row for kind, spoil in SUFFERING.items() for row in _rows(kind, spoil, folder)]


def _rows(kind: str, spoil: Callable[[onnx.ModelProto], onnx.ModelProto], folder: Path) -> list[Row]:
    signature = Signature.of(load(EXAMPLES / f"{kind}.onnx"))
    learned = open_samples(folder / "calibration.npz", signature, None, folder / "learned")
    judged = open_samples(folder / "evaluation.npz", signature, None, folder / "judged")
    graph = prepared(EXAMPLES / f"{kind}.onnx", learned, folder)
    assert not isinstance(graph, str), graph
    model = save(spoil(graph), folder / f"{kind}.onnx")
    reference = accuracy.run_outputs(model, judged, TARGET, folder / f"{kind}-reference")
    rows = []
    for number, (words, options) in enumerate(MEASURES.items()):
        place = folder / f"{kind}-{number}"
        step = PLAIN.model_copy(update=options)
        outputs = accuracy.run_outputs(_quantized(step, model, learned, place), judged, TARGET, place / "outputs")
        found = accuracy.compare(reference, outputs, judged.labels, Metric.TOP1, limit=None, seed=0)
        assert found.sqnr_db is not None
        rows.append({"model": kind, "with": words, "SQNR": f"{found.sqnr_db:.1f} dB", "top-1": _top1(found)})
    return rows


def _top1(found: accuracy.AccuracyComparison) -> str:
    before, after = found.reference.value, found.candidate.value
    assert before is not None and after is not None
    return f"{100 * after:.1f} % (float {100 * before:.1f} %)"


def _quantized(step: QuantizeStatic, model: Path, samples: Samples, folder: Path) -> Path:
    """The first file that the step proposes; with mixing, the first one after it has heard that too much is lost."""
    folder.mkdir()
    context = StepContext(samples, folder, TARGET, 0, glimpse=Glimpse(model, samples, TARGET, folder / "glimpse"))
    rounds = quantize_static.run(step, model, context)
    assert isinstance(rounds, Generator)
    proposed = next(rounds)
    if step.mixed == "auto":
        proposed = rounds.send(Standing(inside=False, loss_over_limit=3.0))
    return proposed[0].path


def _with_uneven_channels(model: onnx.ModelProto) -> onnx.ModelProto:
    """Between two layers with nothing but a Relu between them each channel gets another scale."""
    channels, random = Channels(model), np.random.default_rng(0)
    for place in channels.places():
        if place.alone and place.source is not None and place.source.is_layer:
            channels.rescale(place, np.exp(random.normal(0, UNEVEN, place.channels)))
    return channels.draft.finished()


def _with_outliers(model: onnx.ModelProto) -> onnx.ModelProto:
    """Some channels behind each layer normalization are many times as large as the others."""
    channels, random = Channels(model), np.random.default_rng(0)
    for place in channels.places():
        if place.alone and place.source is not None and place.source.node.op_type == "LayerNormalization":
            factors = np.ones(place.channels)
            factors[random.permutation(place.channels)[:OUTLIERS]] = 1 / random.uniform(*SIZES, OUTLIERS)
            channels.rescale(place, factors)
    return channels.draft.finished()


SUFFERING = {"residual": _with_uneven_channels, "transformer": _with_outliers}
