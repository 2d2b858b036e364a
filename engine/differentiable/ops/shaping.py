"""Other shapes for the same values: reshape, transpose, join, split, expand, pad; and tensors made of a shape."""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from engine.differentiable.elements import WIDER, dense, dtype_of, to_torch
from engine.differentiable.registry import Compute, Node, given, numbers, operator


@operator("Identity")
def identity(_node: Node) -> Compute:
    return lambda x: x


@operator("Reshape", host=(1,))
def reshape(node: Node) -> Compute:
    """0 keeps the size of the input's axis (unless allowzero), -1 is what is left."""
    keeps = not node.attribute("allowzero", 0)
    fixed = node.listed("shape", 1)
    if fixed is not None and 0 not in fixed:
        return lambda x, _=None: x.reshape(fixed)

    def compute(x: Tensor, shape: Tensor | None = None) -> Tensor:
        sizes = given(fixed, shape) or []
        if keeps and 0 in sizes:
            sizes = [size or x.shape[axis] for axis, size in enumerate(sizes)]
        return x.reshape(sizes)

    return compute


@operator("Shape")
def shape(node: Node) -> Compute:
    """Sizes of the axes from start to end, as int64 in main memory."""
    start, end = node.attribute("start", 0), node.attribute("end", None)
    return lambda x: torch.tensor(x.shape[start:end], dtype=torch.int64)


@operator("Size")
def size(_node: Node) -> Compute:
    return lambda x: torch.tensor(math.prod(x.shape), dtype=torch.int64)


@operator("Transpose")
def transpose(node: Node) -> Compute:
    order = node.attribute("perm")
    if order is None:
        return lambda x: x.permute(*reversed(range(x.dim())))
    return lambda x: x.permute(order)


@operator("Flatten")
def flatten(node: Node) -> Compute:
    """Two axes: the product of the sizes before the axis, and of those from it on."""
    axis = node.attribute("axis", 1)
    if axis == 1:
        return lambda x: x.flatten(1) if x.dim() > 1 and x.numel() else _two_axes(x, 1)
    return lambda x: _two_axes(x, axis)


def _two_axes(x: Tensor, axis: int) -> Tensor:
    return x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))


@operator("Squeeze", host=(1,))
def squeeze(node: Node) -> Compute:
    fixed = node.listed("axes", 1)

    def compute(x: Tensor, axes: Tensor | None = None) -> Tensor:
        chosen = given(fixed, axes)
        return x.squeeze() if chosen is None else x.squeeze(tuple(chosen))

    return compute


@operator("Unsqueeze", host=(1,))
def unsqueeze(node: Node) -> Compute:
    """The axes are those of the result."""
    fixed = node.listed("axes", 1)
    if fixed is not None and len(fixed) == 1:
        only = fixed[0]
        return lambda x, _=None: x.unsqueeze(only)

    def compute(x: Tensor, axes: Tensor | None = None) -> Tensor:
        chosen = given(fixed, axes) or []
        rank = x.dim() + len(chosen)
        for axis in sorted(axis % rank for axis in chosen):
            x = x.unsqueeze(axis)
        return x

    return compute


@operator("Concat")
def concatenate(node: Node) -> Compute:
    axis = node.attribute("axis")
    return lambda *values: torch.cat(values, axis)


