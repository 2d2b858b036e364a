"""What a teacher is worth: a half-width student learns from the original, from labels, or from both.

The student is the residual network for Fashion-MNIST with half of its channels, its weights drawn anew. All three learn
from the same 20,000 training images in the same number of steps of the same size, from the same weights. The teacher's
answers are written down once, so a step costs all three the same time. Top-1 on the 10,000 test images; intervals are
of the difference on the same images (paired bootstrap, 95 %).
STROP_BENCH_STEPS is the number of steps (400).
"""

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from benchmarks.table import Row
from engine.data import Samples, open_samples
from engine.graph import load, save
from engine.measure import accuracy
from engine.recipe import Metric, PruneChannels, Target
from engine.recover import Classroom, Options, Recovered, recover
from engine.signature import Signature
from engine.steps import StepContext, prune_channels
from examples.fashion import data as fashion

TEACHER = Path(__file__).parent.parent / "examples" / "fashion" / "residual.onnx"
LEARNED, RATIO, ROWS, RATE = 20_000, 0.5, 64, 3e-3
TARGET = Target(threads=1, batch_size=1)
WAYS = {"labels alone": (False, True), "the teacher, no labels": (True, False), "both": (True, True)}


def run() -> list[Row]:
    with tempfile.TemporaryDirectory() as name:
        return _Bench(Path(name)).rows()


@dataclass
class _Bench:
    folder: Path

    def __post_init__(self) -> None:
        self.learned = self._samples("train", LEARNED)
        self.judged = self._samples("test", None)
        self.reference = self._outputs(TEACHER, "teacher")

    def _samples(self, part: str, count: int | None) -> Samples:
        images, labels = fashion.load("train" if part == "train" else "test")
        np.savez(self.folder / f"{part}.npz", image=images[:count], labels=labels[:count])
        return open_samples(self.folder / f"{part}.npz", Signature.of(load(TEACHER)), None, self.folder / part)

    def _outputs(self, model: Path, name: str) -> accuracy.Outputs:
        return accuracy.run_outputs(model, self.judged, TARGET, self.folder / f"outputs-{name}")

    def student(self) -> Path:
        """The teacher with half of its channels, before it had learned anything."""
        folder = self.folder / "narrower"
        folder.mkdir()
        outcome = prune_channels.run(
            PruneChannels(ratio=RATIO), TEACHER, StepContext(self.learned, folder, TARGET, 0, cores=1)
        )
        assert isinstance(outcome, list), outcome
        return drawn_anew(outcome[0].path, folder / "anew.onnx")

    def rows(self) -> list[Row]:
        student = self.student()
        taught = {way: self._taught(student, way, *who) for way, who in WAYS.items()}
        return [
            {
                "taught by": way,
                "top-1": f"{100 * self._top1(outputs):.2f} %",
                "below the teacher": self._below(outputs, self.reference),
                "above labels alone": self._below(taught["labels alone"], outputs) if way != "labels alone" else "",
            }
            for way, outputs in taught.items()
        ]

    def _taught(self, student: Path, name: str, by_teacher: bool, by_labels: bool) -> accuracy.Outputs:  # noqa: FBT001
        options = Options(steps=int(os.environ.get("STROP_BENCH_STEPS", "400")), rows=ROWS, rate=RATE, labels=by_labels)
        folder = self.folder / name
        outcome = recover(student, TEACHER if by_teacher else None, self.learned, options, Classroom(folder))
        assert isinstance(outcome, Recovered), outcome
        return self._outputs(outcome.path, name)

    def _top1(self, outputs: accuracy.Outputs) -> float:
        assert self.judged.labels is not None
        return float(np.mean(outputs.first.argmax(1) == self.judged.labels))

    def _below(self, lower: accuracy.Outputs, higher: accuracy.Outputs) -> str:
        """By how many points of top-1, and the interval of that."""
        drop = accuracy.compare(higher, lower, self.judged.labels, Metric.TOP1, limit=None, seed=0).drop
        assert drop is not None
        return f"{100 * drop.value:.2f} ({100 * drop.low:.2f} to {100 * drop.high:.2f})"


def drawn_anew(model: Path, to: Path) -> Path:
    """The same graph before it had learned anything: weights by He et al. 2015, biases zero."""
    graph, random = load(model), np.random.default_rng(0)
    for weight in graph.graph.initializer:
        if weight.data_type == onnx.TensorProto.FLOAT:
            spread = np.sqrt(2 / np.prod(weight.dims[1:])) if len(weight.dims) > 1 else 0.0
            values = (spread * random.standard_normal(tuple(weight.dims))).astype(np.float32)
            weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    return save(graph, to)
