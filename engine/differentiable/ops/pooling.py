"""Pooling: the largest, the mean or the norm of each window, of each channel or of each region of interest.

    MaxPool        max over the window; what pads never wins
    AveragePool    Σ / number of elements that lie in the image (or in the padded image: `count_include_pad`)
    LpPool         (Σ |x|^p)^(1/p)

x is (batch, channels, …). Sums over windows are convolutions with ones, so any stride, dilation and rank will do.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812 - its name everywhere
from torch import Tensor

from engine.differentiable.ops.window import Window, padded, spread
from engine.differentiable.registry import Compute, Node, operator, pointwise

MAX_POOLS = {1: torch.max_pool1d, 2: torch.max_pool2d, 3: torch.max_pool3d}
INDEXED_MAX_POOLS = {1: F.max_pool1d_with_indices, 2: F.max_pool2d_with_indices, 3: F.max_pool3d_with_indices}
AVERAGE_POOLS = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


@operator("MaxPool")
def max_pool(node: Node) -> Compute:
    window, kernel = Window.of(node), list(node.attribute("kernel_shape"))
    columns_first = bool(node.attribute("storage_order", 0))
    if len(kernel) not in MAX_POOLS:
        raise node.refuse("pooling over more than three axes")

    def pool(x: Tensor) -> Tensor:
        image, _ = _fitted(x, window, kernel)
        y = MAX_POOLS[len(kernel)](image, kernel, window.strides, 0, window.dilations)
        return y.to(x.dtype)

    def pool_with_indices(x: Tensor) -> tuple[Tensor, Tensor]:
        image, before = _fitted(x, window, kernel)
        y, places = INDEXED_MAX_POOLS[len(kernel)](image, kernel, window.strides, 0, window.dilations)
        return y.to(x.dtype), _in_whole(places, image.shape[2:], x, before, columns_first=columns_first)

    return pool_with_indices if len(node.outputs) > 1 else pool


def _fitted(x: Tensor, window: Window, kernel: Sequence[int]) -> tuple[Tensor, list[int]]:
    """Floating values, with lowest ones around them so that all windows lie inside."""
    before, after = window.paddings(x.shape[2:], kernel)
    after = [trail + more for trail, more in zip(after, window.overhang(x.shape[2:], kernel), strict=True)]
    image = x if x.is_floating_point() else x.double()
    return padded(image, before, after, -math.inf), before


def _in_whole(places: Tensor, sizes: Sequence[int], x: Tensor, before: Sequence[int], *, columns_first: bool) -> Tensor:
    """From places in one padded plane to places in all of x, flattened."""
    index = torch.zeros_like(places)
    coordinates = torch.unravel_index(places, sizes)
    axes = list(enumerate(coordinates))
    for axis, coordinate in reversed(axes) if columns_first else axes:
        index = index * x.shape[2 + axis] + coordinate - before[axis]
    planes = torch.arange(x.shape[0] * x.shape[1], device=x.device) * math.prod(x.shape[2:])
    return index + planes.reshape(*x.shape[:2], *[1] * len(sizes))


@operator("AveragePool")
def average_pool(node: Node) -> Compute:
    window, kernel = Window.of(node), list(node.attribute("kernel_shape"))
    include = bool(node.attribute("count_include_pad", 0))

    def pool(x: Tensor) -> Tensor:
        before, after = window.paddings(x.shape[2:], kernel)
        over = window.overhang(x.shape[2:], kernel)
        if before == after and not any(over) and _is_plain(window, kernel, before):
            return AVERAGE_POOLS[len(kernel)](x, kernel, window.strides, before, False, include)  # noqa: FBT003
        inside = padded(x.new_ones(1, 1, *x.shape[2:]), before, after, float(include))
        counts = _window_sums(padded(inside, [0] * len(kernel), over), window, kernel)
        behind = [trail + more for trail, more in zip(after, over, strict=True)]
        return _window_sums(padded(x, before, behind), window, kernel) / counts

    return pool


def _is_plain(window: Window, kernel: Sequence[int], before: Sequence[int]) -> bool:
    """Torch pools it in one call."""
    narrow = all(2 * lead <= taps for lead, taps in zip(before, kernel, strict=True))
    return narrow and len(kernel) in AVERAGE_POOLS and set(window.dilations) == {1}


def _window_sums(image: Tensor, window: Window, kernel: Sequence[int]) -> Tensor:
    """The sum of each window of an image that needs no more padding."""
    planes = image.reshape(-1, 1, *image.shape[2:])
    sums = torch.convolution(
        planes,
        image.new_ones(1, 1, *kernel),
        None,
        window.strides,
        [0],
        window.dilations,
        False,  # noqa: FBT003 - not transposed
        [0],
        1,
    )
    return sums.reshape(*image.shape[:2], *sums.shape[2:])


@operator("LpPool")
def lp_pool(node: Node) -> Compute:
    window, kernel, power = Window.of(node), list(node.attribute("kernel_shape")), float(node.attribute("p", 2))

    def pool(x: Tensor) -> Tensor:
        before, after = window.paddings(x.shape[2:], kernel)
        after = [trail + more for trail, more in zip(after, window.overhang(x.shape[2:], kernel), strict=True)]
        return _root(_window_sums(padded(x.abs() ** power, before, after), window, kernel), power)

    return pool


def _root(total: Tensor, power: float) -> Tensor:
    """The root of sums of powers; at zero its gradient is zero, not infinite."""
    return total.clamp_min(torch.finfo(total.dtype).tiny) ** (1 / power)


def _spatial(x: Tensor) -> list[int]:
    return list(range(2, x.dim()))


pointwise(
    {
        "GlobalAveragePool": lambda x: x.mean(_spatial(x), keepdim=True),
        "GlobalMaxPool": lambda x: x.amax(_spatial(x), keepdim=True),
    }
)


@operator("GlobalLpPool")
def global_lp_pool(node: Node) -> Compute:
    power = float(node.attribute("p", 2))
    return lambda x: _root((x.abs() ** power).sum(_spatial(x), keepdim=True), power)


@operator("MaxUnpool", host=(2,))
def max_unpool(node: Node) -> Compute:
    window, kernel = Window.of(node), node.attribute("kernel_shape")

    def unpool(x: Tensor, places: Tensor, output_shape: Tensor | None = None) -> Tensor:
        before, after = window.paddings(x.shape[2:], kernel)
        grown = [
            (size - 1) * stride + taps - lead - trail
            for size, stride, taps, lead, trail in zip(
                x.shape[2:], spread(window.strides, len(kernel)), kernel, before, after, strict=True
            )
        ]
        flat = x.new_zeros(x.shape[0] * x.shape[1] * math.prod(grown))
        image = flat.index_put((places.flatten(),), x.flatten()).reshape(*x.shape[:2], *grown)
        if output_shape is None:
            return image
        more = [int(wanted) - size for wanted, size in zip(output_shape[2:], grown, strict=True)]
        return padded(image, [0] * len(kernel), more)

    return unpool


@operator("MaxRoiPool")
def max_roi_pool(node: Node) -> Compute:
    scale, (rows, columns) = node.attribute("spatial_scale", 1.0), node.attribute("pooled_shape")

    def pool(x: Tensor, regions: Tensor) -> Tensor:
        """Regions are (batch index, left, top, right, bottom) in pixels of the original image."""
        corners = (regions[:, 1:] * scale).round().long().tolist()
        images = [x[int(index)] for index in regions[:, 0]]
        return torch.stack([_pooled_region(*pair, rows, columns) for pair in zip(images, corners, strict=True)])

    return pool


def _pooled_region(image: Tensor, corners: Sequence[int], rows: int, columns: int) -> Tensor:
    """The largest value of each cell of a region, (channels, rows, columns); zero where a cell is empty."""
    left, top, right, bottom = corners
    vertical = _cells(top, max(bottom - top + 1, 1), rows, image.shape[1])
    horizontal = _cells(left, max(right - left + 1, 1), columns, image.shape[2])
    cells = [image[:, slice(*tall), slice(*wide)] for tall in vertical for wide in horizontal]
    largest = [cell.amax((1, 2)) if cell.numel() else image.new_zeros(image.shape[0]) for cell in cells]
    return torch.stack(largest, dim=1).reshape(-1, rows, columns)


def _cells(start: int, length: int, parts: int, size: int) -> list[tuple[int, int]]:
    bounds = [
        (start + math.floor(part * length / parts), start + math.ceil((part + 1) * length / parts))
        for part in range(parts)
    ]
    return [(min(max(first, 0), size), min(max(last, 0), size)) for first, last in bounds]


@operator("RoiAlign")
def roi_align(node: Node) -> Compute:
    rows, columns = node.attribute("output_height", 1), node.attribute("output_width", 1)
    samples, scale = node.attribute("sampling_ratio", 0), node.attribute("spatial_scale", 1.0)
    default = "half_pixel" if node.opset >= 16 else "output_half_pixel"
    half_pixel = node.attribute("coordinate_transformation_mode", default) == "half_pixel"
    largest = node.attribute("mode", "avg") == "max"

    def align(x: Tensor, regions: Tensor, images: Tensor) -> Tensor:
        """Regions are (left, top, right, bottom) in pixels of the original image."""
        corners = regions * scale - (0.5 if half_pixel else 0.0)
        spans = corners[:, 2:] - corners[:, :2]
        spans = spans if half_pixel else spans.clamp_min(1.0)
        pooled = []
        for image, start, span in zip(images.tolist(), corners[:, :2], spans, strict=True):
            down = _sampled(start[1], span[1], rows, samples, x.shape[2])
            across = _sampled(start[0], span[0], columns, samples, x.shape[3])
            pooled.append(_aligned(x[image], down, across, (rows, columns), largest=largest))
        return torch.stack(pooled) if pooled else x.new_zeros(0, x.shape[1], rows, columns)

    return align


def _sampled(start: Tensor, span: Tensor, parts: int, samples: int, size: int) -> tuple[Tensor, Tensor]:
    """Two neighbours on an axis for each sample, and what each counts for: (samples, 2) twice."""
    each = samples or max(math.ceil(float(span.detach()) / parts), 1)
    steps = (torch.arange(parts * each, device=start.device) + 0.5) / each
    places = start + steps.to(start.dtype) * span / parts
    inside = ((places >= -1) & (places <= size)).to(start.dtype)
    places = places.clamp(0, size - 1)
    low = places.floor()
    share = places - low
    neighbours = torch.stack([low, (low + 1).clamp_max(size - 1)], dim=1).long()
    return neighbours, torch.stack([(1 - share) * inside, share * inside], dim=1)


def _aligned(
    image: Tensor, down: tuple[Tensor, Tensor], across: tuple[Tensor, Tensor], cells: tuple[int, int], *, largest: bool
) -> Tensor:
    """One region, (channels, rows, columns): the mean of its samples, or the largest weighted neighbour."""
    (y, y_weight), (x, x_weight) = down, across
    values = image[:, y[:, None, :, None], x[None, :, None, :]]
    values = values * y_weight[:, None, :, None] * x_weight[None, :, None, :]
    values = values.amax((3, 4)) if largest else values.sum((3, 4))
    parts = values.reshape(image.shape[0], cells[0], y.shape[0] // cells[0], cells[1], x.shape[0] // cells[1])
    return parts.amax((2, 4)) if largest else parts.mean((2, 4))
