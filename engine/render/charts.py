"""Geometry of the report's charts; the templates only draw it.

Across, all is in percent of the plot's width, so that a chart fits a phone as well as a printed page; down, in pixels.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from statistics import median, quantiles

from engine import goal, words
from engine.recipe import Minimize
from engine.report import Interval, LatencySeries, OperatorTime, Outcome, Profile, Report, Trial, TrialState

PARETO_HEIGHT, LANE_HEIGHT = 320, 74
LABEL_WIDTH, LABEL_HEIGHT = 9, 15
FEW_TRIALS = 12  #: of more only the front and the chosen one get a label
DOTS_PER_LANE, LAYERS_SHOWN = 240, 12


@dataclass(frozen=True)
class Tick:
    at: float
    text: str


@dataclass(frozen=True)
class Scale:
    """Values to places: `start` is where `low` lies, `end` where `high` does."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        inside = min(max(value, self.low), self.high)
        return round(self.start + (inside - self.low) / (self.high - self.low) * (self.end - self.start), 2)

    def holds(self, value: float) -> bool:
        return self.low <= value <= self.high

    def marks(self, wanted: int = 5) -> list[float]:
        """Round values inside the scale, about as many as wanted."""
        step = _round_step((self.high - self.low) / wanted)
        first = math.ceil(self.low / step)
        return [index * step for index in range(first, math.floor(self.high / step) + 1)]


def _round_step(raw: float) -> float:
    power = 10 ** math.floor(math.log10(raw))
    return next(power * nice for nice in (1, 2, 2.5, 5, 10) if raw <= power * nice)


# ── before and after, at a glance ────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Bar:
    name: str
    kind: str  #: before or after
    percent: float
    text: str


def bars(report: Report) -> list[Bar]:
    """The quantity of the goal for both files, the larger one as wide as the page; none where it was not measured."""
    minimize = report.verdict.minimize
    before, after = (goal.quantity(figures, minimize) for figures in (report.baseline, report.optimized))
    if not before or not after:
        return []
    written = words.milliseconds if minimize is Minimize.LATENCY else words.size
    return [
        Bar(name, kind, round(100 * value / max(before, after), 2), written(value))
        for name, kind, value in (("Original", "before", before), ("Optimized", "after", after))
    ]


# ── all candidates: what was gained against what was lost ────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Point:
    name: str
    title: str
    kind: str  #: original, chosen, or the trial's state
    x: float
    y: float
    x_range: tuple[float, float]
    y_range: tuple[float, float]
    labelled: bool
    outside: bool  #: its drop is larger than the chart is wide


@dataclass(frozen=True)
class Pareto:
    points: list[Point]
    front: list[tuple[float, float]]
    limit: Tick | None
    unity: float
    across: list[Tick]
    up: list[Tick]
    unit: str
    height: int = PARETO_HEIGHT


def pareto(report: Report) -> Pareto | None:
    """None where no trial has both figures."""
    measured = [
        (trial, gain, drop)
        for trial in report.trials
        if (gain := goal.gain_of(trial, report.verdict.minimize, report.baseline)) and (drop := goal.drop_of(trial))
    ]
    if not measured:
        return None
    limit = report.recipe.limits.accuracy_drop
    across = _drop_scale([drop for _, _, drop in measured], limit)
    up = _gain_scale([gain for _, gain, _ in measured])
    accuracy = report.baseline.accuracy
    points = [_point(report, trial, Place(across, up, gain, drop)) for trial, gain, drop in measured]
    points = _legibly_labelled([*points, _original(across, up)])  # what stands last is drawn on top
    front = [(point.x, point.y) for point in points if _is_on_front(report, point.name)]
    return Pareto(
        points=points,
        front=sorted(front),
        limit=None if limit is None else Tick(across.at(limit), f"limit {words.loss(limit, accuracy)}"),
        unity=up.at(1),
        across=[Tick(across.at(mark), words.loss(mark, accuracy).split(" ")[0]) for mark in across.marks()],
        up=[Tick(up.at(mark), f"{mark:g}×") for mark in up.marks()],
        unit=words.loss(0, accuracy).partition(" ")[2],
    )


