"""Run a plan: step after step from the original, each verified and measured, then kept or rolled back.

    propose     the step writes its variants, or says why it has nothing to do
    verify      each loads, keeps inputs and outputs, and runs on every sample (`bench`)
    time        all variants in turns with the original
    again       a step that proposes in rounds is told how the round did
    keep        the best one inside the limits becomes what the next step builds on

A step that breaks is a row in the table, not the end of the job. Plans that begin alike share their beginning.
"""

import math
import shutil
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from google.protobuf.message import EncodeError

from engine import beside, words
from engine.data import Samples
from engine.digest import sha256
from engine.errors import EngineError, StepFailed
from engine.measure.accuracy import AccuracyComparison
from engine.measure.glimpse import Glimpse
from engine.measure.latency import LatencyComparison, compare_apart
from engine.pipeline.bench import Bench, size_up
from engine.pipeline.clock import Clock
from engine.pipeline.trials import Candidate, Trials
from engine.protocol import Stage
from engine.recipe import (
    ConvertFloat16,
    Distill,
    EightBits,
    Learning,
    Minimize,
    PruneChannels,
    PruneWeights,
    QuantizeAwareTraining,
    QuantizeDynamic,
    QuantizeStatic,
    QuantizeWeights,
    ReplaceLayers,
    SimplifyGraph,
    Step,
    UseModel,
)
from engine.report import Comparison, Machine, TrialState
from engine.steps import STEPS, Rounds, Skipped, Standing, StepContext, Variant
from engine.steps.base import Other

RESERVES = 6  #: candidates whose files are kept though another one is better
MOST_BYTES_AT_ONCE = 512 << 20  #: of files that one process opens side by side

VARIANTS: dict[type[Step], int] = {QuantizeStatic: 3}  #: as many files as a step usually proposes; of others one
PASSES_TO_LEARN = 3  #: runs of a calibration sample: one for the extremes, one or two's worth for the histograms

TOO_LARGE = "This step cannot handle a model of more than 2 GiB."
NO_MEMORY = "This step needs more memory than a job may use here."
BROKE = "This step broke, which is a fault of ours or of a library, not of yours: {kind}: {message}"

STAGES: dict[type[Step], str] = {
    SimplifyGraph: "simplifying",
    QuantizeStatic: "quantizing",
    QuantizeDynamic: "quantizing",
    QuantizeWeights: "quantizing",
    ConvertFloat16: "converting",
    PruneChannels: "pruning",
    ReplaceLayers: "replacing",
    PruneWeights: "pruning",
    Distill: "training",
    QuantizeAwareTraining: "training",
    UseModel: "evaluating",
}
#: steps that bring back what the ones before them took, whatever that was
RECOVERING = (Distill, QuantizeAwareTraining)
FORMATS = (QuantizeStatic, QuantizeDynamic, QuantizeWeights, ConvertFloat16)  #: steps that a plan usually ends with
TAKING = (PruneChannels, ReplaceLayers)  #: steps that take from a network what a later one brings back
LEAST_TRAINING_SECONDS, USUAL_TRAINING_SHARE = 10.0, 0.5  #: the share is of what the budget leaves


T = TypeVar("T")


@dataclass(frozen=True)
class Verified:
    """A variant that proved to be a stand-in for the original."""

    variant: Variant
    quality: AccuracyComparison
    seconds: float


