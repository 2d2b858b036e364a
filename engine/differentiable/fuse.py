"""Several nodes computed as one, where torch has one operation for them that is quicker to train through.

    MatMul(x, W) + b                                          one product with a bias
    x · 0.5 · (1 + Erf(x / √2))                               Gelu
    x · Sigmoid(x)                                            Swish
    (x - mean) / √(mean((x - mean)²) + ε) · scale + bias      LayerNormalization over the last axis
    QuantizeLinear, DequantizeLinear                          rounding to the levels of a type

Only the plan is fused; the graph that is written back stays as it is. A tensor inside that somebody else reads is
computed as before.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import onnx
from onnx import helper, numpy_helper
from torch.nn import functional

from engine.differentiable.elements import stored_tensors
from engine.differentiable.registry import Compute, Node, operator
from engine.graph import Wiring, attribute, is_standard, outer_names

DOMAIN = "strop"  #: of operators that only fused nodes have


@operator("Linear", domain=DOMAIN)
def linear(_node: Node) -> Compute:
    """x: (…, inputs), weight: (inputs, outputs), bias: (outputs)."""
    return lambda x, weight, bias: functional.linear(x, weight.mT, bias)


def fused(graph: onnx.GraphProto, taps: Iterable[str] = ()) -> list[onnx.NodeProto]:
    """The nodes to plan, in order: some made one, and those left out that nothing reads."""
    search = Search(Wiring.of(graph), dict(stored_tensors(graph)))
    nodes = [_fused(node, search) for node in graph.node]
    needed = {*(value.name for value in graph.output), *taps, *outer_names(graph)}
    kept = []
    for node in reversed(nodes):
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(node.input)
    return kept[::-1]


def _fused(node: onnx.NodeProto, search: "Search") -> onnx.NodeProto:
    return next((made for pattern in PATTERNS if (made := pattern(node, search))), node)


@dataclass(frozen=True)
class Search:
    """Looks backwards from a tensor for what it is computed of."""

    wiring: Wiring
    stored: dict[str, onnx.TensorProto]

    def maker(self, name: str, *operators: str) -> onnx.NodeProto | None:
        """The node that makes a tensor, if it is one of these operators."""
        node = self.wiring.producers.get(name)
        return node if node is not None and is_standard(node, *operators) else None

    def number(self, name: str) -> float | None:
        """The value of a tensor that is one constant number."""
        tensor = self.stored.get(name)
        if tensor is None or math.prod(tensor.dims) != 1 or len(tensor.dims) > 1:
            return None  # one of more axes gives its axes to the result
        return float(numpy_helper.to_array(tensor).reshape(()))

    def with_number(self, name: str, operator_name: str) -> tuple[str, float] | None:
        """Of a node with two inputs, of which one is a number: the other input, and the number."""
        node = self.maker(name, operator_name)
        for other, constant in _orders(node):
            number = self.number(constant)
            if number is not None:
                return other, number
        return None

    def with_weight(self, name: str, operator_name: str) -> tuple[str, str] | None:
        """Of a node with two inputs, of which one is a stored vector: the other input, and the vector."""
        node = self.maker(name, operator_name)
        for other, weight in _orders(node):
            if weight in self.stored and len(self.stored[weight].dims) == 1:
                return other, weight
        return None

    def product(self, name: str, *, inside: bool = False) -> tuple[list[str], float]:
        """What a tensor is the product of: tensors, and a number. Tensors with other readers are not looked into."""
        number = self.number(name)
        if number is not None:
            return [], number
        node = None if inside and self.wiring.uses[name] > 1 else self.maker(name, "Mul", "Div")
        if node is None:
            return [name], 1.0
        first, factor = self.product(node.input[0], inside=True)
        if node.op_type == "Div":
            divisor = self.number(node.input[1])
            return (first, factor / divisor) if divisor else ([name], 1.0)
        second, other = self.product(node.input[1], inside=True)
        return first + second, factor * other


def _orders(node: onnx.NodeProto | None) -> list[tuple[str, str]]:
    if node is None or len(node.input) != 2:
        return []
    return [(node.input[0], node.input[1]), (node.input[1], node.input[0])]


def _biased_product(node: onnx.NodeProto, search: Search) -> onnx.NodeProto | None:
    parts = search.with_weight(node.output[0], "Add")
    made = search.maker(parts[0], "MatMul") if parts else None
    weight = search.stored.get(made.input[1]) if made else None
    if parts is None or made is None or weight is None or search.wiring.uses[parts[0]] > 1:
        return None
    if len(weight.dims) != 2 or list(search.stored[parts[1]].dims) != [weight.dims[1]]:
        return None
    return helper.make_node("Linear", [*made.input, parts[1]], node.output, made.name, domain=DOMAIN)


def _gated(node: onnx.NodeProto, search: Search) -> onnx.NodeProto | None:
    """Gelu and Swish: a tensor times a function of itself."""
    if not is_standard(node, "Mul"):
        return None
    tensors, factor = search.product(node.output[0])
    if len(tensors) != 2:
        return None
    for x, gate in (tensors, tensors[::-1]):
        if factor == 1 and (sigmoid := search.maker(gate, "Sigmoid")) and sigmoid.input[0] == x:
            return helper.make_node("Swish", [x], node.output, node.name)
        if factor == 0.5 and _is_error_of(x, gate, search):
            return helper.make_node("Gelu", [x], node.output, node.name)
    return None


def _is_error_of(x: str, gate: str, search: Search) -> bool:
    """Whether the gate is 1 + Erf(x / √2)."""
    shifted = search.with_number(gate, "Add")
    error = search.maker(shifted[0], "Erf") if shifted and shifted[1] == 1 else None
    if error is None:
        return False
    tensors, factor = search.product(error.input[0])
    return tensors == [x] and math.isclose(factor, math.sqrt(0.5), rel_tol=1e-3)


def _layer_norm(node: onnx.NodeProto, search: Search) -> onnx.NodeProto | None:
    shifted = search.with_weight(node.output[0], "Add")
    scaled = search.with_weight(shifted[0], "Mul") if shifted else None
    quotient = search.maker(scaled[0], "Div") if scaled else None
    root = search.maker(quotient.input[1], "Sqrt") if quotient else None
    variance = search.with_number(root.input[0], "Add") if root else None
    if not (shifted and scaled and quotient and variance):
        return None
    x = _varies_as(variance[0], quotient.input[0], search)
    if x is None:
        return None
    inputs = [x, scaled[1], shifted[1]]
    return helper.make_node("LayerNormalization", inputs, node.output, node.name, axis=-1, epsilon=variance[1])


def _varies_as(variance: str, centered: str, search: Search) -> str | None:
    """The x whose distance to its mean is centered, and whose variance this is, both over the last axis."""
    x = _centered(centered, search)
    squares = _mean_of(variance, search)
    square = search.maker(squares, "Pow", "Mul") if squares else None
    if x is None or square is None:
        return None
    is_square = search.number(square.input[1]) == 2 if square.op_type == "Pow" else square.input[0] == square.input[1]
    return x if is_square and _centered(square.input[0], search) == x else None


def _centered(name: str, search: Search) -> str | None:
    """The x of x - mean(x)."""
    difference = search.maker(name, "Sub")
    return difference.input[0] if difference and _mean_of(difference.input[1], search) == difference.input[0] else None


def _mean_of(name: str, search: Search) -> str | None:
    """The x of a mean over the last axis, which stays."""
    node = search.maker(name, "ReduceMean")
    if node is None or not attribute(node, "keepdims", 1):
        return None
    axes = attribute(node, "axes", None) or (search.number(node.input[1]) if len(node.input) > 1 else None)
    return node.input[0] if axes in ([-1], -1) else None


def _rounding(node: onnx.NodeProto, search: Search) -> onnx.NodeProto | None:
    """A QuantizeLinear with the DequantizeLinear behind it that undoes it."""
    made = search.maker(node.input[0], "QuantizeLinear") if is_standard(node, "DequantizeLinear") else None
    if made is None or made.input[1:] != node.input[1:] or search.wiring.uses[node.input[0]] > 1:
        return None
    first, second = ({entry.name: helper.get_attribute_value(entry) for entry in one.attribute} for one in (made, node))
    shared = {name: first.get(name) for name in ("axis", "block_size")}
    if shared != {name: second.get(name) for name in shared} or second.keys() - shared or "precision" in first:
        return None
    return helper.make_node("FakeQuantize", made.input, node.output, node.name, domain=DOMAIN, **first)


PATTERNS = (_biased_product, _gated, _layer_norm, _rounding)
