"""The verdict where nothing is to be improved: models side by side, or one by itself. It says what is."""

from collections import defaultdict

from engine import goal, words
from engine.pipeline.trials import Candidate, Trials
from engine.pipeline.verdict import at_what_price
from engine.recipe import Metric, Minimize
from engine.report import Figures, Interval, ModelSummary, Outcome, Profile, TrialState, Verdict

UNFINISHED = "These are quick figures from before the job's end, without the final measurement."


# ── models side by side ──────────────────────────────────────────────────────────────────────────────────────────────


def compared(trials: Trials, name: str, noise_floor: Interval | None, *, complete: bool) -> Verdict:
    """Of the table as it is; `name` is that of the first model."""
    faster = [one for one in trials.candidates.values() if goal.holds(trials.gain(one), trials.minimize, noise_floor)]
    fastest = max(faster, key=trials.gained, default=None)
    reasons = [f"{_speeds(one, name)}." for one in trials.candidates.values() if len(trials.candidates) > 1]
    reasons += [f"{one.label} answers {_price(trials, one)}." for one in trials.candidates.values()]
    reasons += [f"{row.label}: {row.reason}" for row in trials.rows() if row.state is TrialState.FAILED]
    return Verdict(
        outcome=Outcome.COMPARED,
        minimize=trials.minimize,
        headline=f"{_headline(trials, fastest, name)}.",
        reasons=reasons if complete else [*reasons, UNFINISHED],
        complete=complete,
    )


def _headline(trials: Trials, fastest: Candidate | None, name: str) -> str:
    candidates = list(trials.candidates.values())
    if not candidates:
        return f"Nothing could be measured beside {name}"
    if len(candidates) == 1:
        return _speeds(candidates[0], name)
    if fastest is None:
        return f"None of the others is measurably faster than {name}"
    return f"The fastest of {len(candidates) + 1}: {_speeds(fastest, name)}"


def _speeds(one: Candidate, name: str) -> str:
    """Which of the two is faster, by how much, and how sure that is."""
    speedup = one.comparison.speedup
    if speedup is None:
        return f"{one.label} was not timed beside {name}"
    if speedup.low > 1:
        return f"{one.label} is {words.times(speedup.value)} as fast as {name} ({words.range_of(speedup)})"
    if speedup.high < 1:
        slower = Interval(value=1 / speedup.value, low=1 / speedup.high, high=1 / speedup.low)
        return f"{name} is {words.times(slower.value)} as fast as {one.label} ({words.range_of(slower)})"
    return f"{one.label} and {name} cannot be told apart in speed ({words.range_of(speedup)})"


def _price(trials: Trials, one: Candidate) -> str:
    drop, accuracy = one.comparison.accuracy_drop, trials.original.figures.accuracy
    if drop is not None and accuracy is not None and accuracy.metric == Metric.AGREEMENT:
        return f"with the same decision on {words.share(1 - drop.value)} of {accuracy.samples} samples"
    return at_what_price(trials, one)


# ── one model by itself ──────────────────────────────────────────────────────────────────────────────────────────────


def analyzed(model: ModelSummary, figures: Figures, profile: Profile | None, name: str, *, complete: bool) -> Verdict:
    """How long a run takes and what takes it, how large it is, and which steps could do something for it."""
    latency = figures.latency
    time = (
        f"One run of {name} takes {words.milliseconds(latency.median_ms)}" if latency else f"{name} was not timed yet"
    )
    fitting = [step.kind for step in model.steps if step.applies]
    size, parameters, macs = words.size(figures.size_bytes), words.count(figures.parameters), words.count(figures.macs)
    reasons = [
        f"{size} in the file, {parameters} parameters, {macs} multiply-adds a run.",
        f"Steps that may do something for it: {', '.join(fitting) or 'none'}.",
    ]
    return Verdict(
        outcome=Outcome.ANALYZED,
        minimize=Minimize.LATENCY,
        headline=f"{time}{_mostly(profile)}.",
        reasons=reasons if complete else [*reasons, UNFINISHED],
        complete=complete,
    )


def _mostly(profile: Profile | None) -> str:
    """The kind of operator that takes most of the time, as a further clause."""
    if profile is None or not profile.operators or profile.total_ms <= 0:
        return ""
    kinds: dict[str, list[float]] = defaultdict(list)
    for operator in profile.operators:
        kinds[operator.operator].append(operator.time_ms)
    kind, times = max(kinds.items(), key=lambda item: sum(item[1]))
    return f"; {len(times)} × {kind} take {words.share(sum(times) / profile.total_ms)} of it"
