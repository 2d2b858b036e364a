"""The verdict says what was found, and no more."""

from engine.pipeline.verdict import verdict
from engine.recipe import Minimize, QuantizeDynamic
from engine.report import Outcome, TrialState
from tests.engine.pipeline.candidates import candidate, interval, table


def test_an_improvement_is_told_with_its_interval_and_its_price() -> None:
    trials, _ = table(candidate("t01", 1.7, drop=0.008))
    found = verdict(trials, interval(1, 0.01), complete=True, out_of_time=False)
    assert found.outcome is Outcome.IMPROVED and found.chosen == "t01" and found.within_limit is True
    assert found.headline == "1.70 times as fast (95 %: 1.68 to 1.72), at a loss of 0.8 points of top-1."
    assert any("the original against itself gave 0.99 to 1.01" in reason for reason in found.reasons)


def test_a_loss_that_cannot_be_told_from_none_is_not_called_one() -> None:
    trials, _ = table(candidate("t01", 1.7, drop=0.001))
    found = verdict(trials, None, complete=True, out_of_time=False)
    assert "no measurable loss of top-1 on 500 samples" in found.headline


def test_samples_too_few_for_the_limit_are_called_so() -> None:
    trials, _ = table(candidate("t01", 1.7, drop=0.001), limit=0.002)
    found = verdict(trials, None, complete=True, out_of_time=False)
    assert found.headline.endswith("on 500 samples, too few to rule out a loss of 0.2 points.")


def test_a_smaller_file_is_told_in_bytes() -> None:
    trials, _ = table(candidate("t01", 1.0, size_bytes=250), minimize=Minimize.SIZE)
    found = verdict(trials, None, complete=True, out_of_time=False)
    assert found.headline.startswith("4.00 times smaller (250 B instead of 1.00 kB)")


def test_without_an_improvement_every_reason_is_given() -> None:
    trials, _ = table(candidate("t01", 1.9, drop=0.3), candidate("t02", 0.8))
    trials.add_without_file([QuantizeDynamic()], "dynamic int8", TrialState.SKIPPED, "No matrix product.", cost=0)
    found = verdict(trials, None, complete=True, out_of_time=False)
    assert found.outcome is Outcome.NO_IMPROVEMENT and found.chosen is None and found.within_limit is None
    assert [reason.split(":")[0].split(",")[0] for reason in found.reasons] == ["t01", "t02", "dynamic int8"]


def test_a_job_that_goes_on_says_so() -> None:
    trials, _ = table(candidate("t01", 1.7))
    found = verdict(trials, None, complete=False, out_of_time=False)
    assert found.complete is False and "without the final measurement" in found.reasons[-1]


def test_a_search_that_the_budget_ended_says_so() -> None:
    trials, _ = table()
    found = verdict(trials, None, complete=True, out_of_time=True)
    assert "budget ended before a candidate could be tried" in found.headline
    assert [reason for reason in found.reasons if "budget" in reason] == [
        "A longer budget lets it try some: raise `budget.minutes`, which is --minutes of `strop optimize`."
    ]


def test_a_job_that_is_ended_before_anything_was_tried_does_not_say_that_nothing_could_be_done() -> None:
    trials, _ = table()
    trials.add_without_file([QuantizeDynamic()], "dynamic int8", TrialState.SKIPPED, "No matrix product.", cost=0)
    assert "No other file had been made yet" in verdict(trials, None, complete=False, out_of_time=False).headline
    assert "No step could make" in verdict(trials, None, complete=True, out_of_time=False).headline
