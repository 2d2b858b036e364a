"""Sums, means, extremes and norms over axes; cumulative sums; where extremes and the largest values are."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from engine.differentiable.elements import WIDER
from engine.differentiable.registry import Compute, Node, given, operator

#: what the largest and the smallest of no values are, for floats
LOWEST, HIGHEST = -math.inf, math.inf


def _total(x: Tensor, axes: Sequence[int], *, keepdim: bool) -> Tensor:
    return torch.sum(x, tuple(axes), keepdim=keepdim, dtype=x.dtype)


def _mean(x: Tensor, axes: Sequence[int], *, keepdim: bool) -> Tensor:
    if x.is_floating_point():
        return torch.mean(x, tuple(axes), keepdim=keepdim)
    count = math.prod(x.shape[axis] for axis in axes)
    return torch.div(_total(x, axes, keepdim=keepdim), count, rounding_mode="trunc")


def _product(x: Tensor, axes: Sequence[int], *, keepdim: bool) -> Tensor:
    for axis in sorted((axis % x.dim() for axis in axes), reverse=True):
        x = torch.prod(x, axis, keepdim=keepdim, dtype=x.dtype)
    return x


def _largest(x: Tensor, axes: Sequence[int], *, keepdim: bool) -> Tensor:
    return _extreme(x, axes, keepdim=keepdim, function=torch.amax, ending=0)


def _smallest(x: Tensor, axes: Sequence[int], *, keepdim: bool) -> Tensor:
    return _extreme(x, axes, keepdim=keepdim, function=torch.amin, ending=1)


def _extreme(x: Tensor, axes: Sequence[int], *, keepdim: bool, function: Compute, ending: int) -> Tensor:
    """ending: which end of the type's range is the extreme of no values; 0 for its least."""
    if all(x.shape[axis] for axis in axes):
        return function(x, tuple(axes), keepdim=keepdim)
    shape = list(_total(x.to(torch.float32), axes, keepdim=keepdim).shape)
    if x.dtype == torch.bool:
        value: Any = bool(ending)
    elif x.is_floating_point():
        value = (LOWEST, HIGHEST)[ending]
    else:
        value = (torch.iinfo(x.dtype).min, torch.iinfo(x.dtype).max)[ending]
    return torch.full(shape, value, dtype=x.dtype, device=x.device)


def _log_sum_exp(x: Tensor, axes: Sequence[int], *, keepdim: bool) -> Tensor:
    return torch.logsumexp(x if x.is_floating_point() else x.float(), tuple(axes), keepdim=keepdim).to(x.dtype)


#: by operator, what is reduced and how: of the values, their squares or sizes; and what is done with the result
REDUCTIONS: dict[str, tuple[Compute | None, Compute, Compute | None]] = {
    "ReduceSum": (None, _total, None),
    "ReduceMean": (None, _mean, None),
    "ReduceProd": (None, _product, None),
    "ReduceMax": (None, _largest, None),
    "ReduceMin": (None, _smallest, None),
    "ReduceL1": (torch.abs, _total, None),
    "ReduceL2": (torch.square, _total, lambda x: torch.sqrt(x).to(x.dtype)),
    "ReduceSumSquare": (torch.square, _total, None),
    "ReduceLogSum": (None, _total, lambda x: torch.log(x).to(x.dtype)),
    "ReduceLogSumExp": (None, _log_sum_exp, None),
}


@operator(*REDUCTIONS, host=(1,))
def reduce(node: Node) -> Compute:
    """Over given axes; over all where none are given, unless noop_with_empty_axes."""
    before, function, after = REDUCTIONS[node.proto.op_type]
    fixed = node.listed("axes", 1)
    keepdim, nothing = bool(node.attribute("keepdims", 1)), bool(node.attribute("noop_with_empty_axes", 0))

    def compute(x: Tensor, axes: Tensor | None = None) -> Tensor:
        chosen = given(fixed, axes)
        dtype, wide = x.dtype, WIDER.get(x.dtype)
        x = x if wide is None else x.to(wide)
        x = x if before is None else before(x)
        if chosen or not nothing:
            x = function(x, chosen or range(x.dim()), keepdim=keepdim) if x.dim() else x
        return (x if after is None else after(x)).to(dtype)

    return compute


@operator("ArgMax", "ArgMin")
def position(node: Node) -> Compute:
    """Where the extreme of each row is; the first one, or with select_last_index the last one."""
    axis, keepdim = node.attribute("axis", 0), bool(node.attribute("keepdims", 1))
    last = node.attribute("select_last_index", 0)
    function = torch.argmax if node.proto.op_type == "ArgMax" else torch.argmin

    def compute(x: Tensor) -> Tensor:
        found = function(x.flip(axis) if last else x, axis, keepdim=keepdim)
        return x.shape[axis] - 1 - found if last else found

    return compute


@operator("CumSum", "CumProd", host=(1,))
def cumulate(node: Node) -> Compute:
    """Of all values up to each one; exclusive leaves the value itself out, reverse begins at the end."""
    reverse, exclusive = node.attribute("reverse", 0), node.attribute("exclusive", 0)
    sums = node.proto.op_type == "CumSum"
    function, neutral = (torch.cumsum, 0) if sums else (torch.cumprod, 1)

    def compute(x: Tensor, axis_tensor: Tensor) -> Tensor:
        axis = int(axis_tensor)
        x = x.flip(axis) if reverse else x
        if exclusive:
            first = torch.full_like(x.narrow(axis, 0, 1), neutral)
            x = torch.cat([first, x.narrow(axis, 0, x.shape[axis] - 1)], axis)
        result = function(x, axis, dtype=x.dtype)
        return result.flip(axis) if reverse else result

    return compute


@operator("TopK", host=(1,))
def top(node: Node) -> Compute:
    """The k largest or smallest values and where they are; of equal ones, those that come first."""
    axis, largest = node.attribute("axis", -1), bool(node.attribute("largest", 1))
    fixed = node.listed("k", 1)

    def compute(x: Tensor, k: Tensor | None = None) -> tuple[Tensor, Tensor]:
        count = fixed if isinstance(fixed, int) else (given(fixed, k) or [0])[0]
        wide = WIDER.get(x.dtype)
        values, places = torch.sort(x if wide is None else x.to(wide), dim=axis, descending=largest, stable=True)
        return values.narrow(axis, 0, count).to(x.dtype), places.narrow(axis, 0, count)

    return compute
