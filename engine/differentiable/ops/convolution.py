"""Convolutions: plain, transposed, deformed, causal, in integers, and columns put back into an image.

    Conv              y[n, m] = b[m] + Σ_c w[m, c] ⋆ x[n, c]
    ConvTranspose     the gradient of Conv by its input, cut by the paddings
    DeformConv        Conv whose every tap is moved by a learned offset (Dai et al. 2017, Zhu et al. 2019)
    Col2Im            the sum of all columns at the places that they were taken from

x is (batch, channels, …), w is (outputs, channels / group, …), for ConvTranspose (channels, outputs / group, …).
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - its name everywhere
from torch import Tensor

from engine.differentiable.ops.window import Window, halved, padded, spread
from engine.differentiable.registry import Compute, Node, numbers, operator


@operator("Conv")
def conv(node: Node) -> Compute:
    window, group = Window.of(node), node.attribute("group", 1)

    def convolve(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return convolved(x, weight, bias, window, group)

    return convolve


def convolved(x: Tensor, weight: Tensor, bias: Tensor | None, window: Window, group: int) -> Tensor:
    """A convolution over any number of axes; paddings that differ before and behind are added first."""
    before, after = window.paddings(x.shape[2:], weight.shape[2:])
    if before != after:
        x, before = padded(x, before, after), [0]
    return torch.convolution(x, weight, bias, window.strides, before, window.dilations, False, [0], group)  # noqa: FBT003


@operator("ConvTranspose")
def conv_transpose(node: Node) -> Compute:
    window, group = Window.of(node), node.attribute("group", 1)
    extra = tuple(node.attribute("output_padding", (0,)))
    wanted = node.attribute("output_shape", None)

    def convolve(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        rank = x.dim() - 2
        before, after = _transposed_paddings(window, x.shape[2:], weight.shape[2:], extra, wanted)
        if before == after and not any(extra) and min(before) >= 0:
            return torch.convolution(x, weight, bias, window.strides, before, window.dilations, True, [0], group)  # noqa: FBT003
        full = torch.convolution(x, weight, None, window.strides, [0], window.dilations, True, [0], group)  # noqa: FBT003
        behind = [more - less for more, less in zip(spread(extra, rank), after, strict=True)]
        y = padded(full, [-count for count in before], behind)
        return y if bias is None else y + bias.reshape(-1, *[1] * rank)

    return convolve


def _transposed_paddings(
    window: Window, sizes: Sequence[int], kernel: Sequence[int], extra: Sequence[int], wanted: Sequence[int] | None
) -> tuple[list[int], list[int]]:
    """What the full result loses before and behind each axis."""
    rank, strides = len(sizes), spread(window.strides, len(sizes))
    if wanted is None and not window.auto_pad.startswith("SAME"):
        return window.paddings(sizes, kernel)
    sought = list(wanted)[-rank:] if wanted else [size * stride for size, stride in zip(sizes, strides, strict=True)]
    totals = [
        stride * (size - 1) + more + reach - target
        for size, stride, more, reach, target in zip(
            sizes, strides, spread(extra, rank), window.reach(kernel), sought, strict=True
        )
    ]
    return halved(totals, upper=window.auto_pad == "SAME_UPPER")


@operator("CausalConvWithState")
def causal_conv_with_state(node: Node) -> Compute:
    activation = node.attribute("activation", "none")

    def convolve(
        x: Tensor, weight: Tensor, bias: Tensor | None = None, past: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        earlier = weight.shape[-1] - 1
        past = x.new_zeros(*x.shape[:2], earlier) if past is None else past
        seen = torch.cat([past, x], dim=2)
        y = F.conv1d(seen, weight, bias, groups=x.shape[1])
        return F.silu(y) if activation in {"silu", "swish"} else y, seen[:, :, seen.shape[2] - earlier :]

    return convolve


@operator("DeformConv")
def deform_conv(node: Node) -> Compute:
    window, group = Window.of(node), node.attribute("group", 1)
    offset_groups = node.attribute("offset_group", 1)
    if len(node.attribute("kernel_shape", (0, 0))) != 2:
        raise node.refuse("a deformed convolution over other than two axes")

    def convolve(
        x: Tensor, weight: Tensor, offset: Tensor, bias: Tensor | None = None, mask: Tensor | None = None
    ) -> Tensor:
        places = _deformed_places(x, weight, offset, window, offset_groups)
        taken = _taken(x, places, mask)
        y = torch.einsum(
            "ngckp,gmck->ngmp",
            taken.reshape(x.shape[0], group, -1, taken.shape[2], taken.shape[3]),
            weight.reshape(group, weight.shape[0] // group, weight.shape[1], -1),
        )
        y = y.reshape(x.shape[0], weight.shape[0], *offset.shape[2:])
        return y if bias is None else y + bias.reshape(-1, 1, 1)

    return convolve


def _deformed_places(x: Tensor, weight: Tensor, offset: Tensor, window: Window, offset_groups: int) -> Tensor:
    """Where each tap reads, (batch · offset groups, taps, outputs, 2) as row and column."""
    before, _ = window.paddings(x.shape[2:], weight.shape[2:])
    axes = []
    for axis, (taps, size) in enumerate(zip(weight.shape[2:], offset.shape[2:], strict=True)):
        stride, dilation = spread(window.strides, 2)[axis], spread(window.dilations, 2)[axis]
        first = torch.arange(size, device=x.device) * stride - before[axis]
        axes.append(torch.arange(taps, device=x.device)[:, None] * dilation + first)
    taps, outputs = math.prod(weight.shape[2:]), math.prod(offset.shape[2:])
    rows = axes[0][:, None, :, None].expand(*weight.shape[2:], *offset.shape[2:])
    columns = axes[1][None, :, None, :].expand(*weight.shape[2:], *offset.shape[2:])
    still = torch.stack([rows, columns], dim=-1).reshape(taps, outputs, 2).to(x.dtype)
    return still + offset.reshape(x.shape[0] * offset_groups, taps, 2, outputs).transpose(2, 3)


def _taken(x: Tensor, places: Tensor, mask: Tensor | None) -> Tensor:
    """Values read between four pixels, zero outside: (batch, channels, taps, outputs)."""
    height, width = x.shape[2:]
    images = x.reshape(places.shape[0], -1, height * width)
    corner, total = places.detach().floor(), x.new_zeros(())
    for down, across in ((0, 0), (0, 1), (1, 0), (1, 1)):
        rows, columns = corner[..., 0] + down, corner[..., 1] + across
        inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
        share = (1 - (places[..., 0] - rows).abs()) * (1 - (places[..., 1] - columns).abs()) * inside
        share = share if mask is None else share * mask.reshape(share.shape)
        index = (rows.clamp(0, height - 1) * width + columns.clamp(0, width - 1)).long().flatten(1)
        values = images.gather(2, index[:, None].expand(-1, images.shape[1], -1))
        total = total + values.unflatten(2, share.shape[1:]) * share[:, None]
    return total.reshape(*x.shape[:2], *places.shape[1:3])


@operator("Col2Im", host=(1, 2))
def col2im(node: Node) -> Compute:
    window = Window.of(node)

    def put_back(columns: Tensor, image_shape: Tensor, block_shape: Tensor) -> Tensor:
        sizes, block = numbers(image_shape), numbers(block_shape)
        before, after = window.paddings(sizes, block)
        whole = [size + lead + trail for size, lead, trail in zip(sizes, before, after, strict=True)]
        places = torch.from_numpy(_flat_places(whole, block, window)).to(columns.device)
        batch, channels = columns.shape[0], columns.shape[1] // math.prod(block)
        image = columns.new_zeros(batch, channels, math.prod(whole))
        image = image.index_add(2, places, columns.reshape(batch, channels, -1)).reshape(batch, channels, *whole)
        return padded(image, [-count for count in before], [-count for count in after])

    return put_back


def _flat_places(sizes: Sequence[int], block: Sequence[int], window: Window) -> np.ndarray:
    """The place in the flattened image of each element of a block (slow) in each of its positions (fast)."""
    rank = len(sizes)
    places = np.zeros((1,) * 2 * rank, np.int64)
    strides, dilations = spread(window.strides, rank), spread(window.dilations, rank)
    for axis, (size, taps, reach) in enumerate(zip(sizes, block, window.reach(block), strict=True)):
        starts = np.arange((size - reach) // strides[axis] + 1) * strides[axis]
        along = np.arange(taps)[:, None] * dilations[axis] + starts
        shape = [1] * 2 * rank
        shape[axis], shape[rank + axis] = along.shape
        places = places * size + along.reshape(shape)
    return places.reshape(-1)
