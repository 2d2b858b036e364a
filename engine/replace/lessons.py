"""What a part learns, alone: to give what the layers gave that it replaces, on the same inputs.

    last layer     least squares on what it reads:  W = Cov[y, x] (Cov[x, x] + λ)⁻¹,  b = E[y] - W E[x]
    all of it      Adam on |σ(part(x)) - σ(y)|², σ the activation behind the site

Inputs and outputs are activations of the model on calibration samples, so no part waits for another. Of both, what does
best on an eighth that is held out is kept. After FitNets (Romero et al. 2015) and Jaderberg et al. 2014.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor

from engine.differentiable import DifferentiableGraph
from engine.graph import attribute, copied, is_standard, weights_of
from engine.recover.course import Course
from engine.recover.student import Student
from engine.replace.parts import Array, Part
from engine.replace.seen import Seen
from engine.surroundings import never_pause

RATE, ROWS = 2e-3, 32  #: the largest rate, and samples of one step
RIDGE = 1e-4  #: λ, as a share of the mean variance
MOST_ROWS = 30_000  #: positions that a least squares looks at
HELD_OUT = 8  #: one row in so many
TRIED_STEPS, MOST_STEPS = 3, 300


@dataclass(frozen=True)
class Lesson:
    """One part and what it is to give."""

    part: Part
    seen: Seen
    constants: Mapping[str, onnx.TensorProto]  #: of the model, which the activation may read
    unit: int | None = None  #: rows of one run, where the model takes no other number of them

    def taught(self, steps: int, seed: int, pause: Callable[[], None]) -> Part:
        """The part with the weights that do best on what is held out."""
        if not self.part.model.graph.initializer or len(self.seen.inputs) < (self.unit or 1):
            return self.part
        refitted = self._refitted()
        start = min((self.part, refitted), key=lambda part: self._error(self._student(part)))
        student = self._student(start)
        best, error = student.values(), self._error(student)
        self._train(student, steps, seed, pause)
        if self._error(student) < error:
            best = student.values()
        return _with_weights(start, best)

    def seconds_of_a_step(self) -> float:
        """Without learning anything."""
        if not self.part.model.graph.initializer or len(self.seen.inputs) < (self.unit or 1):
            return 0.0
        student = self._student(self.part)
        self._train(student, 1, 0, never_pause)  # the first one is slower
        began = time.monotonic()
        self._train(student, TRIED_STEPS, 0, never_pause)
        return (time.monotonic() - began) / TRIED_STEPS

    def _student(self, part: Part) -> Student:
        model = copied(part.model)
        activation = part.site.activation
        if activation is not None:
            model.graph.node.append(activation)
            model.graph.output[0].name = part.site.activated
            model.graph.initializer.extend(self.constants[name] for name in activation.input[1:] if name)
        return Student(model)

    def _train(self, student: Student, steps: int, seed: int, pause: Callable[[], None]) -> None:
        random = np.random.default_rng(seed)
        course = Course(steps, ROWS, RATE)
        rows = self._rows(held_out=False)
        for course.step in range(steps):
            pause()
            student.forget_gradients()
            self._loss(student, random.choice(rows, min(ROWS, len(rows)), replace=False)).backward()
            if not student.move(course.rate_now()):
                return

    @torch.no_grad()
    def _error(self, student: Student) -> float:
        rows = self._rows(held_out=True)
        losses = [self._loss(student, some).item() * len(some) for some in np.array_split(rows, -(-len(rows) // ROWS))]
        error = sum(losses) / len(rows)
        return error if np.isfinite(error) else np.inf

    def _loss(self, student: Student, rows: np.ndarray) -> Tensor:
        site, rows = self.part.site, self._whole_runs(rows)
        runs = torch.from_numpy(self.seen.inputs[rows]).split(self._rows_of_a_run(len(rows)))
        said = torch.cat([student.outputs({site.input: run})[site.activated] for run in runs])
        return (said - torch.from_numpy(self.seen.activated[rows])).square().mean() / self.seen.power

    def _rows_of_a_run(self, rows: int) -> int:
        """A block may hold shapes that are written out; any other part takes any number."""
        return self.unit if self.unit and self.part.site.is_block else rows

    def _whole_runs(self, rows: np.ndarray) -> np.ndarray:
        """So many of them as make whole runs; some twice where they are fewer than one."""
        unit = self._rows_of_a_run(len(rows))
        return rows[: len(rows) // unit * unit] if len(rows) >= unit else np.resize(rows, unit)

    def _rows(self, *, held_out: bool) -> np.ndarray:
        rows = np.arange(len(self.seen.inputs))
        return rows[(rows % HELD_OUT == HELD_OUT - 1) == held_out] if len(rows) >= HELD_OUT else rows

    # ── least squares ────────────────────────────────────────────────────────────────────────────────────────────────

    def _refitted(self) -> Part:
        """With a last layer that is best for what it reads."""
        last = self.part.model.graph.node[-1]
        weights = weights_of(self.part.model)
        if not is_standard(last, "Conv", "MatMul", "Gemm") or attribute(last, "group", 1) > 1:
            return self.part
        read, channels = self._read_by(last), -1 if weights[last.input[1]].dims[2:] == [] else 1
        wanted = self.seen.outputs[self._rows(held_out=False)]
        kernel = prod(weights[last.input[1]].dims[2:])
        if kernel > 1 or read.shape[:channels] + read.shape[channels:][1:] != _without(wanted, channels):
            return self.part
        solved = _least_squares(_table(read, channels), _table(wanted, channels), centred=len(last.input) > 2)
        dims = list(weights[last.input[1]].dims)
        shaped = solved[0].reshape(dims) if channels == 1 else solved[0].T.reshape(dims)
        values = dict(zip(last.input[1:], (shaped, solved[1]), strict=False))
        return _with_weights(self.part, {name: array.astype(np.float32) for name, array in values.items()})

    @torch.no_grad()
    def _read_by(self, last: onnx.NodeProto) -> np.ndarray:
        """What the last layer reads, (rows, …)."""
        site, rows = self.part.site, self._rows(held_out=False)
        if last.input[0] == site.input:
            return self.seen.inputs[rows]
        graph = DifferentiableGraph(self.part.model, taps=[last.input[0]])
        parts = np.array_split(rows, -(-len(rows) // ROWS))
        return np.concatenate(
            [graph({site.input: torch.from_numpy(self.seen.inputs[some])})[last.input[0]].numpy() for some in parts]
        )


def _without(values: np.ndarray, axis: int) -> tuple[int, ...]:
    """The shape but for one axis."""
    return tuple(np.delete(values.shape, axis).tolist())


def _table(values: np.ndarray, channels: int) -> Array:
    """(positions, channels), evenly spaced positions where there are many."""
    rows = np.moveaxis(values, channels, -1).reshape(-1, values.shape[channels])
    return rows[:: max(len(rows) // MOST_ROWS, 1) | 1].astype(np.float64)


def _least_squares(read: Array, wanted: Array, *, centred: bool) -> tuple[Array, Array]:
    """W of (outputs, inputs) and b of (outputs,), so that W read + b is nearest to what is wanted."""
    mean, goal = (read.mean(0), wanted.mean(0)) if centred else (0 * read[0], 0 * wanted[0])
    read, wanted = read - mean, wanted - goal
    spread = read.T @ read
    ridge = RIDGE * np.trace(spread) / len(spread) + np.finfo(np.float32).tiny
    weight = np.linalg.solve(spread + ridge * np.eye(len(spread)), read.T @ wanted).T
    return weight, goal - weight @ mean


def _with_weights(part: Part, values: Mapping[str, np.ndarray]) -> Part:
    model = copied(part.model, without=values)
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in values.items())
    own = {weight.name for weight in part.model.graph.initializer}
    kept = [weight for weight in model.graph.initializer if weight.name in own]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    return replace(part, model=model)


def affordable_steps(lessons: Sequence[Lesson], seconds: float) -> int:
    """How many steps for each of them fit into the time; with none they have a last layer by least squares still."""
    each = sum(lesson.seconds_of_a_step() for lesson in lessons)
    return int(min(seconds / max(each, 1e-9), MOST_STEPS))
