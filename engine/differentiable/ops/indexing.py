"""Values by their places: gather and scatter, slices, compressed and reversed sequences, one-hot codes."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engine.differentiable.elements import to_numpy
from engine.differentiable.registry import Compute, Node, given, operator


def _from_start(indices: Tensor, size: int) -> Tensor:
    """Indices as int64, those that count from the end made to count from the start."""
    indices = indices.to(torch.int64)
    return torch.where(indices < 0, indices + size, indices)


# ── gather ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@operator("Gather")
def gather(node: Node) -> Compute:
    """Slices of an axis; the shape of the indices takes the axis' place."""
    axis = node.attribute("axis", 0)
    constant = node.constant(1)
    if constant is not None and constant.ndim == 0:
        only = int(constant)
        return lambda x, _: x.select(axis, only)

    def compute(x: Tensor, indices: Tensor) -> Tensor:
        where = axis % x.dim()
        flat = _from_start(indices, x.shape[where]).reshape(-1)
        shape = (*x.shape[:where], *indices.shape, *x.shape[where + 1 :])
        return x.index_select(where, flat).reshape(shape)

    return compute


@operator("GatherElements")
def gather_elements(node: Node) -> Compute:
    axis = node.attribute("axis", 0)
    return lambda x, indices: torch.gather(x, axis, _from_start(indices, x.shape[axis]))


@operator("GatherND")
def gather_nd(node: Node) -> Compute:
    """The last axis of the indices is a place in the axes of x behind the batch axes."""
    batch_axes = node.attribute("batch_dims", 0)

    def compute(x: Tensor, indices: Tensor) -> Tensor:
        if not batch_axes:
            return x[tuple(indices.to(torch.int64).unbind(-1))]
        shape, batch = x.shape[:batch_axes], math.prod(x.shape[:batch_axes])
        flat = indices.to(torch.int64).reshape(batch, *indices.shape[batch_axes:])
        rows = torch.arange(batch, device=x.device).reshape(-1, *[1] * (flat.dim() - 2))
        found = x.reshape(batch, *x.shape[batch_axes:])[(rows, *flat.unbind(-1))]
        return found.reshape(*shape, *found.shape[1:])

    return compute


@operator("ArrayFeatureExtractor", domain="ai.onnx.ml")
def features(_node: Node) -> Compute:
    """Columns of the last axis."""
    return lambda x, indices: x.index_select(-1, indices.reshape(-1).to(torch.int64)).reshape(*x.shape[:-1], -1)


@operator("Compress")
def compress(node: Node) -> Compute:
    """The slices whose condition is true; of all values in a row where no axis is given."""
    axis = node.attribute("axis")

    def compute(x: Tensor, condition: Tensor) -> Tensor:
        x = x.reshape(-1) if axis is None else x
        return x.index_select(axis or 0, torch.nonzero(condition).reshape(-1))

    return compute


@operator("ReverseSequence")
def reverse_sequence(node: Node) -> Compute:
    """The first values of each sequence, as many as its length says, in reverse."""
    time, batch = node.attribute("time_axis", 0), node.attribute("batch_axis", 1)

    def compute(x: Tensor, lengths: Tensor) -> Tensor:
        steps = torch.arange(x.shape[time], device=x.device)
        ends = lengths.reshape(-1, 1).to(steps)
        places = torch.where(steps < ends, ends - 1 - steps, steps)  # (batch, time)
        places = places if batch < time else places.T
        shape = [size if axis in (time, batch) else 1 for axis, size in enumerate(x.shape)]
        return torch.gather(x, time, places.reshape(shape).expand(x.shape))

    return compute


# ── scatter ──────────────────────────────────────────────────────────────────────────────────────────────────────────

REDUCTIONS = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


def _scattered(x: Tensor, axis: int, indices: Tensor, updates: Tensor, reduction: str) -> Tensor:
    if reduction == "none":
        return x.scatter(axis, indices, updates)
    if x.dtype == torch.bool:
        merge = {"add": "amax", "max": "amax", "mul": "amin", "min": "amin"}[reduction]
        return x.to(torch.uint8).scatter_reduce(axis, indices, updates.to(torch.uint8), merge).to(torch.bool)
    return x.scatter_reduce(axis, indices, updates, REDUCTIONS[reduction])


@operator("ScatterElements", "Scatter")
def scatter_elements(node: Node) -> Compute:
    axis, reduction = node.attribute("axis", 0), node.attribute("reduction", "none")
    return lambda x, indices, updates: _scattered(x, axis, _from_start(indices, x.shape[axis]), updates, reduction)


