"""Which operators can be trained through, without importing torch: inspection asks within seconds of an upload."""

import onnx

from engine.differentiable.names import NAMES
from engine.errors import EngineError
from engine.graph import ONNX_DOMAINS, all_nodes, inlined
from engine.words import shown

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
    """Why the model cannot be trained, one reason for each operator that is not known; empty where it can.

    Forms of an operator that are not done are only found when the graph is planned.
    """
    unknown: dict[tuple[str, str], str] = {}
    for node in all_nodes(inlined(model)):
        domain, name = key_of(node)
        if name not in NAMES.get(domain, ()):
            unknown.setdefault((domain, name), UnsupportedOperator(node).detail)
    return list(unknown.values())
