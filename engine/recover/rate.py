"""How fast to learn: a few steps at each of some rates from the same weights, and the fastest one that helps is taken.

A rate that is best after a few steps is slower than the one that is best after many, so of those that do nearly as well
the largest wins.
"""

from collections.abc import Callable

from engine.recover.course import Course
from engine.recover.examiner import Examiner
from engine.recover.student import Student

RATES = (1e-4, 3e-4, 1e-3, 3e-3)
USUAL_RATE = 1e-3  #: where there is no time to search
TRIED_STEPS = 16
SEARCHED_STEPS = TRIED_STEPS * len(RATES)
TRIED_ROWS = 256  #: of what is held out
NEARLY = 1.1  #: times the best loss


def find_rate(student: Student, examiner: Examiner, rows: int, pause: Callable[[], None]) -> float:
    """The student is as before afterwards."""
    before = student.values()
    held_out = examiner.lessons.some_held_out(TRIED_ROWS)
    losses = {}
    for rate in RATES:
        course = Course(TRIED_STEPS, rows, rate)
        for course.step in range(TRIED_STEPS):
            pause()
            examiner.lesson(student, examiner.lessons.positions(course.step, rows))
            student.move(course.rate_now())
        losses[rate] = examiner.held_out(student, held_out, pause)
        student.take(before)
        student.optimizer.forget()
    best = min(losses.values())
    return max((rate for rate, loss in losses.items() if loss <= best * NEARLY), default=RATES[0])
