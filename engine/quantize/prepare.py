"""A float graph that is ready for surgery: opset 13 or later, whole layers, constants as initializers."""

from pathlib import Path

import onnx

from engine.data import Samples
from engine.graph import (
    all_nodes,
    attribute,
    freeze_weights,
    inlined,
    is_standard,
    lift_constants,
    load,
    on_structure,
    opset,
    replace_list,
    save,
)
from engine.quantize.affine import fuse_affine, pool_means
from engine.quantize.widen import has_half_weights, widened
from engine.runtime import same_outputs

LOWEST_OPSET = 13  #: from here on QuantizeLinear has an axis
LOWEST_IR_VERSION = 7
RESIZE_CHANGED = 11
TRIED_SAMPLES = 4
CONVERTER_ERRORS = (onnx.version_converter.ConvertError, RuntimeError, ValueError, IndexError, TypeError)


def prepared(path: Path, samples: Samples, folder: Path) -> onnx.ModelProto | str:
    """The graph to quantize, or in words why it cannot be brought to that. An upgrade is tried on a few samples."""
    from engine.simplify import simplified  # its libraries take a second to import, and inspection needs none of them

    model = at_opset(path, LOWEST_OPSET, samples, folder)
    if isinstance(model, str):
        return model
    if has_half_weights(model):
        model = widened(model)
    lift_constants(model)  # norms fuse into layers only where their parameters are initializers
    model = simplified(model) or model
    lift_constants(model)
    fuse_affine(model)
    pool_means(model)
    return model


def at_opset(path: Path, version: int, samples: Samples, folder: Path) -> onnx.ModelProto | str:
    """The model at this opset or a later one, its weights constants; or in words why it cannot be brought to that."""
    model = inlined(load(path))
    freeze_weights(model)
    model.ir_version = max(model.ir_version, LOWEST_IR_VERSION)
    if opset(model) >= version:
        return model
    model = upgraded(model, version)
    if model is None:
        return f"its opset is older than {version}, and the converter does not know how to upgrade it"
    if not same_outputs(path, save(model, folder / "upgraded.onnx"), samples.first(TRIED_SAMPLES)):
        return f"its outputs change when it is upgraded to opset {version}"
    return model


def upgraded(model: onnx.ModelProto, version: int) -> onnx.ModelProto | None:
    """The same model at a later opset, or None where the converter gives up."""
    try:
        converted = on_structure(model, lambda graph: onnx.version_converter.convert_version(graph, version))
    except CONVERTER_ERRORS:
        return None
    if opset(model) < RESIZE_CHANGED:
        _resize_as_before(converted)
    replace_list(converted.metadata_props, model.metadata_props)
    replace_list(converted.graph.input, model.graph.input)  # the converter gives names to axes that have none
    replace_list(converted.graph.output, model.graph.output)
    return converted


def _resize_as_before(converted: onnx.ModelProto) -> None:
    """Before opset 11, Upsample and Resize sampled at x / scale, rounded down; the converter leaves that out."""
    for node in all_nodes(converted):
        if is_standard(node, "Resize") and attribute(node, "coordinate_transformation_mode", None) is None:
            meant = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
            node.attribute.extend(onnx.helper.make_attribute(name, value) for name, value in meant.items())
