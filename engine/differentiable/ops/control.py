"""Graphs inside of nodes: If runs one of two, Loop and Scan run theirs again and again; gradients flow through all."""

from typing import Any

import onnx
import torch
from torch import Tensor

from engine.differentiable.elements import dtype_of
from engine.differentiable.registry import Body, Compute, Node, operator


@operator("If", host=(0,))
def branch(node: Node) -> Compute:
    """Where the condition is known, the other branch is not even planned."""
    known = node.constant(0)
    if known is not None:
        taken = node.body("then_branch" if known.item() else "else_branch")
        return lambda _, *outer: _results(taken([], outer))
    then, otherwise = node.body("then_branch"), node.body("else_branch")
    return lambda condition, *outer: _results((then if condition.item() else otherwise)([], outer))


def _results(values: list[Any]) -> Any:
    """One value as it is, several as a tuple."""
    return values[0] if len(values) == 1 else tuple(values)


@operator("Loop", host=(0, 1))
def loop(node: Node) -> Compute:
    """Runs the body until the count is reached or its condition is false; outputs of each round are stacked."""
    body, graph = node.body("body"), node.attribute("body")
    explicit = len(node.inputs)
    states = explicit - 2
    stacked = graph.output[1 + states :]
    number_shape = (1,) * len(graph.input[0].type.tensor_type.shape.dim) if graph.input else ()

    def compute(count: Tensor | None, condition: Tensor | None, *rest: Any) -> Any:
        values, outer = list(rest[:states]), rest[states:]
        collected: list[list[Tensor]] = [[] for _ in stacked]
        number, goes_on = 0, condition is None or bool(condition.item())
        limit = None if count is None else int(count.item())
        while goes_on and (limit is None or number < limit):
            results = body([torch.full(number_shape, number), torch.tensor(goes_on), *values], outer)
            goes_on = results[0] is None or bool(results[0].item())
            values = results[1 : 1 + states]
            for part, value in zip(collected, results[1 + states :], strict=True):
                part.append(value)
            number += 1
        return _results([*values, *(_stacked(*pair) for pair in zip(collected, stacked, strict=True))])

    return compute


def _stacked(values: list[Tensor], declared: onnx.ValueInfoProto) -> Tensor:
    """Outputs of all rounds; where there was none, an empty tensor of the declared type."""
    if values:
        return torch.stack(values)
    kind = declared.type.tensor_type
    return torch.empty((0, *(size.dim_value for size in kind.shape.dim)), dtype=dtype_of(kind.elem_type))


@operator("Scan")
def scan(node: Node) -> Compute:
    """Runs the body on each slice of its scanned inputs, states going from one to the next."""
    body = node.body("body")
    scanned = node.attribute("num_scan_inputs")
    old = node.opset < 9
    states = len(node.inputs) - scanned - old
    outputs = len(node.outputs) - states
    ins, outs = _ways(node, "input", scanned), _ways(node, "output", outputs)

    def compute(*values: Any) -> Any:
        first, rest = list(values[:states]), values[states:]
        return _results(_scanned(body, first, list(rest[:scanned]), rest[scanned:], ins, outs))

    return _by_batch(compute, states + scanned, node) if old else compute


Ways = list[tuple[int, bool]]  #: axis, and whether backwards, of each scanned value


def _ways(node: Node, side: str, count: int) -> Ways:
    axes = node.attribute(f"scan_{side}_axes") or [0] * count
    backwards = node.attribute(f"scan_{side}_directions") or [0] * count
    if node.opset < 9:
        backwards = node.attribute("directions", backwards) if side == "input" else backwards
    return [(axis, bool(way)) for axis, way in zip(axes, backwards, strict=True)]


def _scanned(body: Body, values: list[Any], series: list[Tensor], outer: Any, ins: Ways, outs: Ways) -> list[Any]:
    """States after the last slice, then the outputs of all slices."""
    states = len(values)
    pieces = [each.unbind(axis)[:: -1 if back else 1] for each, (axis, back) in zip(series, ins, strict=True)]
    collected: list[list[Tensor]] = [[] for _ in outs]
    for slices in zip(*pieces, strict=True):
        results = body([*values, *slices], outer)
        values = results[:states]
        for part, value in zip(collected, results[states:], strict=True):
            part.append(value)
    made = [torch.stack(part[:: -1 if back else 1], axis) for part, (axis, back) in zip(collected, outs, strict=True)]
    return [*values, *made]


def _by_batch(compute: Compute, count: int, node: Node) -> Compute:
    """Scan of opset 8: lengths come first, and all values have a batch axis in front."""
    if node.has(0):
        raise node.refuse("sequences of different lengths in a Scan of opset 8")

    def each(_lengths: None, *values: Any) -> Any:
        rows = [compute(*row, *values[count:]) for row in zip(*values[:count], strict=True)]
        parts = zip(*(row if isinstance(row, tuple) else (row,) for row in rows), strict=True)
        return _results([torch.stack(part) for part in parts])

    return each
