"""Plans that go deeper than another format: some of the network is taken away, and what is left learns.

    take      channels, or put cheaper layers in the place of others, or one after the other, so that a share of the
              original's run time is left (channels for a share of the weights, where size or memory counts)
    look      what each way costs before anything is taught, and what it gains in the format that was the fastest one on
              the whole network, if any paid: a layer that is fast in float may gain little from 8 bits. The way that
              gains most goes on, of several the one that loses least; where no training is likely to mend it, none is
              begun, and where it keeps the limit as it is, none is needed
    teach     by the original, for a share of the budget
    quantize  in that format

How much to take is found by bisection: more after a network that kept the limit, less after one that did not. The last
training is a longer one, of the network that missed the limit by least. All times are shares of the budget and not of
what is left of it, so that another attempt at the job asks for the same steps and finds them done. A job with another
budget begins where an earlier one on the same model and data has ended.
"""

import importlib.util
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from engine.pipeline.material import FEWEST_TO_TEACH
from engine.pipeline.plan import FORMATS, TAKING, Pipeline, ends
from engine.pipeline.trials import Candidate, Trials
from engine.recipe import (
    Distill,
    Learning,
    Minimize,
    PruneChannels,
    QuantizeStatic,
    Recipe,
    ReplaceLayers,
    SimplifyGraph,
    Step,
)

Plan = Sequence[Step]
Way = Callable[[float], Plan]  #: steps that leave a share of the network

LEAST_MINUTES = 0.5  #: of a training
TRAINING_SHARES, LONGER_SHARE = (0.15, 0.15, 0.15), 0.25  #: of the budget, for one training each
MOST_LOOKS = 8  #: at networks that something was taken from
REPLACING_MINUTES = 10.0  #: of a budget in which layers can be taught one by one before the network is
REPLACING_SHARE = 0.15  #: of the budget, for the first time that layers are timed and taught
AS_FAST = 0.9  #: times the fastest of several ways, for one that can be preferred to it
WORSE = 2.0  #: times the loss of the best way, for one that is not tried again
FAR_BEHIND = 0.75  #: times the gain of the best way, for one that is not tried again
FIRST_SHARES = ((0.02, 0.35), (0.01, 0.45), (0.005, 0.55), (0.0, 0.7))  #: limit on the loss → share that may be left
BOLDER = 0.6  #: times the share that was enough, where none was too little yet
AS_GOOD_AS_FOUND = 0.88  #: shares nearer to each other than this are not told apart
USUALLY_LEFT = 0.1  #: of a loss, after the network has learned
HOPELESS = 2.0  #: times the limit, of the loss that is foreseen
PAYS = 1.05  #: times as fast, of a format that is worth its noise
OVERHEAD_SECONDS = 10.0  #: beside a training, of a step whose cost is not known yet
ENOUGH_LOOKS, SPENT = "more looks would hardly pay", "the budget was nearly spent"


def shares(budget_minutes: float) -> list[float]:
    """Minutes of each training that the budget is meant for, the longer one last; none where it is too small."""
    each = [round(share * budget_minutes, 2) for share in TRAINING_SHARES]
    return [minutes for minutes in [*each, round(LONGER_SHARE * budget_minutes, 2)] if minutes >= LEAST_MINUTES]


def may_train(recipe: Recipe) -> bool:
    """Whether a goal could lead to a training at all, before anything is known of the model."""
    limited = recipe.goal is not None and recipe.limits.accuracy_drop is not None
    return limited and bool(shares(recipe.budget.minutes)) and importlib.util.find_spec("torch") is not None


def reason_against(recipe: Recipe, pipeline: Pipeline) -> str | None:
    """Why nothing is taken from the network, as a sentence."""
    if recipe.limits.accuracy_drop is None:
        return "Nothing was taken from the network, since no limit says what may be lost: set limits.accuracy_drop."
    if importlib.util.find_spec("torch") is None:
        return "No smaller network was taught, since torch is not installed: pip install 'strop[train]'."
    if not shares(recipe.budget.minutes):
        least = LEAST_MINUTES / LONGER_SHARE
        return f"No smaller network was taught, which takes a budget of more than {least:g} minutes."
    samples = 0 if pipeline.calibration.synthetic else len(pipeline.calibration)
    if samples < FEWEST_TO_TEACH:
        return f"No smaller network was taught, which takes {FEWEST_TO_TEACH} samples to learn from, not {samples}."
    return None


def plans(recipe: Recipe, trials: Trials, pipeline: Pipeline) -> Iterator[Plan]:
    """After the plans without training, whose best format is used."""
    reason = reason_against(recipe, pipeline)
    if reason is not None:
        trials.notes.append(reason)
        return
    search = _Bisection(recipe, trials, pipeline)
    yield from search.plans()
    trials.notes.append(search.story())