@dataclass
class Pipeline:
    bench: Bench
    calibration: Samples
    trials: Trials
    clock: Clock
    machine: Machine
    stage: Callable[[Stage], None]
    after_step: Callable[[], None]  #: the table has grown
    tell: Callable[[str, float, str], None]  #: of a long step: its stage, seconds left, and a word on how it goes
    kept: Path  #: what a later attempt at the job finds again
    others: Mapping[str, Other]  #: models that the user has uploaded beside the original
    out_of_time: bool = False
    _was_cut_short: bool = False  #: whether the step that is taken had not enough of something
    costs: dict[type[Step], float] = field(default_factory=dict)  #: seconds of the last step of each kind
    taken: dict[tuple[Step, ...], Candidate] = field(default_factory=dict)  #: what plans came to, by their beginnings
    cut_short: dict[tuple[Step, ...], list[str]] = field(default_factory=dict)  #: plans whose last step had not enough
    #: time, memory or trials to end, and the ids of what it made

    def run(self, plan: Sequence[Step]) -> None:
        """Take the steps in order, each on what the ones before it left."""
        base = self.trials.original
        for length in range(1, len(plan) + 1):
            prefix = tuple(plan[:length])
            if prefix not in self.taken:
                if self._must_stop(prefix[-1]) or not base.path.exists():
                    return
                before, self._was_cut_short = self.trials.ids, False
                self.taken[prefix] = self._take(prefix[-1], base, plan[length:])
                if self._was_cut_short or self.out_of_time:
                    self.cut_short[prefix] = sorted(self.trials.ids - before)
                self._clear_away()
                self.after_step()
            base = self.taken[prefix]

    def came_of(self, plan: Sequence[Step]) -> Candidate | None:
        """What a plan, or the beginning of one, left to go on with; None where it was not carried out to its end."""
        return self.taken.get(tuple(plan))

    def expected_seconds(self, step: Step) -> float:
        """What a step will cost, by what it cost before, else by what its parts will."""
        if isinstance(step, Learning) and step.minutes:
            return self._seconds_for(step, 1)
        return self.costs.get(type(step), self._seconds_for(step, VARIANTS.get(type(step), 1)))

    def _seconds_for(self, step: Step, variants: int) -> float:
        learning = 0.0
        if isinstance(step, EightBits):
            learning += PASSES_TO_LEARN * min(step.samples, len(self.calibration)) * self.bench.run_ms / 1000
        if isinstance(step, Learning):
            wanted = math.inf if step.minutes is None else 60 * step.minutes
            learning += min(wanted, max(LEAST_TRAINING_SECONDS, USUAL_TRAINING_SHARE * self.clock.left_seconds))
        return 2.0 + learning + variants * (self.bench.pass_seconds + self.bench.start_seconds)

    def _must_stop(self, step: Step) -> bool:
        trials = self.bench.recipe.budget.trials
        if trials is not None and len(self.trials.candidates) >= trials:
            return True
        self.out_of_time = self.out_of_time or not self.clock.allows(self._seconds_for(step, variants=1))
        return self.out_of_time

    def _take(self, step: Step, base: Candidate, later: Sequence[Step]) -> Candidate:
        """What to go on with: the step's best variant, or `base` where it brought nothing."""
        started = time.monotonic()
        stage = STAGES.get(type(step), "optimizing")
        self.stage(Stage(stage=stage, detail=_place(base)))
        context = self._context(stage, sum(self.expected_seconds(one) for one in later))
        rounds = self._begin(step, base, context)
        candidates: list[Candidate] = []
        first: Candidate | None = None
        began = started
        while variants := self._next(rounds, step, base, first):
            verified = self._verify(variants, base)
            new = self._time(verified, base, time.monotonic() - began)
            self.trials.add(*new)
            candidates += new
            first = next((one for one in new if one.path == variants[0].path), None)
            began = time.monotonic()
            if self.out_of_time:
                break
        self._add_looked_at(context, base)
        self.costs[type(step)] = time.monotonic() - started
        if isinstance(step, UseModel):  # it was asked for, be it slower
            return candidates[0] if candidates else base
        looked_at = self.bench.recipe.goal is not None and isinstance(step, TAKING)  # it may be taught afterwards
        recovers = looked_at or any(isinstance(one, Learning) for one in later)
        return self.trials.best_of(candidates, base, recovers_later=recovers)

    def _context(self, stage: str, later_seconds: float) -> StepContext:
        folder, bench = self._fresh_folder(), self.bench
        return StepContext(
            calibration=self.calibration,
            folder=folder,
            target=bench.recipe.target,
            seed=bench.recipe.seed,
            pause=bench.lock.pause,
            glimpse=Glimpse(
                bench.original,
                self.calibration,
                bench.recipe.target,
                folder / "glimpse",
                bench.lock,
                bench.run_ms,
                self.machine,
                lambda: self.clock.left_seconds,
            ),
            original=bench.original,
            seconds=max(self.clock.left_seconds - later_seconds, 0.0),
            tell=lambda seconds_left, detail: self.tell(stage, seconds_left, detail),
            kept=self.kept,
            others=self.others,
        )

    def _begin(self, step: Step, base: Candidate, context: StepContext) -> Rounds:
        """The step's rounds; none where it has nothing to do or breaks, and then the table says why."""
        outcome = STEPS[type(step)].run(step, base.path, context)
        if isinstance(outcome, Skipped):
            self._add_without_file(step, base, TrialState.SKIPPED, words.sentence(outcome.reason))
        elif isinstance(outcome, list):
            yield outcome
        else:
            yield from outcome

    def _next(self, rounds: Rounds, step: Step, base: Candidate, first: Candidate | None) -> list[Variant]:
        started = time.monotonic()
        try:
            return self._new(rounds.send(self._standing(first, base) if first else None), base)
        except StopIteration:
            return []
        except EngineError as error:
            reason = error.detail
        except EncodeError:
            reason = TOO_LARGE
        except MemoryError:
            reason, self._was_cut_short = NO_MEMORY, True
        except Exception as error:  # noqa: BLE001 - whatever a step raises is a row in the table, not the end of the job
            reason = BROKE.format(kind=type(error).__name__, message=words.shown(str(error)))
            traceback.print_exc()
        self._add_without_file(step, base, TrialState.FAILED, reason, time.monotonic() - started)
        return []

    def _standing(self, first: Candidate, base: Candidate) -> Standing:
        """Where the file before was outside of the limits, no change to this step brings the next one inside."""
        limit, drop = self.bench.recipe.limits.accuracy_drop, first.comparison.accuracy_drop
        as_good_as_inside = self.trials.excess(first) is None or self.trials.excess(base) is not None
        return Standing(as_good_as_inside, drop.value / limit if limit and drop else None)

    def _add_without_file(self, step: Step, base: Candidate, state: TrialState, reason: str, cost: float = 0.0) -> None:
        steps = (*base.steps, step)
        if not self.trials.tried(steps):
            self.trials.add_without_file(steps, step.kind.replace("_", " "), state, reason, cost=cost)

    def _add_looked_at(self, context: StepContext, base: Candidate) -> None:
        """Formats that a step looked at and left behind: the evidence for its choice."""
        glimpse = context.glimpse
        for variant in context.looked_at:
            steps = (*base.steps, variant.step)
            if glimpse is None or self.trials.tried(steps):
                continue
            if variant.path in glimpse.failures:
                state, reason = TrialState.FAILED, glimpse.failures[variant.path].detail
            else:
                state, reason = TrialState.SCREENED, glimpse.words(variant.path)
            comparison = Comparison(speedup=glimpse.speedups.get(variant.path), sqnr_db=glimpse.sqnr_db(variant.path))
            self.trials.add_without_file(steps, _label(base, variant), state, reason, comparison=comparison)
            beside.remove(variant.path)

    def _bases(self) -> set[str]:
        """Ids of what a plan may still go on with: all but what ended in a format, and the last one in any case."""
        last = ends(self.taken)
        finished = {plan for plan in last if isinstance(plan[-1], FORMATS)}
        going_on = [*(plan for plan in self.taken if plan not in finished), *list(self.taken)[-1:]]
        return {self.taken[plan].id for plan in going_on}

    def _clear_away(self) -> None:
        """Files that can neither be chosen nor offered nor built on any more."""
        needed = {*self.trials.front(), *(one.id for one in self.trials.ranked()[:RESERVES])}
        needed |= self._bases()
        for name, candidate in self.trials.candidates.items():
            if name not in needed:
                beside.remove(candidate.path)
                self.trials.gone.add(name)

    def _new(self, variants: Sequence[Variant], base: Candidate) -> list[Variant]:
        """Without those that another plan came to, and no more than the budget has trials left."""
        new = [variant for variant in variants if not self.trials.tried((*base.steps, variant.step))]
        most = self.bench.recipe.budget.trials
        if most is None:
            return new
        left = max(most - len(self.trials.candidates), 0)
        self._was_cut_short = self._was_cut_short or len(new) > left
        return new[:left]

    def _verify(self, variants: Sequence[Variant], base: Candidate) -> list[Verified]:
        verified = []
        for number, variant in enumerate(variants, start=1):
            if self.clock.left_seconds <= 0:
                self.out_of_time = True
                break
            self.stage(Stage(stage="evaluating", detail=f"{variant.label} ({number} of {len(variants)})"))
            started = time.monotonic()
            try:
                quality = self.bench.quality(variant.path)
            except EngineError as error:
                self._fail(variant, base, error, time.monotonic() - started)
            else:
                verified.append(Verified(variant, quality, time.monotonic() - started))
        return verified

    def _time(self, verified: Sequence[Verified], base: Candidate, spent: float) -> list[Candidate]:
        if not verified:
            return []
        self.stage(Stage(stage="measuring", detail=f"{len(verified)} of them in turns with the original"))
        started = time.monotonic()
        timed = [pair for group in _in_groups(verified) for pair in self._timed(group, base)]
        shared = (spent - sum(one.seconds for one in verified) + time.monotonic() - started) / len(verified)
        first = int(self.trials.next_id()[1:])
        return [
            self._candidate(f"t{number:02d}", one, speed, base, one.seconds + shared)
            for number, (one, speed) in enumerate(timed, start=first)
        ]

    def _timed(self, group: Sequence[Verified], base: Candidate) -> list[tuple[Verified, LatencyComparison]]:
        verified = {one.variant.path: one for one in group}

        def failed(path: Path, error: StepFailed) -> None:
            self._fail(verified[path].variant, base, error, verified[path].seconds)

        speeds = compare_apart(list(verified), self.bench.speed, failed)
        return [(verified[path], speed) for path, speed in speeds.items()]

    def _fail(self, variant: Variant, base: Candidate, error: EngineError, cost: float) -> None:
        steps = (*base.steps, variant.step)
        self.trials.add_without_file(steps, variant.label, TrialState.FAILED, error.detail, cost=cost)
        beside.remove(variant.path)

    def _candidate(
        self, name: str, one: Verified, speed: LatencyComparison, base: Candidate, seconds: float
    ) -> Candidate:
        figures = size_up(one.variant.path, self.bench.feeds)
        memory = self.bench.memory(one.variant.path) if self.trials.minimize is Minimize.MEMORY else None
        update = {"latency": speed.candidate, "accuracy": one.quality.candidate, "peak_memory_bytes": memory}
        return Candidate(
            id=name,
            path=one.variant.path,
            steps=(*base.steps, one.variant.step),
            label=_label(base, one.variant),
            figures=figures.model_copy(update=update),
            comparison=Comparison(
                speedup=speed.speedup,
                accuracy_drop=one.quality.drop,
                sqnr_db=one.quality.sqnr_db,
                agreement=one.quality.agreement,
            ),
            sha256=sha256(one.variant.path),
            layers=one.variant.layers,
            training=one.variant.training,
            replacements=one.variant.replacements,
            warnings=tuple(one.quality.warnings),
            seconds=round(seconds, 2),
        )

    def _fresh_folder(self) -> Path:
        folder = self.bench.folder / f"step-{len(self.taken) + 1:03d}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder


def _place(base: Candidate) -> str:
    return f"on {base.id}" if base.steps else "on the original"


def _label(base: Candidate, variant: Variant) -> str:
    return f"{base.label} + {variant.label}" if base.steps else variant.label


def ends(taken: Mapping[tuple[Step, ...], T]) -> dict[tuple[Step, ...], T]:
    """Plans that no other one goes on with, and what they came to."""
    begun = {plan[:length] for plan in taken for length in range(1, len(plan))}
    return {plan: what for plan, what in taken.items() if plan not in begun}


def _in_groups(verified: Sequence[Verified]) -> list[list[Verified]]:
    """As many as may be open side by side."""
    groups: list[list[Verified]] = [[]]
    total = 0
    for one in verified:
        size = beside.size_bytes(one.variant.path)
        if groups[-1] and total + size > MOST_BYTES_AT_ONCE:
            groups.append([])
            total = 0
        groups[-1].append(one)
        total += size
    return groups
