"""Why a model cannot be quantized, as far as a glance can tell; the plan finds out the rest."""

import itertools
from collections.abc import Iterable

import onnx

from engine.graph import operators

KERNEL_LESS = ("GRU", "RNN")
QUANTIZED = frozenset(
    {"QuantizeLinear", "DequantizeLinear", "QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger"}
)


def is_quantized(model: onnx.ModelProto) -> bool:
    """Whether any node computes with integers in place of floats."""
    return bool(QUANTIZED & set(operators(model)))


def refusal(model: onnx.ModelProto, layers: Iterable[str]) -> str | None:
    """The reason in words for the user, or None."""
    found = operators(model)
    wanted = list(layers)
    if is_quantized(model):
        return "the model is quantized already"
    words = f"{', '.join(wanted[:-1])} or {wanted[-1]}"
    if not any(found[operator] for operator in wanted):
        return f"it has no {words}, the operators that 8 bits make faster{without_kernel(model)}"
    reachable = itertools.chain(model.graph.node, *(function.node for function in model.functions))
    if not any(node.op_type in wanted for node in reachable):
        return f"each {words} stands inside a branch or loop, which is left as it is"
    return None


def without_kernel(model: onnx.ModelProto) -> str:
    """What to add to a reason where layers would be worth it, but have no 8-bit kernel."""
    found = [operator for operator in KERNEL_LESS if operators(model)[operator]]
    return f"; for its {' and '.join(found)} layers ONNX Runtime has no 8-bit kernel" if found else ""
