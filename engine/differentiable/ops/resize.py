"""Resizing, sampling on a grid, and moving between space and channels.

    y[i] = Σ_j w[i, j] x[j],   w from the distance of j to the place of i in x                one axis after the other

A place is found in 32 bits, and corners are aligned by whole sizes, as ONNX Runtime does. Nearest ones are picked, the
rest is a product with a small matrix for each axis; what torch's kernels compute exactly goes to them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - its name everywhere
from torch import Tensor

from engine.differentiable.registry import Compute, Node, given, numbers, operator

FUSED_LINEAR = {3: "linear", 4: "bilinear", 5: "trilinear"}
REACH = {"linear": 1, "cubic": 2}  #: how far a filter reaches, in elements
HALF_PIXEL = frozenset({"half_pixel", "pytorch_half_pixel"})


@dataclass(frozen=True)
class Rules:
    """What a node says about places and weights."""

    mode: str
    transform: str
    nearest: str
    sharpness: float  #: the cubic filter's coefficient
    antialias: bool
    exclude_outside: bool
    extrapolation: float
    policy: str

    @classmethod
    def of(cls, node: Node) -> "Rules":
        old = node.proto.op_type == "Upsample" or node.opset < 11
        return cls(
            mode={"bilinear": "linear"}.get(node.attribute("mode", "nearest"), node.attribute("mode", "nearest")),
            transform="asymmetric" if old else node.attribute("coordinate_transformation_mode", "half_pixel"),
            nearest="outwards" if old else node.attribute("nearest_mode", "round_prefer_floor"),
            sharpness=node.attribute("cubic_coeff_a", -0.75),
            antialias=bool(node.attribute("antialias", 0)),
            exclude_outside=bool(node.attribute("exclude_outside", 0)),
            extrapolation=node.attribute("extrapolation_value", 0.0),
            policy=node.attribute("keep_aspect_ratio_policy", "stretch"),
        )


@dataclass(frozen=True)
class Axis:
    """One axis to be resized; sizes in elements, the region as shares of the axis."""

    size: int
    target: int
    scale: float
    start: float = 0.0
    end: float = 1.0

    @property
    def plain(self) -> bool:
        """The scale is just the ratio of the sizes."""
        return math.isclose(self.scale * self.size, self.target, rel_tol=1e-6)

    @property
    def same(self) -> bool:
        return self.size == self.target and math.isclose(self.scale, 1.0) and (self.start, self.end) == (0.0, 1.0)


@operator("Resize", host=(1, 2, 3))
def resize(node: Node) -> Compute:
    rules, chosen = Rules.of(node), node.attribute("axes")
    places = (None, 1, None) if node.opset < 11 else (1, 2, 3)
    known = [None if place is None else node.listed("", place) for place in places]
    resized = _resizing(rules)

    def run(x: Tensor, *settings: Tensor | None) -> Tensor:
        read = [None if place is None or place > len(settings) else settings[place - 1] for place in places]
        region, scales, sizes = (given(now, then) for now, then in zip(known, read, strict=True))
        axes = [axis % x.dim() for axis in chosen or range(x.dim())]
        return resized(x, _axes(x.shape, axes, rules, region or (), scales or (), sizes or ()))

    return run


@operator("Upsample", host=(1,))
def upsample(node: Node) -> Compute:
    known = node.listed("scales", 1)
    if "height_scale" in node.attributes:
        known = [1.0, 1.0, node.attribute("height_scale"), node.attribute("width_scale")]
    rules = Rules.of(node)
    resized = _resizing(rules)

    def run(x: Tensor, scales: Tensor | None = None) -> Tensor:
        return resized(x, _axes(x.shape, range(x.dim()), rules, (), given(known, scales) or (), ()))

    return run


def _axes(
    shape: Sequence[int],
    chosen: Sequence[int],
    rules: Rules,
    region: Sequence[float],
    scales: Sequence[float],
    sizes: Sequence[int],
) -> dict[int, Axis]:
    """The axes that change."""
    axes = {}
    if sizes:
        scales = [target / shape[axis] for axis, target in zip(chosen, sizes, strict=True)]
        if rules.policy != "stretch":
            scales = [min(scales) if rules.policy == "not_larger" else max(scales)] * len(chosen)
            sizes = [int(scale * shape[axis] + 0.5) for axis, scale in zip(chosen, scales, strict=True)]
    else:
        sizes = [int(np.float32(scale) * np.float32(shape[axis])) for axis, scale in zip(chosen, scales, strict=True)]
    crops = rules.transform == "tf_crop_and_resize"
    for place, axis in enumerate(chosen):
        ends = (region[place], region[len(chosen) + place]) if crops else (0.0, 1.0)
        wanted = Axis(shape[axis], sizes[place], scales[place], *ends)
        if not wanted.same:
            axes[axis] = wanted
    return axes


def _resizing(rules: Rules) -> Compute:
    """What resizes a tensor by these rules; the tables of sizes once seen are kept."""
    tables = lru_cache(maxsize=64)(lambda axis: _table(axis, rules))

    def resized(x: Tensor, axes: dict[int, Axis]) -> Tensor:
        if rules.mode == "nearest":
            return _picked(x, axes, {axis: tables(wanted) for axis, wanted in axes.items()}, rules)
        if _is_fused(x, axes, rules):
            return _fused(x, axes, rules)
        y = x if x.is_floating_point() else x.double()
        for axis, wanted in axes.items():
            matrix, outside = tables(wanted)
            y = (y.transpose(axis, -1) @ matrix.to(y).T).transpose(axis, -1)
            y = _extrapolated(y, axis, outside, rules)
        return y if x.is_floating_point() else _rounded(y, x.dtype)

    return resized


def _rounded(y: Tensor, dtype: torch.dtype) -> Tensor:
    limits = torch.iinfo(dtype)
    return y.round().clamp(limits.min, limits.max).to(dtype)


def _extrapolated(y: Tensor, axis: int, outside: Tensor, rules: Rules) -> Tensor:
    """The given value where a place lies outside of x; only cropping knows such places."""
    if not bool(outside.any()):
        return y
    shape = [1] * y.dim()
    shape[axis] = -1
    return torch.where(outside.to(y.device).reshape(shape), torch.tensor(rules.extrapolation).to(y), y)


def _picked(x: Tensor, axes: dict[int, Axis], picks: dict[int, tuple[Tensor, Tensor]], rules: Rules) -> Tensor:
    """Nearest neighbours; by torch's kernel where each is repeated a whole number of times."""
    if x.dim() in FUSED_LINEAR and x.is_floating_point() and _repeats(axes, picks):
        return F.interpolate(x, [axes[axis].target if axis in axes else x.shape[axis] for axis in range(2, x.dim())])
    for axis, (index, outside) in picks.items():
        x = _extrapolated(x.index_select(axis, index.to(x.device)), axis, outside, rules)
    return x


