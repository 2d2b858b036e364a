"""Models side by side: one column a file, the first one first; the page and the terminal share the table."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from engine import words
from engine.report import Comparison, Figures, Interval, Latency, Report


@dataclass(frozen=True)
class SideBySide:
    names: list[str]
    rows: list[tuple[str, list[str]]]  #: what it is, and a cell for each file


@dataclass(frozen=True)
class _File:
    name: str
    figures: Figures
    against_first: Comparison | None


def side_by_side(report: Report) -> SideBySide:
    """Figures that no file has are left out."""
    files = [_File(report.name, report.baseline, None)]
    files += [_File(one.label, one.figures, one.comparison) for one in report.trials if one.figures]
    rows = [(name, [cell(file) for file in files]) for name, cell in _cells(report)]
    return SideBySide([file.name for file in files], [row for row in rows if set(row[1]) != {words.NOTHING}])


def _cells(report: Report) -> Sequence[tuple[str, Callable[[_File], str]]]:
    accuracy = report.baseline.accuracy
    metric, samples = words.metric_name(accuracy), accuracy.samples if accuracy else 0
    return [
        ("median of a run", _time(lambda latency: latency.median_ms)),
        ("times as fast as the first", lambda file: _value(_against(file).speedup)),
        ("… with its interval, 95 %", lambda file: words.factors(_against(file).speedup)),
        ("95 % of runs within", _time(lambda latency: latency.p95_ms)),
        ("samples per second", lambda file: words.digits(_latency(file, lambda latency: latency.throughput_per_s))),
        ("loading the file", _time(lambda latency: latency.load_ms)),
        ("file size", lambda file: words.size(file.figures.size_bytes)),
        ("peak memory of the process", lambda file: words.size(file.figures.peak_memory_bytes)),
        ("parameters", lambda file: words.count(file.figures.parameters)),
        ("multiply-adds (MACs)", lambda file: words.count(file.figures.macs)),
        (f"{metric} on {samples} samples", lambda file: words.metric(file.figures.accuracy)),
        (f"{metric} lost", lambda file: _lost(file, report)),
        (f"{metric} lost, 95 %", lambda file: words.loss_interval(_against(file).accuracy_drop, accuracy)),
        ("same decision as the first", lambda file: words.share(_against(file).agreement)),
        ("signal to noise against the first", _signal_to_noise),
    ]


def _latency(file: _File, of: Callable[[Latency], float]) -> float | None:
    return of(file.figures.latency) if file.figures.latency else None


def _time(of: Callable[[Latency], float]) -> Callable[[_File], str]:
    return lambda file: words.milliseconds(_latency(file, of))


def _against(file: _File) -> Comparison:
    return file.against_first or Comparison()


def _value(speedup: Interval | None) -> str:
    return words.factor(speedup.value if speedup else None)


def _lost(file: _File, report: Report) -> str:
    drop = _against(file).accuracy_drop
    return words.loss(drop.value if drop else None, report.baseline.accuracy)


def _signal_to_noise(file: _File) -> str:
    sqnr_db = _against(file).sqnr_db
    return words.NOTHING if sqnr_db is None else f"{words.digits(sqnr_db)} dB"
