"""The arithmetic of weights that are rounded block by block; a level q is 0 … 2^bits - 1.

symmetric    w ≈ s · (q - 2^(bits-1))   s = -w* / 2^(bits-1), where w* is the value farthest from zero, with its sign:
                                        the lowest level is hit exactly, for there is one level more on that side
asymmetric   w ≈ s · (q - z)            s = (max - min) / (2^bits - 1), z the level of zero

With 16 levels it pays to clip the farthest values and round the others finer, so a few scales are tried for each block,
and the one with the smallest squared error is kept.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from engine.quantize.fitted import fitted_levels

#: factors on the scale that are tried; above 1 the other side is not clipped
FACTORS = {4: (8 / 7, 1.07, 1.0, 0.93, 0.86, 0.79), 8: (128 / 127, 1.0)}
ELEMENTS_AT_ONCE = 1 << 18  #: few enough for a cache
NORMAL_HALF = (2.0**-14, 65504.0)  #: numbers that float16 holds with all its precision


@dataclass(frozen=True)
class Blocks:
    """A matrix in rows of blocks; what is missing in the last block of a row stands for 0."""

    levels: np.ndarray  #: uint8, rows × blocks × block size
    scales: np.ndarray  #: float32 or float16, rows × blocks
    zero_points: np.ndarray  #: uint8, rows × blocks
    bits: int
    inputs: int  #: values of a row, without what fills up its last block

    def packed(self) -> np.ndarray:
        """The levels without unused bits: of two 4-bit levels the first one is the lower half of a byte."""
        return self.levels if self.bits == 8 else paired(self.levels)

    def floats(self) -> np.ndarray:
        """The values that the levels stand for, rows × inputs."""
        whole = self.levels.astype(np.float32) - self.zero_points[..., None]
        return (whole * self.scales[..., None].astype(np.float32)).reshape(len(self.levels), -1)[:, : self.inputs]


def paired(levels: np.ndarray) -> np.ndarray:
    """Two 4-bit levels a byte along the last axis; where their number is odd, the last half byte is 0."""
    even, odd = levels[..., 0::2], levels[..., 1::2]
    byte = even.copy()
    byte[..., : odd.shape[-1]] |= odd << 4
    return byte


def rounded(
    rows: np.ndarray, bits: int, block_size: int, *, symmetric: bool, dtype: np.dtype | type = np.float32
) -> Blocks:
    """Round a matrix, rows × inputs; the scales are of the given float type."""
    blocks = _split(rows, block_size)
    step = max(1, ELEMENTS_AT_ONCE // max(blocks[:1].size, 1))
    parts = [
        _round(blocks[start : start + step], bits, symmetric=symmetric, dtype=dtype)
        for start in range(0, len(blocks), step)
    ]
    levels, scales, zero_points = (np.concatenate(part) for part in zip(*parts, strict=True))
    return Blocks(levels, scales, zero_points, bits, rows.shape[1])


def refitted(rows: np.ndarray, blocks: Blocks, moments: NDArray[np.floating]) -> Blocks:
    """The same scales and zero points, with levels by least squares; moments: E[x xᵀ] of what the rows meet."""
    size = blocks.levels.shape[-1]
    scales = blocks.scales.astype(np.float32).repeat(size, 1)[:, : blocks.inputs]
    zeros = blocks.zero_points.astype(np.float64).repeat(size, 1)[:, : blocks.inputs]
    levels = fitted_levels(rows / scales, scales, moments, (-zeros, 2**blocks.bits - 1 - zeros)) + zeros
    changed = blocks.levels.reshape(len(rows), -1).copy()
    changed[:, : blocks.inputs] = levels.astype(np.uint8)
    return replace(blocks, levels=changed.reshape(blocks.levels.shape))


def even_size(inputs: int, block_size: int) -> int:
    """A block size of at most `block_size` whose blocks fill a row with as little left over as can be; even."""
    count = max(-(-inputs // block_size), 1)
    size = -(-inputs // count)
    return max(size + size % 2, 2)


def scale_type(rows: np.ndarray, bits: int, block_size: int) -> type[np.floating]:
    """The smallest float type that holds all scales precisely."""
    smallest, largest = NORMAL_HALF
    farthest = np.abs(_split(rows, block_size)).max(axis=-1)
    scales = farthest[farthest > 0] / 2**bits  # at least that much, and at most four times as much
    return np.float16 if smallest <= scales.min(initial=1) and scales.max(initial=0) < largest / 4 else np.float32


def _split(rows: np.ndarray, block_size: int) -> np.ndarray:
    count = -(-rows.shape[1] // block_size)
    padded = np.pad(rows, ((0, 0), (0, count * block_size - rows.shape[1])))
    return padded.reshape(len(rows), count, block_size)


def _round(
    part: np.ndarray, bits: int, *, symmetric: bool, dtype: np.dtype | type
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Levels, scales and zero points of some rows of blocks."""
    blocks = part.astype(np.float32)
    span, lowest = (_symmetric if symmetric else _asymmetric)(blocks, bits)
    least = np.full(span.shape, np.inf, np.float32)
    scales, zeros = np.ones(span.shape, np.float32), np.zeros(span.shape, np.float32)
    for factor in FACTORS[bits]:
        scale = (span * np.float32(factor)).astype(dtype).astype(np.float32)
        scale[scale == 0] = 1
        zero = lowest if symmetric else np.clip(np.rint(lowest / scale), 0, 2**bits - 1)
        difference = (_levels(blocks, scale, zero, bits) - zero[..., None]) * scale[..., None] - blocks
        error = np.einsum("rbi,rbi->rb", difference, difference)
        better = error < least
        least[better], scales[better], zeros[better] = error[better], scale[better], zero[better]
    return _levels(blocks, scales, zeros, bits).astype(np.uint8), scales.astype(dtype), zeros.astype(np.uint8)


def _levels(blocks: np.ndarray, scale: np.ndarray, zero: np.ndarray, bits: int) -> np.ndarray:
    levels = blocks / scale[..., None]
    np.rint(levels, out=levels)
    levels += zero[..., None]
    return np.clip(levels, 0, 2**bits - 1, out=levels)


def _symmetric(blocks: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """The scale of each block, and the level of zero."""
    farthest = np.take_along_axis(blocks, np.abs(blocks).argmax(axis=-1)[..., None], axis=-1)[..., 0]
    return -farthest / 2 ** (bits - 1), np.full(farthest.shape, 2 ** (bits - 1), np.float32)


def _asymmetric(blocks: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """The scale of each block, and how far its lowest value lies below zero."""
    low, high = blocks.min(axis=-1, initial=0), blocks.max(axis=-1, initial=0)
    return (high - low) / (2**bits - 1), -low
