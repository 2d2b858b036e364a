"""The verdict in words: one sentence with the figures, and the reasons a reader may want to check."""

from engine import goal, words
from engine.pipeline.trials import Candidate, Trials
from engine.recipe import Metric, Minimize
from engine.report import Interval, Outcome, TrialState, Verdict

MOST_REASONS = 6


def verdict(trials: Trials, noise_floor: Interval | None, *, complete: bool, out_of_time: bool) -> Verdict:
    """Of the table as it is; not complete while the job goes on."""
    chosen = trials.candidates[trials.chosen] if trials.chosen else None
    limit = trials.recipe.limits.accuracy_drop
    if chosen:
        headline, reasons = _improved(trials, chosen), _why_better(trials, chosen, noise_floor)
    else:
        headline, reasons = _nothing(trials, complete=complete, out_of_time=out_of_time), _why_not(trials)
    reasons += trials.notes
    if not complete:
        reasons.append("These are quick figures from before the job's end, without the final measurement.")
    elif out_of_time:
        reasons.append(_out_of_time(trials))
    return Verdict(
        outcome=Outcome.IMPROVED if chosen else Outcome.NO_IMPROVEMENT,
        minimize=trials.minimize,
        headline=headline,
        reasons=reasons,
        within_limit=None if limit is None or chosen is None else trials.excess(chosen) is None,
        chosen=chosen.id if chosen else None,
        complete=complete,
    )


# ── there is a better file ───────────────────────────────────────────────────────────────────────────────────────────


def _improved(trials: Trials, chosen: Candidate) -> str:
    gain = trials.gain(chosen)
    assert gain is not None, "only what was measured is chosen"
    return f"{gain.value:.2f} times {_better(trials, chosen, gain)}, {at_what_price(trials, chosen)}."


def _better(trials: Trials, chosen: Candidate, gain: Interval) -> str:
    before, after = (goal.quantity(figures, trials.minimize) for figures in (trials.original.figures, chosen.figures))
    if trials.minimize is Minimize.LATENCY:
        return f"as fast ({words.range_of(gain)})"
    kind = "smaller" if trials.minimize is Minimize.SIZE else "less memory"
    return f"{kind} ({words.size(after)} instead of {words.size(before)})"


def at_what_price(trials: Trials, chosen: Candidate) -> str:
    """As the end of a sentence: what a file loses against the original."""
    drop, accuracy = chosen.comparison.accuracy_drop, trials.original.figures.accuracy
    limit = trials.recipe.limits.accuracy_drop
    if drop is None or accuracy is None:
        return "with an accuracy that could not be compared"
    if accuracy.metric == Metric.AGREEMENT:
        return f"with {words.share(1 - drop.value)} of {accuracy.samples} decisions as before"
    if accuracy.metric == Metric.SQNR:
        noise = f"{words.metric(chosen.figures.accuracy)} of signal to noise in the outputs"
        return f"with {noise if drop.value else 'the same outputs'}"
    if drop.low <= 0 <= drop.high:
        seen = f"with no measurable loss of {words.metric_name(accuracy)} on {accuracy.samples} samples"
        may_exceed = limit is not None and drop.high > limit
        return f"{seen}, too few to rule out a loss of {words.loss(limit, accuracy)}" if may_exceed else seen
    if drop.value < 0:
        return f"with {words.loss(-drop.value, accuracy)} more {words.metric_name(accuracy)}"
    return f"at a loss of {words.loss(drop.value, accuracy)} of {words.metric_name(accuracy)}"


def _why_better(trials: Trials, chosen: Candidate, noise_floor: Interval | None) -> list[str]:
    reasons = [f"Made by: {chosen.label}."]
    gain = trials.gain(chosen)
    if trials.minimize is Minimize.LATENCY and gain and noise_floor:
        floor = f"{noise_floor.low:.2f} to {noise_floor.high:.2f}"
        reasons.append(f"The whole interval lies above 1; the original against itself gave {floor}.")
    drop, accuracy = chosen.comparison.accuracy_drop, trials.original.figures.accuracy
    limit = trials.recipe.limits.accuracy_drop
    if drop is not None:
        measured = f"{words.loss(drop.value, accuracy)} lost (95 %: {words.loss_interval(drop, accuracy)})"
        allowed = f"the limit is {words.loss(limit, accuracy)}" if limit is not None else "no limit was set"
        reasons.append(f"{words.metric_name(accuracy)}: {measured}; {allowed}.")
    return reasons


# ── there is none ────────────────────────────────────────────────────────────────────────────────────────────────────


def _nothing(trials: Trials, *, complete: bool, out_of_time: bool) -> str:
    if not trials.candidates and not complete:
        return "No other file had been made yet, so the original is returned."
    if not trials.candidates and out_of_time:
        return "The budget ended before a candidate could be tried, so the original is returned."
    if not trials.candidates:
        return "No step could make another file of this model, so the original is returned."
    better = {Minimize.LATENCY: "measurably faster", Minimize.SIZE: "smaller", Minimize.MEMORY: "lighter in memory"}
    inside = " inside the limit" if trials.recipe.limits.accuracy_drop is not None else ""
    return f"No candidate{inside} is {better[trials.minimize]} than the original, so the original is returned."


def _out_of_time(trials: Trials) -> str:
    if not trials.candidates:
        return "A longer budget lets it try some: raise `budget.minutes`, which is --minutes of `strop optimize`."
    return "The budget ended the search before everything was tried."


def _why_not(trials: Trials) -> list[str]:
    """The best candidates first, then the steps that had nothing to do."""
    by_gain = sorted(trials.candidates.values(), key=trials.gained, reverse=True)
    rows = {row.id: row for row in trials.rows()}
    tried = [f"{one.id}, {one.label}: {rows[one.id].reason}" for one in by_gain]
    rest = [
        f"{row.label}: {row.reason}" for row in rows.values() if row.state in (TrialState.SKIPPED, TrialState.FAILED)
    ]
    return [*tried[: MOST_REASONS - 2], *rest[: MOST_REASONS - min(len(tried), MOST_REASONS - 2)]]
