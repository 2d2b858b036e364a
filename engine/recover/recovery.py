"""A graph learns from a teacher graph, from labels, or from both: the whole of it, from files to a file.

prepare    what is to be learned, who is asked, which rows are held out
plan       how many rows a step reads, how many steps the time allows, how fast to learn (`plan`)
train      the loop, or the rest of one that another process began (`training`)
write      the best weights into the same graph
"""

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import onnx
import psutil
import torch

from engine import words
from engine.beside import weights_bytes
from engine.data import Samples
from engine.digest import sha256
from engine.footprint import activation_sizes
from engine.graph import load, save
from engine.recover.course import Course
from engine.recover.examiner import Examiner
from engine.recover.features import features, showing
from engine.recover.labels import LabelTarget, label_target
from engine.recover.lessons import Lessons
from engine.recover.plan import MOST_ROWS, Options, course_for
from engine.recover.snapshot import Snapshot, read_snapshot, snapshot_at, write_snapshot
from engine.recover.student import Student
from engine.recover.targets import Target, target_of
from engine.recover.teacher import (
    MOST_KEPT_BYTES,
    MOST_KEPT_OUTPUTS,
    MOST_WRITTEN_BYTES,
    ROWS_AT_ONCE,
    LiveTeacher,
    Teacher,
    bytes_of_answers,
    write_answers,
)
from engine.recover.training import Training
from engine.runtime import ERRORS
from engine.signature import Signature
from engine.surroundings import Tell, never_pause, tell_nobody

MOST_ACTIVATION_BYTES = 1 << 30  #: that one run of the graph may keep for its gradients
KEPT_FOR_GRADIENTS = 2  #: times the activations of one run
COPIES_OF_WEIGHTS = 6  #: the file, the weights, their gradients, two moments, the best ones
NOTHING_TO_LEARN = 1e-7  #: a loss that comes of rounding
FEW_ROWS = 64
TEACHER, LABELS = "the original", "labels"
SNAPSHOT_FORMAT = 2
NOT_TOLD_APART = "seconds", "threads", "device"  #: options with which a training can be gone on with


@dataclass(frozen=True)
class Classroom:
    """Where a recovery works, and whom it tells."""

    folder: Path
    kept: Path | None = None  #: a folder that another attempt finds again
    pause: Callable[[], None] = never_pause
    tell: Tell = tell_nobody


@dataclass(frozen=True)
class Recovered:
    path: Path
    course: Course
    taught: int  #: rows learned from
    held_out: int
    taught_by: tuple[str, ...]


def recover(
    student: Path, teacher: Path | None, samples: Samples, options: Options, here: Classroom
) -> Recovered | str:
    """The student with better weights, or why it has none. Raises UnsupportedOperator where it cannot be trained."""
    torch.set_num_threads(options.threads)
    torch.set_deterministic_debug_mode("warn")
    torch.manual_seed(options.seed)
    return _Recovery(student, teacher, Lessons(samples, options.seed), options, here).outcome()


