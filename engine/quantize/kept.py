"""What a user wants to stay in float: the entries of `keep_float`, found in the model.

An entry is an operator type, or the name of a node or of one of its outputs. The user knows the original, and preparing
it for quantization fuses nodes. So an entry is looked up in the original, and stands for the node of the prepared graph
that does the same work:

    Conv ─ a ─ BatchNormalization ─ b       →       Conv ─ b            “a” and “b” both name this Conv
"""

from collections.abc import Collection

import onnx

from engine.errors import StepFailed
from engine.graph import all_nodes, is_standard
from engine.words import shown

LAYERS = ("Conv", "Gemm", "MatMul")
MOST_SHOWN = 3


def unknown(model: onnx.ModelProto, keep_float: Collection[str]) -> list[str]:
    """Entries that name nothing in the model, in their order."""
    named = {name for node in all_nodes(model) for name in (node.op_type, node.name, *node.output)}
    return [entry for entry in keep_float if not entry or entry not in named]


def refuse_unknown(model: onnx.ModelProto, keep_float: Collection[str]) -> None:
    """Raises StepFailed where an entry names nothing in the model the user gave."""
    missing = unknown(model, keep_float)
    if missing:
        more = f" and {len(missing) - MOST_SHOWN} more" if len(missing) > MOST_SHOWN else ""
        names = ", ".join(map(shown, missing[:MOST_SHOWN]))
        detail = f"`keep_float` names {names}{more}, but the model has no such operator, node or output of a node."
        remedy = "Take the names from the model, such as “Conv” for all nodes of an operator; case matters."
        raise StepFailed("keep_float_unknown", detail, remedy)


def is_kept(node: onnx.NodeProto, keep_float: Collection[str]) -> bool:
    """Whether an entry names this very node."""
    return node.op_type in keep_float or node.name in keep_float or any(name in keep_float for name in node.output)


def kept_outputs(original: onnx.ModelProto, prepared: onnx.ModelProto, keep_float: Collection[str]) -> tuple[str, ...]:
    """First outputs of the nodes of the prepared graph that the entries stand for.

    A type stands for layers that began as this type, as a MatMul does that became a Gemm; other nodes it only names as
    they are now, so that “Add” does not mean a layer that took in its bias.
    """
    wanted = frozenset(keep_float)
    if not wanted:
        return ()
    makers = {name: node for node in prepared.graph.node for name in node.output if name}
    onward = _sole_readers(original.graph)
    kept = {_first_output(node) for node in prepared.graph.node if is_kept(node, wanted)}
    for node in original.graph.node:
        by_type = node.op_type in wanted and is_standard(node, *LAYERS)
        if by_type or is_kept(node, wanted - {node.op_type}):
            kept |= {_first_output(makers[name]) for name in _surviving(node, onward, makers)}
    return tuple(sorted(kept - {""}))


def _first_output(node: onnx.NodeProto) -> str:
    """The first that is not left out."""
    return next((name for name in node.output if name), "")


def _sole_readers(graph: onnx.GraphProto) -> dict[str, onnx.NodeProto]:
    """The node that alone reads a tensor."""
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in set(node.input):
            readers.setdefault(name, []).append(node)
    return {name: found[0] for name, found in readers.items() if len(found) == 1 and found[0].output}


def _surviving(node: onnx.NodeProto, onward: dict[str, onnx.NodeProto], makers: dict[str, onnx.NodeProto]) -> set[str]:
    """Tensors of the prepared graph that hold what the node gives out, or that what it was fused into gives out."""
    found = set()
    for output in node.output:
        name, passed = output, set[str]()
        while name not in makers and name in onward and name not in passed:
            passed.add(name)
            name = onward[name].output[0]
        if name in makers:
            found.add(name)
    return found
