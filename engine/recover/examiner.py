"""How far the student is from what it should say: the loss of a lesson, and the mean over what was held out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from engine.recover.labels import LabelTarget, label_loss
from engine.recover.lessons import Lessons, tensors
from engine.recover.student import Student
from engine.recover.targets import Target, distance
from engine.recover.teacher import Teacher


@dataclass(frozen=True)
class Examiner:
    lessons: Lessons
    teacher: Teacher | None
    targets: Sequence[Target]  #: of the teacher's outputs and features
    labels: LabelTarget | None
    temperature: float
    rows_at_once: int  #: in one run of the graph, as memory allows

    def lesson(self, student: Student, positions: np.ndarray) -> float:
        """Leave the gradients of these rows with the student, and tell the loss."""
        total = 0.0
        student.forget_gradients()
        for run in self.lessons.in_runs(positions, self.rows_at_once):
            loss = self._loss(student, run) * (len(run) / len(positions))
            loss.backward()
            total += loss.item()
        return total

    @torch.no_grad()
    def held_out(self, student: Student, positions: np.ndarray, pause: Callable[[], None]) -> float:
        """Mean loss over rows that are never learned from."""
        total = 0.0
        for run in self.lessons.in_runs(positions, self.rows_at_once):
            pause()
            total += self._loss(student, run).item() * len(run)
        return total / len(positions)

    def _loss(self, student: Student, positions: np.ndarray) -> Tensor:
        feeds = self.lessons.feeds(positions)
        said = student.outputs(tensors(feeds))
        parts: list[Tensor] = []
        if self.teacher is not None:
            answers = self.teacher.answers(positions, feeds)
            parts += [
                one.weight * distance(one, said[one.name], answers[one.name], self.temperature) for one in self.targets
            ]
        if self.labels is not None:
            parts.append(label_loss(self.labels, said[self.labels.output], self.lessons.labels(positions)))
        return torch.stack(parts).sum()
