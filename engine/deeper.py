"""Plans that go deeper than another format: some of the network is taken away, the rest learns, and so on.

    take      channels, or put cheaper layers in the place of others, or one after the other, so that a share of the
              original's run time is left (channels for a share of the weights, where size or memory counts)
    look      what each way costs before anything is taught, and what it gains in the format that was the fastest one on
              the whole network, if any paid: a layer that is fast in float may gain little from 8 bits. The way that
              gains most for what it loses goes on; where no training is likely to mend it, none is begun
    teach     by the original, for a share of the budget that grows with each training; again, as long as that
              brings it nearer to the limit
    quantize  in that format

A network that kept the limit is what the next one is taken from: what it has learned is not lost, and small steps lose
less than one large one. How much to take is found by bisection, between what kept the limit and what did not. It goes
on until the budget is spent, or networks in between would hardly differ. All times are shares of the budget and not of
what is left of it, so that another attempt at the job asks for the same steps and finds them done. A job with another
budget begins where an earlier one on the same model and data has ended.
"""

import importlib.util
import math
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field

from engine import words
from engine.pipeline.material import FEWEST_TO_TEACH
from engine.pipeline.plan import FORMATS, TAKING, Pipeline
from engine.pipeline.trials import Candidate, Trials
from engine.recipe import (
    Distill,
    Learning,
    Minimize,
    QuantizeStatic,
    Recipe,
    ReplaceLayers,
    SimplifyGraph,
    Step,
)
from engine.ways import Plan, Way, ways

Missed = tuple[float, Plan]  #: loss after learning, and what was taught

LEAST_MINUTES, LEAST_BUDGET = 0.5, 2.0  #: minutes of a training, and of a budget that has time for one
TRAINING_SHARES = (0.05, 0.075, 0.11, 0.17, 0.25)  #: of the budget, for one training each; later ones are like the last
REPLACING_SHARE = 0.15  #: of the budget, for the first time that layers are timed and taught
WORSE = 2.0  #: times the loss of the best way, for one that is not tried again
FAR_BEHIND = 0.75  #: times the gain of the best way, for one that is not tried again
STEEPNESS = 4.0  #: losses were seen to grow by about this power of the logarithm of what is gained
FIRST_SHARES = ((0.02, 0.35), (0.01, 0.45), (0.005, 0.55), (0.0, 0.7))  #: limit on the loss → share that may be left
BOLDER = 0.6  #: times the share that was enough, where none was too little yet
AS_GOOD_AS_FOUND = 0.88  #: shares nearer to each other than this are not told apart
USUALLY_LEFT, FLATNESS = 0.4, 0.45  #: in units of the limit, after = left · before ** flatness was seen of trainings
NEAR = 2.0  #: times the limit, of a loss after one training that another one may mend
NEARER = 0.5  #: of what is lost beyond the limit, that the training before must have mended
PAYS = 1.05  #: times as fast, of a format that is worth its noise
OVERHEAD_SECONDS = 10.0  #: beside a training, of a step whose cost is not known yet
SPENT = "the budget was nearly spent"
HARDLY_DIFFER = "networks of a size in between would hardly differ"
NOTHING_TO_TAKE = "no channel could leave, and no layer could be replaced"


def minutes_to_teach(budget_minutes: float) -> list[float]:
    """Of the trainings that the budget is meant for, in turn; none where it is too small for one."""
    if budget_minutes < LEAST_BUDGET:
        return []
    return [max(round(share * budget_minutes, 2), LEAST_MINUTES) for share in TRAINING_SHARES]


def may_train(recipe: Recipe) -> bool:
    """Whether a goal could lead to a training at all, before anything is known of the model."""
    limited = recipe.goal is not None and recipe.limits.accuracy_drop is not None
    return limited and bool(minutes_to_teach(recipe.budget.minutes)) and importlib.util.find_spec("torch") is not None


def reason_against(recipe: Recipe, pipeline: Pipeline) -> str | None:
    """Why nothing is taken from the network, as a sentence."""
    if recipe.limits.accuracy_drop is None:
        return "Nothing was taken from the network, since no limit says what may be lost: set limits.accuracy_drop."
    if not minutes_to_teach(recipe.budget.minutes):
        return f"No smaller network was taught, which takes a budget of {LEAST_BUDGET:g} minutes or more."
    samples = 0 if pipeline.calibration.synthetic else len(pipeline.calibration)
    if samples < FEWEST_TO_TEACH:
        return f"No smaller network was taught, which takes {FEWEST_TO_TEACH} samples to learn from, not {samples}."
    if importlib.util.find_spec("torch") is None:
        return f"No smaller network was taught, since {words.NO_TORCH}."
    return None


