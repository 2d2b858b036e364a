"""Operators from known domains only, and functions that call each other without a circle.

An unknown domain would need code of the user's on this machine; EPContext nodes carry programs for one device.
"""

import onnx

from engine.errors import ModelRejected
from engine.graph import all_nodes, subgraphs
from engine.words import shown

DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})
DEVICE_PROGRAMS = frozenset({"EPContext"})
DEEPEST_CALL = 32
MOST_EXPANDED = 200_000

FunctionKey = tuple[str, str, str]


def check_operators(model: onnx.ModelProto) -> None:
    """Check each node's domain and operator, then the functions."""
    functions = {(function.domain, function.name, function.overload): function for function in model.functions}
    for node in all_nodes(model):
        if (node.domain, node.op_type, node.overload) not in functions:
            _check_node(node)
    _check_calls(model, functions)


def _check_node(node: onnx.NodeProto) -> None:
    where = f"Node {shown(node.name or next(iter(node.output), ''))} is {shown(node.op_type)}"
    if node.domain not in DOMAINS:
        detail = f"{where} of the domain {shown(node.domain)}, which is not known here."
        remedy = "Export the model with standard ONNX operators; custom code is never run."
        raise ModelRejected("unknown_operator_domain", detail, remedy)
    if node.op_type in DEVICE_PROGRAMS:
        detail = f"{where}, a program compiled for one device."
        raise ModelRejected("device_program", detail, "Upload the model as it was before it was compiled.")


def _check_calls(model: onnx.ModelProto, functions: dict[FunctionKey, onnx.FunctionProto]) -> None:
    """Functions may call functions, but not themselves, not too deep, and not so often that they expand to millions."""
    sizes: dict[FunctionKey, int] = {}
    calls = {key: _calls(list(function.node), functions) for key, function in functions.items()}
    for _ in range(DEEPEST_CALL):
        ready = [key for key in functions if key not in sizes and all(callee in sizes for callee in calls[key])]
        for key in ready:
            sizes[key] = len(functions[key].node) + sum(sizes[callee] for callee in calls[key])
    unresolved = next((key for key in functions if key not in sizes), None)
    if unresolved is not None:
        detail = f"Function {shown(unresolved[1])} calls itself, or calls go more than {DEEPEST_CALL} deep."
        raise ModelRejected("function_calls", detail, "Export the model with its functions inlined.")
    expanded = len(model.graph.node) + sum(sizes[callee] for callee in _calls(list(model.graph.node), functions))
    if expanded > MOST_EXPANDED:
        detail = f"The model's functions expand to {expanded} nodes; at most {MOST_EXPANDED} are accepted."
        raise ModelRejected("model_too_complex", detail, "Upload a smaller model.")


def _calls(nodes: list[onnx.NodeProto], functions: dict[FunctionKey, onnx.FunctionProto]) -> list[FunctionKey]:
    """Functions that these nodes call, subgraphs included, once per call."""
    found = []
    pending = nodes
    while pending:
        node = pending.pop()
        key = (node.domain, node.op_type, node.overload)
        if key in functions:
            found.append(key)
        for graph in subgraphs(node):
            pending.extend(graph.node)
    return found
