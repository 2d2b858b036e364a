"""One optimization from its request to its last checkpoint.

begin      the model, the samples, the machine, the original's figures      → a first checkpoint: the original
explore    plan after plan, as the search proposes them                     → a checkpoint after every step
conclude   the final measurement, the profiles, the reasons                 → the last checkpoint
"""

from dataclasses import dataclass, field

from engine.errors import StepFailed
from engine.measure.activations import MOST_SAMPLES, activations
from engine.measure.operators import profile
from engine.pipeline.checkpoint import Checkpoints
from engine.pipeline.clock import Clock
from engine.pipeline.evidence import Evidence
from engine.pipeline.final import decide, expected_seconds
from engine.pipeline.plan import Pipeline
from engine.pipeline.progress import Gauge
from engine.pipeline.resume import Memory
from engine.pipeline.start import Start, begin
from engine.pipeline.trials import Candidate, Trials
from engine.protocol import KEPT, EngineRequest, Finished, Stage, TrialDone
from engine.recipe import Recipe, Step
from engine.report import Comparison, Interval, Trial
from engine.search import outline, plans
from engine.surroundings import Surroundings

MARGIN_SECONDS, MARGIN_SHARE = 5.0, 0.05  #: kept free before the supervisor's own clock runs out
PROFILE_SECONDS = 0.5  #: of one file, beside the start of a process
ACTIVATION_PASSES = 10  #: runs of a sample that the statistics of activations are worth, their sums included
UNCHANGED, UNLOST = Interval(value=1, low=1, high=1), Interval(value=0, low=0, high=0)


def optimize(request: EngineRequest, recipe: Recipe, here: Surroundings) -> Finished:
    """Raises an EngineError where there is nothing to start from; after that, what breaks is a row in the table."""
    seconds = request.seconds_left if request.seconds_left is not None else recipe.budget.minutes * 60
    clock = Clock(seconds - min(MARGIN_SECONDS, MARGIN_SHARE * seconds))
    with here.lock.computing():
        here.emit(Stage(stage="inspecting", detail="the model, the samples, the machine"))
        job = Job(begin(request, recipe, here.attempt, here.lock), recipe, here, clock)
        with job.gauge.beating():
            job.weigh()
            job.explore()
            job.conclude()
    return Finished()


