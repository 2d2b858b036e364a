"""Models are stand-ins here: functions that take a known time."""

import time

import numpy as np
import pytest

from engine.measure.probe.pinning import chosen_cpus
from engine.measure.probe.timing import FEWEST_ROUNDS, precise, time_in_turns, turn_length


def busy(milliseconds: float) -> None:
    end = time.perf_counter() + milliseconds / 1000
    while time.perf_counter() < end:
        pass


def test_every_model_runs_in_every_round() -> None:
    counts = [0, 0, 0]

    def run(slot: int) -> None:
        counts[slot] += 1
        busy(0.6)

    samples = time_in_turns([lambda slot=slot: run(slot) for slot in range(3)], seconds=0.3, precision=0.0, seed=0)
    warm_up = max(counts) - len(samples)
    assert samples.shape[1] == 3
    assert all(count - len(samples) >= 1 for count in counts)
    assert warm_up < len(samples)


def test_it_ends_as_soon_as_the_ratio_is_known_well_enough() -> None:
    samples = time_in_turns([lambda: busy(1), lambda: busy(2)], seconds=60, precision=100, seed=0)
    assert len(samples) == FEWEST_ROUNDS
    assert samples[:, 1].min() / samples[:, 0].min() == pytest.approx(2, rel=0.1)


@pytest.mark.parametrize(("noise", "known"), [(0.001, True), (0.5, False)])
def test_a_ratio_is_known_when_its_median_is(noise: float, known: bool) -> None:
    random = np.random.default_rng(0)
    drift = random.uniform(1, 5, (100, 1))  # slows all models alike, and says nothing on their ratio
    samples = drift * np.array([1.0, 2.0]) * np.exp(noise * random.standard_normal((100, 2)))
    assert precise(samples, 0.02) is known


def test_it_ends_at_the_time_cap_with_one_round_at_least() -> None:
    started = time.perf_counter()
    samples = time_in_turns([lambda: busy(50), lambda: busy(50)], seconds=0.01, precision=0.0, seed=0)
    assert len(samples) == 1
    assert time.perf_counter() - started < 5


def test_the_same_seed_gives_the_same_order() -> None:
    def order(seed: int) -> list[int]:
        seen: list[int] = []
        runs = [lambda slot=slot: (seen.append(slot), busy(1)) for slot in range(4)]
        rounds = len(time_in_turns(runs, seconds=0.2, precision=0.0, seed=seed))
        return seen[-4 * rounds :][:40]

    assert order(1) == order(1) != order(2)


def test_a_short_run_is_repeated_until_the_clock_weighs_nothing() -> None:
    assert turn_length(20e-6) == 25
    assert turn_length(0.5) == 1


def test_threads_get_a_core_each_before_any_core_is_shared() -> None:
    siblings = {0: "0,2", 1: "1,3", 2: "0,2", 3: "1,3"}
    assert chosen_cpus([0, 1, 2, 3], 2, siblings) == {2, 3}
    assert chosen_cpus([0, 1, 2, 3], 3, siblings) == {2, 3, 1}
    assert chosen_cpus([0, 1], 8, {0: "0", 1: "1"}) == {0, 1}
