"""What parts have learned and what they cost, for another plan and another attempt: neither depends on the target.

One .npz without pickles, written under another name and renamed. `key` says of which model, samples and options it is.
"""

import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError

from engine.replace.parts import Part

FILE = "replacements.npz"
MOST_BYTES = 256 << 20


@dataclass(frozen=True)
class Taught:
    """A part that has learned."""

    part: Part
    cost: float  #: noise over signal of the model's outputs, where it alone is in place


def name_of(part: Part) -> str:
    return f"{part.move} {part.site.output}"


def write_taught(taught: Sequence[Taught], steps: int, key: str, folder: Path) -> None:
    """Unless it is very large."""
    models = [one.part.model.SerializeToString(deterministic=True) for one in taught]
    if sum(map(len, models)) > MOST_BYTES:
        return
    folder.mkdir(parents=True, exist_ok=True)
    note = {"key": key, "steps": steps, "parts": {name_of(one.part): one.cost for one in taught}}
    draft = (folder / FILE).with_suffix(".draft")
    with draft.open("wb") as file:
        arrays = [np.frombuffer(model, np.uint8) for model in models]
        np.savez(file, np.array(json.dumps(note)), *arrays, allow_pickle=False)
    draft.rename(folder / FILE)


def read_taught(parts: Sequence[Part], key: str, folder: Path) -> tuple[list[Taught], int] | None:
    """These parts as they were written, and how many steps they had; None where not all of them are there."""
    try:
        with (folder / FILE).open("rb") as file, np.load(file, allow_pickle=False) as stored:
            note = json.loads(str(stored["arr_0"]))
            if note["key"] != key:
                return None
            places = {name: index for index, name in enumerate(note["parts"], start=1)}
            found = [_read(part, note["parts"], stored[f"arr_{places[name_of(part)]}"]) for part in parts]
            return found, int(note["steps"])
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile, DecodeError):
        return None


def _read(part: Part, costs: Mapping[str, float], model: np.ndarray) -> Taught:
    return Taught(replace(part, model=onnx.load_model_from_string(model.tobytes())), float(costs[name_of(part)]))
