"""The pictures of docs/steps.md: what each step did to one real network, drawn from the report of one job.

    python -m benchmarks pictures          writes docs/pictures/<kind>.svg

Bars are run time and size of the file beside the original's, measured in turns in one job; the last column is the
metric. STROP_BENCH_ONLY takes the steps with that in their name.
"""

import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
from pydantic import TypeAdapter

from benchmarks.models.cases import EXAMPLES, Arrays
from benchmarks.models.job import run_engine
from benchmarks.table import Row
from engine import words
from engine.recipe import Budget, Recipe, Step, Target
from engine.report import Figures, Report, Trial
from examples.fashion import data as fashion
from examples.languages import data as languages

FOLDER = Path(__file__).parent.parent / "docs" / "pictures"
MINUTES = 5.0
LEARNED = 20_000
WIDTH, ROW, TOP, LABEL, GAP, FIGURE = 860, 46, 62, 250, 24, 64
INK, SOFT, BEFORE, AFTER = "#14181d", "#59636f", "#97a3b1", "#0a6ea8"

#: of each step: the network, in words and as a file of examples/, and the steps of the job that shows it
SHOWN: dict[str, tuple[str, str, list[dict[str, Any]]]] = {
    "simplify_graph": ("text transformer", "languages/model", [{"kind": "simplify_graph"}]),
    "quantize_static": ("residual CNN", "fashion/residual", [{"kind": "quantize_static"}]),
    "quantize_dynamic": ("LSTM", "fashion/recurrent", [{"kind": "quantize_dynamic"}]),
    "quantize_weights": ("text transformer", "languages/model", [{"kind": "quantize_weights", "bits": 4}]),
    "convert_float16": ("residual CNN", "fashion/residual", [{"kind": "convert_float16"}]),
    "prune_channels": ("residual CNN", "fashion/residual", [{"kind": "prune_channels", "ratio": 0.25}]),
    "prune_weights": ("residual CNN", "fashion/residual", [{"kind": "prune_weights", "ratio": 0.5}]),
    "replace_layers": (
        "plain CNN, like VGG",
        "fashion/plain",
        [{"kind": "replace_layers", "time_share": 0.5}, {"kind": "distill", "minutes": 2}],
    ),
    "distill": (
        "residual CNN",
        "fashion/residual",
        [{"kind": "prune_channels", "ratio": 0.5}, {"kind": "distill", "minutes": 2}],
    ),
    "quantize_aware_training": (
        "depthwise CNN",
        "fashion/depthwise",
        [{"kind": "quantize_aware_training", "weight_scales": "per_tensor", "minutes": 1.5}],
    ),
}


def run() -> list[Row]:
    only = os.environ.get("STROP_BENCH_ONLY", "")
    FOLDER.mkdir(exist_ok=True)
    return [row for kind in SHOWN if only in kind for row in _shown(kind)]


def _shown(kind: str) -> list[Row]:
    network, file, steps = SHOWN[kind]
    with tempfile.TemporaryDirectory() as folder:
        report = _report(EXAMPLES / f"{file}.onnx", steps, Path(folder))
    way = _way(report, len(steps))
    (FOLDER / f"{kind}.svg").write_text(drawn(network, report, way), encoding="utf-8")
    rows = [_row(kind, trial) for trial in way]
    print(*rows, sep="\n", file=sys.stderr)
    return rows


def _report(model: Path, steps: Sequence[Mapping[str, Any]], folder: Path) -> Report:
    learned, judged = _data(model)
    np.savez(folder / "learned.npz", allow_pickle=False, **learned)
    np.savez(folder / "judged.npz", allow_pickle=False, **judged)
    recipe = Recipe(
        steps=TypeAdapter(list[Step]).validate_python(steps), budget=Budget(minutes=MINUTES), target=Target()
    )
    return run_engine(recipe, folder / "attempt", model, folder / "learned.npz", folder / "judged.npz")


def _data(model: Path) -> tuple[Arrays, Arrays]:
    if model.parent.name == "languages":
        text, labels = languages.load("test")
        return {"text": languages.load("train")[0]}, {"text": text, "labels": labels}
    images, labels = fashion.load("test")
    return {"image": fashion.load("train")[0][:LEARNED]}, {"image": images, "labels": labels}


