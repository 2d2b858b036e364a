"""Simplify the graph: the same outputs from fewer nodes.

Constants are folded, a BatchNormalization goes into the convolution before it, nodes without effect such as Identity go
away, equal initializers become one, functions are inlined, and initializers that old exporters also list as inputs
become constants. What is folded stays small, so that the file does not grow.

ONNX Runtime does most of this itself when it loads a model, so little time is won; but files get smaller, load faster,
and quantization finds whole convolutions to work on.
"""

from pathlib import Path

import onnx

from engine import beside
from engine.graph import load, operators, save
from engine.recipe import SimplifyGraph
from engine.steps.base import Skipped, StepContext, Variant

MOST_GROWTH_BYTES = 1 << 16


def refuse(model: onnx.ModelProto) -> str | None:
    """Any graph with nodes may turn out to have something to simplify; `run` finds out."""
    return None if model.graph.node else "the graph has no nodes"


def run(step: SimplifyGraph, model: Path, context: StepContext) -> list[Variant] | Skipped:
    """One simpler file, or the reason why there is none."""
    # its libraries take a second to import, and inspection needs none of them
    from engine.simplify import has_sparse_weights, simplified

    before = load(model)
    reason = refuse(before)
    if reason is not None:
        return Skipped(reason)
    old_operators, old_weights, old_size = operators(before), len(before.graph.initializer), beside.size_bytes(model)
    after = simplified(before)
    if after is None:
        sparse = has_sparse_weights(before)
        return Skipped("its weights are sparse" if sparse else "the simplifier cannot read an operator of this graph")
    if operators(after) == old_operators and len(after.graph.initializer) >= old_weights:
        return Skipped("the graph has nothing to fold, fuse or drop")
    path = save(after, context.folder / "simplified.onnx")
    if beside.size_bytes(path) > old_size + MOST_GROWTH_BYTES:
        return Skipped("folding its constants would make the file larger")
    return [Variant(path, step, "simplified graph")]
