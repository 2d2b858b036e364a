"""What is chosen, and what each trial is told about itself."""

from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import cast

import pytest

from engine.pipeline.plan import Pipeline
from engine.pipeline.trials import Trials
from engine.recipe import Minimize, QuantizeStatic, SimplifyGraph
from engine.report import TrialState
from engine.steps import Rounds
from tests.engine.pipeline.candidates import candidate, interval, table


def states(trials: Trials) -> dict[str, TrialState]:
    return {row.id: row.state for row in trials.rows()}


def test_the_fastest_inside_the_limit_is_chosen() -> None:
    trials, _ = table(candidate("t01", 1.2), candidate("t02", 1.9, drop=0.05), candidate("t03", 1.6, drop=0.009))
    assert trials.chosen == "t03"
    assert states(trials) == {
        "t01": TrialState.DOMINATED,
        "t02": TrialState.REJECTED,
        "t03": TrialState.KEPT,
    }


def test_a_missed_limit_is_told_with_both_figures() -> None:
    trials, _ = table(candidate("t01", 1.9, drop=0.056))
    assert "it loses 5.6 points; the limit is 1 point" in trials.rows()[0].reason


def test_of_two_that_are_as_fast_the_more_accurate_is_chosen() -> None:
    trials, _ = table(candidate("t01", 1.70, drop=0.005), candidate("t02", 1.69, drop=0.0))
    assert trials.chosen == "t02"
    assert "at least as true" in trials.rows()[0].reason


def test_of_two_that_are_as_fast_and_as_accurate_the_more_faithful_is_chosen() -> None:
    trials, _ = table(candidate("t01", 1.70, sqnr_db=12), candidate("t02", 1.69, sqnr_db=30))
    assert trials.chosen == "t02"


def test_a_gain_that_noise_may_explain_is_not_paid_for_in_accuracy() -> None:
    noisy = [candidate("t01", 1.74, drop=0.008), candidate("t02", 1.67, drop=0.0)]
    wide = [
        replace(one, comparison=one.comparison.model_copy(update={"speedup": interval(value, 0.2)}))
        for one, value in zip(noisy, (1.74, 1.67), strict=True)
    ]
    assert table(*noisy)[0].chosen == "t01"
    assert table(*wide)[0].chosen == "t02"


def test_a_lucky_score_does_not_win_over_outputs_that_are_nearer_to_the_original() -> None:
    trials, _ = table(candidate("t01", 1.7, drop=-0.02, sqnr_db=25), candidate("t02", 1.7, drop=0.001, sqnr_db=41))
    assert trials.chosen == "t02"


def test_a_gain_of_accuracy_is_not_told_as_a_loss() -> None:
    trials, _ = table(candidate("t01", 1.7, drop=-0.004))
    assert "a loss of 0 points" in trials.rows()[0].reason


def test_what_is_slower_than_the_original_is_never_chosen() -> None:
    trials, _ = table(candidate("t01", 0.7), candidate("t02", 1.01))
    assert trials.chosen is None
    assert set(states(trials).values()) == {TrialState.REJECTED}


def test_a_part_of_the_way_is_kept_though_it_gains_nothing() -> None:
    first = candidate("t01", 1.0, steps=(SimplifyGraph(),))
    trials, _ = table(first, candidate("t02", 1.7, steps=(SimplifyGraph(), QuantizeStatic())))
    assert states(trials)["t01"] is TrialState.KEPT
    assert "t02 builds on it" in trials.rows()[0].reason


def test_without_a_limit_a_collapse_is_still_refused() -> None:
    trials, _ = table(candidate("t01", 3.0, drop=0.4), limit=None)
    assert trials.chosen is None
    assert "set limits.accuracy_drop" in trials.rows()[0].reason


def test_without_a_limit_a_step_goes_on_with_a_variant_that_is_not_measurably_worse_than_its_best() -> None:
    variants = [candidate("t01", 1.5, drop=0.001), candidate("t02", 1.9, drop=0.03)]
    trials, _ = table(*variants, limit=None)
    assert trials.best_of(variants, trials.original) is variants[0]


