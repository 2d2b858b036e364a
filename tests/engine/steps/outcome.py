"""Run one step on one model, and compare what it makes with the original."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper

from engine.data import Samples, synthetic_samples
from engine.graph import load, save
from engine.measure.glimpse import Glimpse
from engine.recipe import Activations, Calibration, Distill, Layout, QuantizeStatic, Range, Scales, Step, Target
from engine.signature import Signature
from engine.steps import STEPS, Skipped, StepContext, Variant

#: static int8 with nothing left to choose
FIXED = QuantizeStatic(
    activations=Activations.UNSIGNED,
    weight_range=Range.REDUCED,
    weight_scales=Scales.PER_CHANNEL,
    layout=Layout.QDQ,
    calibration=Calibration.MINMAX,
    samples=64,
    equalize=False,
    smooth=False,
    fit_rounding=False,
    correct_bias=False,
    mixed=False,
)


def made_up(path: Path, count: int = 24) -> Samples:
    """Samples for a model."""
    return synthetic_samples(Signature.of(load(path)), count, 0)


def shaken(path: Path, to: Path, noise: float = 0.3, seed: int = 1) -> Path:
    """The same graph with noise on its weights, as a share of their own spread."""
    random = np.random.default_rng(seed)
    model = load(path)
    for weight in model.graph.initializer:
        values = numpy_helper.to_array(weight)
        if values.dtype == np.float32 and values.size > 1:
            noisy = values + noise * values.std() * random.standard_normal(values.shape)
            weight.CopyFrom(numpy_helper.from_array(noisy.astype(np.float32), weight.name))
    return save(model, to)


def halved(path: Path, to: Path) -> Path:
    """The same graph, all in float16: weights, inputs and outputs."""
    model = load(path)
    for weight in model.graph.initializer:
        values = numpy_helper.to_array(weight)
        if values.dtype == np.float32:
            weight.CopyFrom(numpy_helper.from_array(values.astype(np.float16), weight.name))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    return save(model, to)


def run(
    step: Step, path: Path, folder: Path, *, saturates: bool = True, samples: Samples | None = None
) -> list[Variant] | Skipped:
    """What the step proposes first; one that learns does so from a model that says something else."""
    folder.mkdir(exist_ok=True)
    chosen = samples or made_up(path)
    glimpse = Glimpse(path, chosen, Target(), folder / "glimpse")
    original = shaken(path, folder / "original.onnx") if isinstance(step, Distill) else None
    context = StepContext(chosen, folder, Target(), 0, saturates=saturates, glimpse=glimpse, original=original, cores=1)
    outcome = STEPS[type(step)].run(step, path, context)
    return outcome if isinstance(outcome, list | Skipped) else next(outcome)


def variants(step: Step, path: Path, folder: Path, *, saturates: bool = True) -> list[Variant]:
    """What the step proposes; fails where it skips."""
    outcome = run(step, path, folder, saturates=saturates)
    assert not isinstance(outcome, Skipped), outcome.reason
    return outcome


def session(path: Path, optimized: Path | None = None) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    if optimized is not None:
        options.optimized_model_filepath = str(optimized)
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def outputs(path: Path, samples: Samples, batch_size: int = 8) -> list[np.ndarray]:
    """Each output of a model on all samples, flattened."""
    opened = session(path)
    runs = [opened.run(None, feeds) for feeds in samples.batches(batch_size)]
    return [np.concatenate([np.ravel(run[index]) for run in runs]) for index in range(len(runs[0]))]


def sqnr_db(reference: Path, candidate: Path, samples: Samples | None = None) -> float:
    """Signal to noise of the candidate's outputs, in decibels."""
    samples = samples or made_up(reference, 64)
    signal = noise = 1e-30
    for expected, actual in zip(outputs(reference, samples), outputs(candidate, samples), strict=True):
        signal += float(np.sum(expected.astype(np.float64) ** 2))
        noise += float(np.sum((expected.astype(np.float64) - actual) ** 2))
    return 10 * np.log10(signal / noise)


def fused(path: Path, folder: Path) -> list[str]:
    """Operators that ONNX Runtime really runs."""
    target = folder / "optimized.onnx"
    session(path, target)
    return [node.op_type for node in load(target).graph.node]
