"""How the final measurement uses the time that is left."""

import pytest

from engine.pipeline.final import affordable


@pytest.mark.parametrize("left", [3.0, 6.0, 12.0, 100.0])
def test_it_stays_inside_what_is_left(left: float) -> None:
    processes, seconds = affordable(left, start_seconds=1.0, wanted_seconds=5.0)
    assert 2 <= processes <= 4
    assert processes * (1.0 + seconds) <= left


def test_no_more_is_measured_than_is_of_use() -> None:
    assert affordable(100, start_seconds=1, wanted_seconds=5) == (4, 5)


def test_two_processes_are_the_least_that_tell_a_gain_from_luck() -> None:
    assert affordable(0.5, start_seconds=3, wanted_seconds=5)[0] == 2
