"""Did a change cross a line? Two figures of a report, each with its 95 % interval, against what was asked for.

    speed       crossed where the whole interval lies below the line
    accuracy    crossed where the whole interval of what is lost lies above the line

An interval that holds the line leaves it open. That passes, so that noise never fails a build; where it is strict, it
does not: then both must be sure.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from strop.models import Interval

POINTS_PER_SHARE = 100
UNCHANGED, UNLOST = Interval(value=1, low=1, high=1), Interval(value=0, low=0, high=0)


class Unjudged(ValueError):
    """The report holds no figures that a gate could judge."""


class Outcome(StrEnum):
    KEPT = "kept"  #: surely on the right side
    OPEN = "open"  #: the interval holds the line
    CROSSED = "crossed"  #: surely on the wrong side


@dataclass(frozen=True)
class Line:
    outcome: Outcome
    words: str


@dataclass(frozen=True)
class Judgement:
    lines: list[Line]
    strict: bool

    @property
    def passed(self) -> bool:
        allowed = {Outcome.KEPT} if self.strict else {Outcome.KEPT, Outcome.OPEN}
        return all(line.outcome in allowed for line in self.lines)

    def __str__(self) -> str:
        """One line for the log of a build."""
        return f"gate {'passed' if self.passed else 'FAILED'}: {' · '.join(line.words for line in self.lines)}"


def judge(report: Mapping[str, Any], *, min_speedup: float | None, max_drop: float | None, strict: bool) -> Judgement:
    """Of a comparison of two models, or of an optimization: of the file that it offers. Raises Unjudged."""
    comparison = _comparison(report)
    lines = []
    if min_speedup is not None:
        lines.append(_speed(_interval(comparison, "speedup"), min_speedup))
    if max_drop is not None:
        lines.append(_accuracy(_interval(comparison, "accuracy_drop"), max_drop, report["baseline"]["accuracy"] or {}))
    return Judgement(lines, strict)


def _comparison(report: Mapping[str, Any]) -> Mapping[str, Any]:
    outcome = report["verdict"]["outcome"]
    if outcome == "compared":
        if len(report["trials"]) != 1:
            raise Unjudged(f"the report compares {len(report['trials'])} models with the first; a gate judges one")
        (trial,) = report["trials"]
        if trial["comparison"] is None:
            raise Unjudged(f"{trial['label']} was not measured: {trial['reason']}")
        return trial["comparison"]
    if outcome == "analyzed":
        raise Unjudged("the report is of one model by itself; a gate needs two")
    unchanged = {"speedup": vars(UNCHANGED), "accuracy_drop": vars(UNLOST)}
    return report["comparison"] if outcome == "improved" else unchanged


def _interval(comparison: Mapping[str, Any], name: str) -> Interval:
    if comparison.get(name) is None:
        what, remedy = ("speed", "run it again") if name == "speedup" else ("accuracy", "give it samples of real data")
        raise Unjudged(f"the {what} was not compared; {remedy}")
    return Interval.parse(comparison[name])


def _speed(found: Interval, least: float) -> Line:
    outcome = Outcome.KEPT if found.low >= least else Outcome.CROSSED if found.high < least else Outcome.OPEN
    interval = f"95 %: {found.low:.2f} to {found.high:.2f}"
    return Line(outcome, f"{found.value:.2f} times as fast ({interval}; at least {least:g}){_doubt(outcome)}")


def _accuracy(found: Interval, most: float, accuracy: Mapping[str, Any]) -> Line:
    outcome = Outcome.KEPT if found.high <= most else Outcome.CROSSED if found.low > most else Outcome.OPEN
    scale, unit = (POINTS_PER_SHARE, "points of ") if accuracy.get("unit") == "share" else (1, "")
    value, low, high, limit = (scale * each for each in (found.value, found.low, found.high, most))
    words = f"{value:.3g} {unit}{accuracy.get('metric', 'accuracy')} lost (95 %: {low:.3g} to {high:.3g}; "
    return Line(outcome, f"{words}at most {limit:g}){_doubt(outcome)}")


def _doubt(outcome: Outcome) -> str:
    return {Outcome.KEPT: "", Outcome.OPEN: ", not sure", Outcome.CROSSED: ", CROSSED"}[outcome]
