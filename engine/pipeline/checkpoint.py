"""Checkpoints: folders that each hold all a user may download, complete before they are announced.

A checkpoint is written under another name and then renamed, so whoever kills this process may publish the last one that
was announced. An older one goes once the newer one is there.
"""

import shutil
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from pathlib import Path

from engine import beside
from engine.pipeline.trials import Trials
from engine.protocol import CANDIDATES, MODEL, REPORT_HTML, REPORT_JSON, REPORT_TEXT, Checkpoint
from engine.render.html import render_html
from engine.render.text import render_text
from engine.report import Report

MOST_OFFERED = 6  #: files of the Pareto front, the best first


@dataclass
class Checkpoints:
    folder: Path  #: work/out
    announce: Callable[[Checkpoint], None]
    number: int = 0

    def write(self, report: Report, trials: Trials) -> None:
        self.number += 1
        target = self.folder / f"{self.number:04d}"
        draft = self.folder / "draft"
        shutil.rmtree(draft, ignore_errors=True)
        (draft / CANDIDATES).mkdir(parents=True)
        _fill(draft, report, trials)
        draft.rename(target)
        self.announce(Checkpoint(directory=f"work/out/{target.name}"))
        for older in self.folder.glob("[0-9]*"):
            if older != target:
                shutil.rmtree(older)


def offered(trials: Trials) -> list[str]:
    """Ids of the candidates on the front whose files may be downloaded, the chosen one among them.

    Models that were only compared are the user's own.
    """
    if not trials.recipe.is_optimization:
        return []
    ids = trials.front() | ({trials.chosen} if trials.chosen else set())
    there = [name for name in ids if trials.candidates[name].path.exists()]
    by_gain = sorted(there, key=lambda name: (name == trials.chosen, trials.gained(trials.candidates[name])))
    return sorted(by_gain[-MOST_OFFERED:])


def _fill(folder: Path, report: Report, trials: Trials) -> None:
    chosen = trials.candidates[trials.chosen] if trials.chosen else trials.original
    beside.publish(chosen.path, folder / MODEL, chosen.sha256)
    for name in offered(trials):
        candidate = trials.candidates[name]
        beside.publish(candidate.path, folder / CANDIDATES / f"{name}.onnx", candidate.sha256)
    (folder / REPORT_JSON).write_text(report.model_dump_json(indent=1), encoding="utf-8")
    text = render_text(report)
    (folder / REPORT_HTML).write_text(_page(report, text), encoding="utf-8", errors="replace")
    (folder / REPORT_TEXT).write_text(text, encoding="utf-8", errors="replace")


def _page(report: Report, text: str) -> str:
    """The page, or the words alone: a picture that breaks must not cost hours of work."""
    try:
        return render_html(report)
    except Exception:  # noqa: BLE001 - whatever breaks in a picture
        traceback.print_exc()
        return f"<!doctype html><meta charset=utf-8><title>Strop</title><pre>{escape(text)}</pre>"