def test_a_step_that_makes_it_slower_is_rolled_back() -> None:
    base, slower = candidate("t01", 1.5), candidate("t02", 1.2)
    trials, _ = table(base, slower)
    assert trials.best_of([slower], base) is base


def test_a_step_that_does_no_harm_stays() -> None:
    base, same = candidate("t01", 1.5), candidate("t02", 1.48)
    trials, _ = table(base, same)
    assert trials.best_of([same], base) is same


def test_the_front_holds_what_nothing_beats() -> None:
    trials, _ = table(
        candidate("t01", 1.2, drop=0.001), candidate("t02", 1.6, drop=0.005), candidate("t03", 1.5, drop=0.006)
    )
    assert [row.id for row in trials.rows() if row.on_front] == ["t01", "t02"]


def test_a_smaller_file_is_chosen_for_its_size_whatever_its_speed() -> None:
    trials, _ = table(candidate("t01", 1.9), candidate("t02", 0.9, size_bytes=260), minimize=Minimize.SIZE)
    assert trials.chosen == "t02"


def test_one_percent_less_is_not_worth_another_file() -> None:
    trials, _ = table(candidate("t01", 1.5, size_bytes=990), minimize=Minimize.SIZE)
    assert trials.chosen is None


def test_only_one_trial_of_a_step_is_told_to_be_kept() -> None:
    _, told = table(candidate("t01", 1.2), candidate("t02", 1.5), candidate("t03", 1.9))
    assert [trial.state for trial in told] == [TrialState.DOMINATED, TrialState.DOMINATED, TrialState.KEPT]


def test_each_trial_is_told_when_it_ends() -> None:
    trials, told = table(candidate("t01", 1.2))
    trials.add_without_file([SimplifyGraph()], "simplify graph", TrialState.SKIPPED, "Nothing to fold.", cost=0.1)
    assert [(trial.id, trial.state) for trial in told] == [("t01", TrialState.KEPT), ("t02", TrialState.SKIPPED)]


def test_what_a_later_step_recovers_may_be_outside_of_the_limit_meanwhile() -> None:
    pruned = candidate("t01", 1.8, drop=0.4)
    trials, _ = table(pruned)
    assert trials.best_of([pruned], trials.original) is trials.original
    assert trials.best_of([pruned], trials.original, recovers_later=True) is pruned


def test_what_came_nearer_to_the_limit_is_built_on_though_it_is_outside_and_no_faster() -> None:
    pruned, recovered = candidate("t01", 1.8, drop=0.4), candidate("t02", 1.7, drop=0.02)
    trials, _ = table(pruned, recovered)
    assert trials.best_of([recovered], pruned) is recovered
    worse = candidate("t03", 2.4, drop=0.5)
    assert trials.best_of([worse], pruned) is pruned


def test_a_loss_of_just_the_limit_is_inside_though_floats_round() -> None:
    trials, _ = table(candidate("t01", 1.5, 400 / 500 - 395 / 500), limit=0.01)
    assert 400 / 500 - 395 / 500 > 0.01
    assert trials.excess(trials.candidates["t01"]) is None


@pytest.mark.parametrize(("before", "mended"), [(0.0, True), (0.02, False)])
def test_no_layer_goes_back_to_float_where_the_file_before_lost_too_much(before: float, mended: bool) -> None:
    trials, _ = table()
    place = SimpleNamespace(trials=trials, bench=SimpleNamespace(recipe=trials.recipe))
    base, quantized = candidate("t01", 3.0, before), candidate("t02", 5.0, 0.02)
    standing = Pipeline._standing(cast("Pipeline", place), quantized, base)
    assert standing.inside != mended


def test_a_step_that_breaks_is_a_row_and_not_the_end() -> None:
    def rounds() -> Rounds:
        raise IndexError("a fault of ours")
        yield []

    trials, _ = table()
    place = SimpleNamespace(trials=trials)
    place._add_without_file = partial(Pipeline._add_without_file, cast("Pipeline", place))
    place._new = partial(Pipeline._new, cast("Pipeline", place))
    assert Pipeline._next(cast("Pipeline", place), rounds(), QuantizeStatic(), trials.original, None) == []
    (row,) = trials.rows()
    assert row.state is TrialState.FAILED
    assert "IndexError: “a fault of ours”" in row.reason