def _way(report: Report, length: int) -> list[Trial]:
    """The best file of the whole recipe, or the first that came furthest, and those that it builds on."""
    measured = [trial for trial in report.trials if trial.figures]
    ends = [trial for trial in measured if len(trial.steps) == length] or measured[-1:]
    end = next((trial for trial in ends if trial.id == report.verdict.chosen), ends[0])
    return [trial for trial in measured if end.steps[: len(trial.steps)] == trial.steps]


def _row(kind: str, trial: Trial) -> Row:
    comparison = trial.comparison
    speed = comparison.speedup if comparison else None
    drop = comparison.accuracy_drop if comparison else None
    return {
        "step": kind,
        "file": trial.label.rsplit(" + ", 1)[-1],
        "times as fast": f"{speed.value:.2f} ({speed.low:.2f}–{speed.high:.2f})" if speed else "",
        "points lost": f"{100 * drop.value:.2f} ({100 * drop.low:.2f}–{100 * drop.high:.2f})" if drop else "",
    }


# ── drawing ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def drawn(network: str, report: Report, way: Sequence[Trial]) -> str:
    """An SVG with a row for the original and one for each file, readable on light and on dark pages."""
    files: list[tuple[str, Figures]] = [(f"{network}, as it was", report.baseline)]
    files += [(trial.label.rsplit(" + ", 1)[-1], trial.figures) for trial in way if trial.figures]
    times = [figures.latency.median_ms if figures.latency else 0.0 for _, figures in files]
    sizes = [float(figures.size_bytes) for _, figures in files]
    column = (WIDTH - LABEL - 110 - 3 * GAP) / 2
    longest = column - FIGURE  # a bar is in proportion, with room for its figure behind it
    parts = [_words(GAP, 34, report.verdict.headline, size=15, weight=650)]
    for index, (name, figures) in enumerate(files):
        top, color = TOP + index * ROW, AFTER if index else BEFORE
        parts += _lines(name, top)
        parts += _bar(LABEL + GAP, top, longest * times[index] / max(times), color, words.milliseconds(times[index]))
        second = LABEL + 2 * GAP + column
        parts += _bar(second, top, longest * sizes[index] / max(sizes), color, words.size(int(sizes[index])))
        parts.append(_words(WIDTH - GAP, top + 20, words.metric(figures.accuracy), weight=600, end=True))
    bottom = TOP + len(files) * ROW
    heads = (LABEL + GAP, "time of a run"), (LABEL + 2 * GAP + column, "file")
    parts += [_words(left, bottom + 12, text, color=SOFT, size=12) for left, text in heads]
    parts.append(_words(WIDTH - GAP, bottom + 12, words.metric_name(report.baseline.accuracy), SOFT, 12, end=True))
    height = bottom + 28
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        'font-family="system-ui, Segoe UI, Roboto, Helvetica, Arial, sans-serif">\n'
        f'<rect width="{WIDTH}" height="{height}" rx="8" fill="#fff" stroke="#dbe0e6"/>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def _bar(left: float, top: float, width: float, color: str, text: str) -> list[str]:
    return [
        f'<rect x="{left:.1f}" y="{top + 6}" width="{width:.1f}" height="20" rx="2" fill="{color}"/>',
        _words(left + width + 6, top + 21, text, size=12),
    ]


def _lines(text: str, top: float) -> list[str]:
    """A name in at most two lines."""
    if len(text) <= 36:
        return [_words(GAP, top + 20, text, size=12)]
    cut = text.rfind(" ", 0, 37)
    second = text[cut + 1 :]
    return [
        _words(GAP, top + 13, text[:cut], size=12),
        _words(GAP, top + 28, second if len(second) <= 38 else second[:37] + "…", size=12),
    ]


def _words(
    left: float, base: float, text: str, color: str = INK, size: int = 13, *, weight: int = 400, end: bool = False
) -> str:
    anchor = ' text-anchor="end"' if end else ""
    return (
        f'<text x="{left:.1f}" y="{base:.1f}" fill="{color}" font-size="{size}" font-weight="{weight}"{anchor}>'
        f"{escape(text)}</text>"
    )
