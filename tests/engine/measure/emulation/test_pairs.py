"""What pairs of 8-bit products lose in 16 bits, by hand."""

import numpy as np

from engine.measure.emulation.pairs import Pairs, exact_sums


def lost(weights: list[int], inputs: list[int]) -> int:
    """What saturation takes from one sum."""
    pairs = Pairs.of(np.array([weights], np.int8).T)
    return int(pairs.excess(np.array([inputs], np.uint8).T, 1)[0, 0])


def test_a_pair_above_16_bits_loses_what_is_above() -> None:
    assert lost([127, 127], [255, 255]) == 2 * 255 * 127 - 32767 == 32003


def test_a_pair_below_16_bits_loses_what_is_below() -> None:
    assert lost([-127, -127], [255, 255]) == -2 * 255 * 127 + 32768


def test_each_pair_saturates_alone() -> None:
    assert lost([127, -127, 127, -127], [255] * 4) == 0, "in the order of K these cancel"
    assert lost([127, 127, -127, -127], [255] * 4) == 32003 - 32002


def test_the_last_of_an_odd_number_has_nobody_to_overflow_with() -> None:
    assert lost([127, 1, 127], [255] * 3) == 0


def test_weights_that_reach_129_together_are_the_first_at_risk() -> None:
    assert len(Pairs.of(np.array([[64], [64]], np.int8))) == 0
    assert len(Pairs.of(np.array([[64], [65]], np.int8))) == 1
    assert lost([64, 65], [255, 255]) == 255 * 129 - 32767


def test_seven_bits_never_saturate() -> None:
    weights = np.random.default_rng(0).integers(-64, 65, (200, 50)).astype(np.int8)
    assert len(Pairs.of(weights)) == 0


def test_the_sums_are_those_of_the_pairs_one_by_one() -> None:
    random = np.random.default_rng(0)
    weights, inputs = (
        random.integers(-127, 128, (6, 5)).astype(np.int8),
        random.integers(0, 256, (6, 7)).astype(np.uint8),
    )
    products = weights.T[:, :, None].astype(int) * inputs[None].astype(int)
    wanted = (products[:, 0::2] + products[:, 1::2]).clip(-32768, 32767).sum(axis=1)
    exact = exact_sums(inputs, 0, weights, np.zeros(1, np.int32))
    assert (exact - Pairs.of(weights).excess(inputs, 5) == wanted).all()
    assert (exact != wanted).any()


def test_long_sums_are_not_rounded() -> None:
    inputs, weights = np.full((4001, 1), 255, np.uint8), np.full((4001, 1), 127, np.int8)
    assert exact_sums(inputs, 0, weights, np.zeros(1, np.int32))[0, 0] == 4001 * 255 * 127
