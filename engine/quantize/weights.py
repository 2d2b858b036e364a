"""Constant weights, and how they are multiplied: as rows each of which is summed up with what it meets."""

import math
from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import numpy_helper

from engine.graph import all_graphs, attribute, is_standard, outer_names
from engine.quantize.kept import is_kept
from engine.unpack import FEWEST_ELEMENTS

FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)
CONVOLUTIONS, RECURRENT = ("Conv", "ConvTranspose"), ("LSTM", "GRU", "RNN")
MOVING = ("Concat", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze")
OPERATORS = ("MatMul", "Gemm", "Gather", *CONVOLUTIONS, *RECURRENT)

Readers = dict[str, list[tuple[onnx.NodeProto, int]]]  #: nodes that read a tensor, and as which input


@dataclass(frozen=True)
class View:
    """A weight as a matrix, rows × inputs."""

    order: tuple[int, ...]  #: of the axes: first those of the rows
    kept: int  #: number of axes that make the rows
    is_robust: bool  #: it is a matrix or a table, which bear 4 bits; else 8

    def rows(self, weight: np.ndarray) -> np.ndarray:
        turned = weight.transpose(self.order)
        return turned.reshape(math.prod(turned.shape[: self.kept]), -1)


@dataclass(frozen=True)
class Weight:
    tensor: onnx.TensorProto
    readers: list[tuple[onnx.NodeProto, int]]  #: nodes, and which input of theirs it is
    view: View
    is_local: bool  #: nothing but nodes of its own graph reads it

    @property
    def name(self) -> str:
        return self.tensor.name

    @property
    def values(self) -> np.ndarray:
        return numpy_helper.to_array(self.tensor)

    def read_by(self, *operators: str) -> bool:
        """Whether just these operators read it, in its own graph and all in the same way."""
        views = {_view(node, index, len(self.tensor.dims)) for node, index in self.readers}
        same = self.is_local and views == {self.view}
        return same and all(is_standard(node, *operators) for node, _ in self.readers)

    def is_plain_factor(self) -> bool:
        """Whether it is just W in x·W or x·W + b, without factors, with two axes."""
        products = len(self.tensor.dims) == 2 and self.read_by("MatMul", "Gemm")
        return products and all(index == 1 and _has_no_factors(node) for node, index in self.readers)


def weights(graph: onnx.GraphProto, keep_float: Collection[str] = ()) -> Iterator[Weight]:
    """Constant float weights of a graph that are worth storing in fewer bits."""
    readers = _readers(graph)
    elsewhere = outer_names(graph) | {value.name for value in graph.output}
    for tensor in graph.initializer:
        if not is_large(tensor):
            continue
        found = readers[tensor.name]
        direct = (view for node, index in found if (view := _view(node, index, len(tensor.dims))))
        view = next(direct, None) or _view_from_afar(tensor, readers)
        if view is not None and not any(is_kept(node, keep_float) for node, _ in found):
            yield Weight(tensor, found, view, tensor.name not in elsewhere)


def _readers(graph: onnx.GraphProto) -> Readers:
    readers: Readers = defaultdict(list)
    for inner in all_graphs(graph):
        for node in inner.node:
            for index, name in enumerate(node.input):
                readers[name].append((node, index))
    return readers


def is_large(tensor: onnx.TensorProto) -> bool:
    """Whether a constant is worth storing in fewer bits, if it is a weight."""
    return tensor.data_type in FLOATS and math.prod(tensor.dims) >= FEWEST_ELEMENTS


def _view(node: onnx.NodeProto, index: int, rank: int) -> View | None:
    """How this input of the node is multiplied; None where it is no weight."""
    axes = tuple(range(rank))
    if is_standard(node, "MatMul") and rank > 1:
        return View(axes if index == 0 else (*axes[:-2], axes[-1], axes[-2]), rank - 1, is_robust=True)
    if is_standard(node, "Gemm") and index == 1:
        return View(axes if attribute(node, "transB", 0) else axes[::-1], 1, is_robust=True)
    if is_standard(node, "Gather") and (index, rank, attribute(node, "axis", 0)) == (0, 2, 0):
        return View(axes, 1, is_robust=True)
    if is_standard(node, *CONVOLUTIONS) and index == 1 and rank > 2:
        return View(axes if node.op_type == "Conv" else (1, 0, *axes[2:]), 1, is_robust=False)
    if is_standard(node, *RECURRENT) and index in (1, 2) and rank == 3:
        return View(axes, 2, is_robust=False)
    return None


def _view_from_afar(tensor: onnx.TensorProto, readers: Readers) -> View | None:
    """Rows along the last axis, for a weight that is only moved about on its way to an operator that multiplies it."""
    names, passed = [tensor.name], set[str]()
    while names and len(tensor.dims) > 1:
        name = names.pop()
        passed.add(name)
        for node, index in readers[name]:
            if index > 0 and is_standard(node, "MatMul", "Gemm", *CONVOLUTIONS, *RECURRENT):
                return View(tuple(range(len(tensor.dims))), len(tensor.dims) - 1, is_robust=False)
            names += [output for output in node.output if is_standard(node, *MOVING) and output not in passed]
    return None


def _has_no_factors(node: onnx.NodeProto) -> bool:
    return (attribute(node, "alpha", 1.0), attribute(node, "beta", 1.0), attribute(node, "transA", 0)) == (1, 1, 0)
