"""Weights rounded block by block: near the original, and never worse than plain rounding."""

import numpy as np
import pytest

from engine.quantize.blockwise import even_size, paired, rounded, scale_type

WEIGHT = np.random.default_rng(0).standard_normal((64, 150)).astype(np.float32)


def sqnr_db(weight: np.ndarray, restored: np.ndarray) -> float:
    return float(10 * np.log10(np.sum(weight**2) / np.sum((weight - restored) ** 2)))


@pytest.mark.parametrize(("bits", "least_db"), [(4, 21.5), (8, 45.5)])
@pytest.mark.parametrize("symmetric", [True, False])
def test_blocks_of_32_keep_this_much_of_a_normal_weight(bits: int, least_db: float, symmetric: bool) -> None:
    assert sqnr_db(WEIGHT, rounded(WEIGHT, bits, 32, symmetric=symmetric).floats()) > least_db


@pytest.mark.parametrize("bits", [4, 8])
def test_zero_points_pay_for_weights_that_lie_on_one_side(bits: int) -> None:
    skewed = np.abs(WEIGHT)
    symmetric, with_zeros = (rounded(skewed, bits, 32, symmetric=choice).floats() for choice in (True, False))
    assert sqnr_db(skewed, with_zeros) > sqnr_db(skewed, symmetric) + 4


def test_scales_are_searched_where_levels_are_few() -> None:
    farthest = np.abs(WEIGHT[:, :128]).reshape(64, 4, 32).max(axis=-1, keepdims=True)
    plain = np.rint(WEIGHT[:, :128].reshape(64, 4, 32) / (farthest / 7)) * (farthest / 7)
    ours = rounded(WEIGHT[:, :128], 4, 32, symmetric=True).floats()
    assert sqnr_db(WEIGHT[:, :128], ours) > sqnr_db(WEIGHT[:, :128], plain.reshape(64, 128)) + 1


def test_zeros_stay_zeros_and_no_scale_is_zero() -> None:
    weight = WEIGHT.copy()
    weight[:, :32] = 0
    blocks = rounded(weight, 4, 32, symmetric=False)
    assert not blocks.floats()[:, :32].any()
    assert blocks.scales.all()


def test_what_fills_up_the_last_block_stands_for_zero() -> None:
    blocks = rounded(WEIGHT, 4, 64, symmetric=False)
    assert blocks.levels.shape == (64, 3, 64)
    assert (blocks.levels[:, -1, 150 - 128 :] == blocks.zero_points[:, -1:]).all()


def test_two_levels_share_a_byte_with_the_first_below() -> None:
    assert paired(np.array([[1, 2, 3]], np.uint8)).tolist() == [[1 | 2 << 4, 3]]


@pytest.mark.parametrize(("inputs", "size", "expected"), [(40, 32, 20), (64, 32, 32), (9, 32, 10), (1, 32, 2)])
def test_blocks_fill_a_row(inputs: int, size: int, expected: int) -> None:
    assert even_size(inputs, size) == expected


def test_scales_take_two_bytes_only_where_those_hold_them() -> None:
    assert scale_type(WEIGHT, 8, 32) is np.float16
    assert scale_type(WEIGHT * np.float32(1e-3), 8, 32) is np.float32
    assert scale_type(WEIGHT * np.float32(1e7), 8, 32) is np.float32
