"""Time several models in turns, until their ratios to the first are known well enough.

Each round runs every model once, in an order drawn anew, so that whatever slows the machine for a while slows all of
them. A model that takes less than half a millisecond runs several times in its turn, and the turn's mean is the sample:
the clock then weighs nothing.
"""

import gc
import random
import time
from collections.abc import Callable, Sequence

import numpy as np

from engine.measure.spread import median_interval

SHORTEST_TURN_S = 0.0005
WARM_UP_S = 0.1
WARM_UP_SHARE = 0.1  #: of the time cap, for all models together
FEWEST_ROUNDS, MOST_ROUNDS = 15, 20_000

Run = Callable[[], object]


def time_in_turns(runs: Sequence[Run], *, seconds: float, precision: float, seed: int) -> np.ndarray:
    """Milliseconds per run, rounds × models. Ends at the precision or the time cap, whichever comes first."""
    deadline = time.perf_counter() + seconds
    warm_up = min(WARM_UP_S, seconds * WARM_UP_SHARE / len(runs))
    turns = [turn_length(warmed_up(run, warm_up)) for run in runs]
    shuffled, order = random.Random(seed), list(range(len(runs)))
    rounds: list[list[float]] = []
    next_check = FEWEST_ROUNDS
    gc.disable()
    while True:
        shuffled.shuffle(order)
        rounds.append(_round(runs, turns, order))
        if time.perf_counter() >= deadline or len(rounds) >= MOST_ROUNDS:
            break
        if len(rounds) >= next_check:
            next_check = len(rounds) + len(rounds) // 4
            if precise(np.array(rounds), precision):
                break
    gc.enable()
    return np.array(rounds)


def warmed_up(run: Run, seconds: float) -> float:
    """Run for a while, once at least; the time of the fastest run in seconds."""
    started, fastest = time.perf_counter(), float("inf")
    while True:
        begun = time.perf_counter()
        run()
        ended = time.perf_counter()
        fastest = min(fastest, ended - begun)
        if ended - started >= seconds:
            return fastest


def turn_length(run_s: float) -> int:
    """Runs in one turn."""
    return max(1, round(SHORTEST_TURN_S / max(run_s, 1e-7)))


def _round(runs: Sequence[Run], turns: Sequence[int], order: Sequence[int]) -> list[float]:
    times = [0.0] * len(runs)
    for slot in order:
        run, turn = runs[slot], turns[slot]
        started = time.perf_counter_ns()
        for _ in range(turn):
            run()
        times[slot] = (time.perf_counter_ns() - started) / turn / 1e6
    return times


def precise(samples: np.ndarray, precision: float) -> bool:
    """Is the 95 % interval of each median ratio to the first model (of a lone model's median) narrower than this?"""
    ratios = np.log(samples[:, :1] / samples[:, 1:]) if samples.shape[1] > 1 else np.log(samples)
    widths = [interval.high - interval.low for interval in map(median_interval, ratios.T)]
    return all(width < precision for width in widths)
