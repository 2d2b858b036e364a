"""The before-and-after table that the page and the terminal share: one row a figure, with its change and its spread."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from engine import words
from engine.recipe import Metric
from engine.report import Figures, Interval, Latency, Outcome, Report

AGAINST_ITSELF = {Metric.AGREEMENT, Metric.SQNR}  #: metrics that the original alone has no figure of
Tone = Literal["good", "bad", ""]


@dataclass(frozen=True)
class Row:
    group: str
    name: str
    before: str
    after: str
    change: str
    spread: str = ""
    tone: Tone = ""


def before_and_after(report: Report) -> list[Row]:
    """Figures that neither file has are left out."""
    rows = [*_latency(report), *_footprint(report.baseline, report.optimized), *_accuracy(report)]
    return [row for row in rows if (row.before, row.after) != (words.NOTHING, words.NOTHING)]


def _latency(report: Report) -> Iterator[Row]:
    before, after = report.baseline.latency, report.optimized.latency
    if before is None or after is None:
        return
    speedup = report.comparison.speedup
    yield _time("median", before.median_ms, after.median_ms, _times(speedup), speedup)
    yield _time("90 % of runs within", before.p90_ms, after.p90_ms)
    yield _time("95 % of runs within", before.p95_ms, after.p95_ms)
    yield _time("99 % of runs within", before.p99_ms, after.p99_ms)
    yield _throughput(before, after)
    yield _time("loading the file", before.load_ms, after.load_ms)
    yield _time("first run", before.first_run_ms, after.first_run_ms)


def _times(speedup: Interval | None) -> str | None:
    return None if speedup is None else f"{words.times(speedup.value)} as fast"


def _time(name: str, before: float, after: float, change: str | None = None, spread: Interval | None = None) -> Row:
    return Row(
        group="Time of one run",
        name=name,
        before=words.milliseconds(before),
        after=words.milliseconds(after),
        change=change or words.change(before, after),
        spread=words.factors(spread) if spread else "",
        tone=_tone(before, after, spread),
    )


def _tone(before: float | None, after: float | None, spread: Interval | None = None) -> Tone:
    """Less is better; a difference inside the interval, or below 2 %, is none."""
    if spread is not None:
        return "good" if spread.low > 1 else "bad" if spread.high < 1 else ""
    if not before or after is None or abs(after / before - 1) < 0.02:
        return ""
    return "good" if after < before else "bad"


def _throughput(before: Latency, after: Latency) -> Row:
    old, new = before.throughput_per_s, after.throughput_per_s
    return Row(
        group="Time of one run",
        name="samples per second",
        before=words.digits(old),
        after=words.digits(new),
        change=words.change(old, new),
        tone=_tone(new, old),
    )


def _footprint(before: Figures, after: Figures) -> Iterator[Row]:
    yield _less("file size", before.size_bytes, after.size_bytes, words.size)
    yield _less("peak memory of the process", before.peak_memory_bytes, after.peak_memory_bytes, words.size)
    yield _less("parameters", before.parameters, after.parameters, words.count)
    yield _less("multiply-adds (MACs)", before.macs, after.macs, words.count)
    yield _less("bytes moved, estimated", before.bytes_moved, after.bytes_moved, words.size)


def _less(name: str, before: float | None, after: float | None, written: Callable[[float | None], str]) -> Row:
    return Row(
        group="Size and work",
        name=name,
        before=written(before),
        after=written(after),
        change=words.change(before, after),
        tone=_tone(before, after),
    )


def _accuracy(report: Report) -> Iterator[Row]:
    before, after, comparison = report.baseline.accuracy, report.optimized.accuracy, report.comparison
    if report.verdict.outcome is Outcome.ANALYZED and before is not None and before.metric in AGAINST_ITSELF:
        return
    if before is not None and after is not None:
        drop = comparison.accuracy_drop
        yield Row(
            group="Accuracy",
            name=f"{words.metric_name(before)} on {before.samples} samples",
            before=words.metric(before),
            after=words.metric(after),
            change="the same" if drop is None or drop.value == 0 else f"{words.loss(drop.value, before)} lost",
            spread=words.loss_interval(drop, before) if drop else "",
            tone=_tone_of_drop(drop),
        )
    if comparison.sqnr_db is not None:
        yield _fidelity("signal to noise of the outputs", f"{words.digits(comparison.sqnr_db)} dB")
    if comparison.agreement is not None:
        yield _fidelity("same decision as the original", words.share(comparison.agreement))


def _tone_of_drop(drop: Interval | None) -> Tone:
    if drop is None:
        return ""
    return "bad" if drop.low > 0 else "good" if drop.high < 0 else ""


def _fidelity(name: str, after: str) -> Row:
    return Row(group="Accuracy", name=name, before=words.NOTHING, after=after, change="")