@dataclass
class Job:
    start: Start
    recipe: Recipe
    here: Surroundings
    clock: Clock
    gauge: Gauge = field(init=False)
    trials: Trials = field(init=False)
    evidence: Evidence = field(init=False)
    pipeline: Pipeline = field(init=False)
    checkpoints: Checkpoints = field(init=False)
    memory: Memory = field(init=False)
    pending: list[Step] = field(init=False)
    told: dict[str, Trial] = field(default_factory=dict)

    def __post_init__(self) -> None:
        bench = self.start.bench
        self.gauge = Gauge(self.clock, self.here.emit)
        self.trials = Trials(self.recipe, _the_original(self.start), self._tell)
        self.evidence = Evidence(self.recipe, self.start, self.trials, self.here.sandbox)
        self.pipeline = Pipeline(
            bench,
            self.start.material.calibration,
            self.trials,
            self.clock,
            self.start.machine,
            self._stage,
            self._after_step,
            self._tell_of_step,
            self.here.work / KEPT,
            self.start.others,
        )
        self.checkpoints = Checkpoints(self.here.work / "out", self.here.emit)
        digests = self.start.digests | {"samples": self.start.material.digest}
        self.memory = Memory.of(self.here.work / KEPT, self.recipe, self.start.machine, digests)
        self.pending = outline(self.recipe, self.pipeline)

    def weigh(self) -> None:
        """Figures of the original. A budget that ends in the midst of it still leaves a report."""
        self.checkpoint()
        self._stage(Stage(stage="baseline", detail="the original, as it is"))
        bench = self.start.bench
        bench.weigh_original(self.clock.seconds)
        self.trials.original = _the_original(self.start)
        latency = bench.baseline.latency
        self.clock.reserve_seconds = expected_seconds(bench, latency.load_ms if latency else 0, self.clock.seconds)
        self.checkpoint()

    def explore(self) -> None:
        if again := self.memory.recall(self.pipeline):
            self.trials.notes.append(
                f"{again} trials of an earlier attempt or job on this model and data were not made again."
            )
            self.checkpoint()
        for plan in plans(self.recipe, self.trials, self.pipeline):
            self.pipeline.run(plan)
        self.evidence.out_of_time = self.pipeline.out_of_time

    def conclude(self) -> None:
        self.pending = []  # what was foreseen and not taken will not come
        self._expect_the_end()
        self._stage(Stage(stage="measuring", detail="the final measurement, in fresh processes"))
        self.clock.reserve_seconds = 0.0
        bench = self.start.bench
        try:
            self.evidence.final = decide(bench, self.trials, self.clock.left_seconds - self._profile_seconds)
        except StepFailed as error:
            bench.warnings.append(f"The final measurement failed, so all figures are quick ones. {error.detail}")
        self._explain()
        self._expect_the_end()
        self._stage(Stage(stage="reporting"))
        self.checkpoint()
        for row in self.trials.rows():
            if row != self.told.get(row.id):  # a later trial, or the final measurement, has changed what became of it
                self._tell(row)

    def checkpoint(self) -> None:
        """All that is known so far, with the best file so far."""
        self.checkpoints.write(self.evidence.report(self.clock.elapsed_seconds), self.trials)
        self._expect_the_end()

    def _expect_the_end(self) -> None:
        """Steps only as far as the budget lets them be taken."""
        pending = sum(self.pipeline.expected_seconds(step) for step in self.pending)
        self.gauge.expect(min(pending, max(self.clock.left_seconds, 0.0)) + self.clock.reserve_seconds)

    @property
    def _profile_seconds(self) -> float:
        return (1 + max(len(self._profiled), 1)) * (PROFILE_SECONDS + self.start.bench.start_seconds)

    @property
    def _profiled(self) -> list[Candidate]:
        """Beside the original: all models of a comparison, else the offered file."""
        if self.recipe.compare:
            return list(self.trials.candidates.values())
        return [self.trials.candidates[self.trials.chosen]] if self.trials.chosen else []

    def _explain(self) -> None:
        """Where the time goes, before and after; a profile that fails costs its section, not the job."""
        if not self.clock.allows(self._profile_seconds):
            return
        bench, machine = self.start.bench, self.start.machine
        self._look_at_activations()
        try:
            with bench.lock.measuring():
                self.evidence.profile_before = profile(bench.original, bench.feeds, self.recipe.target, machine)
                for one in self._profiled:
                    self.evidence.profiles[one.id] = profile(one.path, bench.feeds, self.recipe.target, machine)
        except StepFailed as error:
            bench.warnings.append(f"The profile could not be taken. {error.detail}")

    def _look_at_activations(self) -> None:
        """Of the original; what cannot be looked at costs its section, not the job."""
        bench, samples = self.start.bench, self.start.material.calibration
        if samples.synthetic or not self.clock.allows(ACTIVATION_PASSES * MOST_SAMPLES * bench.run_ms / 1000):
            return
        try:
            threads = self.recipe.target.threads
            self.evidence.activations = activations(bench.original, samples, self.here.work, threads, bench.lock.pause)
        except StepFailed as error:
            bench.warnings.append(f"The activations could not be looked at. {error.detail}")

    # ── telling ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _tell(self, trial: Trial) -> None:
        self.told[trial.id] = trial
        self.here.emit(TrialDone(trial=trial))

    def _stage(self, stage: Stage) -> None:
        self.here.emit(stage)
        self.gauge.move()

    def _tell_of_step(self, stage: str, seconds_left: float, detail: str) -> None:
        """A long step on its way: what the gauge expected of it was a guess."""
        later = sum(self.pipeline.expected_seconds(step) for step in self.pending[1:])
        self.gauge.expect(min(seconds_left + later, max(self.clock.left_seconds, 0.0)) + self.clock.reserve_seconds)
        self._stage(Stage(stage=stage, detail=detail))

    def _after_step(self) -> None:
        self.pending = self.pending[1:]
        self.memory.write(self.pipeline)
        self.checkpoint()


def _the_original(start: Start) -> Candidate:
    return Candidate(
        id="original",
        path=start.bench.original,
        steps=(),
        label="the original",
        figures=start.bench.baseline,
        comparison=Comparison(speedup=UNCHANGED, accuracy_drop=UNLOST),
        sha256=start.digests["model"],
    )