@dataclass
class _Bisection:
    recipe: Recipe
    trials: Trials
    pipeline: Pipeline
    enough: float = 1.0  #: the smallest share that kept the limit
    too_little: float = 0.0  #: the largest one that did not
    kept: float = 1.0  #: the smallest share of a network that was taught and kept the limit
    looks: int = 0
    taught: int = 0
    missed: list[tuple[float, float]] = field(default_factory=list)  #: loss after learning, and the share
    left: float = USUALLY_LEFT  #: of a loss, after the last training
    stopped: str = ""
    tail: list[Step] = field(default_factory=list)  #: the format that pays
    ways: list[Way] = field(init=False)  #: that are still worth a look
    taken: dict[float, Plan] = field(default_factory=dict)  #: the best way for each share

    def __post_init__(self) -> None:
        self.ways = ways(self.recipe, self.trials.minimize)
        self._remember()

    def _remember(self) -> None:
        """What jobs with other budgets found: what kept the limit is enough; what did not may, taught for longer."""
        minutes = shares(self.recipe.budget.minutes)
        for plan, end in ends(self.pipeline.taken).items():
            taught = next((step.minutes for step in plan if isinstance(step, Distill)), None)
            if taught is None or taught in minutes:
                continue
            if self.trials.excess(end) is None:
                self.enough = self.kept = min(self.enough, share_of(plan))
            elif taught >= min(minutes):
                self.too_little = max(self.too_little, share_of(plan))

    def plans(self) -> Iterator[Plan]:
        format_step = best_format(self.trials)
        self.tail = [] if format_step is None else [format_step]
        *usual, longer = shares(self.recipe.budget.minutes)
        for minutes in usual:
            yield from self._one(minutes)
            if self.stopped:
                break
        yield from self._last(longer)
        self.stopped = self.stopped or "the budget was meant for no more"

    def _one(self, minutes: float) -> Iterator[Plan]:
        """One training, after as many looks as it takes to find a network that is worth it."""
        while not self.stopped:
            share = self._next_share()
            if share is None or self.looks >= MOST_LOOKS:
                self.stopped = "networks of a size in between would hardly differ" if share is None else ENOUGH_LOOKS
                return
            yield from self._look(share)
            smaller = self._smaller(share)
            if self.stopped or smaller is None:
                return
            end = self._quantized(self.taken[share])
            if self._is_hopeless(smaller):
                self.too_little = share
            elif not self._was_taught(share, minutes) and self.trials.gained(end) <= self._best_gain:
                self.enough = share
                self.kept = min(self.kept, share if self.trials.excess(end) is None else 1.0)
            else:
                yield from self._teach(share, smaller, minutes)
                return

    def _look(self, share: float) -> Iterator[Plan]:
        """At every way to come to that share."""
        self.looks += 1
        found: dict[Way, Candidate] = {}
        for way in tuple(self.ways):
            if ReplaceLayers in map(type, way(share)) and not self._can_replace():
                continue
            plan = [SimplifyGraph(), *way(share)]
            yield plan
            smaller = self.pipeline.came_of(plan)
            if smaller is None:
                self.stopped = SPENT
                return
            if is_smaller(smaller):
                found[way] = smaller
                yield [*plan, *self.tail]
        if not found:
            self.stopped = (
                SPENT if self.pipeline.out_of_time else "no channel could leave, and no layer could be replaced"
            )
            return
        gains = {way: self.trials.gained(self._quantized(way(share))) for way in found}
        best = self._best_way(found, gains)
        self.taken[share] = best(share)
        most, least = WORSE * max(_lost(found[best]), self._limit), FAR_BEHIND * gains[best]
        self.ways = [way for way in self.ways if way in found and _lost(found[way]) <= most and gains[way] >= least]

    def _best_way(self, found: Mapping[Way, Candidate], gains: Mapping[Way, float]) -> Way:
        """The one that loses least, of those that gain about as much as the best one that training may mend."""
        may_do = [way for way in found if not self._is_hopeless(found[way])] or list(found)
        most = max(gains[way] for way in may_do)
        return min((way for way in may_do if gains[way] >= AS_FAST * most), key=lambda way: _lost(found[way]))

    def _quantized(self, way: Plan) -> Candidate:
        """The fastest that a way came to, in the format or in float, before anything is taught.

        What it loses does not choose here: that is what the training is for.
        """
        smaller = self.pipeline.came_of([SimplifyGraph(), *way])
        assert smaller is not None, "it was looked at"
        made = [one for one in self.trials.candidates.values() if self._is_in_the_format(one, smaller)]
        return max([smaller, *made], key=self.trials.gained)

    def _is_in_the_format(self, candidate: Candidate, smaller: Candidate) -> bool:
        return candidate.steps[:-1] == smaller.steps and isinstance(candidate.steps[-1], FORMATS)

    def _can_replace(self) -> bool:
        """Once layers are taught, replacing them again takes as long as any other step."""
        known = self.pipeline.costs.get(ReplaceLayers)
        return self.pipeline.clock.allows(known or REPLACING_SHARE * 60 * self.recipe.budget.minutes)

    def _smaller(self, share: float) -> Candidate | None:
        return self.pipeline.came_of([SimplifyGraph(), *self.taken[share]]) if share in self.taken else None

    def _teach(self, share: float, smaller: Candidate, minutes: float) -> Iterator[Plan]:
        plan = self._plan(share, minutes, self.tail)
        if self.pipeline.came_of(plan) is None and not self._can_afford([Distill(minutes=minutes), *self.tail]):
            self.stopped = SPENT
            return
        yield plan
        after, end = self.pipeline.came_of(plan[: len(plan) - len(self.tail)]), self.pipeline.came_of(plan)
        if after is None or end is None:
            self.stopped = SPENT
            return
        self.taught += 1
        self.left = min(_lost(after) / max(_lost(smaller), 1e-6), 1.0)
        if self.trials.excess(end) is None:
            self.enough, self.kept = min(self.enough, share), min(self.kept, share)
        else:
            self.too_little = max(self.too_little, share)
            self.missed.append((_lost(end), share))

    def _last(self, minutes: float) -> Iterator[Plan]:
        """A longer training: of what missed the limit by least, if that may mend it; else of a new one."""
        near = [(lost, share) for lost, share in self.missed if lost <= HOPELESS * self._limit and share < self.enough]
        if not near:
            yield from self._one(minutes)
            return
        share = min(near)[1]
        smaller = self._smaller(share)
        if smaller is not None:
            yield from self._teach(share, smaller, minutes)

    # ── how much ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _next_share(self) -> float | None:
        """Of the run time, or of the weights, that may be left; None where that is known well enough."""
        if self.enough == 1 and not self.too_little:
            limit = self.recipe.limits.accuracy_drop or 0.0
            return next(share for least, share in FIRST_SHARES if limit >= least)
        if self.too_little > AS_GOOD_AS_FOUND * self.enough:
            return None
        between = math.sqrt(self.enough * self.too_little) if self.too_little else BOLDER * self.enough
        return round(between, 3)

    def _plan(self, share: float, minutes: float, tail: Plan) -> list[Step]:
        return [SimplifyGraph(), *self.taken[share], Distill(minutes=minutes), *tail]

    def _was_taught(self, share: float, minutes: float) -> bool:
        """By another attempt at the job, when the best of all was not as good yet."""
        return self.pipeline.came_of(self._plan(share, minutes, [])) is not None

    # ── is it worth it ───────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def _limit(self) -> float:
        return max(self.recipe.limits.accuracy_drop or 0.0, 0.002)

    @property
    def _best_gain(self) -> float:
        return max((self.trials.gained(one) for one in self.trials.ranked()[:1]), default=1.0)

    def _is_hopeless(self, smaller: Candidate) -> bool:
        return self.left * _lost(smaller) > HOPELESS * self._limit

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
        tried = f"Of {self.looks} smaller network{'s' * (self.looks != 1)} {self.taught or 'none'} "
        kept = f"; {self.kept:.0%} of the {self._whose} was enough to keep the limit" if self.kept < 1 else ""
        short = f"; {self.too_little:.0%} was too little" if self.too_little else ""
        was = "was" if self.taught <= 1 else "were"
        return f"{tried}{was} taught{kept}{short}. The search ended there, since {self.stopped}."

    @property
    def _whose(self) -> str:
        return "run time" if self.trials.minimize is Minimize.LATENCY else "weights"


