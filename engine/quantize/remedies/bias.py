"""Bias correction: the mean error that rounding its weights makes in a layer's output, taken out of the layer's bias.

    b ← b - E[(Ŵ - W) x]          one value for each output channel, the mean over calibration samples and positions

Rounding moves some weights of a channel up and others down; as activations are not centred around zero, that shifts the
whole channel, and such shifts add up from layer to layer. The mean is taken exactly, borders included, by running each
layer once more with the weight Ŵ - W.

Pays where channels have few weights, as depthwise ones have, or weights have one scale per tensor.
Nagel et al. 2019, “Data-free quantization through weight equalization and bias correction”, §4.2.
"""

from collections.abc import Iterator, Mapping

import numpy as np
import onnx
from onnx import numpy_helper

from engine.graph import attribute, is_standard, weights_of
from engine.quantize.calibrate import Calibrator
from engine.quantize.integers import weight_scale
from engine.quantize.plan import Layer
from engine.quantize.qdq import Format
from engine.quantize.remedies.draft import Draft
from engine.quantize.rounding import TO_NEAREST, Rounding

MOST_BYTES = 256 << 20  #: of weights that one pass over the samples takes in

Errors = dict[str, np.ndarray]  #: mean error of each output channel, by the name of a layer's output
Layers = Mapping[str, Layer]


# ── learning ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def mean_errors(calibrator: Calibrator, layers: Layers, form: Format, rounding: Rounding = TO_NEAREST) -> Errors:
    """What rounding the weights of these layers shifts their outputs by."""
    found: Errors = {}
    for some in _portions(calibrator.model, layers):
        found |= _errors_of(calibrator, some, form, rounding)
    return found


def _portions(model: onnx.ModelProto, layers: Layers) -> Iterator[dict[str, Layer]]:
    """The layers in portions whose weights are not too large together."""
    weights = weights_of(model)
    portion: dict[str, Layer] = {}
    size = 0
    for name, layer in layers.items():
        added = len(weights[layer.weight].raw_data)
        if portion and size + added > MOST_BYTES:
            yield portion
            portion, size = {}, 0
        portion[name] = layer
        size += added
    if portion:
        yield portion


def _errors_of(calibrator: Calibrator, layers: Layers, form: Format, rounding: Rounding) -> Errors:
    draft = Draft(calibrator.model)
    nodes = {node.output[0]: node for node in draft.model.graph.node if node.output}
    outputs = [_shift(draft, nodes[name], _off(name, layer, draft, form, rounding)) for name, layer in layers.items()]
    sums, runs = [np.zeros(1)] * len(outputs), 0
    for values in calibrator.run(draft.giving(outputs), outputs):
        sums = [total + value for total, value in zip(sums, values, strict=True)]
        runs += 1
    return {name: total / runs for name, total in zip(layers, sums, strict=True)}


def _off(name: str, layer: Layer, draft: Draft, form: Format, rounding: Rounding) -> np.ndarray:
    """The rounded weight less the weight."""
    weight = numpy_helper.to_array(draft.weights[layer.weight])
    axis = layer.axis if form.per_channel else None
    scale = weight_scale(weight, axis, form.levels)
    stored = rounding.rounded(name, layer, weight, scale=scale, axis=axis, levels=form.levels)
    shape = [1] * weight.ndim
    if axis is not None:
        shape[axis] = -1
    return (stored.values * scale.reshape(shape if axis is not None else ()) - weight).astype(np.float32)


def _shift(draft: Draft, layer: onnx.NodeProto, rounding: np.ndarray) -> str:
    """Add the layer once more with this weight and no bias; the name of its mean for each channel."""
    weight = draft.store(rounding, f"{layer.output[0]}_rounding")
    attributes = {entry.name: onnx.helper.get_attribute_value(entry) for entry in layer.attribute}
    shift = draft.add(layer.op_type, [layer.input[0], weight], f"{layer.output[0]}_shift", **attributes)
    if layer.op_type == "Conv":
        return draft.reduce("ReduceMean", shift, [0, *range(2, rounding.ndim)])
    width = rounding.shape[0 if attribute(layer, "transB", 0) else -1]
    return draft.reduce("ReduceMean", draft.as_rows(shift, width), [0])


# ── correcting ───────────────────────────────────────────────────────────────────────────────────────────────────────


def corrected(model: onnx.ModelProto, errors: Mapping[str, np.ndarray]) -> onnx.ModelProto:
    """A float copy to quantize in place of the model: what rounding will add is missing in its biases."""
    draft = Draft(model)
    for node in draft.model.graph.node:
        error = errors.get(node.output[0]) if node.output else None
        if error is None or not np.isfinite(error).all():
            continue
        if node.op_type == "MatMul":
            _correct_sum(draft, node.output[0], error)
        else:
            _correct_bias(draft, node, error)
    return draft.finished()


def _correct_bias(draft: Draft, layer: onnx.NodeProto, error: np.ndarray) -> None:
    factor = attribute(layer, "beta", 1.0)
    if len(layer.input) < 3 or not layer.input[2]:
        del layer.input[2:]
        layer.input.append(draft.store(np.asarray(-error / (factor or 1.0), np.float32), f"{layer.output[0]}_bias"))
        return
    bias = draft.constant(layer.input[2])
    if bias is not None and factor:
        draft.put(layer, 2, bias - error / factor)


def _correct_sum(draft: Draft, product: str, error: np.ndarray) -> None:
    """A product has no bias, but often a constant is added to it; where it is not, the error stays."""
    readers = draft.wiring.readers[product]
    if draft.uses(product) != 1 or not readers or not is_standard(readers[0], "Add"):
        return
    for index, name in enumerate(readers[0].input):
        constant = draft.constant(name)
        if constant is not None:
            draft.put(readers[0], index, constant - error.astype(np.float32))
