"""The arithmetic of 8 bits: zero is exact, nothing overflows, errors stay below half a step."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

from engine.quantize.integers import (
    SMALLEST_SCALE,
    activation_parameters,
    quantize_bias,
    quantize_constant,
    quantize_weight,
    weight_scale,
    widened_for_bias,
)

finite = some.floats(-1e6, 1e6, width=32)
types = some.sampled_from([np.uint8, np.int8])


@given(first=finite, second=finite, dtype=types)
def test_a_range_and_zero_can_be_represented(first: float, second: float, dtype: type[np.uint8]) -> None:
    low, high = min(first, second), max(first, second)
    parameters = activation_parameters(low, high, dtype)
    scale, zero = float(parameters.scale), int(parameters.zero_point)
    limits = np.iinfo(dtype)
    assert limits.min <= zero <= limits.max
    assert scale > 0
    assert (limits.min - zero) * scale <= min(low, 0) + 0.51 * scale
    assert (limits.max - zero) * scale >= max(high, 0) - 0.51 * scale


def test_a_range_from_zero_on_puts_zero_at_the_lowest_level() -> None:
    assert activation_parameters(0.0, 6.0, np.uint8).zero_point == 0
    assert activation_parameters(0.0, 6.0, np.int8).zero_point == -128


@given(first=finite, second=finite, dtype=types)
def test_a_symmetric_range_has_zero_in_the_middle_and_reaches_both_ends(
    first: float, second: float, dtype: type[np.uint8]
) -> None:
    low, high = min(first, second), max(first, second)
    parameters = activation_parameters(low, high, dtype, symmetric=True)
    assert parameters.zero_point == (128 if dtype is np.uint8 else 0)
    assert parameters.zero_point.dtype == dtype
    assert float(parameters.scale) * 127 == pytest.approx(max(-low, high, 127 * SMALLEST_SCALE), rel=1e-6)


@given(values=some.lists(finite, min_size=1, max_size=20), dtype=types)
def test_a_constant_is_off_by_at_most_half_a_step(values: list[float], dtype: type[np.uint8]) -> None:
    array = np.array(values, np.float32)
    stored, parameters = quantize_constant(array, dtype)
    restored = (stored.astype(np.float64) - parameters.zero_point) * parameters.scale
    assert np.abs(restored - array).max() <= 0.51 * parameters.scale + 1e-6


@pytest.mark.parametrize("axis", [None, 0, 1, 3])
@pytest.mark.parametrize("levels", [127, 64])
def test_weights_are_off_by_at_most_half_a_step_of_their_channel(axis: int | None, levels: int) -> None:
    weight = np.random.default_rng(0).standard_normal((4, 3, 2, 5)).astype(np.float32)
    scale = weight_scale(weight, axis, levels)
    stored = quantize_weight(weight, scale, axis, levels)
    shape = [1] * 4
    if axis is not None:
        shape[axis] = -1
    steps = scale.reshape(shape if axis is not None else ())
    assert np.abs(stored.values * steps - weight).max() <= 0.5001 * scale.max()
    assert np.abs(stored.values.astype(int)).max() == levels


def test_a_channel_of_zeros_has_a_scale_that_can_be_divided_by() -> None:
    weight = np.zeros((2, 3), np.float32)
    weight[1] = 1
    scale = weight_scale(weight, 0, 127)
    assert scale[0] == np.float32(SMALLEST_SCALE)
    assert quantize_weight(weight, scale, 0, 127).values.tolist() == [[0, 0, 0], [127, 127, 127]]


def test_scales_widen_until_the_largest_bias_fits_into_32_bits() -> None:
    activation = np.float32(1e-3)
    scale = widened_for_bias(
        np.array([1e-12, 1.0], np.float32), np.array([5.0, 5.0], np.float32), np.asarray(activation)
    )
    bias = quantize_bias(np.array([5.0, 5.0]), (activation * scale).astype(np.float32))
    assert np.abs(bias * (activation * scale) - 5).max() < 1e-3
    assert scale[1] == 1.0
