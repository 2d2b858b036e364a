"""Sixteen-bit floats: half the bytes, and on processors that compute in them less time.

    float16     11 bits of precision, 6·10⁻⁵ … 65504: as exact as most models need, 50 dB and more
    bfloat16    8 bits of precision, the range of float32

Pays on GPUs and ARM CPUs in time, and everywhere in size. x86 CPUs have next to no kernels for it: ONNX Runtime turns
nearly all nodes back into float32, so there `auto` only stores in 16 bits, which is as fast as the original and loses
less. bfloat16 can mostly be stored only.

A node stays in float32 where the standard does not know it in half precision, where `keep_float` names it, and where
range demands it: it meets a constant that half precision cannot hold to 40 dB (a mask of -3·10³⁸, an epsilon of 10⁻¹²),
or an activation that was larger than 16376 or nowhere larger than 5·10⁻⁴ on calibration samples.
"""

import itertools
import math
import platform
from collections.abc import Set as AbstractSet
from pathlib import Path

import onnx

from engine.errors import StepFailed
from engine.graph import (
    all_graphs,
    all_nodes,
    constant_of,
    is_standard,
    lift_constants,
    load_structure,
    save,
    weights_of,
)
from engine.half.computing import compute_half, float_tensors, slots_of
from engine.half.rounding import unsafe_tensors
from engine.half.storing import store_half
from engine.quantize.calibrate import Calibrator
from engine.quantize.kept import is_kept, refuse_unknown
from engine.quantize.prepare import at_opset
from engine.quantize.refusal import QUANTIZED
from engine.recipe import Arithmetic, ConvertFloat16, Device, Half
from engine.runtime import breakage
from engine.steps.base import Skipped, StepContext, Variant
from engine.unpack import FEWEST_ELEMENTS, lift_large_constants

LOWEST_OPSET = {Half.FLOAT16: 7, Half.BFLOAT16: 13}  #: from here on Cast knows the type
TRIED_SAMPLES = 8  #: that ranges are read from
RUN_SAMPLES = 4
X86 = ("x86_64", "AMD64")


def refuse(model: onnx.ModelProto) -> str | None:
    """Why there is nothing to convert, as far as a glance can tell."""
    weights = [weight for graph in all_graphs(model.graph) for weight in graph.initializer]
    weights += [tensor for node in all_nodes(model) if (tensor := constant_of(node)) is not None]
    large = {weight.data_type for weight in weights if math.prod(weight.dims) >= FEWEST_ELEMENTS}
    if onnx.TensorProto.FLOAT in large:
        return None
    if large & {onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16}:
        return "its weights are 16-bit floats already"
    return f"it has no float32 weight of {FEWEST_ELEMENTS} values or more"


def run(step: ConvertFloat16, model: Path, context: StepContext) -> list[Variant] | Skipped:
    """One file per arithmetic, the most promising first."""
    original = load_structure(model)
    reason = refuse(original)
    if reason is not None:
        return Skipped(reason)
    refuse_unknown(original, step.keep_float)
    outcomes = [_variant(options, model, context) for options in _options(step, context.target.device)]
    variants = [outcome for outcome in outcomes if isinstance(outcome, Variant)]
    return variants or next(outcome for outcome in outcomes if isinstance(outcome, Skipped))


def _options(step: ConvertFloat16, device: Device) -> list[ConvertFloat16]:
    """The step with `auto` decided, without what is known to lose here."""
    lacks_kernels = device is Device.CPU and platform.machine() in X86
    best = [Arithmetic.FLOAT32] if lacks_kernels else [Arithmetic.HALF, Arithmetic.FLOAT32]
    tried = best if step.arithmetic is Arithmetic.AUTO else [step.arithmetic]
    return [step.model_copy(update={"arithmetic": arithmetic}) for arithmetic in tried]


def _variant(options: ConvertFloat16, model: Path, context: StepContext) -> Variant | Skipped:
    graph = at_opset(model, LOWEST_OPSET[options.format], context.calibration, context.folder)
    if isinstance(graph, str):
        return Skipped(graph)
    lift_large_constants(graph)
    stores = options.arithmetic is Arithmetic.FLOAT32
    label = (_stored if stores else _computed)(graph, options, context)
    if isinstance(label, Skipped):
        return label
    path = save(graph, context.folder / f"{options.format}-{options.arithmetic}.onnx")
    broken = None if stores else breakage(model, path, context.calibration.first(RUN_SAMPLES))
    return Skipped(f"computed in {options.format}, {broken}") if broken else Variant(path, options, label)


def _stored(graph: onnx.ModelProto, options: ConvertFloat16, _: StepContext) -> str | Skipped:
    if not store_half(graph, options.format, _read_by_kept(graph, options)):
        return Skipped(f"no float32 weight of {FEWEST_ELEMENTS} values or more is left to it")
    return f"weights stored in {options.format}, computed in float32"


def _computed(graph: onnx.ModelProto, options: ConvertFloat16, context: StepContext) -> str | Skipped:
    if any(is_standard(node, *QUANTIZED) for node in all_nodes(graph)):
        return Skipped("the model is quantized already, and its 8-bit kernels start from float32")
    lift_constants(graph)
    try:
        unsafe = unsafe_tensors(graph, options.format, _ranges(graph, options.format, context))
    except StepFailed as error:
        return Skipped(error.detail)
    able = slots_of(graph, options.format, context.target.device)
    left = {
        node.output[0]
        for node in graph.graph.node
        if node.output
        and (is_kept(node, options.keep_float) or unsafe.intersection(itertools.chain(node.input, node.output)))
    }
    if not able.keys() - left:
        return Skipped(f"none of its operators can compute in {options.format}")
    weights = _read_by_kept(graph, options) | (unsafe & weights_of(graph).keys())
    compute_half(graph, options.format, {name: slots for name, slots in able.items() if name not in left})
    store_half(graph, options.format, weights)
    kept = len(able.keys() & left)
    return f"computed in {options.format}" + (f", {kept} of {len(able)} nodes in float32" if kept else "")


def _ranges(graph: onnx.ModelProto, half: Half, context: StepContext) -> dict[str, tuple[float, float]]:
    """Smallest and largest value of each activation; bfloat16 has the range of float32."""
    if half is Half.BFLOAT16:
        return {}
    samples = context.calibration.first(TRIED_SAMPLES)
    calibrator = Calibrator(graph, samples, context.folder, context.target.threads, context.pause)
    return calibrator.minmax(sorted(float_tensors(graph) - weights_of(graph).keys()))


def _read_by_kept(model: onnx.ModelProto, options: ConvertFloat16) -> AbstractSet[str]:
    return {name for node in all_nodes(model) if is_kept(node, options.keep_float) for name in node.input}