def ways(recipe: Recipe, minimize: Minimize) -> list[Way]:
    """To leave a share of the network; another one belongs here."""
    if minimize is not Minimize.LATENCY:
        return [_fewer_weights]
    return [_narrower, _cheaper, _both] if recipe.budget.minutes >= REPLACING_MINUTES else [_narrower]


def _fewer_weights(share: float) -> Plan:
    return [PruneChannels(ratio=round(1 - math.sqrt(share), 3))]


def _narrower(share: float) -> Plan:
    return [PruneChannels(time_share=share)]


def _cheaper(share: float) -> Plan:
    return [ReplaceLayers(time_share=share)]


def _both(share: float) -> Plan:
    half_way = round(math.sqrt(share), 3)
    return [ReplaceLayers(time_share=half_way), PruneChannels(time_share=share)]  # which is one of the original's time


def share_of(plan: Plan) -> float:
    """What a plan leaves of the run time, or of the weights, by its own words."""
    left = [_left_by(step) for step in plan]
    return min(left, default=1.0)


def _left_by(step: Step) -> float:
    if isinstance(step, ReplaceLayers):
        return step.time_share
    if isinstance(step, PruneChannels):
        return step.time_share or (1 - step.ratio) ** 2
    return 1.0


def best_format(trials: Trials) -> Step | None:
    """The format that gained most inside the limit, for other weights; None where none pays."""
    whole = [one for one in trials.ranked() if not is_smaller(one)]
    plain = max((trials.gained(one) for one in whole if not _is_converted(one)), default=1.0)
    best = next((one for one in whole if _is_converted(one)), None)
    gained = trials.gained(best) / max(plain, 1.0) if best else 1.0
    if best is None or gained < PAYS:
        return None
    step = best.steps[-1]
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
