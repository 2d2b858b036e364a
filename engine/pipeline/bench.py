"""The bench: the original on one side, a candidate on the other, and every figure that weighs one against the other.

A figure taken here is quick, since many candidates are weighed; the final one is `engine.pipeline.final`'s. Nothing
that a step claims is believed: the file must keep its interface, load in ONNX Runtime and run on every sample.
"""

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from engine import beside
from engine.data import Feeds, Samples
from engine.errors import ModelRejected, StepFailed
from engine.graph import load_structure
from engine.interface import difference
from engine.measure import accuracy, latency, memory
from engine.measure.accuracy import AccuracyComparison, Outputs
from engine.measure.complexity import count
from engine.measure.latency import LatencyComparison
from engine.measure.lock import HostLock
from engine.measure.probe.spec import Sums
from engine.pipeline.material import some
from engine.recipe import Recipe
from engine.report import Accuracy, Comparison, Figures, Interval
from engine.signature import Signature
from engine.steps.base import cpu_saturates

QUICK_ROUNDS = 40  #: enough to choose by, unless they take too long
QUICK_SECONDS = (0.4, 6.0)  #: least and most time in which all candidates of a step are timed
PASS_SHARE, PASS_SECONDS = 1 / 40, (2.0, 20.0)  #: what one pass over the evaluation samples may take of the budget
FEWEST_EVALUATED = 100
UPLOADED_FAILED = "Check that the model runs in ONNX Runtime on these samples and at this batch size."
MADE_UP_FAILED = (
    "No data was uploaded, and the model does not take what was made up for its inputs: upload real samples of them."
)


