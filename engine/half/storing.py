"""Weights that lie in the file in half precision.

w_half ─ Cast ─ w ── all readers, which compute in float32 as before
"""

import math
from collections.abc import Set as AbstractSet

import onnx
from onnx import numpy_helper

from engine.graph import Names
from engine.half.rounding import rounded_half
from engine.recipe import Half
from engine.unpack import FEWEST_ELEMENTS, Unpacker, inside_out

T = onnx.TensorProto


def store_half(model: onnx.ModelProto, half: Half, left: AbstractSet[str] = frozenset()) -> int:
    """Store large weights in half precision, but for those that are left; how many there were."""
    names = Names.of(model)
    return sum(_store(Unpacker(graph, names), half, left) for graph in inside_out(model))


def _store(new: Unpacker, half: Half, left: AbstractSet[str]) -> int:
    replaced = set()
    for weight in list(new.graph.initializer):
        if weight.data_type != T.FLOAT or math.prod(weight.dims) < FEWEST_ELEMENTS or weight.name in left:
            continue
        rounded = rounded_half(numpy_helper.to_array(weight), half)
        if rounded is not None:
            new.give("Cast", [new.store(rounded, f"{weight.name}_{half}")], weight.name, to=T.FLOAT)
            replaced.add(weight.name)
    new.finish(replaced)
    return len(replaced)