@operator("ScatterND")
def scatter_nd(node: Node) -> Compute:
    """The last axis of the indices is a place in the first axes of x, where a slice is put."""
    reduction = node.attribute("reduction", "none")

    def compute(x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
        depth = indices.shape[-1]
        sizes = x.shape[:depth]
        places = torch.zeros(indices.shape[:-1], dtype=torch.int64, device=x.device)
        for axis, size in enumerate(sizes):
            places = places * size + _from_start(indices[..., axis], size)
        flat = x.reshape(math.prod(sizes), -1)
        slices = updates.reshape(places.numel(), -1)
        result = _scattered(flat, 0, places.reshape(-1, 1).expand(slices.shape), slices, reduction)
        return result.reshape(x.shape)

    return compute


@operator("TensorScatter")
def tensor_scatter(node: Node) -> Compute:
    """A cache with updates written into its sequence axis, for each row of the batch from an index of its own on."""
    axis, circular = node.attribute("axis", -2), node.attribute("mode", "linear") == "circular"

    def compute(cache: Tensor, updates: Tensor, starts: Tensor | None = None) -> Tensor:
        where = axis % cache.dim()
        starts = torch.zeros(len(cache), dtype=torch.int64) if starts is None else starts
        places = starts.reshape(-1, 1).to(cache.device) + torch.arange(updates.shape[where], device=cache.device)
        places = places % cache.shape[where] if circular else places
        shape = [size if number in (0, where) else 1 for number, size in enumerate(updates.shape)]
        return cache.scatter(where, places.reshape(shape).expand(updates.shape), updates)

    return compute


# ── slices ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@operator("Slice", host=(1, 2, 3, 4))
def slices(node: Node) -> Compute:
    """From starts to ends by steps along axes; attributes before opset 10, inputs since."""
    known = [node.listed(name, index) for index, name in enumerate(("starts", "ends", "axes", "steps"), 1)]

    def compute(x: Tensor, *settings: Any) -> Tensor:
        found = [given(fixed, tensor) for fixed, tensor in zip(known, [*settings, *[None] * 4], strict=False)]
        starts, ends = found[0] or [], found[1] or []
        axes = range(len(starts)) if found[2] is None else found[2]
        steps = found[3] or [1] * len(starts)
        for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
            x = _sliced(x, axis, slice(start, end, step))
        return x

    return compute


def _sliced(x: Tensor, axis: int, part: slice) -> Tensor:
    start, stop, step = part.indices(x.shape[axis])
    places = range(start, stop, step)
    if step == 1:
        return x.narrow(axis, start if places else 0, len(places))
    if step > 0:
        return x[(*[slice(None)] * (axis % x.dim()), slice(start, stop, step))]
    return x.index_select(axis, torch.tensor(places, dtype=torch.int64, device=x.device))


# ── places of values ─────────────────────────────────────────────────────────────────────────────────────────────────


@operator("NonZero")
def nonzero(_node: Node) -> Compute:
    return lambda x: torch.nonzero(x).T


@operator("OneHot", host=(1,))
def one_hot(node: Node) -> Compute:
    """The second of two values where the index is, the first elsewhere; an axis of the depth is put in."""
    axis = node.attribute("axis", -1)

    def compute(indices: Tensor, depth: Tensor, values: Tensor) -> Tensor:
        count = int(depth)
        where = axis % (indices.dim() + 1)
        places = torch.arange(count, device=indices.device).reshape(-1, *[1] * (indices.dim() - where))
        hit = _from_start(indices, count).unsqueeze(where) == places
        return torch.where(hit, values[1], values[0])

    return compute


@operator("Unique")
def unique(node: Node) -> Compute:
    """Different values or slices; where each is first; which one each value is; how often each is there."""
    axis, ordered = node.attribute("axis"), node.attribute("sorted", 1)

    def compute(x: Tensor) -> tuple[Tensor, ...]:
        values = to_numpy(x.float() if x.dtype == torch.bfloat16 else x)
        _, first, inverse, counts = np.unique(values, True, True, True, axis=axis)  # noqa: FBT003
        inverse = inverse.reshape(-1)
        if not ordered:
            order = np.argsort(first)
            first, counts, inverse = first[order], counts[order], np.argsort(order)[inverse]
        first, inverse, counts = (torch.from_numpy(np.asarray(part, np.int64)) for part in (first, inverse, counts))
        rows = x.reshape(-1) if axis is None else x
        return rows.index_select(axis or 0, first.to(x.device)), first, inverse, counts

    return compute


# ── boxes ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@operator("NonMaxSuppression", host=(0, 1, 2, 3, 4))
def suppress(node: Node) -> Compute:
    """The best boxes of each class that overlap no better one: (batch, class, box), best first; no gradients."""
    centered = node.attribute("center_point_box", 0)

    def compute(boxes: Tensor, scores: Tensor, most: Any = None, overlap: Any = None, least: Any = None) -> Tensor:
        corners = _corners(boxes.detach().cpu().numpy(), centered=bool(centered))
        values = scores.detach().cpu().numpy()
        count = 0 if most is None else int(most)
        limits = (0.0 if overlap is None else float(overlap), -math.inf if least is None else float(least))
        found = [
            (batch, kind, box)
            for batch, kind in np.ndindex(*values.shape[:2])
            for box in _kept(corners[batch], values[batch, kind], count, limits)
        ]
        return torch.tensor(found, dtype=torch.int64).reshape(-1, 3)

    return compute


def _corners(boxes: np.ndarray, *, centered: bool) -> np.ndarray:
    """boxes: (batch, boxes, 4). Least and largest corner of each."""
    if centered:
        middle, half = boxes[..., :2], boxes[..., 2:] / 2
        return np.concatenate([middle - half, middle + half], -1)
    first, second = boxes[..., :2], boxes[..., 2:]
    return np.concatenate([np.minimum(first, second), np.maximum(first, second)], -1)


def _kept(corners: np.ndarray, scores: np.ndarray, count: int, limits: tuple[float, float]) -> Sequence[int]:
    overlap, least = limits
    kept: list[int] = []
    for box in np.argsort(-scores, kind="stable"):
        if len(kept) >= count or scores[box] <= least:
            break
        if all(_share(corners[box], corners[other]) <= overlap for other in kept):
            kept.append(int(box))
    return kept


def _share(first: np.ndarray, second: np.ndarray) -> float:
    """Intersection over union of two boxes."""
    sides = np.minimum(first[2:], second[2:]) - np.maximum(first[:2], second[:2])
    common = float(np.prod(np.maximum(sides, 0)))
    areas = sum(float(np.prod(box[2:] - box[:2])) for box in (first, second))
    return common / (areas - common) if areas > common else 0.0
