"""The arithmetic of 8-bit tensors.

activation   x ≈ s · (q - z)     z whole, so that 0 is exact;  unsigned q in 0…255, signed q in -128…127
             symmetric: z in the middle, 128 or 0, and s from the larger end
weight       w ≈ s · q           symmetric, q in ±127, or in ±64 where pairs of products are summed in 16 bits
bias         b ≈ s_x · s_w · q   32 bits, at the scale of the accumulator
"""

from dataclasses import dataclass

import numpy as np

FULL_LEVELS, REDUCED_LEVELS = 127, 64
SMALLEST_SCALE = 1e-12  #: far below what matters, far above where float32 breaks
LARGEST_BIAS = 2.0**30


@dataclass(frozen=True)
class Parameters:
    """Scale and zero point of an activation; the zero point's type is the type of the tensor."""

    scale: np.ndarray  #: float32 scalar
    zero_point: np.ndarray  #: uint8 or int8 scalar


@dataclass(frozen=True)
class QuantizedWeight:
    values: np.ndarray  #: int8
    scale: np.ndarray  #: float32: a scalar, or one per channel
    axis: int | None  #: of the channels; None for one scale


def activation_parameters(
    low: float, high: float, dtype: type[np.uint8] | type[np.int8], *, symmetric: bool = False
) -> Parameters:
    """Parameters under which the range, and zero, can be represented."""
    low, high = min(low, 0.0), max(high, 0.0)
    smallest, largest = np.iinfo(dtype).min, np.iinfo(dtype).max
    if symmetric:
        scale = np.float32(max(-low / FULL_LEVELS, high / FULL_LEVELS, SMALLEST_SCALE))
        return Parameters(np.asarray(scale), np.asarray(smallest + 128, dtype))
    scale = np.float32(max((high - low) / (largest - smallest), SMALLEST_SCALE))
    zero_point = np.clip(np.rint(smallest - low / np.float64(scale)), smallest, largest)
    return Parameters(np.asarray(scale), np.asarray(zero_point, dtype))


def quantize_constant(values: np.ndarray, dtype: type[np.uint8] | type[np.int8]) -> tuple[np.ndarray, Parameters]:
    """A constant that meets activations, in the activations' type."""
    parameters = activation_parameters(float(values.min(initial=0)), float(values.max(initial=0)), dtype)
    limits = np.iinfo(dtype)
    rounded = np.rint(values / parameters.scale.astype(np.float64)) + parameters.zero_point
    return np.clip(rounded, limits.min, limits.max).astype(dtype), parameters


def weight_scale(weight: np.ndarray, axis: int | None, levels: int) -> np.ndarray:
    """Scale per channel, or one scale where the axis is None; never zero."""
    others = None if axis is None else tuple(other for other in range(weight.ndim) if other != axis)
    largest = np.abs(weight).max(axis=others, initial=0).astype(np.float64)
    return np.maximum(largest / levels, SMALLEST_SCALE).astype(np.float32)


def widened_for_bias(scale: np.ndarray, bias: np.ndarray, activation_scale: np.ndarray) -> np.ndarray:
    """Scales large enough that no bias overflows; matters for channels whose weights are almost zero."""
    needed = np.abs(bias.astype(np.float64)) / (float(activation_scale) * LARGEST_BIAS)
    return np.maximum(scale, (needed.max() if scale.ndim == 0 else needed)).astype(np.float32)


def quantize_weight(weight: np.ndarray, scale: np.ndarray, axis: int | None, levels: int) -> QuantizedWeight:
    """Round to the nearest level."""
    shape = [1] * weight.ndim
    if axis is not None:
        shape[axis] = -1
    rounded = np.rint(weight / scale.reshape(shape if axis is not None else ()))
    return QuantizedWeight(np.clip(rounded, -levels, levels).astype(np.int8), scale, axis)


def quantize_bias(bias: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Round to 32 bits at the accumulator's scale."""
    limits = np.iinfo(np.int32)
    return np.clip(np.rint(bias / scale.astype(np.float64)), limits.min, limits.max).astype(np.int32)
