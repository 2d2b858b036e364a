"""Why a model cannot be quantized, as far as a glance can tell; the plan finds out the rest."""

import itertools
from collections.abc import Iterable

import onnx

from engine.graph import all_graphs, operators

QUANTIZED = frozenset(
    {"QuantizeLinear", "DequantizeLinear", "QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger"}
)


def refusal(model: onnx.ModelProto, layers: Iterable[str]) -> str | None:
    """The reason in words for the user, or None."""
    found = operators(model)
    wanted = list(layers)
    if QUANTIZED & set(found):
        return "the model is quantized already"
    words = f"{', '.join(wanted[:-1])} or {wanted[-1]}"
    if not any(found[operator] for operator in wanted):
        return f"it has no {words}, the operators that 8 bits make faster"
    reachable = itertools.chain(model.graph.node, *(function.node for function in model.functions))
    if not any(node.op_type in wanted for node in reachable):
        return f"each {words} stands inside a branch or loop, which is left as it is"
    types = {tensor.data_type for graph in all_graphs(model.graph) for tensor in graph.initializer}
    if onnx.TensorProto.FLOAT16 in types and onnx.TensorProto.FLOAT not in types:
        return "its weights are float16, and the 8-bit kernels for CPUs start from float32"
    return None
