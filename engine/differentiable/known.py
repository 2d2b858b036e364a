"""Which operators can be trained through, without importing torch: inspection asks within seconds of an upload."""

from collections.abc import Iterator

import onnx

from engine.errors import EngineError, shown
from engine.graph import ONNX_DOMAINS, all_nodes, inlined

REMEDY = "Leave out the steps that train, or export the model without this operator."


class UnsupportedOperator(EngineError):
    """The differentiable graph lacks an operator, or a form of it."""

    title = "The model cannot be trained"

    def __init__(self, node: onnx.NodeProto, reason: str = "") -> None:
        detail = f"{described(node)} cannot be trained through"
        super().__init__("operator_not_differentiable", f"{detail}: {reason}." if reason else f"{detail}.", REMEDY)


def described(node: onnx.NodeProto) -> str:
    """A node in words: operator, domain and name."""
    domain = "" if node.domain in ONNX_DOMAINS else f" of the domain {shown(node.domain)}"
    return f"{shown(node.op_type)}{domain} (node {shown(node.name or next(iter(node.output), ''))})"


def key_of(node: onnx.NodeProto) -> tuple[str, str]:
    """Domain and operator, as the registry lists them."""
    return "" if node.domain in ONNX_DOMAINS else node.domain, node.op_type


def supported(model: onnx.ModelProto) -> list[str]:
    """Why the model cannot be trained, one reason an operator; empty where it can."""
    return list(dict.fromkeys(_reasons(inlined(model))))


def _reasons(model: onnx.ModelProto) -> Iterator[str]:
    from engine.differentiable.registry import OPERATORS

    seen = set()
    for node in all_nodes(model):
        key = key_of(node)
        if key not in OPERATORS and key not in seen and node.op_type != "Constant":
            seen.add(key)
            yield UnsupportedOperator(node).detail
