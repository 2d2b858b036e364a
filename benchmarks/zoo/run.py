"""All specimens through all steps, each in a process of its own; the table is written to docs/zoo.md."""

import importlib
import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import onnx
import onnxruntime

from benchmarks.table import Row
from benchmarks.zoo import formats, layers, odd, shipped
from benchmarks.zoo.specimen import Specimen
from engine.steps import STEPS

TABLE = Path(__file__).parent.parent.parent / "docs" / "zoo.md"
EXPORTED = ("benchmarks.zoo.classical", "benchmarks.zoo.exported")  #: modules that need packages of their own
AT_ONCE = 2
MOST_SECONDS = 900
KINDS = [kind.model_fields["kind"].default for kind in STEPS]
Outcomes = dict[str, dict[str, object]]


@dataclass
class Reasons:
    """Why steps did nothing, numbered as they come up."""

    numbers: dict[str, int] = field(default_factory=dict)

    def number(self, reason: str) -> str:
        return f"[{self.numbers.setdefault(reason, len(self.numbers) + 1)}]"


def run() -> list[Row]:
    reasons = Reasons()
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(AT_ONCE) as pool:
        files = list(_files(Path(folder)))
        outcomes = pool.map(lambda pair: tried(*pair), files)
        rows = [_row(specimen, found, reasons) for (specimen, _), found in zip(files, outcomes, strict=True)]
    TABLE.write_text(_document(rows, reasons))
    return rows


def specimens() -> Iterator[Specimen]:
    """All that can be had here."""
    yield from (*layers.SPECIMENS, *odd.SPECIMENS, *formats.SPECIMENS)
    for name in EXPORTED:
        try:
            yield from importlib.import_module(name).specimens()
        except ImportError as error:
            print(f"left out: all of {name}: {error}", file=sys.stderr)
    yield from shipped.specimens()


def _files(folder: Path) -> Iterator[tuple[Specimen, Path]]:
    """Each specimen written down, one after another: exporters share what is global."""
    for number, specimen in enumerate(specimens()):
        path = folder / f"{number}" / "model.onnx"
        path.parent.mkdir()
        try:
            specimen.write(path)
        except ImportError as error:
            print(f"left out: {specimen.name}: {error}", file=sys.stderr)
            continue
        yield specimen, path


def tried(specimen: Specimen, path: Path) -> Outcomes:
    """What became of each step; where one ends the process, the others are tried in another one."""
    found: Outcomes = {}
    while left := [kind for kind in KINDS if kind not in found]:
        reported, words = _child(specimen, path, left)
        found |= reported
        if found.get("admit", {}).get("state") != "done":
            found.setdefault("admit", {"state": "crashed", "words": words})
            break
        if words:
            broken = next(kind for kind in left if kind not in reported)
            found[broken] = {"state": "crashed", "words": words}
    print(f"{specimen.name}: {', '.join(str(outcome['state']) for outcome in found.values())}", file=sys.stderr)
    return found


def _child(specimen: Specimen, path: Path, kinds: Sequence[str]) -> tuple[Outcomes, str]:
    """The outcomes that the process told before it ended, and its last words if it ended badly."""
    shapes = json.dumps(dict(specimen.shapes))
    command = [sys.executable, "-m", "benchmarks.zoo.trial", str(path), str(path.parent), shapes, *kinds]
    with (path.parent / "told.jsonl").open("w+") as told:
        try:
            done = subprocess.run(
                command, stdout=told, stderr=subprocess.PIPE, text=True, timeout=MOST_SECONDS, check=False
            )
            words = (done.stderr.strip() or str(done.returncode)).splitlines()[-1] if done.returncode else ""
        except subprocess.TimeoutExpired:
            words = f"not done after {MOST_SECONDS} seconds"
        told.seek(0)
        return {outcome["step"]: outcome for outcome in map(json.loads, told)}, words


# ── the table ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _row(specimen: Specimen, found: Outcomes, reasons: Reasons) -> Row:
    steps = {kind: _cell(found[kind], reasons) if kind in found else "" for kind in KINDS}
    return {"model": specimen.name, "made by": specimen.maker, "admitted": _admitted(found["admit"], reasons)} | steps


def _admitted(outcome: dict[str, object], reasons: Reasons) -> str:
    if outcome["state"] == "done":
        return str(outcome["words"]).split(";")[0]
    return f"{outcome['state']} {reasons.number(str(outcome['words']))}"


def _cell(outcome: dict[str, object], reasons: Reasons) -> str:
    if outcome["state"] != "done":
        return f"{outcome['state']} {reasons.number(str(outcome['words']))}"
    noise_db = float(str(outcome["sqnr_db"]))
    return "equal" if math.isinf(noise_db) else f"{noise_db:.0f} dB"


def _document(rows: list[Row], reasons: Reasons) -> str:
    title = f"""# The zoo

What each step makes of {len(rows)} models, by `python -m benchmarks zoo`; ONNX {onnx.__version__}, ONNX Runtime \
{onnxruntime.__version__}.

Inputs are made up, so a figure says that the step works there, not how accurate a trained model stays: SQNR in dB of
the worst output, of the truest file that the step proposes, or `equal`. Every file loads in ONNX Runtime and keeps
names, types, axes that vary, metadata and versions.

"""
    lines = [f"| {' | '.join(rows[0])} |", f"|{'---|' * len(rows[0])}"]
    lines += [f"| {' | '.join(row.values())} |" for row in rows]
    notes = [f"{number}. {reason}" for reason, number in reasons.numbers.items()]
    return title + "\n".join([*lines, "", "## Reasons", "", *notes]) + "\n"
