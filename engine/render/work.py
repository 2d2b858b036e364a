"""Two charts of work against time: what fewer operations really bring, and how near a roof each layer runs.

    candidates   share of the multiply-adds left, against share of the time left; on the diagonal both fell alike
    roofline     GOP/s reached, against operations per byte moved, under what the machine's arithmetic and memory allow
                 (Williams, Waterman & Patterson 2009); a multiply-add is two operations, in float as in 8 bits

Both axes are logarithmic. Across, places are in percent of the plot's width; down, in pixels.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from engine import words
from engine.render.charts import state_words
from engine.render.profiles import Profiled, profiles
from engine.report import Machine, OperatorTime, Outcome, Report, Trial, TrialState
from engine.words import digits

HEIGHT = 300
LEAST_SHARE = 0.005  #: of the time of a run, for a layer to be drawn
SMALLEST, LARGEST = 3.0, 16.0  #: radius of a dot, in pixels
FEWEST = 2  #: candidates, before their chart tells more than the table
FEW = 8  #: dots that all get a label
LABEL_WIDTH, LABEL_HEIGHT = 9, 15  #: in percent, and in pixels
ROOM = 1.3  #: around all that is drawn
NICE = (1, 2, 5)
DOTS = [("chosen", "chosen"), *((str(state), state_words(state)) for state in TrialState)]


@dataclass(frozen=True)
class Logarithmic:
    """Values to places on a logarithmic axis."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        inside = min(max(value, self.low), self.high)
        share = math.log(inside / self.low) / math.log(self.high / self.low)
        return round(self.start + share * (self.end - self.start), 2)

    def marks(self) -> list[float]:
        """Round values inside the scale: powers of ten, and what lies between where those are few."""
        powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        nice = NICE if len(powers) <= 4 else (1,)
        marks = [factor * 10.0**power for power in powers for factor in nice]
        return [mark for mark in marks if self.low <= mark <= self.high]


@dataclass(frozen=True)
class Mark:
    at: float
    text: str


@dataclass(frozen=True)
class Line:
    kind: str  #: classes of the style sheet
    start: tuple[float, float]
    end: tuple[float, float]
    text: str  #: for the legend: beside the line, dots would cover it


@dataclass(frozen=True)
class Dot:
    kind: str
    x: float
    y: float
    radius: float
    title: str
    label: str = ""


@dataclass(frozen=True)
class Drawing:
    what: str  #: for those who cannot see it
    across: list[Mark]
    up: list[Mark]
    axis: str
    lines: list[Line]
    dots: list[Dot]
    legend: list[tuple[str, str]]  #: classes of dots, and what each means
    height: int = HEIGHT


# ── operations left against time left ────────────────────────────────────────────────────────────────────────────────


def work_against_time(report: Report) -> Drawing | None:
    """Candidates with fewer multiply-adds than the original; none where there are not at least two."""
    found = [(trial, *shares) for trial in report.trials if (shares := _shares(report, trial))]
    if sum(work < 1 for _, work, _ in found) < FEWEST:
        return None
    low = min(min(work, time) for _, work, time in found) / ROOM
    high = max(1.0, *(max(work, time) for _, work, time in found)) * ROOM
    across, up = Logarithmic(low, high, 0, 100), Logarithmic(low, high, HEIGHT, 0)
    few = len(found) <= FEW
    dots = [
        Dot(
            kind=_kind(report, trial),
            x=across.at(work),
            y=up.at(time),
            radius=6,
            title=f"{trial.id}: {trial.label}: {words.share(work)} of the operations, {words.share(time)} of the time",
            label=trial.id if few or trial.on_front else "",
        )
        for trial, work, time in found
    ]
    return Drawing(
        what="Candidates: share of the time left against share of the multiply-adds left.",
        across=[Mark(across.at(mark), f"{100 * mark:g} %") for mark in across.marks()],
        up=[Mark(up.at(mark), f"{100 * mark:g} %") for mark in up.marks()],
        axis="multiply-adds left →",
        lines=[Line("unity", (across.at(low), up.at(low)), (across.at(high), up.at(high)), "time falls as they do")],
        dots=_legible(sorted(dots, key=lambda dot: dot.kind == "chosen")),  # what stands last is drawn on top
        legend=[(kind, name) for kind, name in DOTS if any(dot.kind == kind for dot in dots)],
    )


def _legible(dots: Sequence[Dot]) -> list[Dot]:
    """The chosen one keeps its label; of others only what does not cover a label that stands already."""
    kept: list[Dot] = []
    for dot in sorted(dots, key=lambda one: one.kind != "chosen"):
        covers = any(abs(dot.x - one.x) < LABEL_WIDTH and abs(dot.y - one.y) < LABEL_HEIGHT for one in kept)
        kept += [dot] if dot.label and not covers else []
    return [dot if dot in kept else replace(dot, label="") for dot in dots]


