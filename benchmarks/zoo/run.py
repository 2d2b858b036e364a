"""All specimens through all steps, each in a process of its own; the tables are written to docs/zoo.md."""

import importlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from benchmarks.table import Row
from benchmarks.zoo.document import Reasons, Tried, document, is_busy, row
from benchmarks.zoo.specimen import Specimen
from engine.recipe import ConvertFloat16, QuantizeDynamic, QuantizeStatic, QuantizeWeights, SimplifyGraph

TABLE = Path(__file__).parent.parent.parent / "docs" / "zoo.md"
#: headings and the modules below them; some of these need packages of their own
KINDS = {
    "Layers and architectures": "layers",
    "Odd graphs": "odd",
    "Number formats, models quantized already, old operator sets": "formats",
    "Networks exported by torch": "exported",
    "Classical models": "classical",
    "Models that packages ship": "shipped",
}
AT_ONCE = 2
MOST_SECONDS = 900
UNFINISHED = f"not done after {MOST_SECONDS} seconds"
#: steps that train nothing
STEPS_TRIED = (SimplifyGraph, QuantizeStatic, QuantizeDynamic, QuantizeWeights, ConvertFloat16)
STEP_KINDS = [kind.model_fields["kind"].default for kind in STEPS_TRIED]


def run() -> list[Row]:
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(AT_ONCE) as pool:
        found = list(pool.map(lambda pair: tried(*pair), _files(Path(folder))))
    TABLE.write_text(document(found, STEP_KINDS))
    reasons = Reasons()
    return [row(one, STEP_KINDS, reasons, timed=not is_busy()) for one in found]


def specimens() -> Iterator[tuple[str, Specimen]]:
    """All that can be had here, under their headings."""
    for kind, name in KINDS.items():
        try:
            module = importlib.import_module(f"benchmarks.zoo.{name}")
        except ImportError as error:
            print(f"left out: {kind}: {error}", file=sys.stderr)
            continue
        for specimen in module.specimens():
            yield kind, specimen


def _files(folder: Path) -> Iterator[tuple[Tried, Path]]:
    """Each specimen written down, one after another: exporters share what is global."""
    for number, (kind, specimen) in enumerate(specimens()):
        path = folder / f"{number}" / "model.onnx"
        path.parent.mkdir()
        try:
            specimen.write(path)
        except ImportError as error:
            print(f"left out: {specimen.name}: {error}", file=sys.stderr)
            continue
        yield Tried(kind, specimen, {}), path


def tried(one: Tried, path: Path) -> Tried:
    """With what became of each step; where one ends the process, the others are tried in another one."""
    found: dict[str, dict[str, object]] = {}
    while left := [kind for kind in STEP_KINDS if kind not in found]:
        reported, words = _child(one.specimen, path, left)
        found |= reported
        if found.get("admit", {}).get("state") != "done":
            found.setdefault("admit", {"state": "crashed", "words": words})
            break
        if words:
            broken = next(kind for kind in left if kind not in reported)
            found[broken] = {"state": "unfinished" if words == UNFINISHED else "crashed", "words": words}
    print(f"{one.specimen.name}: {', '.join(str(outcome['state']) for outcome in found.values())}", file=sys.stderr)
    return replace(one, outcomes=found)


def _child(specimen: Specimen, path: Path, kinds: Sequence[str]) -> tuple[dict[str, dict[str, object]], str]:
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
            words = UNFINISHED
        told.seek(0)
        return {outcome["step"]: outcome for outcome in map(json.loads, told)}, words