@dataclass
class _Recovery:
    student: Path
    teacher: Path | None
    lessons: Lessons
    options: Options
    here: Classroom
    model: onnx.ModelProto = field(init=False)
    deadline: float = field(init=False)  #: by time.monotonic
    most_rows: int = ROWS_AT_ONCE  #: that the graphs take in one run

    def __post_init__(self) -> None:
        self.deadline = time.monotonic() + self.options.seconds
        self.model = load(self.student)

    def outcome(self) -> Recovered | str:
        needed, free = _least_bytes(self.model), psutil.virtual_memory().available
        if needed > free:
            return f"to train it takes {words.size(needed)} of memory at least, and {words.size(free)} are free"
        inner = self._inner()
        device = self.options.device if torch.cuda.is_available() else "cpu"
        learner = Student(self.model, [one.name for one in inner], device=device)
        if not learner.weights:
            return "it has no weights that could learn"
        examiner = self._examiner(inner)
        if isinstance(examiner, str):
            return examiner
        if examiner.labels is None and self._is_there(learner, examiner):
            return "it says what the original says already"
        training = self._training(learner, examiner)
        for note in self._notes(learner, examiner, inner):
            training.course.note(note)
        training.run()
        if training.course.best_step == 0:
            return f"none of {training.course.step:,} training steps brought it nearer on samples that it did not see"
        path = save(learner.graph.written_back(), self.here.folder / "recovered.onnx")
        teachers = (TEACHER, examiner.teacher), (LABELS, examiner.labels)
        by = tuple(name for name, one in teachers if one is not None)
        return Recovered(path, training.course, self.lessons.taught, len(self.lessons.held_out), by)

    def _notes(self, learner: Student, examiner: Examiner, inner: Sequence[Target]) -> Iterator[str]:
        """What went otherwise than asked, before anything was learned."""
        if self.options.labels and examiner.labels is None:
            yield "No labels answer any of its outputs: it learned from the original alone."
        if self.options.features and not inner:
            yield "No inner tensors were compared, since the two have none in common."
        if learner.left_out:
            yield learner.left_out

    def _is_there(self, learner: Student, examiner: Examiner) -> bool:
        few = self.lessons.some_held_out(FEW_ROWS)
        return examiner.held_out(learner, few, self.here.pause) < NOTHING_TO_LEARN

    # ── what is to be learned, and from whom ─────────────────────────────────────────────────────────────────────────

    def _inner(self) -> list[Target]:
        if self.teacher is None or not self.options.features:
            return []
        few = self.lessons.feeds(self._first_rows())
        return features(self.student, self.teacher, few, self.here.folder, self.options.threads)

    def _first_rows(self) -> np.ndarray:
        """Positions of what one run of the teacher reads."""
        return next(self.lessons.in_runs(np.arange(len(self.lessons.samples)), self.most_rows))

    def _examples(self, shown: LiveTeacher) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """What the teacher says of the first rows. A graph may say that it takes any number, and take one at a time."""
        try:
            first = self._first_rows()
            return first, shown.arrays(self.lessons.feeds(first))
        except ERRORS:
            if self.most_rows == 1:
                raise
        self.most_rows = 1
        return self._examples(shown)

    def _examiner(self, inner: Sequence[Target]) -> Examiner | str:
        names = [tensor.name for tensor in Signature.of(self.model).outputs]
        shown = LiveTeacher.open(self.teacher or self.student, names, self.options.threads)
        first, examples = self._examples(shown)
        labels = self._labels(examples, first) if self.options.labels else None
        if self.teacher is None and labels is None:
            return "there are no labels that answer any of its outputs"
        looks = (target_of(name, values) for name, values in examples.items())
        targets = [target for target in looks if target is not None] if self.teacher else []
        if not targets and labels is None:
            return "none of its outputs is a float that another graph could learn to give"
        asked = self._teacher(shown, [target.name for target in targets], examples, inner) if targets else None
        return Examiner(
            self.lessons,
            asked,
            [*targets, *inner],
            labels,
            self.options.temperature,
            min(_rows_at_once(self.model), self.most_rows if self.most_rows == 1 else MOST_ROWS),
        )

    def _labels(self, examples: Mapping[str, np.ndarray], positions: np.ndarray) -> LabelTarget | None:
        """The first output that labels answer."""
        labels = self.lessons.samples.labels
        if labels is None:
            return None
        found = (label_target(name, values, labels[positions]) for name, values in examples.items())
        return next((one for one in found if one is not None), None)

    def _teacher(
        self, shown: LiveTeacher, names: Sequence[str], examples: Mapping[str, np.ndarray], inner: Sequence[Target]
    ) -> Teacher:
        """Its answers are written down where they fit; inner tensors of all samples would not."""
        if inner and self.teacher:
            within = [target.name for target in inner]
            path = showing(self.teacher, within, self.here.folder)
            return LiveTeacher.open(path, [*names, *within], self.options.threads)
        asked, samples = replace(shown, names=names), self.lessons.samples
        rows = samples.run_rows(min(self.most_rows, len(samples)))
        size = bytes_of_answers({name: examples[name] for name in names}, rows, len(samples))
        if size is None or size > MOST_WRITTEN_BYTES:
            return asked
        is_small = size <= MOST_KEPT_BYTES and len(names) <= MOST_KEPT_OUTPUTS
        folder = self.here.kept if self.here.kept and is_small else self.here.folder / "answers"
        return write_answers(
            asked, self.lessons, folder, self._key_of_answers(names), self.here.pause, rows_at_once=self.most_rows
        )

    def _key_of_answers(self, names: Sequence[str]) -> str:
        """The same for all trainings with this teacher and these samples."""
        digest = hashlib.sha256("\n".join([sha256(self.teacher or self.student), *names]).encode())
        digest.update(np.ascontiguousarray(self.lessons.samples.rows).tobytes())
        return digest.hexdigest()[:16]

    # ── from the beginning, or from where another process was killed ─────────────────────────────────────────────────

    def _training(self, learner: Student, examiner: Examiner) -> Training:
        key = self._key()
        path = self.here.kept and snapshot_at(self.here.kept, key)
        before = read_snapshot(path, key) if path else None
        course = (
            before.course if before else course_for(learner, examiner, self.options, self.deadline, self.here.pause)
        )

        def keep(snapshot: Snapshot) -> None:
            if path:
                write_snapshot(snapshot, key, path)

        training = Training(
            learner, examiner, course, self.deadline, pause=self.here.pause, tell=self.here.tell, keep=keep
        )
        if before:
            training.go_on_from(before)
        return training

    def _key(self) -> str:
        """Which training it is: the same files, samples and options."""
        asked = {name: value for name, value in asdict(self.options).items() if name not in NOT_TOLD_APART}
        files = [sha256(self.student), sha256(self.teacher) if self.teacher else ""]
        digest = hashlib.sha256("\n".join([*files, str(asked), str(SNAPSHOT_FORMAT)]).encode())
        digest.update(np.ascontiguousarray(self.lessons.samples.rows).tobytes())
        return digest.hexdigest()


def _rows_at_once(model: onnx.ModelProto) -> int:
    """Rows of one run, so that what its gradients need fits into memory."""
    return min(max(MOST_ACTIVATION_BYTES // max(_row_bytes(model), 1), 1), MOST_ROWS)


def _row_bytes(model: onnx.ModelProto) -> int:
    return KEPT_FOR_GRADIENTS * sum(activation_sizes(model, 1).values())


def _least_bytes(model: onnx.ModelProto) -> int:
    """Weights in all their copies, and what one row takes."""
    return COPIES_OF_WEIGHTS * weights_bytes(model) + _row_bytes(model)
