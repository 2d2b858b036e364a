"""Static int8 quantization: weights stored in 8 bits, activations computed in 8 bits.

    x ≈ s · (q - z)       s and z from calibration data, one pair per activation
    w ≈ s_c · q           symmetric, one scale per output channel

Pays for convolutions and large matrix products on CPUs with 8-bit dot products, and saves three quarters of the weights
anywhere. Does not pay where layers are small or depthwise, and costs accuracy where activations have outliers.

Which format is best is not known before it is measured, so `auto` proposes a few. Unsigned activations come first: most
x86 kernels are made for uint8 times int8. On a CPU without VNNI such products are summed in pairs in 16 bits and
saturate with full weights; there, 7-bit weights come first. Following Jacob et al. 2018 and Krishnamoorthi 2018.
"""

import itertools
import math
from collections.abc import Iterator
from pathlib import Path

import onnx

from engine.graph import load, save
from engine.quantize.calibrate import Calibrator, Ranges
from engine.quantize.plan import Plan, plan
from engine.quantize.prepare import prepared
from engine.quantize.qdq import Format, quantized
from engine.quantize.refusal import refusal
from engine.recipe import Activations, Calibration, QuantizeStatic, Range
from engine.steps.base import Skipped, StepContext, Variant


def refuse(model: onnx.ModelProto) -> str | None:
    """Why there is nothing to quantize."""
    return refusal(model, ("Conv", "Gemm", "MatMul"))


def run(step: QuantizeStatic, model: Path, context: StepContext) -> list[Variant] | Skipped:
    """One file per format worth trying, the most promising first."""
    graph = refuse(load(model)) or prepared(model, context.calibration, context.folder)
    if isinstance(graph, str):
        return Skipped(graph)
    if not plan(graph).layers:
        return Skipped("no Conv, Gemm or MatMul of the main graph has constant float32 weights")
    samples = context.calibration.first(step.samples)
    calibrator = Calibrator(graph, samples, context.folder, context.target.threads, context.pause)
    planned, ranges = _finite_plan(graph, calibrator)
    if not planned.layers:
        return Skipped("the activations of all its layers hold NaN or infinity on the calibration data")
    variants = []
    learned: dict[Calibration, Ranges] = {Calibration.MINMAX: ranges}
    for options in _options(step, saturates=context.saturates):
        if options.calibration not in learned:
            learned[options.calibration] = calibrator.percentile(ranges, step.percentile)
        result = quantized(graph, planned, learned[options.calibration], _format(options))
        path = save(result, context.folder / f"static-{len(variants)}.onnx")
        variants.append(Variant(path, options, _label(options)))
    return variants


def _finite_plan(graph: onnx.ModelProto, calibrator: Calibrator) -> tuple[Plan, Ranges]:
    """A plan whose tensors all have a finite range, and the ranges."""
    ranges: Ranges = {}
    unusable: set[str] = set()
    while True:
        planned = plan(graph, unusable)
        owners = set(planned.owners.values())
        missing = sorted(owners - set(ranges))
        ranges |= calibrator.minmax(missing) if missing else {}
        infinite = {name for name in owners if not all(map(math.isfinite, ranges[name]))}
        if not infinite:
            return planned, {name: ranges[name] for name in sorted(owners)}
        unusable |= infinite


def _options(step: QuantizeStatic, *, saturates: bool) -> Iterator[QuantizeStatic]:
    """The step with every `auto` decided, the most promising choice first, without what is known to lose here."""
    ranges = [Range.REDUCED, Range.FULL] if saturates else [Range.FULL]
    calibrations = [Calibration.PERCENTILE, Calibration.MINMAX]
    signs = [Activations.UNSIGNED] if saturates else [Activations.UNSIGNED, Activations.SIGNED]
    for activations, weight_range, calibration in itertools.product(
        signs if step.activations is Activations.AUTO else [step.activations],
        ranges if step.weight_range is Range.AUTO else [step.weight_range],
        calibrations if step.calibration is Calibration.AUTO else [step.calibration],
    ):
        chosen = {"activations": activations, "weight_range": weight_range, "calibration": calibration}
        yield step.model_copy(update=chosen)


def _format(step: QuantizeStatic) -> Format:
    return Format(
        signed=step.activations is Activations.SIGNED,
        reduced=step.weight_range is Range.REDUCED,
        per_channel=step.per_channel,
    )


def _label(step: QuantizeStatic) -> str:
    weights = "7-bit weights" if step.weight_range is Range.REDUCED else "8-bit weights"
    scales = "" if step.per_channel else " with one scale per tensor"
    learned = "min-max" if step.calibration is Calibration.MINMAX else f"{step.percentile:g} % percentile"
    return f"static int8, {step.activations.value} activations, {weights}{scales}, {learned} ranges"
