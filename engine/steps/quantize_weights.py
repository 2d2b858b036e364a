"""Weight-only quantization: weights in 4 or 8 bits, in blocks that share a scale; activations stay in float.

    w ≈ s · (q - z)       q in 4 or 8 bits, s and z once for every `block_size` weights that are summed up

Makes the file 3 to 4 times smaller with 8 bits and up to 7 times with 4, and needs no calibration data. Pays in time
and memory where few rows meet large weights, as in text generation and in transformers with short inputs, for there
the time goes into reading weights: ONNX Runtime's MatMulNBits reads them packed, and rounds the activations to 8 bits
as it runs. Does not pay in time for convolutions, nor where many rows are multiplied at once; there, `unpack` still
saves the bytes and computes just as fast as before, but needs a few times the memory while the model is loaded.

With 4 bits, products are rounded by least squares (`fit_rounding`): each weight makes up for what rounding the ones
before it did to the output, on 256 calibration samples; seconds, no training, the same size and speed (Frantar et al.
2023). A transformer on Fashion-MNIST in blocks of 32: 26.8 → 37.1 dB; a text transformer, 26.4 → 31.1 dB.

Convolutions and recurrent layers are stored in 8 bits, whatever `bits` says, and are always unpacked. 8 bits lose next
to nothing (30 to 55 dB on the models we tried); 4 bits want large models, and small blocks.
"""

from pathlib import Path

import onnx

from engine.graph import all_graphs, all_nodes, constant_of, inlined, is_standard, load_structure, save
from engine.quantize.calibrate import Calibrator
from engine.quantize.kept import refuse_unknown
from engine.quantize.packed import Moments, Packing, moments_of, pack
from engine.quantize.prepare import at_opset
from engine.quantize.weights import OPERATORS, is_large, weights
from engine.recipe import QuantizeWeights, WeightLayout
from engine.steps.base import Skipped, StepContext, Variant
from engine.unpack import FEWEST_ELEMENTS, lift_large_constants

LOWEST_OPSET = 7  #: from here on ONNX Runtime promises to read a model
BLOCKWISE_OPSET, BLOCKWISE_IR_VERSION = 21, 10  #: from here on DequantizeLinear has blocks, and there are 4-bit types
MOST_SAMPLES = 256  #: that rounding by least squares looks at
NOT_FOUR = ", since none of them is a matrix or a table, which alone bear 4 bits,"
EIGHT_TOO = ", and 8-bit ones where they are no matrix or table,"
WORDS = {
    WeightLayout.MATMUL_NBITS: "read packed by MatMulNBits",
    WeightLayout.DEQUANTIZE: "behind DequantizeLinear",
    WeightLayout.UNPACK: "unpacked when loaded",
}


def refuse(model: onnx.ModelProto) -> str | None:
    """Why there is no weight to pack, as far as a glance can tell."""
    model = inlined(model)
    if any(True for graph in all_graphs(model.graph) for _ in weights(graph)):
        return None
    nodes = list(all_nodes(model))
    constants = (tensor for node in nodes if (tensor := constant_of(node)) is not None)
    if any(is_large(tensor) for tensor in constants) and any(is_standard(node, *OPERATORS) for node in nodes):
        return None
    return f"it has no matrix product, convolution, embedding or recurrent layer with {FEWEST_ELEMENTS} float weights"


def run(step: QuantizeWeights, model: Path, context: StepContext) -> list[Variant] | Skipped:
    """One file per layout worth trying, the most promising first."""
    original = load_structure(model)
    reason = refuse(original)
    if reason is not None:
        return Skipped(reason)
    refuse_unknown(original, step.keep_float)
    learned: list[Moments] = []  # as soon as the first of the layouts is written; they are the same for all
    outcomes = [_variant(options, model, context, learned) for options in _options(step, context)]
    variants = [outcome for outcome in outcomes if isinstance(outcome, Variant)]
    return variants or next(outcome for outcome in reversed(outcomes) if isinstance(outcome, Skipped))


def _options(step: QuantizeWeights, context: StepContext) -> list[QuantizeWeights]:
    """The step with `auto` decided."""
    if step.fit_rounding == "auto":
        step = step.model_copy(update={"fit_rounding": step.bits == 4 and not context.calibration.synthetic})
    tried = [WeightLayout.MATMUL_NBITS, WeightLayout.UNPACK]
    layouts = tried if step.layout is WeightLayout.AUTO else [step.layout]
    return [step.model_copy(update={"layout": layout}) for layout in layouts]


def _variant(options: QuantizeWeights, model: Path, context: StepContext, learned: list[Moments]) -> Variant | Skipped:
    blockwise = options.layout is WeightLayout.DEQUANTIZE
    lowest = BLOCKWISE_OPSET if blockwise else LOWEST_OPSET
    graph = at_opset(model, lowest, context.calibration, context.folder)
    if isinstance(graph, str):
        return Skipped(graph)
    if blockwise:
        graph.ir_version = max(graph.ir_version, BLOCKWISE_IR_VERSION)
    lift_large_constants(graph)
    if options.fit_rounding and not learned:
        learned.append(moments_of(_calibrator(graph, context), options))
    used = pack(graph, options, learned[0] if options.fit_rounding else None)
    if not used:
        return Skipped(f"no constant float weight of {FEWEST_ELEMENTS} values or more is left to it")
    if options.layout not in {one.layout for one in used}:
        return Skipped(f"no matrix product of it can be written as {options.layout}; the layout unpack fits any weight")
    path = save(graph, context.folder / f"weights-{options.layout}.onnx")
    return Variant(path, *_described(options, used))


def _calibrator(graph: onnx.ModelProto, context: StepContext) -> Calibrator:
    return Calibrator(graph, context.calibration.first(MOST_SAMPLES), context.folder, context.cores, context.pause)


def _described(asked: QuantizeWeights, used: set[Packing]) -> tuple[QuantizeWeights, str]:
    """What was really done, and in words: by what the file holds."""
    bits = {one.bits for one in used}
    made = {"bits": min(bits), "fit_rounding": any(one.is_fitted for one in used)}
    options = asked.model_copy(update=made)
    whose = EIGHT_TOO if len(bits) > 1 else NOT_FOUR if options.bits > asked.bits else ""
    zero = "" if options.symmetric else " with zero points"
    fitted = ", rounded by least squares" if options.fit_rounding is True else ""
    label = f"{options.bits}-bit weights{whose} in blocks of {options.block_size}{zero}{fitted}"
    return options, f"{label}, {WORDS[options.layout]}"
