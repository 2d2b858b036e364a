"""Small files that make gigabytes: a shape of a few numbers that ConstantOfShape, Expand or Tile blows up.

Shapes are inferred with constants followed through; a dimension that may vary counts as one, so what is summed up here
is the least that a run would need. The limits of the process stay behind this for what inference cannot see.
"""

import math
from collections.abc import Iterator

import onnx

from engine.admission.tensors import BITS
from engine.errors import ModelRejected
from engine.graph import TensorType, all_graphs, tensor_types
from engine.measure.complexity import infer_shapes
from engine.words import shown

RANDOM = ("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike")
FILLED = ("ConstantOfShape", "EyeLike", "OneHot", *RANDOM)
COPIED = ("CenterCropPad", "Expand", "Pad", "Range", "Resize", "Tile", "Trilu", "Upsample")
SCATTERED = ("Col2Im", "GatherND", "MaxUnpool", "ScatterND")
PRODUCERS = frozenset((*FILLED, *COPIED, *SCATTERED))
LARGEST_PRODUCT = 1 << 30
LARGEST_SUM = 4 << 30
LARGEST_ACTIVATION = 8 << 30


def check_sizes(model: onnx.ModelProto) -> None:
    """Refuse a model in which a node makes far more than it gets."""
    total = 0
    for node, size in _outputs(model):
        produced = size if node.op_type in PRODUCERS else 0
        total += produced
        if produced > LARGEST_PRODUCT or size > LARGEST_ACTIVATION or total > LARGEST_SUM:
            name = shown(node.name or node.output[0])
            detail = f"Node {name} ({node.op_type}) makes a tensor of at least {size} bytes."
            raise ModelRejected("model_bomb", detail, "Export the model with smaller fixed shapes.")


def _outputs(model: onnx.ModelProto) -> Iterator[tuple[onnx.NodeProto, int]]:
    """Each node with the bytes of its outputs, as far as they are known."""
    for graph in all_graphs(infer_shapes(model).graph):
        types = tensor_types(graph)
        for node in graph.node:
            yield node, sum(_bytes(types[name]) for name in node.output if name in types)


def _bytes(tensor: TensorType) -> int:
    sizes = [size for size in tensor.shape or () if isinstance(size, int)]
    return math.prod(max(size, 0) for size in sizes) * BITS.get(tensor.element, 8) // 8
