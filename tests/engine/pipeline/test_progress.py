"""Budget and progress, with a clock that the test turns."""

import threading

from engine.pipeline.clock import Clock
from engine.pipeline.progress import Gauge
from engine.protocol import Progress


class Hands:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def test_what_the_end_needs_is_not_spent_on_trials() -> None:
    hands = Hands()
    clock = Clock(60, now=hands, reserve_seconds=20)
    hands.seconds = 30
    assert clock.left_seconds == 10
    assert clock.allows(9) and not clock.allows(11)


def test_progress_never_goes_backwards_and_is_not_done_before_the_end() -> None:
    hands = Hands()
    told: list[Progress] = []
    gauge = Gauge(Clock(1000, now=hands), told.append)
    for at, more in ((1, 10), (5, 50), (6, 1), (20, 0)):
        hands.seconds = at
        gauge.expect(more)
    fractions = [event.fraction for event in told]
    assert fractions == sorted(fractions) and fractions[-1] < 1


def test_the_time_still_needed_follows_what_is_to_come() -> None:
    hands = Hands()
    told: list[Progress] = []
    gauge = Gauge(Clock(1000, now=hands), told.append)
    gauge.expect(40)
    hands.seconds = 30
    gauge.move()
    assert told[-1].eta_seconds == 10


def test_the_time_still_needed_is_never_more_than_the_budget_leaves() -> None:
    hands = Hands()
    told: list[Progress] = []
    gauge = Gauge(Clock(60, now=hands), told.append)
    hands.seconds = 45
    gauge.expect(100)
    assert told[-1].eta_seconds == 15


def test_a_long_stage_moves_on_by_itself() -> None:
    told: list[Progress] = []
    twice = threading.Event()

    def tell(event: Progress) -> None:
        told.append(event)
        if len(told) == 2:
            twice.set()

    gauge = Gauge(Clock(1000), tell)
    with gauge.beating(every_seconds=0.01):
        assert twice.wait(30)
    count = len(told)
    assert not any(thread.name == "progress" for thread in threading.enumerate())
    assert len(told) == count, "nothing is told after the work has ended"
