"""The zoo as a document: a table for each kind of model, and why steps did nothing as notes below."""

import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import onnx
import onnxruntime

from benchmarks.table import Row
from benchmarks.zoo.specimen import Specimen

BUSY = 1.5  #: processes that want a core, for each core
TIMED = """\
A cell shows the fastest file that the step proposes, or a truer one about as fast: how many times as fast as the
original (a quick look, 1 thread, batch 1; models of microseconds have little to gain), and its signal to noise in dB at
the worst output, or `equal`."""
UNTIMED = """\
A cell shows the signal to noise in dB, at the worst output, of the fastest file that the step proposes, or of a truer
one about as fast; `equal` where outputs are equal. Times are left out, for other work ran beside it."""
Outcomes = Mapping[str, Mapping[str, object]]  #: by step; `admit` before all others


@dataclass(frozen=True)
class Tried:
    """A model and what became of it."""

    kind: str  #: the heading it stands under
    specimen: Specimen
    outcomes: Outcomes


@dataclass
class Reasons:
    """Why steps did nothing, numbered as they come up."""

    numbers: dict[str, int] = field(default_factory=dict)

    def number(self, reason: str) -> str:
        return f"[{self.numbers.setdefault(reason, len(self.numbers) + 1)}]"


def document(tried: Sequence[Tried], steps: Sequence[str]) -> str:
    """The whole text, in Markdown."""
    reasons, timed = Reasons(), not is_busy()
    parts = [_introduction(tried, timed=timed)]
    for kind in dict.fromkeys(one.kind for one in tried):
        rows = [row(one, steps, reasons, timed=timed) for one in tried if one.kind == kind]
        parts += [f"## {kind}", _table(rows)]
    notes = [f"{number}. {reason}" for reason, number in reasons.numbers.items()]
    return "\n\n".join([*parts, "## Reasons", "\n".join(notes)]) + "\n"


def is_busy() -> bool:
    """Whether so much other work runs here that times say nothing."""
    return os.getloadavg()[2] > BUSY * (os.cpu_count() or 1)


def row(one: Tried, steps: Sequence[str], reasons: Reasons, *, timed: bool) -> Row:
    tried = {step: one.outcomes[step] for step in steps if step in one.outcomes}
    cells = dict.fromkeys(steps, "") | {step: _cell(found, reasons, timed=timed) for step, found in tried.items()}
    graph = _admitted(one.outcomes["admit"], reasons)
    return {"model": one.specimen.name, "made by": one.specimen.maker, "graph": graph} | cells


def _introduction(tried: Sequence[Tried], *, timed: bool) -> str:
    states = Counter(str(step["state"]) for one in tried for step in one.outcomes.values())
    admitted = sum(one.outcomes["admit"]["state"] == "done" for one in tried)
    return f"""# The zoo

What each step makes of {len(tried)} models, written by `python -m benchmarks zoo` with ONNX {onnx.__version__} and \
ONNX Runtime {onnxruntime.__version__}.
{admitted} models are admitted, {states["refused"]} are refused with a reason.
Of the steps tried on them, {states["done"] - admitted} make a file, {states["skipped"]} skip with a reason, \
{states["failed"]} fail, {states["crashed"]} crash and {states["unfinished"]} take too long.

{TIMED if timed else UNTIMED}
Static int8 has every remedy switched on, chooses its format, and makes one mixture with float. Inputs are made up, so
this says that the step works there, not how accurate a trained model stays. A number in brackets is a reason below.
Each file loads in ONNX Runtime, runs, and keeps names, types, axes that vary, metadata and versions of the original."""


def _table(rows: Sequence[Row]) -> str:
    lines = [list(rows[0]), ["---"] * len(rows[0]), *(list(one.values()) for one in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _admitted(outcome: Mapping[str, object], reasons: Reasons) -> str:
    words = str(outcome["words"])
    return words if outcome["state"] == "done" else f"{outcome['state']} {reasons.number(words)}"


def _cell(outcome: Mapping[str, object], reasons: Reasons, *, timed: bool) -> str:
    state, words = str(outcome["state"]), str(outcome["words"])
    if state != "done":
        return f"{'–' if state == 'skipped' else state} {reasons.number(words)}"
    noise_db = float(str(outcome["sqnr_db"]))
    speed = f"{float(str(outcome['speedup'])):.1f}× " if timed else ""
    return speed + ("equal" if math.isinf(noise_db) else f"{round(noise_db)} dB")
