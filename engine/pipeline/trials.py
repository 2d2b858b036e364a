"""The table of all that was tried, and what became of it: the evidence, and the pool that the best is chosen from.

A trial's state is judged anew whenever the table is read, because a later trial may beat it.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from engine import goal, words
from engine.recipe import Minimize, Recipe, Step
from engine.report import (
    Accuracy,
    Comparison,
    Figures,
    Interval,
    LayerChoice,
    Replacements,
    Training,
    Trial,
    TrialState,
)

ROUNDING = 1e-9  #: 2 of 200 samples are 0.010000000000000009
UNLIMITED_LOSS = 0.1  #: what is never offered without being asked for: a loss of 10 points, or noise of a tenth


@dataclass(frozen=True)
class Candidate:
    """A file that loads, keeps its interface and was measured; or the original itself, after no step at all."""

    id: str
    path: Path
    steps: tuple[Step, ...]
    label: str
    figures: Figures
    comparison: Comparison
    sha256: str
    layers: tuple[LayerChoice, ...] = ()
    training: Training | None = None
    replacements: Replacements | None = None
    warnings: tuple[str, ...] = ()
    seconds: float = 0

    def row(self, state: TrialState, reason: str) -> Trial:
        return Trial(
            id=self.id,
            steps=list(self.steps),
            label=self.label,
            state=state,
            reason=reason,
            figures=self.figures,
            comparison=self.comparison,
            sha256=self.sha256,
            seconds=self.seconds,
            layers=list(self.layers),
            training=self.training,
            replacements=self.replacements,
        )


@dataclass
class Trials:
    recipe: Recipe
    original: Candidate
    tell: Callable[[Trial], None]
    candidates: dict[str, Candidate] = field(default_factory=dict)
    rest: dict[str, Trial] = field(default_factory=dict)  #: skipped or failed: no file came of them
    gone: set[str] = field(default_factory=set)  #: ids of candidates whose files were let go of
    chosen: str | None = None
    notes: list[str] = field(default_factory=list)  #: what the search did, and why it ended

    @property
    def minimize(self) -> Minimize:
        return self.recipe.goal.minimize if self.recipe.goal else Minimize.LATENCY

    # ── filling ──────────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def ids(self) -> set[str]:
        return self.candidates.keys() | self.rest.keys()

    def next_id(self) -> str:
        return f"t{max((int(name[1:]) for name in self.ids), default=0) + 1:02d}"

    def restore(self, candidates: Sequence[Candidate], rest: Sequence[Trial], gone: Sequence[Candidate] = ()) -> None:
        """What another attempt at the same job had tried; of some there are only figures left."""
        self.candidates |= {candidate.id: candidate for candidate in candidates}
        self.rest |= {trial.id: trial for trial in rest}
        self.chosen = self._provisional()
        self.rest |= {candidate.id: self._without_file(candidate) for candidate in gone}
        for row in self.rows():
            self.tell(row)

    def add(self, *candidates: Candidate) -> None:
        """Those of one step together, so that each is judged beside the others before it is told of."""
        self.candidates |= {candidate.id: candidate for candidate in candidates}
        self.chosen = self._provisional()
        for candidate in candidates:
            self.tell(self._judged(candidate))

    def add_without_file(
        self,
        steps: Sequence[Step],
        label: str,
        state: TrialState,
        reason: str,
        *,
        cost: float = 0.0,
        comparison: Comparison | None = None,
    ) -> None:
        name = self.next_id()
        self.rest[name] = Trial(
            id=name,
            steps=list(steps),
            label=label,
            state=state,
            reason=reason,
            comparison=comparison,
            seconds=round(cost, 2),
        )
        self.tell(self.rest[name])

    def refine(self, name: str, figures: Figures, comparison: Comparison) -> None:
        """Better figures of a candidate that was there already."""
        self.candidates[name] = replace(self.candidates[name], figures=figures, comparison=comparison)

    def choose_among(self, finalists: Sequence[Candidate]) -> None:
        """As far as is known now, the first of these that is a gain inside the limits; none where none is."""
        sound = (one for one in finalists if self.excess(one) is None and goal.holds(self.gain(one), self.minimize))
        self.chosen = next((one.id for one in sound), None) if self.recipe.is_optimization else None

    # ── choosing ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def has_file(self, candidate: Candidate) -> bool:
        """Whether it can be chosen or built on: of some there are only figures left."""
        return candidate.id in self.candidates and candidate.id not in self.gone

    def tried(self, steps: Sequence[Step]) -> bool:
        rows = [
            *(candidate.steps for candidate in self.candidates.values()),
            *(row.steps for row in self.rest.values()),
        ]
        return any(list(steps) == list(row) for row in rows)

    def gain(self, candidate: Candidate) -> Interval | None:
        return goal.gain(self.minimize, self.original.figures, candidate.figures, candidate.comparison)

    def gained(self, candidate: Candidate) -> float:
        interval = self.gain(candidate)
        return interval.value if interval else 0.0

    def ranked(self) -> list[Candidate]:
        """Candidates inside the limits, the best first."""
        left = [candidate for candidate in self.candidates.values() if self.excess(candidate) is None]
        ranking = []
        while best := self.best(left):
            ranking.append(best)
            left.remove(best)
        return ranking

    def best(self, candidates: Sequence[Candidate]) -> Candidate | None:
        """The one that gained most; of those that cannot be told apart by that, the most faithful one."""
        first = max(candidates, key=self.gained, default=None)
        if first is None:
            return None
        return min((one for one in candidates if self._gains_as_much(one, first)), key=unfaithfulness)

    def _gains_as_much(self, candidate: Candidate, first: Candidate) -> bool:
        """As far as can be told: noise may make the intervals wide, but not any difference a small one."""
        gain, most = self.gain(candidate), self.gain(first)
        if gain is None or most is None:
            return gain is most
        noise = goal.IN_DOUBT if gain.high >= most.low else goal.WITHIN_NOISE
        return gain.value >= most.value * (1 - noise)

    def best_of(self, variants: Sequence[Candidate], base: Candidate, *, recovers_later: bool = False) -> Candidate:
        """What to go on with after a step: its best variant, or what there was before if that is measurably better.

        Without a limit a variant counts only if its drop is not measurably worse than that of the most accurate one.
        A limit binds the end of a plan, not the way there: what a later step recovers may be outside meanwhile, and
        so may what came nearer to the limit than the file before it.
        """
        if recovers_later:
            return self.best(variants) or base
        if self.excess(base) is not None:
            return self._nearest(variants, base)
        inside = [variant for variant in variants if self.excess(variant) is None]
        if self.recipe.limits.accuracy_drop is None:
            inside = _as_accurate_as_the_best(inside)
        best = self.best(inside)
        return base if best is None or self._is_clearly_worse(best, base) else best

    def _nearest(self, variants: Sequence[Candidate], base: Candidate) -> Candidate:
        """From outside of the limits: the best one inside, else the one that lost least, be it the base."""
        inside = self.best([variant for variant in variants if self.excess(variant) is None])
        return inside or min([*variants, base], key=unfaithfulness)

    def _is_clearly_worse(self, candidate: Candidate, base: Candidate) -> bool:
        """Only beyond both intervals, and what two processes may differ by: what does no harm stays, to build on."""
        gain, before = self.gain(candidate), self.gain(base)
        return gain is not None and before is not None and gain.high < before.low * (1 - goal.IN_DOUBT)

    def _provisional(self) -> str | None:
        if not self.recipe.is_optimization:
            return None
        best = next(filter(self.has_file, self.ranked()), None)
        return best.id if best and goal.holds(self.gain(best), self.minimize) else None

    # ── judging ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def rows(self) -> list[Trial]:
        """The table, in the order of the trials."""
        judged = [*(self._judged(candidate) for candidate in self.candidates.values()), *self.rest.values()]
        on_front = self.front()
        marked = [row.model_copy(update={"on_front": row.id in on_front}) for row in judged]
        return sorted(marked, key=lambda row: int(row.id[1:]))

    def front(self) -> set[str]:
        """Ids of the Pareto set."""
        measured = [candidate.row(TrialState.KEPT, "") for candidate in self.candidates.values()]
        return goal.front(measured, self.minimize, self.original.figures)

    def _judged(self, candidate: Candidate) -> Trial:
        return candidate.row(*self._state(candidate))

    def _state(self, candidate: Candidate) -> tuple[TrialState, str]:
        chosen = self.candidates[self.chosen] if self.chosen else None
        gained = words.gained(self.gain(candidate), self.minimize)
        if not self.recipe.is_optimization:
            return TrialState.COMPARED, f"{gained}."
        if excess := self.excess(candidate):
            return TrialState.REJECTED, f"{gained}, but {excess}"
        if candidate is chosen:
            return TrialState.KEPT, f"{gained}{self._limit_kept(candidate)}."
        if chosen and chosen.steps[: len(candidate.steps)] == candidate.steps:
            return TrialState.KEPT, f"{gained}; {chosen.id} builds on it."
        if chosen and self.gained(candidate) > 1:
            return TrialState.DOMINATED, f"{gained}; {chosen.id} {self._advantage(chosen, candidate)}."
        return TrialState.REJECTED, f"{gained}, which is no improvement that holds."

    def _without_file(self, candidate: Candidate) -> Trial:
        """What was outside of the limits stays so; the rest was tried for nothing more than its figures."""
        state, reason = self._state(candidate)
        if self.excess(candidate) is None and self.gained(candidate) > 1 and state is not TrialState.KEPT:
            gained = words.gained(self.gain(candidate), self.minimize)
            state, reason = TrialState.DOMINATED, f"{gained}; it was tried before, and its file was not kept."
        return candidate.row(state, reason)

    def _advantage(self, chosen: Candidate, other: Candidate) -> str:
        if self.gained(chosen) > self.gained(other) * (1 + goal.WITHIN_NOISE):
            return words.gains_more(self.gained(chosen), self.minimize)
        return "gains as much, as far as can be told, and is at least as true to the original"

    def _limit_kept(self, candidate: Candidate) -> str:
        limit, drop = self.recipe.limits.accuracy_drop, candidate.comparison.accuracy_drop
        if limit is None or drop is None:
            return ""
        accuracy = self.original.figures.accuracy
        lost, most = words.loss(max(drop.value, 0.0), accuracy), words.loss(limit, accuracy)
        return f", and a loss of {lost} is inside the limit of {most}"

    def excess(self, candidate: Candidate) -> str | None:
        """Why the candidate is outside the limits, as the end of a sentence."""
        drop, accuracy = candidate.comparison.accuracy_drop, self.original.figures.accuracy
        limit = self.recipe.limits.accuracy_drop
        if drop is None:
            return None
        if limit is not None and drop.value > limit + ROUNDING:
            return f"it loses {words.loss(drop.value, accuracy)}; the limit is {words.loss(limit, accuracy)}."
        if limit is None and drop.low > UNLIMITED_LOSS * _whole(accuracy):
            return f"it loses {words.loss(drop.value, accuracy)}; set limits.accuracy_drop if that is acceptable."
        return None


def _whole(accuracy: Accuracy | None) -> float:
    """What a share of the metric is a share of: one, or the original's own error, in the units of its outputs."""
    if accuracy is None or accuracy.higher_is_better or not accuracy.value:
        return 1.0
    return accuracy.value


def unfaithfulness(candidate: Candidate) -> tuple[float, float]:
    """What is measurably lost of the metric, then noise in the outputs; a better score is no more faithful."""
    drop, sqnr_db = candidate.comparison.accuracy_drop, candidate.comparison.sqnr_db
    lost = drop.value if drop and drop.low > 0 else 0.0
    return lost, -math.inf if sqnr_db is None else -sqnr_db


def _as_accurate_as_the_best(variants: Sequence[Candidate]) -> list[Candidate]:
    drops = {variant.id: drop for variant in variants if (drop := variant.comparison.accuracy_drop)}
    ceiling = min(drops.values(), key=lambda drop: drop.value).high if drops else 0.0
    return [variant for variant in variants if variant.id not in drops or drops[variant.id].low <= ceiling]