@operator("Split", host=(1,))
def split(node: Node) -> Compute:
    """Into given sizes, or into equal ones of which the last may be smaller."""
    axis, fixed = node.attribute("axis", 0), node.listed("split", 1)
    count = node.attribute("num_outputs", len(node.outputs))

    def compute(x: Tensor, sizes: Tensor | None = None) -> tuple[Tensor, ...]:
        chosen = given(fixed, sizes)
        return torch.split(x, -(-x.shape[axis] // count) if chosen is None else chosen, axis)

    return compute


@operator("Expand", host=(1,))
def expand(node: Node) -> Compute:
    """Broadcast to a shape, in which 1 keeps what is there."""
    fixed = node.listed("shape", 1)

    def compute(x: Tensor, sizes: Tensor | None = None) -> Tensor:
        return x.expand(torch.broadcast_shapes(x.shape, tuple(given(fixed, sizes) or ())))

    return compute


@operator("Tile", host=(1,))
def tile(node: Node) -> Compute:
    fixed = node.listed("repeats", 1)
    return lambda x, repeats: x.repeat(given(fixed, repeats))


@operator("Trilu", host=(1,))
def triangle(node: Node) -> Compute:
    function = torch.triu if node.attribute("upper", 1) else torch.tril
    return lambda x, diagonal=None: function(x, 0 if diagonal is None else int(diagonal))


# ── padding ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@operator("Pad", host=(1, 2, 3))
def pad(node: Node) -> Compute:
    """Begins of all axes, then their ends; negative ones cut off. The axes may be given."""
    mode, fixed = node.attribute("mode", "constant"), node.listed("pads", 1)
    known = node.constant(2)
    value = node.attribute("value", 0.0) if known is None else known.item()

    def compute(x: Tensor, pads: Tensor | None = None, fill: Tensor | None = None, axes: Any = None) -> Tensor:
        chosen = given(fixed, pads) or []
        where = range(x.dim()) if axes is None else [axis % x.dim() for axis in numbers(axes)]
        sides = {axis: (chosen[i], chosen[i + len(chosen) // 2]) for i, axis in enumerate(where)}
        x, sides = _cut(x, sides)
        if mode == "constant":
            return _filled(x, sides, value if fill is None or known is not None else fill.item())
        for axis, (before, after) in sides.items():
            if before or after:
                x = x.index_select(axis, _mirrored(x.shape[axis], before, after, mode).to(x.device))
        return x

    return compute


Sides = dict[int, tuple[int, int]]  #: values before and after, by axis


def _cut(x: Tensor, sides: Sides) -> tuple[Tensor, Sides]:
    """Take off what negative paddings take off."""
    for axis, (before, after) in sides.items():
        if before < 0 or after < 0:
            start = max(-before, 0)
            x = x.narrow(axis, start, x.shape[axis] - start - max(-after, 0))
    return x, {axis: (max(before, 0), max(after, 0)) for axis, (before, after) in sides.items()}


def _filled(x: Tensor, sides: Sides, value: float) -> Tensor:
    flat = [side for axis in reversed(range(x.dim())) for side in sides.get(axis, (0, 0))]
    if x.dtype == torch.bool:
        return functional.pad(x.to(torch.uint8), flat, value=value).to(torch.bool)
    return functional.pad(x, flat, value=value)


def _mirrored(count: int, before: int, after: int, mode: str) -> Tensor:
    """Where each value of a padded axis comes from."""
    modes: dict[str, Any] = {"reflect": "reflect", "edge": "edge", "wrap": "wrap"}
    return torch.from_numpy(np.pad(np.arange(count), (before, after), mode=modes[mode]))


# ── made of a shape ──────────────────────────────────────────────────────────────────────────────────────────────────


@operator("Constant")
def constant(node: Node) -> Compute:
    """Constants that are not plain tensors: sparse ones and strings."""
    sparse = node.attribute("sparse_value")
    if sparse is not None:
        value = to_torch(dense(sparse))
    else:
        strings = node.attribute("value_strings") or node.attribute("value_string")
        value = np.asarray(strings, dtype=object)
    return lambda: value


@operator("ConstantOfShape", host=(0,))
def constant_of_shape(node: Node) -> Compute:
    value = to_torch(node.attribute("value", np.zeros(1, np.float32)))
    return lambda sizes: value.reshape(()).expand(numbers(sizes)).clone()


@operator("Range", host=(0, 1, 2))
def count(_node: Node) -> Compute:
    """From start on, below limit, by delta."""

    def compute(start: Tensor, limit: Tensor, delta: Tensor) -> Tensor:
        first, step = start.item(), delta.item()
        steps = max(math.ceil((limit.item() - first) / step), 0)
        return (first + step * torch.arange(steps, dtype=WIDER.get(start.dtype, start.dtype))).to(start.dtype)

    return compute


@operator("EyeLike")
def eye_like(node: Node) -> Compute:
    """Ones on a diagonal; k moves it up."""
    diagonal, element = node.attribute("k", 0), node.attribute("dtype")
    dtype = None if element is None else dtype_of(element)

    def compute(x: Tensor) -> Tensor:
        ones = torch.ones(x.shape, dtype=torch.int8, device=x.device)
        return torch.tril(torch.triu(ones, diagonal), diagonal).to(dtype or x.dtype)

    return compute