def _shares(report: Report, trial: Trial) -> tuple[float, float] | None:
    """Of the original's multiply-adds, and of its time."""
    before, after = report.baseline.macs, trial.figures.macs if trial.figures else None
    speedup = trial.comparison.speedup if trial.comparison else None
    if not before or not after or speedup is None or speedup.value <= 0:
        return None
    return after / before, 1 / speedup.value


def _kind(report: Report, trial: Trial) -> str:
    chosen = trial.id == report.verdict.chosen and report.verdict.outcome is Outcome.IMPROVED
    return "chosen" if chosen else str(trial.state)


# ── the roofline ─────────────────────────────────────────────────────────────────────────────────────────────────────


def roofline(report: Report) -> Drawing | None:
    """Layers that multiply, of all profiled files; none where the machine's roofs are unknown."""
    machine, files = report.environment.machine, profiles(report)
    layers = [(file, one) for file in files for one in file.profile.operators if _is_drawn(one)]
    if not layers or not machine.peak_gflops or not machine.bandwidth_gb_s:
        return None
    roofs = _roofs(machine, [one for _, one in layers])
    places = [_place(one) for _, one in layers]
    ridge = max(roofs.values()) / machine.bandwidth_gb_s
    across = Logarithmic(min(x for x, _ in places) / ROOM, max(ridge * 2, *(x for x, _ in places)) * ROOM, 0, 100)
    up = Logarithmic(min(y for _, y in places) / ROOM, max(*roofs.values(), *(y for _, y in places)) * ROOM, HEIGHT, 0)
    return Drawing(
        what="Layers: GOP/s reached against operations per byte moved, below the machine's roofs.",
        across=[Mark(across.at(mark), f"{mark:g}") for mark in across.marks()],
        up=[Mark(up.at(mark), f"{mark:g}") for mark in up.marks()],
        axis="operations per byte moved →",
        lines=[*_flat(roofs, across, up), *_slope(machine.bandwidth_gb_s, max(roofs.values()), across, up)],
        dots=[_layer(file, one, across, up) for file, one in sorted(layers, key=lambda pair: -pair[1].time_share)],
        legend=[(file.kind, file.name) for file in files],
    )


def _is_drawn(one: OperatorTime) -> bool:
    counted = all(figure is not None and figure > 0 for figure in (one.macs, one.bytes_moved, one.gflops))
    return counted and one.time_share >= LEAST_SHARE


def _place(one: OperatorTime) -> tuple[float, float]:
    """Operations per byte, and GOP/s."""
    return 2 * (one.macs or 0) / (one.bytes_moved or 1), one.gflops or 0.0


def _roofs(machine: Machine, layers: Sequence[OperatorTime]) -> dict[str, float]:
    roofs = {"float32": machine.peak_gflops or 0.0}
    if machine.peak_gops_int8 and any(one.precision in ("int8", "uint8") for one in layers):
        roofs["int8"] = machine.peak_gops_int8
    return roofs


def _flat(roofs: dict[str, float], across: Logarithmic, up: Logarithmic) -> list[Line]:
    return [
        Line(f"roof {name}", (across.at(across.low), up.at(peak)), (100, up.at(peak)), f"{name}: {digits(peak)} GOP/s")
        for name, peak in roofs.items()
    ]


def _slope(bandwidth: float, peak: float, across: Logarithmic, up: Logarithmic) -> list[Line]:
    """What memory allows, from where it enters the chart to where it meets the highest roof."""
    first = max(across.low, up.low / bandwidth)
    last = min(across.high, peak / bandwidth)
    if first >= last:
        return []
    ends = [(across.at(intensity), up.at(intensity * bandwidth)) for intensity in (first, last)]
    return [Line("roof memory", ends[0], ends[1], f"memory: {digits(bandwidth)} GB/s")]


def _layer(file: Profiled, one: OperatorTime, across: Logarithmic, up: Logarithmic) -> Dot:
    intensity, reached = _place(one)
    return Dot(
        kind=file.kind,
        x=across.at(intensity),
        y=up.at(reached),
        radius=round(min(max(LARGEST * math.sqrt(one.time_share * 2), SMALLEST), LARGEST), 1),
        title=f"{file.name}: {one.name} ({one.operator}, {one.precision}): {digits(reached)} GOP/s, "
        f"{words.share(one.time_share)} of the time",
    )