def plans(recipe: Recipe, trials: Trials, pipeline: Pipeline) -> Iterator[Plan]:
    """After the plans without training, whose best format is used."""
    reason = reason_against(recipe, pipeline)
    if reason is not None:
        trials.notes.append(reason)
        return
    search = _Shrinking(recipe, trials, pipeline)
    yield from search.plans()
    trials.notes.append(search.story())


@dataclass
class _Shrinking:
    recipe: Recipe
    trials: Trials
    pipeline: Pipeline
    base: Plan = (SimplifyGraph(),)  #: what is taken from: the smallest network that was taught and kept the limit
    enough: float = 1.0  #: the smallest share that needs no closer look
    too_little: float = 0.0  #: the largest one that does not, of what is left of this base
    failed: float = 0.0  #: the largest share that missed the limit though it was taught
    looks: int = 0
    taught: int = 0
    missed: list[Missed] = field(default_factory=list)
    left: float = USUALLY_LEFT  #: of a loss, as the last training showed
    stopped: str = ""
    tail: list[Step] = field(init=False)  #: the format that was the fastest on the last network
    ways: list[Way] = field(init=False)  #: that are still worth a look

    def __post_init__(self) -> None:
        format_step = best_format(self.trials)
        self.tail = [] if format_step is None else [format_step]
        self.ways = ways(self.recipe, self.trials.minimize)
        self._remember()

    def _remember(self) -> None:
        """What jobs with other budgets found: the best that kept the limit is gone on with, the others may be."""
        own = set(self._minutes)
        for plan, came in self.pipeline.taken.items():
            minutes = {step.minutes for step in plan if isinstance(step, Distill)}
            if not isinstance(plan[-1], Distill) or own & minutes or not self.trials.has_file(came):
                continue
            end = self.pipeline.came_of([*plan, *self._formats]) or came
            if self.trials.excess(end) is not None:
                self.missed.append((_lost(end), plan))
            elif self._share(came) < self.enough:
                self._go_on_from(plan, came)

    def plans(self) -> Iterator[Plan]:
        while not self.stopped:
            share = self._next_share()
            if share is not None:
                yield from self._one(share)
            elif near := self._near():
                self.missed = [one for one in self.missed if one is not near]
                yield from self._teach(near[1])
            else:
                self.stopped = HARDLY_DIFFER

    def _one(self, share: float) -> Iterator[Plan]:
        """A smaller network, and its training where that is worth it."""
        plan = yield from self._look(share)
        smaller = self.pipeline.came_of(plan) if plan else None
        if plan is None or smaller is None:
            return
        if self._is_hopeless(smaller):
            self.too_little = share
        elif not self._was_taught(plan) and self._gain(plan) <= self._best_gain:
            self.enough = min(share, self._share(smaller))
        else:
            missed = yield from self._teach(plan)
            self.missed += [missed] if missed else []

    def _look(self, share: float) -> Generator[Plan, None, Plan | None]:
        """At every way to come to that share; the best one."""
        self.looks += 1
        found: dict[Way, Candidate] = {}
        whole = self.pipeline.came_of(self.base)
        left = min(self._share(whole), 1.0) if whole and is_smaller(whole) else 1.0
        plans = {way: [*self.base, *way(share, left)] for way in self.ways}
        for way, plan in plans.items():
            replaces = isinstance(plan[len(self.base)], ReplaceLayers)
            if replaces and self.pipeline.came_of(plan) is None and not self._can_replace():
                continue
            yield plan
            smaller = self.pipeline.came_of(plan)
            if smaller is None:
                self.stopped = SPENT
                return None
            if smaller is not whole:
                found[way] = smaller
                yield [*plan, *self.tail]
        if not found:
            self.too_little = share
            if self.pipeline.out_of_time or self.enough == 1:
                self.stopped = SPENT if self.pipeline.out_of_time else NOTHING_TO_TAKE
            return None
        gains = {way: self._gain(plans[way]) for way in found}
        best = self._best_way(found, gains)
        most, least = WORSE * max(_lost(found[best]), self._limit), FAR_BEHIND * gains[best]
        self.ways = [way for way in self.ways if way in found and _lost(found[way]) <= most and gains[way] >= least]
        return plans[best]

    def _best_way(self, found: Mapping[Way, Candidate], gains: Mapping[Way, float]) -> Way:
        """The one that gains most for what it loses, of those that training may mend.

        What is lost grows steeply with what is gained, so that ways of which one loses less and one gains more are
        compared at what they would lose for the same gain.
        """
        may_do = [way for way in found if not self._is_hopeless(found[way])] or list(found)
        before = self._gain(self.base)

        def worth(way: Way) -> float:
            lost = max(_lost(found[way]), self._limit / 4)
            return math.log(max(gains[way] / before, 1.0)) / lost ** (1 / STEEPNESS)

        return max(may_do, key=worth)

    def _gain(self, plan: Plan) -> float:
        return self.trials.gained(self._quantized(plan))

    def _quantized(self, plan: Plan) -> Candidate:
        """The fastest that a plan came to, in the format or in float, before anything more is taught.

        What it loses does not choose here: that is what the training is for.
        """
        smaller = self.pipeline.came_of(plan)
        assert smaller is not None, "it was looked at"
        made = [one for one in self.trials.candidates.values() if self._is_in_the_format(one, smaller)]
        return max([smaller, *made], key=self.trials.gained)

    def _is_in_the_format(self, candidate: Candidate, smaller: Candidate) -> bool:
        return candidate.steps[:-1] == smaller.steps and isinstance(candidate.steps[-1], FORMATS)

    def _can_replace(self) -> bool:
        """Once layers are taught, replacing them again takes as long as any other step."""
        known = self.pipeline.costs.get(ReplaceLayers)
        return self.pipeline.clock.allows(known or REPLACING_SHARE * 60 * self.recipe.budget.minutes)

    def _teach(self, plan: Plan) -> Generator[Plan, None, Missed | None]:
        """Once, and again as long as it comes nearer to the limit; what came of that where it never kept it."""
        untaught = self.pipeline.came_of(plan)
        assert untaught is not None, "it was looked at"
        before, is_nearer, is_first = _lost(untaught), True, not isinstance(plan[-1], Distill)
        while is_nearer:
            taught = self._taught(plan)
            if taught is None:
                self.stopped = SPENT
                return None
            yield [*taught, *self._formats]
            after, end = self.pipeline.came_of(taught), self.pipeline.came_of([*taught, *self._formats])
            if after is None or end is None:
                self.stopped = SPENT
                return None
            self.taught += 1
            self._take_to(self._quantized(taught))
            if is_first:
                self._learn(untaught, after)
            if self.trials.excess(end) is None:
                self._go_on_from(taught, after)
                return None
            is_nearer = self._comes_nearer(before, _lost(end))
            plan, before, is_first = taught, _lost(end), False
        self.failed = self.too_little = max(self.failed, self._share(untaught))
        return before, plan

    def _take_to(self, fastest: Candidate) -> None:
        """Networks to come are looked at in its format, if it has one."""
        if isinstance(fastest.steps[-1], FORMATS):
            self.tail = [as_format(fastest.steps[-1])]

    @property
    def _formats(self) -> Plan:
        """To try on what has learned: of static int8 every one, for which is fastest depends on the widths."""
        return [QuantizeStatic() if isinstance(step, QuantizeStatic) else step for step in self.tail]

    def _learn(self, before: Candidate, after: Candidate) -> None:
        """What a first training is worth on this network."""
        self.left = max(self._in_limits(after) / max(self._in_limits(before), 1.0) ** FLATNESS, USUALLY_LEFT)

    def _taught(self, plan: Plan) -> Plan | None:
        """The plan with one more training: the one that was made, else the longest of its turn that can be paid."""
        turn = min(self.taught, len(self._minutes) - 1)
        longest_first = [[*plan, Distill(minutes=minutes)] for minutes in self._minutes[turn::-1]]
        known = (one for one in longest_first if self.pipeline.came_of([*one, *self._formats]))
        payable = (one for one in longest_first if self._can_afford([one[-1], *self._formats]))
        return next(known, None) or next(payable, None)

    def _go_on_from(self, taught: Plan, came: Candidate) -> None:
        """What was too little when more had to be taken at once, may do from here."""
        self.base, self.enough = taught, min(self._share(came), self.enough)
        self.failed = self.too_little = self.failed if self.failed < self.enough else 0.0

    def _comes_nearer(self, before: float, after: float) -> bool:
        return after <= NEAR * self._limit and before - after >= NEARER * (after - self._limit)

    def _near(self) -> Missed | None:
        """What missed the limit by least, of what gains more than anything that kept it."""
        near = [one for one in self.missed if one[0] <= NEAR * self._limit and self._gain(one[1]) > self._best_gain]
        return min(near, key=lambda one: one[0], default=None)

    # ── how much ─────────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def _minutes(self) -> list[float]:
        return minutes_to_teach(self.recipe.budget.minutes)

    def _next_share(self) -> float | None:
        """Of the run time, or of the weights, that may be left; None where that is known well enough."""
        if self.enough == 1 and not self.too_little:
            limit = self.recipe.limits.accuracy_drop or 0.0
            return next(share for least, share in FIRST_SHARES if limit >= least)
        if self.too_little > AS_GOOD_AS_FOUND * self.enough:
            return None
        between = math.sqrt(self.enough * self.too_little) if self.too_little else BOLDER * self.enough
        return round(between, 3)

    def _share(self, smaller: Candidate) -> float:
        """What is left of the original's run time, or of its weights, as measured."""
        if self.trials.minimize is Minimize.LATENCY:
            speedup = smaller.comparison.speedup
            return 1 / speedup.value if speedup else 1.0
        return smaller.figures.parameters / max(self.trials.original.figures.parameters, 1)

    def _was_taught(self, plan: Plan) -> bool:
        """By another attempt at the job, when the best of all was not as good yet."""
        return any(self.pipeline.came_of([*plan, Distill(minutes=minutes)]) for minutes in self._minutes)

    # ── is it worth it ───────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def _limit(self) -> float:
        return max(self.recipe.limits.accuracy_drop or 0.0, 0.002)

    @property
    def _best_gain(self) -> float:
        return max((self.trials.gained(one) for one in self.trials.ranked()[:1]), default=1.0)

    def _is_hopeless(self, smaller: Candidate) -> bool:
        return self.left * self._in_limits(smaller) ** FLATNESS > NEAR

    def _in_limits(self, candidate: Candidate) -> float:
        """What is lost, as a multiple of the limit."""
        return _lost(candidate) / self._limit

    def _can_afford(self, steps: Plan) -> bool:
        """By what such steps have cost so far."""
        seconds = 0.0
        for step in steps:
            if isinstance(step, Learning) and step.minutes:
                seconds += 60 * step.minutes + OVERHEAD_SECONDS
            else:
                seconds += self.pipeline.costs.get(type(step), OVERHEAD_SECONDS)
        return self.pipeline.clock.allows(seconds)

    def story(self) -> str:
        looked = f"{self.looks} smaller network{'s' * (self.looks != 1)} {'was' if self.looks == 1 else 'were'} tried"
        taught = f"{self.taught} training{'s' * (self.taught != 1)}" if self.taught else "none was taught"
        base = self.pipeline.came_of(self.base)
        is_kept = base is not None and is_smaller(base)
        kept = f"; {self._share(base) * 100:.0f} % of the {self._whose} was enough to keep the limit" if is_kept else ""
        short = f"; {self.too_little * 100:.0f} % was too little" if self.too_little else ""
        return f"{words.sentence(f'{looked}, {taught}{kept}{short}')} The search ended there, since {self.stopped}."

    @property
    def _whose(self) -> str:
        return "run time" if self.trials.minimize is Minimize.LATENCY else "weights"


