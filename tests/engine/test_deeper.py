"""How much a goal takes from a network, told by what became of the networks before: nothing is measured here."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest

from engine import deeper
from engine.pipeline.plan import TAKING, Pipeline
from engine.pipeline.trials import Candidate, Trials
from engine.recipe import (
    Budget,
    Distill,
    Goal,
    Limits,
    Minimize,
    PruneChannels,
    QuantizeStatic,
    Recipe,
    ReplaceLayers,
    SimplifyGraph,
    Step,
)
from tests.engine.pipeline.candidates import candidate, table


@dataclass
class Workshop:
    """Carries plans out in no time: what a share of the network loses, before and after it has learned, is a rule."""

    trials: Trials
    needed: float  #: the smallest share of the network that keeps the limit of a point
    taken: dict[tuple[Step, ...], Candidate] = field(default_factory=dict)
    costs: dict[type[Step], float] = field(default_factory=dict)
    calibration: Sequence[int] = field(default_factory=lambda: _Samples(2000))
    left_seconds: float = 1000.0
    out_of_time: bool = False
    harm: float = 8.0
    learned: float = 1.0  #: share of the harm that one training mends
    harm_of_replacing: float = 20.0
    gain_of_8_bits: tuple[float, float] = (1.0, 1.0)  #: of dense layers, and of those that took their place

    @property
    def clock(self) -> Any:
        return SimpleNamespace(allows=lambda seconds: seconds <= self.left_seconds)

    def came_of(self, plan: Sequence[Step]) -> Candidate | None:
        return self.taken.get(tuple(plan))

    def run(self, plan: Sequence[Step]) -> None:
        for length in range(1, len(plan) + 1):
            prefix = tuple(plan[:length])
            if prefix not in self.taken:
                self.taken[prefix] = self._made(prefix)
                self.trials.add(self.taken[prefix])

    def _made(self, steps: tuple[Step, ...]) -> Candidate:
        share = _left_of(steps)
        replaced = any(isinstance(step, ReplaceLayers) for step in steps)
        harm = self.harm_of_replacing if replaced else self.harm
        drop = 0.01 * (self.needed / share) ** 2 * (1 + (harm - 1) * (1 - self.learned) ** _trainings(steps))
        gain = self.gain_of_8_bits[replaced] if any(isinstance(step, QuantizeStatic) for step in steps) else 1.0
        return candidate(self.trials.next_id(), gain / share, drop, steps=steps)


class _Samples(Sequence[int]):
    synthetic = False

    def __init__(self, count: int) -> None:
        self.length = count

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: object) -> Any:
        raise IndexError


def _left_of(steps: Sequence[Step]) -> float:
    """Of the original: times of narrower networks are told of that, all else of what was there before."""
    left = 1.0
    for step in steps:
        if isinstance(step, ReplaceLayers):
            left *= step.time_share
        elif isinstance(step, PruneChannels):
            left = step.time_share or left * (1 - step.ratio) ** 2
    return left


def searched(
    needed: float,
    *,
    minimize: Minimize = Minimize.LATENCY,
    minutes: float = 20.0,
    samples: int = 2000,
    harm_of_replacing: float = 20.0,
) -> tuple[Trials, list[list[Step]]]:
    trials, _ = table(minimize=minimize)
    recipe = Recipe(goal=Goal(minimize=minimize), limits=Limits(accuracy_drop=0.01), budget=Budget(minutes=minutes))
    shop = Workshop(trials, needed, calibration=_Samples(samples), harm_of_replacing=harm_of_replacing)
    return trials, list(_carried_out(deeper.plans(recipe, trials, cast("Pipeline", shop)), shop))


def _carried_out(plans: Iterator[Sequence[Step]], shop: Workshop) -> Iterator[list[Step]]:
    for plan in plans:
        shop.run(plan)
        yield list(plan)


def trained(plans: list[list[Step]]) -> list[float]:
    """Shares of the networks that learned, in turn."""
    return [_left_of(plan) for plan in plans if any(isinstance(step, TAKING) for step in plan) and _trainings(plan)]


def _trainings(plan: Sequence[Step]) -> int:
    """Since the last time that something was taken; as many as one likes where nothing ever was."""
    taken = [index for index, step in enumerate(plan) if isinstance(step, TAKING)]
    return sum(isinstance(step, Distill) for step in plan[taken[-1] :]) if taken else 99


@pytest.mark.parametrize("needed", [0.2, 0.4, 0.6])
def test_it_comes_near_to_the_smallest_network_that_keeps_the_limit(needed: float) -> None:
    trials, plans = searched(needed)
    inside = [one for one in trials.ranked() if any(isinstance(step, Distill) for step in one.steps)]
    assert needed <= _left_of(inside[0].steps) < 1.2 * needed
    assert len(trained(plans)) < 10
    assert "was enough to keep the limit" in trials.notes[0]


def test_what_is_taken_next_is_taken_from_what_has_learned() -> None:
    _, plans = searched(0.2)
    first = next(plan for plan in plans if _trainings(plan) == 1)
    base = first[:-1] if isinstance(first[-1], QuantizeStatic) else first
    later = plans[plans.index(first) + 1 :]
    assert later and all(plan[: len(base)] == base for plan in later)


def test_a_network_that_comes_nearer_to_the_limit_is_taught_again() -> None:
    trials, _ = table()
    recipe = Recipe(goal=Goal(), limits=Limits(accuracy_drop=0.01), budget=Budget(minutes=20))
    shop = Workshop(trials, 0.4, learned=0.9)
    plans = list(_carried_out(deeper.plans(recipe, trials, cast("Pipeline", shop)), shop))
    assert trained(plans)[:2] == [0.45, 0.45], "a loss of 6.3 points, of 1.3 after one training, of 0.9 after two"
    assert min(trained(plans)) < 0.45, "and once it keeps the limit, less is tried"


def test_a_larger_budget_goes_on_where_a_smaller_one_ended() -> None:
    trials, _ = table()
    shop = Workshop(trials, 0.2)
    plans: dict[float, list[list[Step]]] = {}
    for minutes in (5.0, 40.0):
        recipe = Recipe(goal=Goal(), limits=Limits(accuracy_drop=0.01), budget=Budget(minutes=minutes))
        plans[minutes] = list(_carried_out(deeper.plans(recipe, trials, cast("Pipeline", shop)), shop))
    assert max(trained(plans[40.0])) < min(share for share in trained(plans[5.0]) if share >= 0.2)


def test_a_share_that_was_only_looked_at_is_not_said_to_keep_the_limit() -> None:
    trials, _ = table(candidate("t01", 1000.0, steps=(SimplifyGraph(),)))  # nothing that is taken away gains more
    recipe = Recipe(goal=Goal(), limits=Limits(accuracy_drop=0.01), budget=Budget(minutes=20))
    shop = Workshop(trials, 0.45)
    list(_carried_out(deeper.plans(recipe, trials, cast("Pipeline", shop)), shop))
    assert "none was taught" in trials.notes[0] and "enough to keep the limit" not in trials.notes[0]


def test_a_network_that_no_training_would_mend_is_not_taught() -> None:
    trials, plans = searched(0.99)
    looked = [plan for plan in plans if not any(isinstance(step, Distill) for step in plan)]
    assert len(looked) > len(set(trained(plans))), "the smallest one was only looked at"
    assert min(trained(plans)) > 0.45
    assert "too little" in trials.notes[0]


@pytest.mark.parametrize(("harm_of_replacing", "is_taught"), [(1.0, True), (20.0, False)])
def test_the_way_that_loses_less_is_taught(harm_of_replacing: float, is_taught: bool) -> None:
    _, plans = searched(0.4, harm_of_replacing=harm_of_replacing)
    assert any(isinstance(step, ReplaceLayers) for plan in plans for step in plan), "both were looked at"
    taught = [plan for plan in plans if any(isinstance(step, Distill) for step in plan)]
    assert taught and all(any(isinstance(one, ReplaceLayers) for one in plan) == is_taught for plan in taught)


@pytest.mark.parametrize(("gains", "is_replaced"), [((2.0, 1.2), False), ((2.0, 2.0), True)])
def test_the_way_that_gains_most_from_8_bits_is_taught(gains: tuple[float, float], is_replaced: bool) -> None:
    trials, _ = table(candidate("t01", 1.0, steps=(SimplifyGraph(),)))
    trials.add(candidate("t02", 2.0, steps=(SimplifyGraph(), QuantizeStatic())))
    recipe = Recipe(goal=Goal(), limits=Limits(accuracy_drop=0.01), budget=Budget(minutes=20))
    shop = Workshop(trials, 0.4, harm_of_replacing=7.0, gain_of_8_bits=gains)  # which loses less in float
    plans = list(_carried_out(deeper.plans(recipe, trials, cast("Pipeline", shop)), shop))
    taught = [plan for plan in plans if any(isinstance(step, Distill) for step in plan)]
    assert taught and all(any(isinstance(one, ReplaceLayers) for one in plan) == is_replaced for plan in taught)


def test_before_it_is_taught_a_way_is_judged_by_its_fastest_file_not_its_truest() -> None:
    way = [PruneChannels(time_share=0.3)]
    plan = (SimplifyGraph(), *way)
    smaller = candidate("t01", 4.0, 0.024, steps=plan)
    truer = candidate("t02", 7.4, 0.024, steps=(*plan, QuantizeStatic()))
    faster = candidate("t03", 8.7, 0.025, steps=(*plan, QuantizeStatic(keep_float=("conv1",))))
    trials, _ = table(smaller, truer, faster)
    recipe = Recipe(goal=Goal(), limits=Limits(accuracy_drop=0.01))
    shop = Workshop(trials, 0.4, taken={plan: smaller, (*plan, QuantizeStatic()): truer})
    search = deeper._Shrinking(recipe, trials, cast("Pipeline", shop))
    assert search._quantized([SimplifyGraph(), *way]) is faster


def test_a_small_budget_has_no_time_to_teach_layers_one_by_one() -> None:
    _, plans = searched(0.4, minutes=8)
    assert trained(plans) and not any(isinstance(step, ReplaceLayers) for plan in plans for step in plan)


def test_a_smaller_file_is_found_by_a_ratio() -> None:
    _, plans = searched(0.4, minimize=Minimize.SIZE)
    steps = [step for plan in plans for step in plan if isinstance(step, PruneChannels)]
    assert steps and all(step.time_share is None for step in steps)


def test_the_format_that_paid_is_taken_on_the_smaller_network() -> None:
    trials, _ = table(candidate("t01", 1.0, steps=(SimplifyGraph(),)))
    fixed = QuantizeStatic(activations="unsigned", weight_range="reduced", calibration="mse", keep_float=("conv1",))
    trials.add(candidate("t02", 1.5, steps=(SimplifyGraph(), fixed)))
    step = deeper.best_format(trials)
    assert isinstance(step, QuantizeStatic)
    assert step.activations == "unsigned" and step.keep_float == () and step.calibration == "auto"


def test_what_has_learned_is_tried_in_every_format_and_what_is_looked_at_in_the_fastest_one() -> None:
    trials, _ = table(candidate("t01", 1.0, steps=(SimplifyGraph(),)))
    trials.add(candidate("t02", 2.0, steps=(SimplifyGraph(), QuantizeStatic(activations="signed"))))
    recipe = Recipe(goal=Goal(), limits=Limits(accuracy_drop=0.01), budget=Budget(minutes=20))
    shop = Workshop(trials, 0.4, gain_of_8_bits=(2.0, 2.0))
    plans = list(_carried_out(deeper.plans(recipe, trials, cast("Pipeline", shop)), shop))
    formats = {
        (isinstance(plan[-2], Distill), plan[-1].activations) for plan in plans if isinstance(plan[-1], QuantizeStatic)
    }
    assert (True, "auto") in formats and (True, "signed") not in formats and (False, "signed") in formats


def test_a_format_that_did_not_pay_is_left_out() -> None:
    trials, _ = table(candidate("t01", 1.5, steps=(SimplifyGraph(),)))
    trials.add(candidate("t02", 1.52, steps=(SimplifyGraph(), QuantizeStatic())))
    assert deeper.best_format(trials) is None


@pytest.mark.parametrize(
    ("minutes", "samples", "why"),
    [(1, 2000, "budget of 2 minutes or more"), (20, 300, "takes 500 samples to learn from, not 300")],
)
def test_why_nothing_is_taught_is_said(minutes: float, samples: int, why: str) -> None:
    trials, plans = searched(0.4, minutes=minutes, samples=samples)
    assert plans == [] and why in trials.notes[0]


def test_without_a_limit_nothing_is_taken_away() -> None:
    trials, _ = table(limit=None)
    shop = Workshop(trials, 0.4)
    assert list(deeper.plans(trials.recipe, trials, cast("Pipeline", shop))) == []
    assert "set limits.accuracy_drop" in trials.notes[0]


def test_another_attempt_asks_for_the_same_steps_though_the_table_is_full_from_its_beginning() -> None:
    trials, _ = table(candidate("t01", 1.5, steps=(SimplifyGraph(), QuantizeStatic())))
    recipe = Recipe(goal=Goal(), limits=Limits(accuracy_drop=0.01), budget=Budget(minutes=20))
    shop = Workshop(trials, 0.3)
    first = list(_carried_out(deeper.plans(recipe, trials, cast("Pipeline", shop)), shop))
    made = len(shop.taken)
    second = list(_carried_out(deeper.plans(recipe, trials, cast("Pipeline", shop)), shop))
    assert first == second and len(shop.taken) == made


def test_a_training_that_the_budget_cannot_pay_is_not_begun() -> None:
    trials, _ = table()
    recipe = Recipe(goal=Goal(), limits=Limits(accuracy_drop=0.01), budget=Budget(minutes=20))
    shop = Workshop(trials, 0.3, left_seconds=60)
    plans = list(_carried_out(deeper.plans(recipe, trials, cast("Pipeline", shop)), shop))
    assert trained(plans) == [] and "the budget was nearly spent" in trials.notes[0]


@pytest.mark.parametrize(("minutes", "may"), [(1, False), (2, True)])
def test_samples_are_kept_for_a_training_only_where_the_budget_has_time_for_one(minutes: float, may: bool) -> None:
    recipe = Recipe(goal=Goal(), limits=Limits(accuracy_drop=0.01), budget=Budget(minutes=minutes))
    assert deeper.may_train(recipe) is may
