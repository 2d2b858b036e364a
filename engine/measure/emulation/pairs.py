"""Sums of 8-bit products as x86 CPUs without VNNI compute them: pair by pair in 16 bits.

    exact        Σ a[k]·b[k]                                                      a unsigned, b signed
    saturating   Σ clip(a[2k]·b[2k] + a[2k+1]·b[2k+1], −32768, 32767)             the pairs are summed in 32 bits

One instruction, vpmaddubsw, multiplies and adds a pair; it is what ONNX Runtime's kernels for AVX2 are made of, that of
matrix products and that of convolutions (onnxruntime/core/mlas/lib/x86_64: QgemmU8S8KernelAvx2.S,
ConvSymKernelAvx2.S). Zero points are taken out of the sums in 32 bits, so it is the stored integers that saturate.

Two products of 255 and a weight of 64 fit, 255·(64 + 64) = 32640; 255·129 does not. So a pair is at risk only where its
weights reach 129 together with one sign. Of weights of 7 bits none is, of others a few in a hundred; the rest is exact.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

LOWEST, HIGHEST = -(1 << 15), (1 << 15) - 1
LARGEST_INPUT = 255
LARGEST_SAFE = HIGHEST // LARGEST_INPUT  #: what two weights of one sign may reach together
CHUNK_ELEMENTS = 1 << 22
EXACT_IN_FLOAT32 = 1 << 24


@dataclass(frozen=True)
class Pairs:
    """The pairs of a weight that may saturate, ordered by the output that they are summed into."""

    first: np.ndarray  #: where in K each pair begins
    column: np.ndarray  #: its output
    even: np.ndarray  #: its two weights
    odd: np.ndarray

    @classmethod
    def of(cls, weight: np.ndarray) -> "Pairs":
        """Of int8 weights, K × N."""
        even, odd = (_padded(weight)[first::2].astype(np.int16) for first in (0, 1))
        highest = np.maximum(even, 0) + np.maximum(odd, 0)
        lowest = np.minimum(even, 0) + np.minimum(odd, 0)
        column, pair = np.nonzero(((highest > LARGEST_SAFE) | (lowest < -LARGEST_SAFE)).T)
        return cls(2 * pair, column, *(part[pair, column].astype(np.int32) for part in (even, odd)))

    def __len__(self) -> int:
        return len(self.first)

    def excess(self, inputs: np.ndarray, outputs: int) -> np.ndarray:
        """What saturation takes from the exact sums: outputs × M in int32, of uint8 inputs, K × M."""
        taken = np.zeros((outputs, inputs.shape[1]), np.int32)
        padded = _padded(inputs)
        for few in _slices(len(self), inputs.shape[1]):
            sums = padded[self.first[few]] * self.even[few, None] + padded[self.first[few] + 1] * self.odd[few, None]
            over = sums - np.clip(sums, LOWEST, HIGHEST)
            columns, starts = np.unique(self.column[few], return_index=True)
            taken[columns] += np.add.reduceat(over, starts, axis=0)
        return taken


def exact_sums(inputs: np.ndarray, zero_point: int, weight: np.ndarray, weight_zero_point: np.ndarray) -> np.ndarray:
    """Sums of (a − zero point)·(b − zero point): N × M in int32, of inputs K × M and weights K × N.

    In floats, whose products are fast, and wide enough for no sum to be rounded.
    """
    centered = weight.astype(np.int32) - weight_zero_point
    largest = LARGEST_INPUT * np.abs(centered).sum(axis=0).max(initial=0)
    dtype = np.float32 if largest < EXACT_IN_FLOAT32 else np.float64
    transposed, offset = centered.T.astype(dtype), dtype(zero_point)
    sums = np.empty((weight.shape[1], inputs.shape[1]), np.int32)
    for few in _slices(inputs.shape[1], len(inputs)):
        sums[:, few] = transposed @ (inputs[:, few].astype(dtype) - offset)
    return sums


def _padded(rows: np.ndarray) -> np.ndarray:
    """With a row of zeros below an odd number of them."""
    return np.pad(rows, ((0, len(rows) % 2), (0, 0)))


def _slices(length: int, elements_each: int) -> Iterator[slice]:
    """Parts of a bounded number of elements."""
    step = max(1, CHUNK_ELEMENTS // max(elements_each, 1))
    return (slice(start, start + step) for start in range(0, length, step))
