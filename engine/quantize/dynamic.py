"""Matrix products that quantize their activations as they run.

    y = x·W + b    →    q, s, z = DynamicQuantizeLinear(x)
                        y = float(MatMulInteger(q, W_q, z)) · (s · s_W) + b

ONNX Runtime fuses these nodes into one kernel. Products that share their input share its quantization.
"""

from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import helper, numpy_helper

from engine.graph import Names, copied, drop_unused, replace_list, weights_of
from engine.quantize.integers import quantize_weight, weight_scale
from engine.quantize.plan import Layer, layers_of, replaced
from engine.quantize.qdq import Format, folded
from engine.quantize.recurrent import lstms, quantize_lstms

FEWEST_ELEMENTS = 1024  #: weights smaller than this do not repay the quantization of their input


def products(model: onnx.ModelProto, keep_float: Collection[str] = ()) -> dict[str, Layer]:
    """Matrix products with constant weights of some size, by the name of their output; without what stays float."""
    weights = weights_of(model)
    operators = {node.output[0]: node.op_type for node in model.graph.node if node.output}
    return {
        name: layer
        for name, layer in layers_of(model, keep_float=keep_float).items()
        if operators[name] in ("Gemm", "MatMul") and np.prod(weights[layer.weight].dims) >= FEWEST_ELEMENTS
    }


def dynamically_quantized(model: onnx.ModelProto, form: Format, keep_float: Collection[str] = ()) -> onnx.ModelProto:
    """A copy of the model whose matrix products and LSTM layers compute in 8 bits."""
    found = products(model, keep_float)
    copy = copied(model, without=replaced(model, found))
    surgery = _Surgery(copy.graph, Names.of(model), form, weights_of(model))
    for node in copy.graph.node:
        if node.output and node.output[0] in found:
            surgery.replace(node, found[node.output[0]])
        else:
            surgery.nodes.append(node)
    replace_list(copy.graph.node, surgery.nodes)
    quantize_lstms(copy, lstms(copy, keep_float), surgery.names, form)
    drop_unused(copy)
    return copy


@dataclass
class _Surgery:
    graph: onnx.GraphProto
    names: Names
    form: Format
    weights: dict[str, onnx.TensorProto]
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    packed: dict[str, tuple[str, str, str]] = field(default_factory=dict)  #: quantized inputs that are already there
    stored: dict[tuple[object, ...], tuple[str, str]] = field(default_factory=dict)  #: weights that are already there

    def replace(self, node: onnx.NodeProto, layer: Layer) -> None:
        """Put the 8-bit product in place of the node; its output keeps its name."""
        weight, bias = folded(node, layer, self.weights)
        values, scale = self._weight(layer, weight)
        packed, input_scale, zero_point = self._packed(node.input[0])
        target = node.output[0]
        product = self._add("MatMulInteger", [packed, values, zero_point], f"{target}_integer")
        self.nodes[-1].name = node.name or self.nodes[-1].name
        floats = self._add("Cast", [product], f"{target}_cast")
        self.nodes[-1].attribute.append(helper.make_attribute("to", onnx.TensorProto.FLOAT))
        factor = self._add("Mul", [input_scale, scale], f"{target}_factor")
        if bias is None:
            self._finish("Mul", [floats, factor], target)
            return
        scaled = self._add("Mul", [floats, factor], f"{target}_scaled")
        self._finish("Add", [scaled, self._store(np.ascontiguousarray(bias), f"{target}_bias")], target)

    def _packed(self, name: str) -> tuple[str, str, str]:
        if name not in self.packed:
            packed, scale, zero_point = (self.names.fresh(f"{name}_{part}") for part in ("quantized", "scale", "zero"))
            node_name = self.names.fresh(f"{name}_quantize")
            node = helper.make_node("DynamicQuantizeLinear", [name], [packed, scale, zero_point], node_name)
            self.nodes.append(node)
            self.packed[name] = (packed, scale, zero_point)
        return self.packed[name]

    def _weight(self, layer: Layer, weight: np.ndarray) -> tuple[str, str]:
        """Names of the stored integers, inputs times outputs, and of their scale."""
        axis = layer.axis if self.form.per_channel else None
        scale = weight_scale(weight, axis, self.form.levels)
        key = (layer.weight, layer.axis, scale.tobytes())
        if key not in self.stored:
            values = quantize_weight(weight, scale, axis, self.form.levels).values
            values = values.T if layer.axis == 0 else values
            stored = self._store(np.ascontiguousarray(values), f"{layer.weight}_quantized")
            self.stored[key] = (stored, self._store(scale, f"{layer.weight}_scale"))
        return self.stored[key]

    def _add(self, operator: str, inputs: list[str], wish: str) -> str:
        output = self.names.fresh(wish)
        self.nodes.append(helper.make_node(operator, inputs, [output], self.names.fresh(wish)))
        return output

    def _finish(self, operator: str, inputs: list[str], target: str) -> None:
        self.nodes.append(helper.make_node(operator, inputs, [target], self.names.fresh(f"{target}_{operator}")))

    def _store(self, values: np.ndarray, wish: str) -> str:
        name = self.names.fresh(wish)
        self.graph.initializer.append(numpy_helper.from_array(values, name))
        return name
