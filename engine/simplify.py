"""Fewer nodes, same outputs: onnxscript's optimizer, kept on a leash.

It folds constants, fuses BatchNormalization into convolutions and drops what has no effect; all it writes is standard
ONNX. The leash: only operators that never make more out of less are folded without regard to size, weights that are
stored in 8 bits stay so, and names, types, metadata and domains of the interface are as they were.
"""

import logging

import onnx
import onnx_ir
from onnxscript import optimizer

from engine.graph import freeze_weights

LARGEST_FOLDED_INPUT = 8192
LARGEST_FOLDED_OUTPUT = 1 << 16
LOWEST_IR_VERSION = 4  #: from here on an initializer need not be an input as well
RESHAPING = frozenset({"Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity"})
KEPT = frozenset({"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "ConstantOfShape", "Expand", "Tile"})

logging.getLogger("onnxscript").setLevel(logging.ERROR)
logging.getLogger("onnx_ir").setLevel(logging.ERROR)


def simplified(model: onnx.ModelProto) -> onnx.ModelProto | None:
    """A simpler copy; None where the optimizer cannot cope with the graph."""
    frozen = onnx.ModelProto.FromString(model.SerializeToString())
    if freeze_weights(frozen):
        frozen.ir_version = max(frozen.ir_version, LOWEST_IR_VERSION)
    try:
        graph = onnx_ir.from_proto(frozen)
        optimizer.optimize_ir(
            graph,
            input_size_limit=LARGEST_FOLDED_INPUT,
            output_size_limit=LARGEST_FOLDED_OUTPUT,
            should_fold=_should_fold,
        )
        result = onnx_ir.to_proto(graph)
    except (onnx_ir.passes.PassError, RuntimeError, ValueError, TypeError, KeyError, NotImplementedError):
        return None
    _restore_interface(result, frozen)
    return result


def _should_fold(node: onnx_ir.Node) -> bool | None:
    """True for what only gives weights another shape, False for what would unpack them; else the optimizer decides."""
    if node.domain:
        return None
    if node.op_type in KEPT:
        return False
    return True if node.op_type in RESHAPING else None


def _restore_interface(result: onnx.ModelProto, original: onnx.ModelProto) -> None:
    """Inputs, outputs, metadata and domains as they were, whatever the optimizer thinks it knows about them."""
    for name in ("input", "output"):
        field = getattr(result.graph, name)
        del field[:]
        field.extend(getattr(original.graph, name))
    for name in ("metadata_props", "opset_import"):
        field = getattr(result, name)
        del field[:]
        field.extend(getattr(original, name))
    result.producer_name, result.producer_version = original.producer_name, original.producer_version
    result.domain, result.model_version = original.domain, original.model_version
    result.doc_string = original.doc_string
