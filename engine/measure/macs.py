"""Multiply-accumulates of one node, from the shapes of its tensors.

Only products that dominate the work of real networks are counted: convolutions, matrix products, recurrent layers,
attention and Einsum. Every other operator counts zero, as is usual in the field. ONNX Runtime's own fused and quantized
operators are known too, so that the graph as it is executed can be counted with the same table.
"""

from collections.abc import Callable, Mapping
from functools import partial
from math import prod

from onnx import AttributeProto, NodeProto

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]
Counter = Callable[[NodeProto, Shapes], int]


class UnknownShapeError(LookupError):
    """A shape that the count needs is not known."""


def macs_of(node: NodeProto, shapes: Shapes) -> int | None:
    """Multiply-accumulates of a node, or None where a needed shape is unknown."""
    counter = COUNTERS_BY_DOMAIN.get((node.domain, node.op_type)) or COUNTERS.get(node.op_type)
    if counter is None:
        return 0
    try:
        return counter(node, shapes)
    except (UnknownShapeError, IndexError, ValueError):
        return None


def _input(node: NodeProto, index: int, shapes: Shapes) -> Shape:
    if index >= len(node.input) or node.input[index] not in shapes:
        raise UnknownShapeError(index)
    return shapes[node.input[index]]


def _output(node: NodeProto, shapes: Shapes) -> Shape:
    if not node.output or node.output[0] not in shapes:
        raise UnknownShapeError(node.name)
    return shapes[node.output[0]]


def _attribute(node: NodeProto, name: str, default: int) -> int:
    return next((a.i for a in node.attribute if a.name == name and a.type == AttributeProto.INT), default)


def _convolution(node: NodeProto, shapes: Shapes, *, weight: int) -> int:
    """Each output element sums over the input channels of its group and the window."""
    return prod(_output(node, shapes)) * prod(_input(node, weight, shapes)[1:])


def _transposed_convolution(node: NodeProto, shapes: Shapes) -> int:
    """Each input element is spread over the output channels of its group and the window."""
    return prod(_input(node, 0, shapes)) * prod(_input(node, 1, shapes)[1:])


def _matrix_product(node: NodeProto, shapes: Shapes) -> int:
    left = _input(node, 0, shapes)
    transposed = len(left) > 1 and _attribute(node, "transA", 0)
    return prod(_output(node, shapes)) * left[-2 if transposed else -1]


def _recurrent(node: NodeProto, shapes: Shapes) -> int:
    """Each step of each sequence meets the input and the recurrent weights of every direction once."""
    steps = prod(_input(node, 0, shapes)[:2])
    return steps * (prod(_input(node, 1, shapes)) + prod(_input(node, 2, shapes)))


def _attention(node: NodeProto, shapes: Shapes) -> int:
    """Queries times keys, then weights times values; projections are nodes of their own."""
    keys = _input(node, 1, shapes)[-2]
    return keys * (prod(_input(node, 0, shapes)) + prod(_output(node, shapes)))


def _attention_with_projection(node: NodeProto, shapes: Shapes) -> int:
    """ONNX Runtime's fused block: one product makes queries, keys and values, then the attention itself."""
    batch, sequence, _ = _input(node, 0, shapes)
    projection = batch * sequence * prod(_input(node, 1, shapes))
    return projection + 2 * sequence * prod(_output(node, shapes))


def _einsum(node: NodeProto, shapes: Shapes) -> int:
    """The product of all distinct indices; a single operand is only moved or summed."""
    if len(node.input) < 2:
        return 0
    equation = next(a.s.decode() for a in node.attribute if a.name == "equation").replace(" ", "")
    terms = equation.split("->")[0].split(",")
    sizes: dict[str, int] = {}
    for index, term in enumerate(terms):
        shape = _input(node, index, shapes)
        names = _named_axes(term, len(shape))
        sizes |= {name: max(size, sizes.get(name, 1)) for name, size in zip(names, shape, strict=False)}
    return prod(sizes.values())


def _named_axes(term: str, rank: int) -> list[str]:
    """One name for each axis; those under the ellipsis are counted from the right, as broadcasting does."""
    head, dots, tail = term.partition("...")
    hidden = rank - len(head) - len(tail) if dots else 0
    return [*head, *(f"…{hidden - i}" for i in range(hidden)), *tail]


def _blocked_product(node: NodeProto, shapes: Shapes) -> int:
    """A matrix product whose packed weight tells its size only in attributes."""
    return prod(_output(node, shapes)) * _attribute(node, "K", 0)


COUNTERS: dict[str, Counter] = {
    "Conv": partial(_convolution, weight=1),
    "FusedConv": partial(_convolution, weight=1),
    "NhwcFusedConv": partial(_convolution, weight=1),
    "ConvInteger": partial(_convolution, weight=1),
    "DeformConv": partial(_convolution, weight=1),
    "QLinearConv": partial(_convolution, weight=3),
    "ConvTranspose": _transposed_convolution,
    "MatMul": _matrix_product,
    "FusedMatMul": _matrix_product,
    "MatMulInteger": _matrix_product,
    "MatMulInteger16": _matrix_product,
    "MatMulIntegerToFloat": _matrix_product,
    "DynamicQuantizeMatMul": _matrix_product,
    "QLinearMatMul": _matrix_product,
    "Gemm": _matrix_product,
    "FusedGemm": _matrix_product,
    "QGemm": _matrix_product,
    "MatMulNBits": _blocked_product,
    "LSTM": _recurrent,
    "GRU": _recurrent,
    "RNN": _recurrent,
    "DynamicQuantizeLSTM": _recurrent,
    "Attention": _attention,
    "MultiHeadAttention": _attention,
    "GroupQueryAttention": _attention,
    "Einsum": _einsum,
}
#: operators of ONNX Runtime that share a name with one of ONNX but not its inputs
COUNTERS_BY_DOMAIN: dict[tuple[str, str], Counter] = {
    ("com.microsoft", "Attention"): _attention_with_projection,
    ("com.microsoft", "QAttention"): _attention_with_projection,
}
