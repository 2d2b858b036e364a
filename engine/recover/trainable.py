"""Which of a graph's constants are weights, and may learn.

A constant learns only where each of its readers takes it for a weight. The exponent of a Pow, the bounds of a Clip, the
factor in front of an attention and the variance of a normalization are floats as well, and stay what they are.
"""

from collections.abc import Iterator

import onnx

from engine.graph import ONNX_DOMAINS, all_graphs, all_nodes, is_standard

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
    "SkipLayerNormalization": (2, 3, 4),
    "BiasGelu": (1,),
    "FusedMatMul": (0, 1),
    "FusedConv": (1, 2),
    "LSTM": (1, 2, 3, 7),
    "GRU": (1, 2, 3),
    "RNN": (1, 2, 3),
    "QuantizeLinear": (0,),
}
#: what only moves a weight on its way to its reader
MOVERS = ("Cast", "Concat", "Expand", "Identity", "Reshape", "Split", "Squeeze", "Transpose", "Unsqueeze")


def read_as_weights(model: onnx.ModelProto) -> set[str]:
    """Names that every reader takes for a weight, those inside of branches and loops too."""
    outputs = {value.name for graph in all_graphs(model.graph) for value in graph.output}
    readings = list(_readings(model))
    return {name for name, fits in readings if fits} - {name for name, fits in readings if not fits} - outputs


def _readings(model: onnx.ModelProto) -> Iterator[tuple[str, bool]]:
    """Each input of each node, and whether a weight is expected there."""
    for node in all_nodes(model):
        positions = EVERY if is_standard(node, *MOVERS) else POSITIONS.get(_operator(node), ())
        for position, name in enumerate(node.input):
            yield name, position in positions


def _operator(node: onnx.NodeProto) -> str:
    return node.op_type if node.domain in (*ONNX_DOMAINS, "com.microsoft") else ""
