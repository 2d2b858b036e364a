"""How a training goes: how many rows a step reads, how many steps there are, and how fast they are.

What is not asked for is found out, by a few steps that are forgotten afterwards.
"""

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

from engine.recover.course import LOOKED_AT, LOOKING, POINTS, Course
from engine.recover.examiner import Examiner
from engine.recover.rate import SEARCHED_STEPS, USUAL_RATE, find_rate
from engine.recover.student import Student

USUAL_ROWS = 64  #: of one step
FEWEST_ROWS, MOST_ROWS = 16, 128
WANTED_STEPS = 600  #: with fewer, a step reads fewer rows
MOST_STEPS, MOST_PASSES = 50_000, 200
WORTH_A_SEARCH = 10 * SEARCHED_STEPS  #: steps; for fewer, the search for a rate would cost too many of them
TIMED_STEPS, TIMED_SHARE = 12, 0.02  #: at most, and of the time
SPENT = 0.95  #: of the time, by steps and looks


@dataclass(frozen=True)
class Options:
    """What is asked of a recovery; None is found out."""

    steps: int | None = None
    seconds: float = math.inf  #: that all of it may take
    minutes: float | None = None  #: that it was meant for; part of what tells one training from another
    rows: int | None = None  #: of one step
    rate: float | None = None
    temperature: float = 2.0
    labels: bool = False  #: learn from labels as well, where the samples have them
    features: bool = False  #: learn to compute inner tensors as the teacher does, too
    seed: int = 0
    device: str = "cpu"  #: or cuda, where torch finds one; not tested on a GPU
    threads: int = 1


def course_for(
    learner: Student, examiner: Examiner, options: Options, deadline: float, pause: Callable[[], None]
) -> Course:
    """Within the time; the learner is as before afterwards."""
    steps, rows = options.steps, min(options.rows or USUAL_ROWS, examiner.lessons.taught)
    if steps is None:
        steps, rows = _length(learner, examiner, rows, options, deadline)
    searching = SEARCHED_STEPS if options.rate is None and steps >= WORTH_A_SEARCH else 0
    rate = find_rate(learner, examiner, rows, pause) if searching else options.rate or USUAL_RATE
    return Course(steps - searching if options.steps is None else steps, rows, rate)


def _length(learner: Student, examiner: Examiner, rows: int, options: Options, deadline: float) -> tuple[int, int]:
    """How many steps the time allows, and of how many rows."""
    taught = examiner.lessons.taught
    left = max(deadline - time.monotonic(), 0.0)
    of_a_row = _seconds_of_a_row(learner, examiner, rows, TIMED_SHARE * left)
    affordable = rows_in(left, of_a_row, len(examiner.lessons.held_out))
    if options.rows is None:
        rows = min(max(_power_of_two(affordable / WANTED_STEPS), FEWEST_ROWS), MOST_ROWS, taught)
    steps = min(affordable / rows, MOST_STEPS, max(MOST_PASSES * taught / rows, WANTED_STEPS))
    return max(int(steps), 1), rows


def rows_in(seconds: float, of_a_row: float, held_out: int) -> float:
    """How many rows can be learned from in so many seconds, with all looks at those that are held out."""
    rows = seconds * SPENT / of_a_row
    return max(rows - POINTS * held_out * LOOKED_AT, rows / (1 + LOOKING))


def _power_of_two(number: float) -> int:
    """The largest one that is not above the number."""
    return 1 << max(int(min(number, MOST_ROWS)), 1).bit_length() - 1


def _seconds_of_a_row(learner: Student, examiner: Examiner, rows: int, most_seconds: float) -> float:
    """Of one step that learns from so many, without learning anything; a step that is disturbed does not count."""
    times: list[float] = []
    for step in range(TIMED_STEPS):
        began = time.monotonic()
        examiner.lesson(learner, examiner.lessons.positions(step, rows))
        times.append(time.monotonic() - began)
        if step and sum(times) > most_seconds:
            break
    return statistics.median(times[1:]) / rows  # the first one is slower
