"""Which of a graph's constants are weights, and may learn.

A constant learns only where each of its readers takes it for a weight. The exponent of a Pow, the bounds of a Clip, the
factor in front of an attention and the variance of a normalization are floats as well, and stay what they are. So do
masks, which are added too, and what is sliced and then multiplied: the tables of rotary positions.

What is only measured says nothing of what it is: weight normalization reads v twice, in v / |v|.
"""

import math
from collections import defaultdict
from collections.abc import Container, Iterator, Mapping, Sequence

import numpy as np
import onnx
from onnx import numpy_helper

from engine import words
from engine.graph import ONNX_DOMAINS, all_graphs, all_nodes, constant_of, is_standard

EVERY = range(64)  #: positions among the inputs

#: where an operator reads a weight
POSITIONS: dict[str, range | tuple[int, ...]] = {
    "Conv": (1, 2),
    "ConvTranspose": (1, 2),
    "DeformConv": (1, 3),
    "Gemm": (0, 1, 2),
    "MatMul": (0, 1),
    "Einsum": EVERY,
    "Gather": (0,),
    "Add": (0, 1),
    "Sub": (0, 1),
    "Mul": (0, 1),
    "Div": (0,),
    "Sum": EVERY,
    "PRelu": (1,),
    "BatchNormalization": (1, 2),
    "InstanceNormalization": (1, 2),
    "LayerNormalization": (1, 2),
    "GroupNormalization": (1, 2),
    "RMSNormalization": (1,),
    "SimplifiedLayerNormalization": (1,),
    "LSTM": (1, 2, 3, 7),
    "GRU": (1, 2, 3),
    "RNN": (1, 2, 3),
    "QuantizeLinear": (0,),
}
#: the same of ONNX Runtime's own operators; those above count for it as well, where it has them too
MICROSOFT_POSITIONS: dict[str, range | tuple[int, ...]] = POSITIONS | {
    "Attention": (1, 2),
    "BiasAdd": (1,),
    "BiasGelu": (1,),
    "EmbedLayerNormalization": (2, 3, 4, 5, 6),
    "FastGelu": (1,),
    "FusedConv": (1, 2),
    "FusedGemm": (0, 1, 2),
    "FusedMatMul": (0, 1),
    "MatMulNBits": (5,),
    "MultiHeadAttention": (3,),
    "SkipLayerNormalization": (2, 3, 4),
    "SkipSimplifiedLayerNormalization": (2, 3),
    "TransposeMatMul": (0, 1),
}
#: what only moves a weight on its way to its reader
MOVERS = ("Cast", "Concat", "Expand", "Identity", "Reshape", "Split", "Squeeze", "Transpose", "Unsqueeze")
#: what only measures a weight
MEASURING = ("ReduceL1", "ReduceL2", "ReduceMean", "ReduceSum", "ReduceSumSquare", "Shape", "Size")
RULES_OUT = -1e4  #: a score with this added leaves no probability

TOLD_SHARE = 0.1  #: of the floats in matrices and tables
NOT_LEARNED = (
    "{stay:,} of {whole:,} floats in its matrices and tables ({share}) did not learn. They are read by {readers}."
)

Readers = Mapping[str, list[tuple[onnx.NodeProto, int]]]  #: nodes that read a tensor, and as which input


def read_as_weights(model: onnx.ModelProto) -> set[str]:
    """Names that every reader takes for a weight, those inside of branches and loops too."""
    outputs = {value.name for graph in all_graphs(model.graph) for value in graph.output}
    readings = list(_readings(readers_of(model)))
    found = {name for name, fits in readings if fits} - {name for name, fits in readings if not fits} - outputs
    return found - {name for name, tensor in _constants(model) if name in found and _is_mask(tensor)}


def not_learned(model: onnx.ModelProto, shapes: Mapping[str, Sequence[int]], learning: Container[str]) -> str | None:
    """How much did not learn, for the report; None where that is little. shapes: of all floats, by name."""
    tables = {name: math.prod(shape) for name, shape in shapes.items() if sum(size > 1 for size in shape) > 1}
    left = {name: size for name, size in tables.items() if name not in learning}
    stay, whole = sum(left.values()), sum(tables.values())
    if stay < TOLD_SHARE * whole or not stay:
        return None
    readers = readers_of(model)
    operators = sorted({node.op_type for name in left for node, _ in readers.get(name, ())})
    return NOT_LEARNED.format(stay=stay, whole=whole, share=words.share(stay / whole), readers=", ".join(operators))


def readers_of(model: onnx.ModelProto) -> Readers:
    readers: Readers = defaultdict(list)
    for node in all_nodes(model):
        for position, name in enumerate(node.input):
            readers[name].append((node, position))
    return readers


def _readings(readers: Readers) -> Iterator[tuple[str, bool]]:
    """Each name that is read, with whether a weight is expected there."""
    for name, found in list(readers.items()):
        for node, position in found:
            if is_standard(node, "Slice"):
                yield name, position == 0 and _is_sliced_weight(node, readers)
            elif is_standard(node, *MOVERS):
                yield name, True
            elif not is_standard(node, *MEASURING):
                yield name, position in _positions(node)


def _is_sliced_weight(node: onnx.NodeProto, readers: Readers) -> bool:
    """Whether its part of a constant is read as a weight, and not as a factor."""
    names, passed = list(node.output), set[str]()
    while names:
        name = names.pop()
        passed.add(name)
        for reader, position in readers.get(name, ()):
            if is_standard(reader, "Slice", *MOVERS):
                names += set(reader.output) - passed
            elif is_standard(reader, "Mul") or position not in _positions(reader):
                return False
    return True


def _positions(node: onnx.NodeProto) -> range | tuple[int, ...]:
    if node.domain in ONNX_DOMAINS:
        return POSITIONS.get(node.op_type, ())
    return MICROSOFT_POSITIONS.get(node.op_type, ()) if node.domain == "com.microsoft" else ()


def _constants(model: onnx.ModelProto) -> Iterator[tuple[str, onnx.TensorProto]]:
    for graph in all_graphs(model.graph):
        yield from ((weight.name, weight) for weight in graph.initializer)
        yield from ((node.output[0], tensor) for node in graph.node if (tensor := constant_of(node)) is not None)


def _is_mask(tensor: onnx.TensorProto) -> bool:
    """Whether it says of each place that it counts, 0, or that it does not, with one large negative number."""
    if tensor.data_type != onnx.TensorProto.FLOAT or not tensor.dims:
        return False
    values = numpy_helper.to_array(tensor)
    lowest = values.min(initial=0)
    return bool(lowest <= RULES_OUT and np.all((values == 0) | (values == lowest)))
