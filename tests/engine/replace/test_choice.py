"""The integer program: least cost within the time, one move at each site, corrected by what is measured."""

from collections.abc import Sequence

from engine.replace.choice import Option, choose, solved

A, B = frozenset({"a"}), frozenset({"b"})
BOTH = frozenset({"a", "b", "sum"})


def test_the_cheapest_moves_that_save_enough_are_made() -> None:
    options = [Option(A, 1.0, 0.1), Option(A, 3.0, 0.5), Option(B, 2.0, 0.2), Option(B, 1.0, 0.05)]
    assert solved(options, 2.0) == (0, 3)
    assert solved(options, 3.0) == (0, 2)
    assert solved(options, 5.0) == (1, 2)
    assert solved(options, 0.0) == ()


def test_a_block_excludes_what_is_inside_of_it() -> None:
    options = [Option(A, 1.0, 0.1), Option(B, 1.0, 0.1), Option(BOTH, 2.5, 0.3)]
    assert solved(options, 2.0) == (0, 1)
    assert solved(options, 2.2) == (2,)


def test_where_so_much_cannot_be_saved_what_saves_most_is_taken() -> None:
    assert solved([Option(A, 1.0, 0.1), Option(A, 2.0, 9.0), Option(B, 1.0, 0.1)], 100.0) == (1, 2)


def test_a_sum_that_promised_too_much_is_corrected_by_the_joined_network() -> None:
    options = [Option(frozenset({str(index)}), 1.0, 0.1 + index / 100) for index in range(8)]

    def half_as_much(picked: Sequence[int]) -> float:
        return 10 - 0.5 * len(picked)

    choice = choose(options, 10.0, 8.0, half_as_much)
    assert len(choice.chosen) == 4
    assert choice.measured_ms == 8.0
    assert choice.predicted_ms == 6.0


def test_a_target_out_of_reach_gives_the_fastest_one() -> None:
    choice = choose([Option(A, 1.0, 0.1), Option(B, 1.0, 0.9)], 10.0, 1.0, lambda picked: 10.0 - len(picked))
    assert choice.chosen == (0, 1)
