"""Where the windows of convolutions and pooling stand: strides, dilations and paddings.

    auto_pad NOTSET       the paddings given: those before each axis, then those behind each
    auto_pad SAME_UPPER   as much as ⌈size / stride⌉ windows need, an odd one behind (SAME_LOWER: before)
    auto_pad VALID        none

All sizes are those of the spatial axes, in elements.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch.nn.functional as F  # noqa: N812 - its name everywhere
from torch import Tensor

from engine.differentiable.registry import Node


@dataclass(frozen=True)
class Window:
    """What a node says about its windows; one value stands for all axes."""

    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[int, ...]  #: empty, or two for each axis
    auto_pad: str
    ceil: bool  #: a last window may reach over the end

    @classmethod
    def of(cls, node: Node) -> "Window":
        """The window of a convolution or pooling node."""
        return cls(
            strides=tuple(node.attribute("strides", (1,))),
            dilations=tuple(node.attribute("dilations", (1,))),
            pads=tuple(node.attribute("pads", ())),
            auto_pad=node.attribute("auto_pad", "NOTSET"),
            ceil=bool(node.attribute("ceil_mode", 0)),
        )

    def paddings(self, sizes: Sequence[int], kernel: Sequence[int]) -> tuple[list[int], list[int]]:
        """What is added before and behind each axis."""
        if self.auto_pad.startswith("SAME"):
            return halved(self._needed(sizes, kernel), upper=self.auto_pad == "SAME_UPPER")
        if self.auto_pad == "VALID" or not self.pads:
            return [0] * len(sizes), [0] * len(sizes)
        return list(self.pads[: len(sizes)]), list(self.pads[len(sizes) :])

    def overhang(self, sizes: Sequence[int], kernel: Sequence[int]) -> list[int]:
        """How far the last window reaches over the padded end of each axis; it starts before the padding behind."""
        if not self.ceil:
            return [0] * len(sizes)
        before, after = self.paddings(sizes, kernel)
        return [
            _overhang(size, lead, trail, stride, reach)
            for size, lead, trail, stride, reach in zip(
                sizes, before, after, spread(self.strides, len(sizes)), self.reach(kernel), strict=True
            )
        ]

    def reach(self, kernel: Sequence[int]) -> list[int]:
        """How many elements one window spans, holes included."""
        return [(taps - 1) * step + 1 for taps, step in zip(kernel, spread(self.dilations, len(kernel)), strict=True)]

    def _needed(self, sizes: Sequence[int], kernel: Sequence[int]) -> list[int]:
        strides = spread(self.strides, len(sizes))
        return [
            max((-(-size // stride) - 1) * stride + reach - size, 0)
            for size, stride, reach in zip(sizes, strides, self.reach(kernel), strict=True)
        ]


def _overhang(size: int, lead: int, trail: int, stride: int, reach: int) -> int:
    padded_size = size + lead + trail
    windows = -(-(padded_size - reach) // stride) + 1
    if (windows - 1) * stride >= size + lead:
        windows -= 1
    return max((windows - 1) * stride + reach - padded_size, 0)


def spread(values: Sequence[int], rank: int) -> Sequence[int]:
    """One value for each axis."""
    return values if len(values) == rank else [values[0]] * rank


def halved(totals: Sequence[int], *, upper: bool) -> tuple[list[int], list[int]]:
    """Each total in two; the odd one goes behind where `upper`, else before."""
    less = [total // 2 for total in totals]
    more = [total - half for total, half in zip(totals, less, strict=True)]
    return (less, more) if upper else (more, less)


def padded(x: Tensor, before: Sequence[int], after: Sequence[int], value: float = 0.0) -> Tensor:
    """The tensor with its last axes longer, or shorter where a count is negative."""
    if not any(before) and not any(after):
        return x
    pairs = [count for pair in zip(reversed(before), reversed(after), strict=True) for count in pair]
    return F.pad(x, pairs, value=value)
