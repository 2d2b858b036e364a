"""A float graph that is ready for surgery: opset 13 or later, whole layers, constants as initializers.

Conv(x, W) + b               → Conv(x, W, b)
MatMul(x, W) + b             → Gemm(x, W, b)            where x is known to have two axes
"""

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from engine.data import Samples
from engine.graph import (
    Names,
    drop_unused,
    freeze_weights,
    is_standard,
    lift_constants,
    load,
    opset,
    outer_names,
    replace_list,
    save,
    tensor_types,
    weights_of,
)
from engine.measure.complexity import infer_shapes
from engine.runtime import same_outputs

LOWEST_OPSET = 13  #: from here on QuantizeLinear has an axis
LOWEST_IR_VERSION = 7
TRIED_SAMPLES = 4
CONVERTER_ERRORS = (onnx.version_converter.ConvertError, RuntimeError, ValueError, IndexError, TypeError)


def prepared(path: Path, samples: Samples, folder: Path) -> onnx.ModelProto | str:
    """The graph to quantize, or in words why it cannot be brought to that. An upgrade is tried on a few samples."""
    from engine.simplify import simplified  # its libraries take a second to import, and inspection needs none of them

    model = load(path)
    freeze_weights(model)
    model.ir_version = max(model.ir_version, LOWEST_IR_VERSION)
    if opset(model) < LOWEST_OPSET:
        model = upgraded(model, LOWEST_OPSET)
        if model is None:
            return f"its opset is older than {LOWEST_OPSET}, and the converter does not know how to upgrade it"
        if not same_outputs(path, save(model, folder / "upgraded.onnx"), samples.first(TRIED_SAMPLES)):
            return f"its outputs change when it is upgraded to opset {LOWEST_OPSET}"
    model = simplified(model) or model
    lift_constants(model)
    fuse_biases(model)
    return model


def upgraded(model: onnx.ModelProto, version: int) -> onnx.ModelProto | None:
    """The same model at a later opset, or None where the converter gives up."""
    try:
        converted = onnx.version_converter.convert_version(model, version)
    except CONVERTER_ERRORS:
        return None
    del converted.metadata_props[:]
    converted.metadata_props.extend(model.metadata_props)
    return converted


def fuse_biases(model: onnx.ModelProto) -> None:
    """Move constants that are added to a layer's output into the layer."""
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
        self.producers = {node.output[0]: node for node in model.graph.node if node.output}
        self.uses = Counter(name for node in model.graph.node for name in node.input)
        self.uses.update(value.name for value in model.graph.output)
        self.uses.update(outer_names(model.graph))
        self.types = tensor_types(infer_shapes(model).graph)

    def absorbs(self, node: onnx.NodeProto) -> bool:
        """Whether the node adds a constant to a layer's output; then the layer does so from now on."""
        if not is_standard(node, "Add"):
            return False
        for summand, constant in (node.input, reversed(node.input)):
            layer = self.producers.get(summand)
            if layer is None or self.uses[summand] != 1 or constant not in self.weights:
                continue
            bias = self._bias(layer, numpy_helper.to_array(self.weights[constant]))
            if bias is not None:
                self._give_bias(layer, bias)
                layer.output[0] = node.output[0]
                return True
        return False

    def _bias(self, layer: onnx.NodeProto, constant: np.ndarray) -> np.ndarray | None:
        """The constant as this layer's bias, or None where it is none."""
        weight = self.weights.get(layer.input[1]) if len(layer.input) > 1 else None
        if weight is None or constant.dtype != np.float32:
            return None
        if is_standard(layer, "Conv"):
            channels, shape = weight.dims[0], (weight.dims[0], *[1] * (len(weight.dims) - 2))
        elif is_standard(layer, "MatMul") and len(weight.dims) == 2 and self._has_two_axes(layer.input[0]):
            channels, shape = weight.dims[1], (weight.dims[1],)
        else:
            return None
        inner = constant.shape[1:] if constant.ndim == len(shape) + 1 and constant.shape[0] == 1 else constant.shape
        if constant.size != 1 and inner != shape:
            return None
        bias = np.broadcast_to(constant.ravel(), (channels,))
        return bias if len(layer.input) < 3 else self._sum(layer.input[2], bias)

    def _sum(self, existing: str, bias: np.ndarray) -> np.ndarray | None:
        weight = self.weights.get(existing)
        return None if weight is None else numpy_helper.to_array(weight) + bias

    def _has_two_axes(self, name: str) -> bool:
        tensor = self.types.get(name)
        return tensor is not None and tensor.shape is not None and len(tensor.shape) == 2

    def _give_bias(self, layer: onnx.NodeProto, bias: np.ndarray) -> None:
        name = self.names.fresh(f"{layer.output[0]}_bias")
        self.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(bias), name))
        if layer.op_type == "MatMul":
            layer.op_type = "Gemm"
        replace_list(layer.input, [*list(layer.input)[:2], name])
