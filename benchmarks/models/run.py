"""Each model through Strop and its peers, then all files measured in turns."""

import logging
import os
import sys
import tempfile
from functools import partial
from pathlib import Path

from benchmarks.models import cases, rivals
from benchmarks.models.cases import Case
from benchmarks.models.job import run_engine
from benchmarks.models.peers import peers
from benchmarks.models.rivals import LIMIT, STROP, TARGET
from benchmarks.table import Row
from engine.recipe import Budget, Goal, Limits, Recipe
from engine.report import Report


def run() -> list[Row]:
    """All models, or those with STROP_BENCH_ONLY in their name."""
    logging.disable(logging.WARNING)  # the peers' advice
    only = os.environ.get("STROP_BENCH_ONLY", "")
    names = [name for name in cases.MAKERS if only in name]
    if not names:
        raise SystemExit(f"STROP_BENCH_ONLY={only} is in the name of no model: {'; '.join(cases.MAKERS)}")
    rows = [row for name in names for row in _rows_of(name)]
    for row in rows:
        if row["what"].isupper():
            print(f"{row['model']}, {row['by']}: {row['what']}", file=sys.stderr)
    return rows


def _rows_of(name: str) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        try:
            case = cases.made(name, Path(folder))
        except (FileNotFoundError, ImportError) as error:
            return [rivals.without(name, str(error))]
        rows = rivals.rows(case, {STROP: partial(optimize, case), **peers(case)}, Path(folder))
    print(*rows, sep="\n", file=sys.stderr)  # a run takes hours; what is there should not be lost
    return rows


def optimize(case: Case, path: Path) -> str:
    """A whole job for the lowest latency; its file is left at the path."""
    budget = Budget(minutes=float(os.environ.get("STROP_BENCH_MINUTES", "20")))
    recipe = Recipe(goal=Goal(), limits=Limits(accuracy_drop=LIMIT), target=TARGET, budget=budget)
    attempt = path.with_suffix("")
    report = run_engine(recipe, attempt, case.model, case.calibration, case.evaluation)
    (attempt / "out" / "model.onnx").rename(path)
    return _chosen(report)


def _chosen(report: Report) -> str:
    label = next((trial.label for trial in report.trials if trial.id == report.verdict.chosen), "the original")
    return f"{report.verdict.outcome}: {label}"
