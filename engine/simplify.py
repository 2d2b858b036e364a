"""Fewer nodes, same outputs: onnxscript's folding and rewriting, kept on a leash.

It folds constants, fuses BatchNormalization and Pad into convolutions and drops what has no effect; all it writes is
standard ONNX. The leash: rules that write operators as later opsets know them are used from those opsets on; only
operators that never make more out of less are folded without regard to size; weights that are stored in 8 bits stay so;
names, types, metadata and domains of the interface stay as they were.
"""

import logging

import onnx
import onnx_ir
import onnx_ir.passes.common as passes
from onnxscript import optimizer, rewriter
from onnxscript.rewriter.rules import common as rules

from engine.graph import all_graphs, copied, freeze_weights, opset, replace_list, subgraphs

ROUNDS = 2
LARGEST_FOLDED_INPUT = 8192
LARGEST_FOLDED_OUTPUT = 1 << 16
LOWEST_IR_VERSION = 4  #: from here on an initializer need not be an input as well
RESHAPING = frozenset({"Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity"})
GROWING = frozenset({"ConstantOfShape", "Expand", "Tile", "DequantizeLinear"})

#: rules by the opset from which on what they write is valid
RULES: dict[int, list[rewriter.RewriteRule]] = {
    1: [
        *rules.add_0_rule.commute(),
        *rules.mul_by_1_rule.commute(),
        rules.sub_0_rule,
        rules.div_by_1_rule,
        rules.dropout_zero_rule,
        rules.dropout_inference_rule,
        rules.no_op_cast_rule,
        rules.no_op_transpose_rule,
        rules.transpose_transpose_rule,
        rules.fuse_batchnorm_into_conv_rule,
        rules.fuse_batchnorm_into_conv_transpose_rule,
        rules.fuse_batchnorm_into_gemm_rule,
    ],
    13: [
        rules.no_op_expand_rule,
        rules.reshape_reshape_rule,
        rules.unsqueeze_unsqueeze_rule,
        rules.squeeze_reshape_1d_rule,
        rules.materialize_reshape_shape_rule,
        rules.collapse_slice_rule,
        rules.normalize_pad_format_conv_rule,
        rules.fuse_pad_into_conv_rule,
        rules.conv_affine_fusion_rule,
        rules.affine_conv_fusion_rule,
        rules.successive_relu_rule,
        rules.successive_clip_rule,
    ],
}
FAILURES = (onnx_ir.passes.PassError, RuntimeError, ValueError, TypeError, KeyError, IndexError, NotImplementedError)

logging.getLogger("onnxscript").setLevel(logging.ERROR)
logging.getLogger("onnx_ir").setLevel(logging.ERROR)


def simplified(model: onnx.ModelProto) -> onnx.ModelProto | None:
    """A simpler copy; None where the optimizer cannot cope with the graph. The model's weights become constants."""
    if has_sparse_weights(model):
        return None  # the optimizer's representation has no place for them
    if freeze_weights(model):
        model.ir_version = max(model.ir_version, LOWEST_IR_VERSION)
    try:
        graph = onnx_ir.from_proto(_without_map_types(model))
        _optimize(graph, [rule for lowest, some in RULES.items() if lowest <= opset(model) for rule in some])
        result = onnx_ir.to_proto(graph)
    except FAILURES:
        return None
    _restore_interface(result, model)
    return result if _knows_its_operators(result) or not _knows_its_operators(model) else None


def _without_map_types(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model, or a copy in which maps have no type, since the optimizer's representation has none for them."""
    declared = [*model.graph.output, *model.graph.value_info]
    if not any(_holds_map(value.type) for value in declared):
        return model
    copy = copied(model)
    for value in (*copy.graph.output, *copy.graph.value_info):
        if _holds_map(value.type):
            value.ClearField("type")
    return copy


def _holds_map(kind: onnx.TypeProto) -> bool:
    which = kind.WhichOneof("value")
    if which in ("sequence_type", "optional_type"):
        return _holds_map(getattr(kind, which).elem_type)
    return which == "map_type"


def has_sparse_weights(model: onnx.ModelProto) -> bool:
    """Whether weights are stored as indices and values."""
    return any(graph.sparse_initializer for graph in all_graphs(model.graph))


def _optimize(graph: onnx_ir.Model, chosen: list[rewriter.RewriteRule]) -> None:
    passes.InlinePass()(graph)
    for _ in range(ROUNDS):
        optimizer.fold_constants_ir(
            graph,
            onnx_shape_inference=True,
            input_size_limit=LARGEST_FOLDED_INPUT,
            output_size_limit=LARGEST_FOLDED_OUTPUT,
            should_fold=_should_fold,
        )
        rewriter.rewrite(graph, chosen)
    for tidy in (
        passes.RemoveUnusedNodesPass(),
        passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        passes.DeduplicateInitializersPass(),
        passes.CommonSubexpressionEliminationPass(),
        passes.OutputFixPass(),
        passes.NameFixPass(),
    ):
        tidy(graph)


def _should_fold(node: onnx_ir.Node) -> bool | None:
    """True for what only gives weights another shape, False for what makes more out of less, None to leave it open."""
    if node.domain:
        return None
    if node.op_type in GROWING:
        return False
    return True if node.op_type in RESHAPING else None


def _restore_interface(result: onnx.ModelProto, original: onnx.ModelProto) -> None:
    """Inputs, outputs, metadata and domains as they were, whatever the optimizer thinks it knows about them."""
    replace_list(result.graph.input, original.graph.input)
    replace_list(result.graph.output, original.graph.output)
    replace_list(result.metadata_props, original.metadata_props)
    replace_list(result.opset_import, original.opset_import)
    result.producer_name, result.producer_version = original.producer_name, original.producer_version
    result.domain, result.model_version = original.domain, original.model_version
    result.doc_string = original.doc_string


def _knows_its_operators(model: onnx.ModelProto) -> bool:
    """Whether each node is as its opset wants it; nodes with graphs inside cannot be checked by themselves."""
    context = onnx.checker.C.CheckerContext()
    context.ir_version = model.ir_version
    context.opset_imports = {entry.domain: entry.version for entry in model.opset_import}
    try:
        for node in model.graph.node:
            if next(subgraphs(node), None) is None:
                onnx.checker.check_node(node, context)
    except onnx.checker.ValidationError:
        return False
    return True