def _repeats(axes: dict[int, Axis], picks: dict[int, tuple[Tensor, Tensor]]) -> bool:
    for axis, (index, outside) in picks.items():
        times, rest = divmod(axes[axis].target, axes[axis].size)
        if axis < 2 or rest or bool(outside.any()) or not torch.equal(index, torch.arange(len(index)) // times):
            return False
    return True


def _is_fused(x: Tensor, axes: dict[int, Axis], rules: Rules) -> bool:
    """Torch has the same filter, at the same places."""
    if rules.antialias or rules.exclude_outside or not x.is_floating_point() or not axes or min(axes) < 2:
        return False
    if not all(wanted.plain and wanted.target > 1 for wanted in axes.values()):
        return False
    if rules.transform not in HALF_PIXEL | {"align_corners"}:
        return False
    if rules.mode == "linear":
        return x.dim() in FUSED_LINEAR
    return x.dim() == 4 and rules.sharpness == -0.75


def _fused(x: Tensor, axes: dict[int, Axis], rules: Rules) -> Tensor:
    sizes = [axes[axis].target if axis in axes else x.shape[axis] for axis in range(2, x.dim())]
    mode = FUSED_LINEAR[x.dim()] if rules.mode == "linear" else "bicubic"
    return F.interpolate(x, sizes, mode=mode, align_corners=rules.transform == "align_corners")


def _table(axis: Axis, rules: Rules) -> tuple[Tensor, Tensor]:
    """Which element each output is (nearest), or the matrix (outputs, inputs); and which outputs lie outside."""
    places = _places(axis, rules)
    outside = _outside(axis, places) if rules.transform == "tf_crop_and_resize" else np.zeros(len(places), bool)
    if rules.mode == "nearest":
        index = np.clip(_nearest(places, axis, rules), 0, axis.size - 1)
        return torch.from_numpy(index.astype(np.int64)), torch.from_numpy(outside)
    return torch.from_numpy(_matrix(places.astype(np.float64), axis, rules)), torch.from_numpy(outside)


def _places(axis: Axis, rules: Rules) -> np.ndarray:
    """Where the outputs lie in x."""
    i = np.arange(axis.target, dtype=np.float32)
    scale, last = np.float32(axis.scale), np.float32(axis.size - 1)
    intervals = np.float32(max(axis.target - 1, 1))
    if rules.transform == "asymmetric":
        return i / scale
    if rules.transform == "align_corners":
        return i * last / intervals
    if rules.transform == "tf_crop_and_resize":
        first, stretch = np.float32(axis.start) * last, np.float32(axis.end - axis.start) * last
        return i + first + stretch / 2 if axis.target == 1 else first + i * stretch / intervals
    half_pixel = (i + np.float32(0.5)) / scale - np.float32(0.5)
    if rules.transform == "half_pixel_symmetric":
        return half_pixel + np.float32(axis.size / 2 * (1 - axis.target / (axis.scale * axis.size)))
    if rules.transform == "pytorch_half_pixel" and axis.target == 1:
        return i * 0
    return half_pixel


def _outside(axis: Axis, places: np.ndarray) -> np.ndarray:
    return (places < 0) | (places > axis.size - 1)


def _nearest(places: np.ndarray, axis: Axis, rules: Rules) -> np.ndarray:
    half = np.float32(0.5)
    return {
        "round_prefer_floor": np.ceil(places - half),
        "round_prefer_ceil": np.floor(places + half),
        "floor": np.floor(places),
        "ceil": np.ceil(places),
        "outwards": np.ceil(places) if axis.scale < 1 else np.floor(places),
    }[rules.nearest]


def _matrix(places: np.ndarray, axis: Axis, rules: Rules) -> np.ndarray:
    """Weights of the elements around each place; beyond the ends the outermost element stands."""
    shrink = min(axis.scale, 1.0) if rules.antialias else 1.0
    support = math.ceil(REACH[rules.mode] / shrink)
    near = np.floor(places)[:, None] + np.arange(-support, support + 2)
    weights = _filter((near - places[:, None]) * shrink, rules)
    if rules.exclude_outside:
        weights = np.where((near < 0) | (near >= axis.size), 0.0, weights)
    total = weights.sum(axis=1, keepdims=True)
    weights = weights / np.where(total == 0, 1.0, total)
    matrix = np.zeros((axis.target, axis.size))
    rows = np.broadcast_to(np.arange(axis.target)[:, None], near.shape)
    np.add.at(matrix, (rows, np.clip(near, 0, axis.size - 1).astype(np.int64)), weights)
    return matrix


def _filter(distance: np.ndarray, rules: Rules) -> np.ndarray:
    """Linear: a triangle. Cubic: Keys' kernel (1981)."""
    d, a = np.abs(distance), rules.sharpness
    if rules.mode == "linear":
        return np.clip(1 - d, 0, 1)
    inner = (a + 2) * d**3 - (a + 3) * d**2 + 1
    outer = a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a
    return np.where(d <= 1, inner, np.where(d < 2, outer, 0.0))


@operator("GridSample")
def grid_sample(node: Node) -> Compute:
    mode = {"linear": "bilinear", "cubic": "bicubic"}.get(node.attribute("mode", "linear"), node.attribute("mode"))
    padding, aligned = node.attribute("padding_mode", "zeros"), bool(node.attribute("align_corners", 0))
    return lambda x, grid: F.grid_sample(x, grid.to(x.dtype), mode, padding, aligned)


@operator("AffineGrid", host=(1,))
def affine_grid(node: Node) -> Compute:
    aligned = bool(node.attribute("align_corners", 0))
    return lambda theta, size: F.affine_grid(theta, numbers(size), align_corners=aligned)


@operator("DepthToSpace")
def depth_to_space(node: Node) -> Compute:
    block, columns_first = node.attribute("blocksize"), node.attribute("mode", "DCR") == "CRD"

    def move(x: Tensor) -> Tensor:
        if columns_first:
            return F.pixel_shuffle(x, block)
        batch, channels, height, width = x.shape
        parts = x.reshape(batch, block, block, channels // block**2, height, width)
        return parts.permute(0, 3, 4, 1, 5, 2).reshape(batch, -1, height * block, width * block)

    return move


@operator("SpaceToDepth")
def space_to_depth(node: Node) -> Compute:
    block, columns_first = node.attribute("blocksize"), node.attribute("mode", "DCR") == "CRD"

    def move(x: Tensor) -> Tensor:
        if columns_first:
            return F.pixel_unshuffle(x, block)
        batch, channels, height, width = x.shape
        parts = x.reshape(batch, channels, height // block, block, width // block, block)
        return parts.permute(0, 3, 5, 1, 2, 4).reshape(batch, -1, height // block, width // block)

    return move


@operator("CenterCropPad", host=(1,))
def center_crop_pad(node: Node) -> Compute:
    chosen = node.attribute("axes")

    def crop_or_pad(x: Tensor, shape: Tensor) -> Tensor:
        for axis, target in zip(chosen or range(x.dim()), numbers(shape), strict=True):
            more = target - x.shape[axis]
            before = more // 2 if more > 0 else -(-more // 2)
            pads = [0, 0] * x.dim()
            place = 2 * (x.dim() - 1 - axis % x.dim())
            pads[place : place + 2] = [before, more - before]
            x = F.pad(x, pads)
        return x

    return crop_or_pad