def best_format(trials: Trials) -> Step | None:
    """The format that gained most inside the limit, for other weights; None where none pays."""
    whole = [one for one in trials.ranked() if not is_smaller(one)]
    plain = max((trials.gained(one) for one in whole if not _is_converted(one)), default=1.0)
    best = next((one for one in whole if _is_converted(one)), None)
    gained = trials.gained(best) / max(plain, 1.0) if best else 1.0
    if best is None or gained < PAYS:
        return None
    return as_format(best.steps[-1])


def as_format(step: Step) -> Step:
    """For other weights."""
    if isinstance(step, QuantizeStatic):
        names = ("activations", "weight_range", "weight_scales", "layout", "samples")
        step = QuantizeStatic.model_validate({name: getattr(step, name) for name in names})
    elif isinstance(step, FORMATS):
        step = step.model_copy(update={"keep_float": ()})
    return step


def is_smaller(candidate: Candidate) -> bool:
    """Whether it comes of a plan of this module; another attempt finds such ones in the table from its beginning."""
    return any(isinstance(step, TAKING) for step in candidate.steps)


def _is_converted(candidate: Candidate) -> bool:
    return any(isinstance(step, FORMATS) for step in candidate.steps)


def _lost(candidate: Candidate) -> float:
    drop = candidate.comparison.accuracy_drop
    return max(drop.value, 0.0) if drop else 0.0