@dataclass
class Bench:
    original: Path
    recipe: Recipe
    signature: Signature
    samples: Samples  #: to weigh by; never learned from
    folder: Path
    lock: HostLock
    unseen: Samples | None = None  #: to judge by in the end; None where the same do both
    saturates: bool = field(default_factory=cpu_saturates)  #: whether this CPU's sums of 8-bit products do
    feeds: Feeds = field(init=False)
    baseline: Figures = field(init=False)  #: of the original, as far as they are known
    noise_floor: Interval | None = field(default=None, init=False)
    reference: Outputs = field(init=False)
    run_ms: float = field(default=0, init=False)  #: one run of the original, roughly
    start_seconds: float = field(default=1.0, init=False)  #: of a fresh process, with its imports
    pass_seconds: float = field(default=0, init=False)  #: one pass over all samples
    warnings: list[str] = field(default_factory=list, init=False)
    doubts: list[str] = field(default_factory=list, init=False)  #: about the accuracy, while there is no candidate

    def __post_init__(self) -> None:
        self.feeds = next(self.samples.batches(self.recipe.target.batch_size))
        self.baseline = size_up(self.original, self.feeds)

    @property
    def rows(self) -> int:
        """Samples in one run."""
        return self.samples.run_rows(self.recipe.target.batch_size)

    # ── the original ─────────────────────────────────────────────────────────────────────────────────────────────────

    def weigh_original(self, budget_seconds: float) -> None:
        """Its first run: raises ModelRejected or DataRejected, since nothing can be done for what does not run."""
        try:
            (itself,) = self.speed([self.original])
        except StepFailed as error:
            remedy = MADE_UP_FAILED if self.samples.synthetic else UPLOADED_FAILED
            raise ModelRejected("model_does_not_run", error.detail, remedy) from error
        self.run_ms, self.noise_floor = itself.baseline.median_ms, itself.speedup
        self._judge_by_what_is_affordable(budget_seconds)
        started = time.monotonic()
        measured: dict[str, object] = {"latency": itself.baseline, "accuracy": self._look_at_the_original("reference")}
        self.pass_seconds = time.monotonic() - started
        started = time.monotonic()
        measured["peak_memory_bytes"] = self.memory(self.original)
        self.start_seconds = time.monotonic() - started
        self.baseline = self.baseline.model_copy(update=measured)

    def judge_by_unseen(self, budget_seconds: float) -> None:
        """From now on, by samples that had no part in any choice."""
        assert self.unseen is not None, "there are such samples"
        self.samples, self.unseen = self.unseen, None
        self._judge_by_what_is_affordable(budget_seconds)
        self.baseline = self.baseline.model_copy(update={"accuracy": self._look_at_the_original("judged")})

    def _look_at_the_original(self, folder: str) -> Accuracy:
        self.reference = accuracy.run_outputs(
            self.original, self.samples, self.recipe.target, self.folder / folder, lock=self.lock
        )
        quality = self._compared(self.reference)
        self.doubts = quality.warnings
        return quality.candidate

    def _judge_by_what_is_affordable(self, budget_seconds: float) -> None:
        """As many samples as the budget can run for every candidate."""
        runs = _pass_seconds(budget_seconds) * 1000 / max(self.run_ms, 1e-6)
        uploaded = len(self.samples)
        self.samples = some(self.samples, max(int(runs * self.rows), FEWEST_EVALUATED), self.recipe.seed)
        if len(self.samples) < uploaded:
            self.warnings.append(
                f"{len(self.samples)} of {uploaded} evaluation samples were used, drawn by the seed: more would not "
                "fit into the budget."
            )

    # ── a candidate ──────────────────────────────────────────────────────────────────────────────────────────────────

    def quality(self, path: Path) -> AccuracyComparison:
        """How right the file is. Raises an EngineError where it does not load, run or keep its interface."""
        check_interface(self.signature, Signature.of(load_structure(path)))
        folder, target = self.folder / "outputs", self.recipe.target
        try:
            return self._compared(accuracy.run_outputs(path, self.samples, target, folder, lock=self.lock))
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def emulated(self, path: Path, comparison: Comparison) -> Comparison:
        """With how right the file is on the other class of x86 CPU, as far as that can be found out in the time.

        Raises an EngineError where it cannot be emulated.
        """
        look = accuracy.look_at_sums(path, self.feeds, self.recipe.target, lock=self.lock)
        if not look.is_complete:
            return comparison
        if not look.at_risk:
            same = {"emulated_drop": comparison.accuracy_drop, "emulated_sqnr_db": comparison.sqnr_db}
            return comparison.model_copy(update=same | {"emulated_samples": 0})
        runs = max(int(_pass_seconds(60 * self.recipe.budget.minutes) / look.run_seconds), 1)
        samples = some(self.samples, runs * self.rows, self.recipe.seed)
        quality = self._emulated_quality(path, samples)
        update = {"emulated_drop": quality.drop, "emulated_sqnr_db": quality.sqnr_db}
        return comparison.model_copy(update=update | {"emulated_samples": len(samples)})

    def _emulated_quality(self, path: Path, samples: Samples) -> AccuracyComparison:
        recipe, folder = self.recipe, self.folder / "emulated"
        sums = Sums.EXACT if self.saturates else Sums.SATURATING
        try:
            reference = accuracy.run_outputs(self.original, samples, recipe.target, folder / "original", lock=self.lock)
            outputs = accuracy.run_outputs(path, samples, recipe.target, folder / "file", lock=self.lock, emulated=sums)
            return accuracy.compare(reference, outputs, samples.labels, recipe.metric, limit=None, seed=recipe.seed)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _compared(self, outputs: Outputs) -> AccuracyComparison:
        recipe, labels = self.recipe, self.samples.labels
        limit = recipe.limits.accuracy_drop
        return accuracy.compare(self.reference, outputs, labels, recipe.metric, limit=limit, seed=recipe.seed)

    def memory(self, path: Path) -> int:
        """Peak resident set of a process that serves this file."""
        return memory.peak_bytes(path, self.feeds, self.recipe.target, lock=self.lock)

    def speed(self, paths: Sequence[Path]) -> list[LatencyComparison]:
        """All files in turns with the original, in one process: enough to choose by, not to promise."""
        least, most = QUICK_SECONDS
        wanted = QUICK_ROUNDS * (len(paths) + 1) * self.run_ms / 1000
        with self.lock.measuring():
            return latency.compare(
                self.original,
                paths,
                self.feeds,
                self.recipe.target,
                processes=1,
                seconds=min(max(wanted, least), most),
                seed=self.recipe.seed,
                rows=self.rows,
            )


def _pass_seconds(budget_seconds: float) -> float:
    """What one pass over samples may take."""
    least, most = PASS_SECONDS
    return min(max(budget_seconds * PASS_SHARE, least), most)


def size_up(path: Path, feeds: Feeds) -> Figures:
    """What is known of a file without running it; the cost of one run on these inputs."""
    complexity = count(load_structure(path), sizes={name: array.shape for name, array in feeds.items()})
    return Figures(
        size_bytes=beside.size_bytes(path),
        parameters=complexity.parameters,
        macs=complexity.macs,
        bytes_moved=complexity.bytes_moved,
    )


def check_interface(before: Signature, after: Signature) -> None:
    """Raises StepFailed where the file could not stand in for the original."""
    if what := difference(before, after):
        detail = f"The file cannot stand in for the original: {what}."
        raise StepFailed("interface_changed", detail, "This file is left out; nothing needs to be done.")
