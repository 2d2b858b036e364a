"""Dynamic int8 quantization: weights of matrix products and LSTMs in 8 bits, activations quantized as the model runs.

    w_q = round(w / s),   s = max|w| / 127          per output channel

Pays on CPUs for models of large matrix products (transformers, MLPs) or LSTM layers, whose activations vary too much
for ranges that were learned once; needs no calibration data. Convolutions, GRU and RNN layers stay float.
"""

from math import prod
from pathlib import Path

import onnx

from engine.graph import load_structure, save, weights_of
from engine.quantize.dynamic import FEWEST_ELEMENTS, dynamically_quantized, products
from engine.quantize.kept import kept_outputs, refuse_unknown
from engine.quantize.prepare import prepared
from engine.quantize.qdq import Format
from engine.quantize.recurrent import FEWEST_RECURRENT, lstms
from engine.quantize.refusal import refusal, without_kernel
from engine.recipe import Activations, QuantizeDynamic, Range, Scales
from engine.steps.base import Skipped, StepContext, Variant
from engine.steps.leaders import leaders

TOO_COARSE = (Scales.PER_TENSOR, Range.REDUCED)  #: nobody's choice, but anybody may ask for it


def refuse(model: onnx.ModelProto) -> str | None:
    """Why there is no matrix product to quantize."""
    return refusal(model, ("Gemm", "MatMul", "LSTM")) or _too_small(model)


def _too_small(model: onnx.ModelProto) -> str | None:
    """As far as a glance can tell: a weight that is computed may turn out to be constant, and large."""
    if any(node.op_type == "LSTM" and _may_be_large(node, weights_of(model)) for node in model.graph.node):
        return None
    weights = weights_of(model)
    products = [node for node in model.graph.node if node.op_type in ("Gemm", "MatMul")]
    known = [[prod(weights[name].dims) for name in node.input[:2] if name in weights] for node in products]
    if model.functions or not all(sizes and max(sizes) < FEWEST_ELEMENTS for sizes in known):
        return None
    return _none_large("of its matrix products", model)


def _none_large(which: str, model: onnx.ModelProto) -> str:
    also = without_kernel(model)
    return f"none {which} has a constant float32 weight of {FEWEST_ELEMENTS} values or more{also}"


def _may_be_large(node: onnx.NodeProto, weights: dict[str, onnx.TensorProto]) -> bool:
    recurrence = node.input[2]
    return recurrence not in weights or prod(weights[recurrence].dims) >= FEWEST_RECURRENT


def run(step: QuantizeDynamic, model: Path, context: StepContext) -> list[Variant] | Skipped:
    """The formats of the weights that lead in a quick look."""
    if step.activations is Activations.SIGNED:
        return Skipped("activations that are quantized as the model runs are always unsigned")
    original = load_structure(model)
    graph = refuse(original) or prepared(model, context.calibration, context.folder)
    if isinstance(graph, str):
        return Skipped(graph)
    refuse_unknown(original, step.keep_float)
    kept = kept_outputs(original, graph, step.keep_float)
    if not products(graph, kept) and not lstms(graph, kept):
        also = "of those that may be quantized" if kept and products(graph) else "of its matrix products"
        return Skipped(_none_large(also, original))
    variants = []
    for options in _options(step, saturates=context.saturates):
        path = context.folder / f"dynamic-{len(variants)}.onnx"
        save(dynamically_quantized(graph, _format(options), kept), path)
        variants.append(Variant(path, options, _label(options)))
    return leaders(variants, context)


def _options(step: QuantizeDynamic, *, saturates: bool) -> list[QuantizeDynamic]:
    """The step with every `auto` decided, the most promising choice first.

    A single scale is less true but faster in LSTM layers; seven bits of it are too few.
    """
    scales = [Scales.PER_CHANNEL, Scales.PER_TENSOR] if step.weight_scales is Scales.AUTO else [step.weight_scales]
    best = [Range.REDUCED, Range.FULL] if saturates else [Range.FULL]
    ranges = best if step.weight_range is Range.AUTO else [step.weight_range]
    pairs = [(scale, bits) for scale in scales for bits in ranges if (scale, bits) != TOO_COARSE] or [TOO_COARSE]
    chosen = step.model_copy(update={"activations": Activations.UNSIGNED})
    return [chosen.model_copy(update={"weight_scales": scale, "weight_range": bits}) for scale, bits in pairs]


def _format(step: QuantizeDynamic) -> Format:
    reduced, per_channel = step.weight_range is Range.REDUCED, step.weight_scales is Scales.PER_CHANNEL
    return Format(signed=False, reduced=reduced, per_channel=per_channel)


def _label(step: QuantizeDynamic) -> str:
    weights = "7-bit weights" if step.weight_range is Range.REDUCED else "8-bit weights"
    return f"dynamic int8, {weights}" + " with one scale per tensor" * (step.weight_scales is Scales.PER_TENSOR)
