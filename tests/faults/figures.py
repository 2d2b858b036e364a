"""The figures of a run: printed as they come, and kept as a table that names each one's N and its faults."""

import json
import os
import platform
import statistics
from dataclasses import asdict, dataclass
from pathlib import Path

FULL = os.environ.get("STROP_FAULTS") == "full"
REPORT = Path(__file__).parents[2] / "build" / "reliability-report.json"


def size(quick: int, full: int) -> int:
    """How often a fault is injected: `make faults` takes the full number, `make test` the quick one."""
    return full if FULL else quick


@dataclass(frozen=True)
class Figure:
    row: str
    result: str
    count: int
    faults: int


_figures: list[Figure] = []


def report(row: str, result: str, *, count: int, faults: int) -> None:
    """Say what a row of the reliability plan came to."""
    figure = Figure(row, result, count, faults)
    _figures.append(figure)
    print(f"\n{row}: {result} of {count} ({faults} faults)")


def spread(seconds: list[float]) -> str:
    """Median and worst of some durations."""
    return f"p50 {statistics.median(seconds):.1f} s, worst {max(seconds):.1f} s"


def write() -> None:
    """The full run's table; a quick run leaves no file behind."""
    if not (FULL and _figures):
        return
    REPORT.parent.mkdir(exist_ok=True)
    machine = {"system": platform.platform(), "python": platform.python_version(), "cores": os.cpu_count()}
    rows = [asdict(figure) for figure in sorted(_figures, key=lambda figure: figure.row)]
    REPORT.write_text(json.dumps({"machine": machine, "rows": rows}, indent=2) + "\n")
