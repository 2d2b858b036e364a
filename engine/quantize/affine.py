"""What only multiplies and adds behind a layer becomes part of the layer.

Conv(x, W, b) · c + d     →  Conv(x, c·W, c·b + d)     c and d constant, one for all or one per channel
BatchNormalization        is such a c = γ / √(σ² + ε) and d = β - c·μ
MatMul(x, W) + b          →  Gemm(x, W, b)             where x is known to have two axes
ReduceMean of all pixels  →  GlobalAveragePool         which has an 8-bit kernel
"""

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper, numpy_helper

from engine.graph import (
    NO_INPUT,
    Names,
    TensorType,
    Wiring,
    attribute,
    drop_unused,
    finite_floats,
    is_standard,
    replace_list,
    tensor_types,
    weights_of,
)
from engine.measure.complexity import infer_shapes


@dataclass(frozen=True)
class _Affine:
    """x · factor + summand, for the tensor `source`."""

    source: str
    factor: np.ndarray | None = None
    summand: np.ndarray | None = None
    per_channel: bool = False  #: one-dimensional constants mean the second axis, as in a BatchNormalization


def fuse_affine(model: onnx.ModelProto) -> None:
    """Move what is multiplied and added behind a layer into the layer."""
    fusion = _Fusion(model)
    kept = [node for node in model.graph.node if not fusion.absorbs(node)]
    if len(kept) < len(model.graph.node):
        replace_list(model.graph.node, kept)
        drop_unused(model)


class _Fusion:
    """What has to be known of a graph to fuse into its layers."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.graph = model.graph
        self.names = Names.of(model)
        self.weights = weights_of(model)
        wiring = Wiring.of(model.graph)
        self.producers, self.uses = wiring.producers, wiring.uses
        self.types = tensor_types(infer_shapes(model).graph)

    def absorbs(self, node: onnx.NodeProto) -> bool:
        """Whether the node is affine and stands behind a layer, which computes it from now on."""
        return any(self._is_absorbed(node, affine) for affine in self._readings(node))

    def _is_absorbed(self, node: onnx.NodeProto, affine: _Affine) -> bool:
        layer = self.producers.get(affine.source)
        if layer is None or self.uses[affine.source] != 1 or not self._takes(layer, affine):
            return False
        factor, summand = (self._channels(layer, values, affine) for values in (affine.factor, affine.summand))
        if (factor is None) != (affine.factor is None) or (summand is None) != (affine.summand is None):
            return False
        if factor is not None:
            self._scale(layer, factor)
        if summand is not None:
            self._shift(layer, summand)
        layer.output[0] = node.output[0]
        self.producers[node.output[0]] = layer
        return True

    # ── what a node does ─────────────────────────────────────────────────────────────────────────────────────────────

    def _readings(self, node: onnx.NodeProto) -> list[_Affine]:
        """The ways to see the node as affine in one of its inputs."""
        if is_standard(node, "BatchNormalization"):
            return self._norm(node)
        if not is_standard(node, "Add", "Sub", "Mul", "Div"):
            return []
        first, second = node.input
        if node.op_type in ("Sub", "Div"):
            constant = self._constant(second)
            return [] if constant is None else [_of_constant(node.op_type, first, constant)]
        pairs = ((first, self._constant(second)), (second, self._constant(first)))
        return [_of_constant(node.op_type, name, constant) for name, constant in pairs if constant is not None]

    def _norm(self, node: onnx.NodeProto) -> list[_Affine]:
        values = [self._constant(name) for name in node.input[1:5]]
        in_training = attribute(node, "training_mode", 0) or any(self.uses[name] for name in node.output[1:])
        if in_training or any(value is None for value in values):
            return []
        gamma, beta, mean, variance = (value for value in values if value is not None)
        factor = gamma / np.sqrt(variance + np.float32(attribute(node, "epsilon", 1e-5)))
        return [_Affine(node.input[0], factor, beta - factor * mean, per_channel=True)]

    def _constant(self, name: str) -> np.ndarray | None:
        return finite_floats(self.weights.get(name))

    # ── what a layer takes ───────────────────────────────────────────────────────────────────────────────────────────

    def _takes(self, layer: onnx.NodeProto, affine: _Affine) -> bool:
        if not is_standard(layer, "Conv", "Gemm", "MatMul"):
            return False
        weight = self._constant(layer.input[1])
        if weight is None or (layer.op_type != "Conv" and weight.ndim != 2):
            return False
        if len(layer.input) > 2 and layer.input[2] and self._constant(layer.input[2]) is None:
            return False
        if layer.op_type == "Gemm" and any(attribute(layer, name, 1.0) != 1.0 for name in ("alpha", "beta")):
            return False
        if affine.factor is not None and not np.isfinite(affine.factor).all():
            return False
        return layer.op_type != "MatMul" or self._matmul_takes(layer, affine)

    def _matmul_takes(self, layer: onnx.NodeProto, affine: _Affine) -> bool:
        """A product of more axes has no bias, and its second axis is not that of its outputs."""
        tensor = self.types.get(layer.input[0])
        has_two_axes = tensor is not None and tensor.shape is not None and len(tensor.shape) == 2
        return has_two_axes or (affine.summand is None and not affine.per_channel)

    def _channels(self, layer: onnx.NodeProto, values: np.ndarray | None, affine: _Affine) -> np.ndarray | None:
        """The constant as one value per output channel of the layer, or None where it is something else."""
        if values is None:
            return None
        weight = self.weights[layer.input[1]]
        channels = weight.dims[self._axis(layer)]
        rank = len(weight.dims)
        shape = (channels, *[1] * (rank - 2)) if layer.op_type == "Conv" and not affine.per_channel else (channels,)
        inner = values.shape[1:] if values.ndim == len(shape) + 1 and values.shape[0] == 1 else values.shape
        if values.ndim > rank or (values.size != 1 and inner != shape):
            return None
        return np.broadcast_to(values.ravel(), (channels,))

    def _axis(self, layer: onnx.NodeProto) -> int:
        """Axis of the output channels in the layer's weight."""
        return 0 if layer.op_type == "Conv" or (layer.op_type == "Gemm" and attribute(layer, "transB", 0)) else 1

    # ── changing a layer ─────────────────────────────────────────────────────────────────────────────────────────────

    def _scale(self, layer: onnx.NodeProto, factor: np.ndarray) -> None:
        weight = numpy_helper.to_array(self.weights[layer.input[1]])
        shape = [1] * weight.ndim
        shape[self._axis(layer)] = -1
        layer.input[1] = self._store(weight * factor.reshape(shape), f"{layer.input[1]}_scaled")
        if len(layer.input) > 2 and layer.input[2]:
            bias = numpy_helper.to_array(self.weights[layer.input[2]])
            layer.input[2] = self._store(bias * factor, f"{layer.input[2]}_scaled")

    def _shift(self, layer: onnx.NodeProto, summand: np.ndarray) -> None:
        has_bias = len(layer.input) > 2 and layer.input[2] != NO_INPUT
        bias = numpy_helper.to_array(self.weights[layer.input[2]]) + summand if has_bias else summand
        if layer.op_type == "MatMul":
            layer.op_type = "Gemm"
        replace_list(layer.input, [*list(layer.input)[:2], self._store(bias, f"{layer.output[0]}_bias")])

    def _store(self, values: np.ndarray, wish: str) -> str:
        tensor = numpy_helper.from_array(np.ascontiguousarray(values, np.float32), self.names.fresh(wish))
        self.graph.initializer.append(tensor)
        self.weights[tensor.name] = tensor
        return tensor.name


