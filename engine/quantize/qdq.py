"""The surgery: QuantizeLinear and DequantizeLinear around what the plan names.

    behind a layer         Conv ── x_float ─ Q ─ DQ ─ x ── all readers
    behind a float node    LayerNormalization ── x ─┬─────────────────────── float readers
                                                    └─ Q ─ DQ ─ x_dequantized ── 8-bit readers

Behind a layer the tensor after the pair keeps the name, so no reader changes and the outputs of the model stay as they
are. ONNX Runtime fuses DQ, node and Q into one 8-bit kernel; a runtime that cannot computes the same in float.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper, numpy_helper

from engine.graph import Names, attribute, copied, drop_unused, replace_list, weights_of
from engine.quantize.integers import (
    FULL_LEVELS,
    REDUCED_LEVELS,
    Parameters,
    QuantizedWeight,
    activation_parameters,
    quantize_bias,
    quantize_constant,
    weight_scale,
    widened_for_bias,
)
from engine.quantize.plan import HARD, Layer, Plan, carried, replaced
from engine.quantize.rounding import TO_NEAREST, Rounding

SWISH = 1 / 6, 0.5  #: slope and summand of the gate in a HardSwish
Ranges = Mapping[str, tuple[float, float]]
Weights = Mapping[str, onnx.TensorProto]


@dataclass(frozen=True)
class Format:
    """How numbers are stored."""

    signed: bool
    reduced: bool
    per_channel: bool
    symmetric: bool = False  #: activation ranges around zero

    @property
    def dtype(self) -> type[np.uint8] | type[np.int8]:
        return np.int8 if self.signed else np.uint8

    @property
    def levels(self) -> int:
        return REDUCED_LEVELS if self.reduced else FULL_LEVELS


def quantized(
    model: onnx.ModelProto, plan: Plan, ranges: Ranges, form: Format, rounding: Rounding = TO_NEAREST
) -> onnx.ModelProto:
    """A copy of the model with the plan carried out."""
    copy = copied(model, without=replaced(model, plan.layers))
    _Surgery(copy, model, plan, ranges, form, rounding=rounding).operate()
    drop_unused(copy)
    return copy


def folded(node: onnx.NodeProto, layer: Layer, weights: Weights) -> tuple[np.ndarray, np.ndarray | None]:
    """Weight and bias with the factors of Gemm multiplied in, the bias one value per channel."""
    weight = numpy_helper.to_array(weights[layer.weight])
    bias = None if layer.bias is None else numpy_helper.to_array(weights[layer.bias])
    if node.op_type == "Gemm":
        weight = weight * np.float32(attribute(node, "alpha", 1.0))
        bias = None if bias is None else bias * np.float32(attribute(node, "beta", 1.0))
        replace_list(node.attribute, [entry for entry in node.attribute if entry.name not in ("alpha", "beta")])
    if bias is not None and layer.axis is not None:
        bias = np.broadcast_to(bias.ravel(), (weight.shape[layer.axis],))
    return weight, bias


class _Surgery:
    def __init__(
        self,
        copy: onnx.ModelProto,
        original: onnx.ModelProto,
        plan: Plan,
        ranges: Ranges,
        form: Format,
        *,
        rounding: Rounding,
    ) -> None:
        self.graph = copy.graph
        self.plan = plan
        self.form = form
        self.rounding = rounding
        self.names = Names.of(original)
        self.weights = weights_of(original)
        self.parameters = {
            name: activation_parameters(*ranges[owner], form.dtype, symmetric=form.symmetric)
            for name, owner in plan.owners.items()
            if owner not in plan.scaled
        }
        self.packed: dict[str, str] = {}  #: tensors and their integers
        self.nodes: list[onnx.NodeProto] = []
        self.renamed: dict[str, str] = {}  #: float tensors and constants, as quantized nodes read them
        self.stored: dict[tuple[object, ...], str] = {}  #: weights that are already there

    def operate(self) -> None:
        self._pack_floats(value.name for value in self.graph.input)
        for name in sorted(self.plan.constants):
            self.renamed[name] = self._constant(self.weights[name])
        for node in self.graph.node:
            if node.output and node.output[0] in self.plan.scaled:
                self._rescale(node.output[0], *self.plan.scaled[node.output[0]])
            elif self.plan.covers(node):
                self._operate_on(node)
            else:
                self.nodes.append(node)
                self._pack_floats(node.output)
        replace_list(self.graph.node, self.nodes)

    def _operate_on(self, node: onnx.NodeProto) -> None:
        """Let the node read and write integers."""
        source = node.input[0]
        for index, name in enumerate(node.input):
            if name in self.renamed and name in carried(node):
                node.input[index] = self.renamed[name]
        layer = self.plan.layers.get(node.output[0])
        if layer is not None:
            self._quantize_layer(node, layer, self._parameters_of(source))
        if node.op_type in HARD:
            self._soften(node, source)
        self.nodes.append(node)
        for index, name in enumerate(node.output):
            if name in self.plan.owners:
                node.output[index] = self.names.fresh(f"{name}_float")
                self._pair(name, node.output[index], name)

    # ── activations ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _parameters_of(self, name: str) -> Parameters:
        return self.parameters[name if name in self.parameters else self.plan.owners[name]]

    def _pack_floats(self, names: Iterable[str]) -> None:
        """Quantize float tensors for those that read integers."""
        for name in names:
            if name in self.plan.owners:
                self.renamed[name] = self.names.fresh(f"{name}_dequantized")
                self._pair(name, name, self.renamed[name])

    def _pair(self, name: str, source: str, target: str) -> None:
        """QuantizeLinear and DequantizeLinear of a tensor, between these two names."""
        parameters = self._parameters_of(name)
        scale = self._store(parameters.scale, f"{target}_scale")
        zero_point = self._store(parameters.zero_point, f"{target}_zero_point")
        self.packed[name] = self.names.fresh(f"{target}_quantized")
        self.nodes.append(self._node("QuantizeLinear", [source, scale, zero_point], self.packed[name]))
        self.nodes.append(self._node("DequantizeLinear", [self.packed[name], scale, zero_point], target))

    def _rescale(self, target: str, source: str, factor: float) -> None:
        """The integers of one tensor, read as another one that is so many times as large."""
        known = self._parameters_of(source)
        scale = np.asarray(known.scale * np.float64(factor), np.float32)
        self.parameters[target] = Parameters(scale, known.zero_point)
        self.packed[target] = self.packed[source]
        stored = self._store(scale, f"{target}_scale"), self._store(known.zero_point, f"{target}_zero_point")
        self.nodes.append(self._node("DequantizeLinear", [self.packed[target], *stored], target))

    def _soften(self, node: onnx.NodeProto, source: str) -> None:
        """Make an addition of HardSigmoid, and a product with one of HardSwish."""
        is_swish = node.op_type == "HardSwish"
        name = self.names.fresh(f"{node.output[0]}_gate") if is_swish else node.output[0]
        slope, summand = SWISH if is_swish else (attribute(node, "alpha", 0.2), attribute(node, "beta", 0.5))
        steep = self.names.fresh(f"{name}_steep")
        self._rescale(steep, source, slope)
        constant = self._constant(numpy_helper.from_array(np.array([summand], np.float32), f"{name}_summand"))
        self.parameters[name] = activation_parameters(0, 1, self.form.dtype)
        if is_swish:
            total = self.names.fresh(f"{name}_float")
            self.nodes.append(self._node("Add", [steep, constant], total))
            self._pair(name, total, name)
            become(node, "Mul", [node.input[0], name])
        else:
            become(node, "Add", [steep, constant])

    def _constant(self, tensor: onnx.TensorProto) -> str:
        """The float view of a constant that meets activations."""
        name = tensor.name
        values, parameters = quantize_constant(numpy_helper.to_array(tensor), self.form.dtype)
        inputs = [
            self._store(values, f"{name}_quantized"),
            self._store(parameters.scale, f"{name}_scale"),
            self._store(parameters.zero_point, f"{name}_zero_point"),
        ]
        target = self.names.fresh(f"{name}_dequantized")
        self.nodes.append(self._node("DequantizeLinear", inputs, target))
        return target

    # ── layers ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _quantize_layer(self, node: onnx.NodeProto, layer: Layer, source: Parameters) -> None:
        weight, bias = folded(node, layer, self.weights)
        axis = layer.axis if self.form.per_channel else None
        scale = weight_scale(weight, axis, self.form.levels)
        if bias is not None:
            scale = widened_for_bias(scale, bias, source.scale)
        stored = self.rounding.rounded(node.output[0], layer, weight, scale=scale, axis=axis, levels=self.form.levels)
        node.input[1] = self._dequantized(layer.weight, stored)
        if bias is not None and layer.bias is not None:
            accumulator = np.asarray(source.scale * scale, np.float32)
            rounded = QuantizedWeight(quantize_bias(bias, accumulator), accumulator, None if axis is None else 0)
            node.input[2] = self._dequantized(layer.bias, rounded)

    def _dequantized(self, name: str, weight: QuantizedWeight) -> str:
        """The float view of a stored weight; layers that share a weight share its integers."""
        key = (name, weight.axis, weight.scale.tobytes(), weight.values.tobytes())
        if key not in self.stored:
            inputs = [
                self._store(weight.values, f"{name}_quantized"),
                self._store(weight.scale, f"{name}_scale"),
                self._store(np.zeros(weight.scale.shape, weight.values.dtype), f"{name}_zero_point"),
            ]
            self.stored[key] = self.names.fresh(f"{name}_dequantized")
            self.nodes.append(self._node("DequantizeLinear", inputs, self.stored[key], weight.axis))
        return self.stored[key]

    # ── parts ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _store(self, values: np.ndarray, wish: str) -> str:
        name = self.names.fresh(wish)
        self.graph.initializer.append(numpy_helper.from_array(values, name))
        return name

    def _node(self, operator: str, inputs: list[str], output: str, axis: int | None = None) -> onnx.NodeProto:
        node = helper.make_node(operator, inputs, [output], name=self.names.fresh(f"{output}_{operator}"))
        if axis is not None:
            node.attribute.append(helper.make_attribute("axis", axis))
        return node


def become(node: onnx.NodeProto, operator: str, inputs: list[str]) -> None:
    """Make another standard operator without attributes of the node; its name and outputs stay."""
    node.op_type = operator
    replace_list(node.input, inputs)
    del node.attribute[:]
