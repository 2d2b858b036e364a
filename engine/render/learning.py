"""How a training went: the loss on what it learned from and on what was held out, step by step."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from engine.render.charts import Scale, Tick
from engine.report import Report, Training, Trial

HEIGHT = 220
LEAST = 1e-12  #: a loss below is drawn as this
MARKS = (1, 2, 5)

Line = list[tuple[float, float]]


@dataclass(frozen=True)
class Learning:
    trial: str
    training: Training
    taught: Line
    held_out: Line
    best: tuple[float, float]  #: the weights that were kept
    across: list[Tick]
    up: list[Tick]
    height: int = HEIGHT


def learning(report: Report) -> Learning | None:
    """Of the training that the offered file went through, else of the last one; None where nothing was taught."""
    taught = [trial for trial in report.trials if trial.training and len(trial.training.curve) > 1]
    offered = [trial for trial in taught if report.reproduce[: len(trial.steps)] == trial.steps]
    return _of([*taught, *offered][-1]) if taught else None


def _of(trial: Trial) -> Learning:
    training = trial.training
    assert training is not None, "only such trials are asked for"
    held_out = [(point.step, point.held_out) for point in training.curve]
    taught = [(point.step, point.loss) for point in training.curve if point.loss is not None]
    losses = [max(loss, LEAST) for _, loss in [*held_out, *taught] if math.isfinite(loss)]
    across = Scale(0, max(training.curve[-1].step, 1), 0, 100)
    up = Scale(math.log10(min(losses)), math.log10(max(losses)) + 0.05, HEIGHT, 0)
    drawn = _drawn(held_out, across, up)
    best = min(range(len(held_out)), key=lambda index: held_out[index][1])
    return Learning(
        trial=trial.id,
        training=training,
        taught=_drawn(taught, across, up),
        held_out=drawn,
        best=drawn[best],
        across=[Tick(across.at(mark), f"{mark:,.0f}") for mark in across.marks()],
        up=[Tick(up.at(math.log10(mark)), f"{mark:g}") for mark in _marks(min(losses), max(losses))],
    )


def _drawn(points: Sequence[tuple[float, float]], across: Scale, up: Scale) -> Line:
    return [(across.at(step), up.at(math.log10(max(loss, LEAST)))) for step, loss in points]


def _marks(low: float, high: float) -> list[float]:
    """Round numbers on a scale of logarithms."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    marks = [mark * 10.0**power for power in powers for mark in MARKS]
    inside = [mark for mark in marks if low <= mark <= high]
    return inside if len(inside) < 8 else [mark for mark in inside if math.log10(mark).is_integer()]