def _is_on_front(report: Report, name: str) -> bool:
    return any(trial.id == name and trial.on_front for trial in report.trials)


def _drop_scale(drops: Sequence[Interval], limit: float | None) -> Scale:
    """Wide enough for the limit and for most candidates; one broken candidate must not squeeze the others.

    Whose drop lies inside has its interval inside as well, as far as that at most doubles the chart.
    """
    values = sorted(abs(drop.value) for drop in drops if math.isfinite(drop.value))
    usual = values[(len(values) - 1) // 2] if values else 0
    wide = max(3 * (limit or 0), 2.5 * usual, 0.002)
    inside = [drop for drop in drops if -wide <= drop.value <= wide]
    low = min(-0.12 * wide, *(drop.low - 0.03 * wide for drop in inside), math.inf)
    high = max(wide, *(drop.high for drop in inside), -math.inf)
    return Scale(max(low, -wide), min(high, 2 * wide), 0, 100)


def _gain_scale(gains: Sequence[Interval]) -> Scale:
    finite = [gain.value for gain in gains if math.isfinite(gain.value)]
    low, high = min([1.0, *finite]), max([1.0, *finite])
    margin = max((high - low) * 0.12, 0.05)
    return Scale(max(low - margin, 0), high + margin, PARETO_HEIGHT, 0)


def _legibly_labelled(points: Sequence[Point]) -> list[Point]:
    """The chosen one keeps its label; of others only what does not cover a label that stands already."""
    kept: list[Point] = []
    wanted = [point for point in points if point.labelled]
    for point in sorted(wanted, key=lambda point: (point.kind != "chosen", point.kind != "original", point.name)):
        covers = any(abs(point.x - one.x) < LABEL_WIDTH and abs(point.y - one.y) < LABEL_HEIGHT for one in kept)
        kept += [] if covers else [point]
    return [replace(point, labelled=point in kept) for point in points]


@dataclass(frozen=True)
class Place:
    """Where a candidate lies, and on which scales."""

    across: Scale
    up: Scale
    gain: Interval
    drop: Interval


def _original(across: Scale, up: Scale) -> Point:
    here = (across.at(0), up.at(1))
    return Point(
        name="original",
        title="the original",
        kind="original",
        x=here[0],
        y=here[1],
        x_range=(here[0], here[0]),
        y_range=(here[1], here[1]),
        labelled=True,
        outside=False,
    )


def _point(report: Report, trial: Trial, place: Place) -> Point:
    across, up, gain, drop = place.across, place.up, place.gain, place.drop
    chosen = trial.id == report.verdict.chosen and report.verdict.outcome is Outcome.IMPROVED
    lost = words.loss(drop.value, report.baseline.accuracy)
    return Point(
        name=trial.id,
        title=f"{trial.id}: {trial.label}: {words.times(gain.value)} at a drop of {lost} ({trial.state})",
        kind="chosen" if chosen else str(trial.state),
        x=across.at(drop.value),
        y=up.at(gain.value),
        x_range=(across.at(drop.low), across.at(drop.high)),
        y_range=(up.at(gain.low), up.at(gain.high)),
        labelled=chosen or trial.on_front or len(report.trials) <= FEW_TRIALS,
        outside=not across.holds(drop.value),
    )


# ── latency: every run ───────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Lane:
    name: str
    kind: str  #: before or after
    dots: list[tuple[float, float]]
    box: tuple[float, float]  #: the middle half of all runs
    median: Tick
    runs: int
    outside: int  #: runs slower than the chart is wide


@dataclass(frozen=True)
class Latencies:
    lanes: list[Lane]
    across: list[Tick]
    height: int = LANE_HEIGHT


def latencies(series: Sequence[LatencySeries], original: str, candidate: str) -> Latencies | None:
    """The last two say what the two files are called."""
    before = [value for one in series for value in one.baseline_ms if math.isfinite(value)]
    after = [value for one in series for value in one.candidate_ms if math.isfinite(value)]
    if len(before) < 2 or len(after) < 2:
        return None
    low = min(*before, *after)
    high = min(max(map(_far, (before, after))), max(*before, *after))
    margin = max((high - low) * 0.05, low * 0.01, 1e-6)
    across = Scale(max(low - margin, 0), high + margin, 0, 100)
    lanes = [_lane(original, "before", before, across), _lane(candidate, "after", after, across)]
    return Latencies(lanes, [Tick(across.at(mark), words.milliseconds(mark)) for mark in across.marks()])


def _far(values: Sequence[float]) -> float:
    """Beyond this a run was interrupted; showing it would squeeze all others."""
    first, _, third = quantiles(values, n=4)
    return third + 5 * (third - first)


def _lane(name: str, kind: str, values: Sequence[float], across: Scale) -> Lane:
    """Dots are spread down by the golden ratio, so that equal times stay visible and the page stays the same."""
    every = max(len(values) // DOTS_PER_LANE, 1)
    shown = [value for value in values[::every] if across.holds(value)]
    spread = LANE_HEIGHT - 22
    first, middle, third = quantiles(values, n=4)
    return Lane(
        name=name,
        kind=kind,
        dots=[(across.at(value), round(11 + index * 0.618034 % 1 * spread, 1)) for index, value in enumerate(shown)],
        box=(across.at(first), across.at(third)),
        median=Tick(across.at(middle), words.milliseconds(median(values))),
        runs=len(values),
        outside=sum(1 for value in values if not across.holds(value)),
    )


# ── layers: share of the work beside share of the time ───────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Layer:
    name: str
    operator: str
    macs_percent: float
    time_percent: float
    time: str
    work: str


@dataclass(frozen=True)
class Layers:
    shown: list[Layer]
    rest: Layer | None
    widest: float = field(default=1)


def layers(profile: Profile) -> Layers:
    """The slowest operators one by one, and what is left as one line."""
    ordered = sorted(profile.operators, key=lambda operator: -operator.time_ms)
    most = LAYERS_SHOWN if len(ordered) > LAYERS_SHOWN + 1 else len(ordered)
    shown = [_layer(operator.name or operator.operator, [operator]) for operator in ordered[:most]]
    others = ordered[len(shown) :]
    rest = _layer(f"{len(others)} others", others) if others else None
    everything = [*shown, rest] if rest else shown
    widest = max(max(layer.macs_percent, layer.time_percent) for layer in everything)
    return Layers(shown, rest, max(widest, 1))


def _layer(name: str, operators: Sequence[OperatorTime]) -> Layer:
    macs, time = sum(one.macs_share or 0 for one in operators), sum(one.time_share for one in operators)
    return Layer(
        name=name,
        operator=operators[0].operator if len(operators) == 1 else "",
        macs_percent=round(macs * 100, 2),
        time_percent=round(time * 100, 2),
        time=words.milliseconds(sum(one.time_ms for one in operators)),
        work=words.share(macs) if macs else words.NOTHING,
    )


# ── operators by kind, file by file ──────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Kind:
    """All operators of one kind and precision together."""

    operator: str
    precision: str
    cells: list[tuple[float | None, int]]  #: of each file, the time in milliseconds, and the nodes


def kinds(profiles: Sequence[Profile]) -> list[Kind]:
    """Slowest first."""
    totals: dict[tuple[str, str], list[list[float]]] = {}
    for index, profile in enumerate(profiles):
        for one in profile.operators:
            files = totals.setdefault((one.operator, one.precision), [[] for _ in profiles])
            files[index].append(one.time_ms)
    rows = [
        Kind(operator, precision, [(sum(times) if times else None, len(times)) for times in files])
        for (operator, precision), files in totals.items()
    ]
    return sorted(rows, key=lambda row: -max(time_ms or 0 for time_ms, _ in row.cells))


def state_words(state: TrialState) -> str:
    """What a trial's state means, for the legend and the table."""
    return {
        TrialState.KEPT: "kept",
        TrialState.DOMINATED: "another is better",
        TrialState.REJECTED: "rejected",
        TrialState.COMPARED: "compared",
        TrialState.SCREENED: "a quick look",
        TrialState.SKIPPED: "skipped",
        TrialState.FAILED: "failed",
    }[state]
