"""The one training loop: step after step along the gradients, with an eye on rows that are never learned from.

The best weights by those rows are kept, not the last ones. A loss that is no number sends the training back to them, at
half the rate. Every so often all is written down, so that another process can go on where this one was killed.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from engine.recover.adam import State
from engine.recover.course import Course, Point
from engine.recover.examiner import Examiner
from engine.recover.snapshot import Snapshot
from engine.recover.student import Student
from engine.surroundings import Tell, never_pause, tell_nobody

MOST_RESTARTS = 5
SNAPSHOT_SECONDS, SNAPSHOT_SHARE = 1.0, 0.02  #: between two snapshots at least, and what they may cost of the time
TELL_SECONDS, MOST_TOLD = 3.0, 100  #: between two words at least, and words in all
SETTLING, JUDGED_SECONDS = 2, 1.0  #: steps that tell nothing of how long one takes, and time of those that do
LATE = 1.1  #: times the steps that there is time for: then the course is cut down, or grows again
CUT_DOWN = (
    "It was cut down from {planned:,} to {steps:,} steps when time ran short. A training that is asked for {steps:,} "
    "steps slows down sooner: it is as long, and gives other weights."
)


@dataclass
class Training:
    student: Student
    examiner: Examiner
    course: Course
    deadline: float  #: by time.monotonic
    best: State = field(default_factory=dict)
    pause: Callable[[], None] = never_pause
    tell: Tell = tell_nobody
    keep: Callable[[Snapshot], None] | None = None
    _losses: list[float] = field(default_factory=list)
    _settled: tuple[int, float] | None = None  #: the step from which on time is taken, and the seconds until there
    _begun: int = 0  #: the step at which this process began
    _tell_at: float = 0.0
    _keep_at: float = field(default_factory=lambda: time.monotonic() + SNAPSHOT_SECONDS)

    def run(self) -> None:
        """From wherever the course stands to its end; the student has the best weights then."""
        course = self.course
        self._begun, began, before = course.step, time.monotonic(), course.seconds
        if not course.points:
            self.best = self.student.values()
            self._look()
            if not course.points:
                course.notes.append("The loss was no number before anything was learned.")
                return
        while course.step < course.steps and not self._must_stop():
            self.pause()
            self._step()
            course.seconds = before + time.monotonic() - began
            self._keep_time()
            self._report()
        if course.points[-1].step < course.step:
            self._look()
        if course.planned is not None and course.steps < course.planned:
            course.notes.append(CUT_DOWN.format(planned=course.planned, steps=course.steps))
        self.student.take(self.best)

    def _step(self) -> None:
        course = self.course
        positions = self.examiner.lessons.positions(course.step, course.rows)
        loss = self.examiner.lesson(self.student, positions)
        if not (math.isfinite(loss) and self.student.move(course.rate_now())):
            self._restart()
            return
        course.step += 1
        self._losses.append(loss)
        if course.step % course.looks_every == 0 or course.step == course.steps:
            self._look()

    def _look(self) -> None:
        """How the student does on what it never learned from; its weights are kept where it does best."""
        course = self.course
        positions = self.examiner.lessons.some_held_out(course.looked_at)
        held_out = self.examiner.held_out(self.student, positions, self.pause)
        if not math.isfinite(held_out):
            self._restart()
            return
        if held_out < course.best:
            self.best, course.best_step = self.student.values(), course.step
        mean = float(np.mean(self._losses)) if self._losses else None
        course.points.append(Point(course.step, mean, held_out))
        self._losses = []

    def _restart(self) -> None:
        """Back to the best weights, at half the rate."""
        course = self.course
        course.restarts += 1
        self.student.take(self.best)
        self.student.optimizer.forget()
        course.notes.append(f"At step {course.step} the loss was no number; it went back to the best weights.")
        course.step += 1

    def _must_stop(self) -> bool:
        course = self.course
        if course.restarts >= MOST_RESTARTS:
            course.notes.append(f"It was given up after {MOST_RESTARTS} losses that were no number.")
            return True
        if course.stands_still:
            course.notes.append(f"It was ended at step {course.step}: nothing better had been found for long.")
            return True
        return False

    def _keep_time(self) -> None:
        """Cut the course down where it would not end in time; where that proves too much, let it grow again.

        What a step takes is known after a while: the first ones are slow, and look at what is held out.
        """
        course = self.course
        if self._settled is None or course.step <= self._settled[0]:
            self._settled = (course.step, course.seconds) if course.step >= self._begun + SETTLING else None
            return
        (step, seconds), left = self._settled, max(self.deadline - time.monotonic(), 0.0)
        taken = course.seconds - seconds
        if math.isinf(left) or (taken < JUDGED_SECONDS and left > 0):
            return
        affordable = int(left / taken * (course.step - step))
        too_long = course.steps - course.step > LATE * affordable + 1
        too_short = course.planned is not None and course.step + affordable > LATE * course.steps
        if too_long or too_short:
            course.end_at(course.step + affordable)

    def _report(self) -> None:
        """Tell how far it is, and write it down, each every few seconds."""
        course, now = self.course, time.monotonic()
        left = course.seconds / max(course.step, 1) * (course.steps - course.step)
        if now > self._tell_at:
            self._tell_at = now + max(TELL_SECONDS, (course.seconds + left) / MOST_TOLD)
            self.tell(left, f"step {course.step:,} of {course.steps:,}, loss {self._loss}")
        if self.keep and now > self._keep_at:
            self.keep(self.snapshot())
            cost = time.monotonic() - now
            self._keep_at = now + max(SNAPSHOT_SECONDS, cost / SNAPSHOT_SHARE)

    def go_on_from(self, before: Snapshot) -> None:
        """Be where another process was when it wrote this."""
        self.student.take(before.weights)
        self.student.optimizer.remember(before.momenta)
        self.best = before.best
        self.course.notes.append(f"It was interrupted, and went on from step {self.course.step}.")

    @property
    def _loss(self) -> str:
        """The loss of late, for a reader."""
        last = self._losses or [self.course.points[-1].held_out]
        return f"{np.mean(last[-20:]):.3g}"

    def snapshot(self) -> Snapshot:
        """All that it needs to go on."""
        return Snapshot(self.course, self.student.values(), self.best, self.student.optimizer.memory())
