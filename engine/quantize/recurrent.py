"""LSTM layers that quantize their inputs and states as they run (`com.microsoft.DynamicQuantizeLSTM`).

    W, R     one matrix per direction, 8 bits, a scale per column of its transpose
    states   cell states, gates and biases stay in float

There is no such kernel for GRU and RNN.
"""

from collections.abc import Collection

import numpy as np
import onnx
from onnx import helper, numpy_helper

from engine.graph import Names, attribute, is_standard, weights_of
from engine.quantize.integers import QuantizedWeight, quantize_weight, weight_scale
from engine.quantize.kept import is_kept
from engine.quantize.qdq import Format

OWN_DOMAIN = "com.microsoft"
FEWEST_RECURRENT = 4096  #: elements of R; smaller layers gain nothing
INPUTS = 8  #: X, W, R, B, sequence_lens, initial_h, initial_c, P


def lstms(model: onnx.ModelProto, keep_float: Collection[str] = ()) -> list[onnx.NodeProto]:
    """LSTM nodes of the main graph with constant weights of some size."""
    weights = weights_of(model)
    return [node for node in model.graph.node if _is_large(node, weights) and not is_kept(node, keep_float)]


def _is_large(node: onnx.NodeProto, weights: dict[str, onnx.TensorProto]) -> bool:
    if not is_standard(node, "LSTM") or attribute(node, "layout", 0):
        return False
    found = [weights.get(name) for name in node.input[1:3]]
    if any(one is None or one.data_type != onnx.TensorProto.FLOAT for one in found):
        return False
    values = [numpy_helper.to_array(one) for one in found if one is not None]
    return values[1].size >= FEWEST_RECURRENT and all(np.isfinite(one).all() for one in values)


def quantize_lstms(model: onnx.ModelProto, nodes: list[onnx.NodeProto], names: Names, form: Format) -> None:
    """Give these nodes of the model 8-bit weights, and the kernel that reads them."""
    weights = weights_of(model)
    for node in nodes:
        inputs = [*node.input, *[""] * (INPUTS - len(node.input))]
        parameters = []
        for index in (1, 2):
            stored = _packed(numpy_helper.to_array(weights[inputs[index]]), form)
            wish, inputs[index] = inputs[index], names.fresh(f"{inputs[index]}_quantized")
            parts = {inputs[index]: stored.values, names.fresh(f"{wish}_scale"): stored.scale}
            parts[names.fresh(f"{wish}_zero_point")] = np.zeros(stored.scale.shape, np.int8)
            model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in parts.items())
            parameters += list(parts)[1:]
        attributes = [entry for entry in node.attribute if entry.name != "layout"]
        changed = helper.make_node(
            "DynamicQuantizeLSTM", [*inputs, *parameters], node.output, node.name, domain=OWN_DOMAIN
        )
        changed.attribute.extend(attributes)
        node.CopyFrom(changed)
    if nodes and OWN_DOMAIN not in {entry.domain for entry in model.opset_import}:
        model.opset_import.append(helper.make_opsetid(OWN_DOMAIN, 1))


def _packed(weight: np.ndarray, form: Format) -> QuantizedWeight:
    """The weights of each direction, inputs times gates."""
    directions = []
    for matrix in weight.transpose(0, 2, 1):
        axis = 1 if form.per_channel else None
        directions.append(quantize_weight(matrix, weight_scale(matrix, axis, form.levels), axis, form.levels))
    values = np.ascontiguousarray([one.values for one in directions])
    return QuantizedWeight(values, np.array([one.scale for one in directions], np.float32), None)