def pool_means(model: onnx.ModelProto) -> None:
    """Write means over all pixels as the pooling that they are."""
    types = tensor_types(infer_shapes(model).graph)
    weights = weights_of(model)
    names = Names.of(model)
    nodes = []
    for node in model.graph.node:
        kept = attribute(node, "keepdims", 1)
        if not _averages_pixels(node, types, weights):
            nodes.append(node)
            continue
        pooled = node.output[0] if kept else names.fresh(f"{node.output[0]}_pooled")
        nodes.append(helper.make_node("GlobalAveragePool", [node.input[0]], [pooled], node.name))
        if not kept:
            nodes.append(helper.make_node("Flatten", [pooled], [node.output[0]], names.fresh(f"{pooled}_flatten")))
    replace_list(model.graph.node, nodes)
    drop_unused(model)


def _averages_pixels(node: onnx.NodeProto, types: dict[str, TensorType], weights: dict[str, onnx.TensorProto]) -> bool:
    """Whether the node takes the mean over all axes behind the channels."""
    if not is_standard(node, "ReduceMean"):
        return False
    shape = types[node.input[0]].shape if node.input[0] in types else None
    axes = attribute(node, "axes", None)
    if len(node.input) > 1 and node.input[1] in weights:
        axes = numpy_helper.to_array(weights[node.input[1]]).tolist()
    if shape is None or len(shape) < 3 or axes is None:
        return False
    return sorted(axis % len(shape) for axis in axes) == list(range(2, len(shape)))


def _of_constant(operator: str, source: str, constant: np.ndarray) -> _Affine:
    with np.errstate(divide="ignore"):
        return {
            "Add": lambda: _Affine(source, summand=constant),
            "Sub": lambda: _Affine(source, summand=-constant),
            "Mul": lambda: _Affine(source, factor=constant),
            "Div": lambda: _Affine(source, factor=1 / constant),
        }[operator]()
