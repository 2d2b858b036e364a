"""Figures as a person reads them: three significant digits, a unit, and what a change means. None reads as “–”."""

import math

from engine.recipe import Minimize
from engine.report import Accuracy, Interval

NOTHING = "–"
_MINUS = "−"
TIMES = {"s", "ms", "µs"}
LONGEST_NAME = 128
NO_TORCH = "torch is not installed where the worker runs, which steps that train need: pip install torch"


def digits(value: float | None, significant: int = 3) -> str:
    """A number with so many significant digits, thousands apart, never in scientific notation."""
    if value is None or math.isnan(value):
        return NOTHING
    if math.isinf(value):
        return "∞" if value > 0 else f"{_MINUS}∞"
    if value == 0:
        return "0"
    places = max(significant - 1 - math.floor(math.log10(abs(value))), 0)
    return f"{value:,.{min(places, 6)}f}".replace("-", _MINUS)


def _scaled(value: float | None, units: list[tuple[float, str]]) -> str:
    """The largest unit that leaves a number of at least one."""
    if value is None or not math.isfinite(value):
        return digits(value)
    scale, unit = next((pair for pair in units if abs(value) >= pair[0]), units[-1])
    if scale == 1 and value == int(value) and unit not in TIMES:
        return f"{int(value)} {unit}".rstrip()
    return f"{digits(value / scale)} {unit}".rstrip()


def milliseconds(value: float | None) -> str:
    return _scaled(value, [(1000, "s"), (1, "ms"), (0.001, "µs")])


def seconds(value: float | None) -> str:
    if value is None or value < 60 or not math.isfinite(value):
        return milliseconds(None if value is None else value * 1000)
    return f"{int(value // 60)} min {int(value % 60)} s"


def size(value: float | None) -> str:
    return _scaled(value, [(1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1, "B")])


def count(value: float | None) -> str:
    return _scaled(value, [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1, "")])


def share(value: float | None) -> str:
    """In percent, with two places at most."""
    if value is None or not math.isfinite(value):
        return f"{digits(value)} %" if value is not None else NOTHING
    percent = value * 100
    if 0 < percent < 0.01:
        return "< 0.01 %"
    return f"{percent:.{1 if abs(percent) >= 10 else 2}f} %".replace("-", _MINUS)


def ratio(value: float) -> str:
    return f"{value:.2f}" if math.isfinite(value) else digits(value)


def times(value: float | None) -> str:
    """For a sentence, which goes on with “as fast”."""
    return NOTHING if value is None else f"{ratio(value)} times"


def factor(value: float | None) -> str:
    """For a column or an axis."""
    return NOTHING if value is None else f"{ratio(value)}×"


def factors(interval: Interval | None) -> str:
    return NOTHING if interval is None else f"{factor(interval.low)} … {factor(interval.high)}"


def range_of(interval: Interval) -> str:
    """For a sentence."""
    return f"95 %: {interval.low:.2f} to {interval.high:.2f}"


METRICS = {"top1": "top-1", "top5": "top-5", "miou": "mIoU", "mse": "MSE", "mae": "MAE", "f1": "F1", "sqnr": "SQNR"}


def metric_name(accuracy: Accuracy | None) -> str:
    return METRICS.get(accuracy.metric, accuracy.metric) if accuracy else "accuracy"


def metric(accuracy: Accuracy | None) -> str:
    """The value in its own unit; equal outputs have an infinite SQNR."""
    if accuracy is None:
        return NOTHING
    if accuracy.value is None:
        return "∞ (equal)" if accuracy.unit == "dB" else NOTHING
    return share(accuracy.value) if accuracy.unit == "share" else f"{digits(accuracy.value)} {accuracy.unit}".rstrip()


def loss(value: float | None, accuracy: Accuracy | None) -> str:
    """An amount of the metric: shares count in points of 100, noise in percent of the signal."""
    if value is None:
        return NOTHING
    if accuracy is None or accuracy.unit == "share":
        return f"{_plain(value * 100)} point{'' if abs(value) == 0.01 else 's'}"
    if accuracy.unit == "dB":
        return f"{digits(value * 100)} % noise"
    return f"{digits(value)} {accuracy.unit}"


def _plain(value: float) -> str:
    """Two places at most, none where they are zeros."""
    if not math.isfinite(value):
        return digits(value)
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text.replace("-", _MINUS)


def loss_interval(interval: Interval | None, accuracy: Accuracy | None) -> str:
    if interval is None:
        return NOTHING
    low, unit = loss(interval.low, accuracy).split(" ", 1)
    return f"{low} … {loss(interval.high, accuracy)}" if unit else low


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", _MINUS)


def change(before: float | None, after: float | None) -> str:
    """How much less or more, in percent of what it was."""
    if before is None or after is None or before == 0:
        return NOTHING
    percent = (after / before - 1) * 100
    if abs(percent) < 0.05:
        return "the same"
    return f"{_signed(percent) if abs(percent) < 10 else f'{percent:+.0f}'.replace('-', _MINUS)} %"


COMPARATIVE: dict[Minimize, str] = {
    Minimize.LATENCY: "faster",
    Minimize.SIZE: "smaller",
    Minimize.MEMORY: "less memory",
}


#: What follows a ratio: “1.74 times as fast”.
GAINED: dict[Minimize, str] = {
    Minimize.LATENCY: "times as fast",
    Minimize.SIZE: "times smaller",
    Minimize.MEMORY: "times less memory",
}


def gained(interval: Interval | None, minimize: Minimize) -> str:
    """The start of a sentence about a candidate: how it does against the original."""
    if interval is None:
        return "Not measured"
    if minimize is Minimize.LATENCY:
        return f"{interval.value:.2f} times as fast as the original ({range_of(interval)})"
    quantity = "file" if minimize is Minimize.SIZE else "peak memory"
    if interval.value >= 1:
        return f"{interval.value:.2f} times smaller {quantity} than the original's"
    return f"{1 / interval.value:.2f} times larger {quantity} than the original's"


def gains_more(value: float, minimize: Minimize) -> str:
    """What a better candidate does, after its name."""
    if minimize is Minimize.LATENCY:
        return f"is faster: {times(value)} as fast"
    return f"has the smaller {'file' if minimize is Minimize.SIZE else 'peak memory'}: {times(value)} smaller"


def sentence(text: str) -> str:
    """A reason as a sentence of its own."""
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


def shown(name: str) -> str:
    """A name from a user's file, quoted and cut so that it fits into a sentence and a log line."""
    printable = "".join(character if character.isprintable() else "�" for character in name)
    return f"“{printable if len(printable) <= LONGEST_NAME else printable[: LONGEST_NAME - 1] + '…'}”"
