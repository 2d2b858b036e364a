"""Inner tensors that student and teacher both have: the teacher shows how it gets there, not only what it says.

Looked for where branches meet (sums, concatenations) and in front of what pools, for there a network says what it has
found so far. Of those that both make under one name and in one shape, the ones that have something in common from the
beginning are compared, |s - t|² / var(t), and all together count as much as one output (FitNets, Romero et al. 2015).
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx

from engine.data import Feeds
from engine.graph import copied, give_out, inlined, is_standard, load, save
from engine.recover.targets import Kind, Target
from engine.recover.teacher import LiveTeacher
from engine.runtime import ERRORS

MEETING = ("Add", "Sum", "Concat")
POOLING = ("GlobalAveragePool", "GlobalMaxPool", "AveragePool", "ReduceMean")
MOST = 6
NOTHING_IN_COMMON = 1.0  #: squared error over variance, of a student that always says the mean


def features(student: Path, teacher: Path, feeds: Feeds, folder: Path, threads: int) -> list[Target]:
    """What is worth comparing, by one run of both; from all over the network, none where they are too different."""
    there = set(_candidates(load(teacher)))
    names = [name for name in dict.fromkeys(_candidates(load(student))) if name in there]
    if not names:
        return []
    try:
        said, shown = (_values(path, names, feeds, folder, threads) for path in (student, teacher))
    except ERRORS:  # the rows are too many for a run of theirs, or a type is unknown
        return []
    shared = [name for name in names if _have_something_in_common(said[name], shown[name])]
    chosen = [shared[place] for place in np.linspace(0, len(shared) - 1, min(MOST, len(shared))).round().astype(int)]
    return [Target(name, Kind.VALUES, power=float(np.var(shown[name])), weight=1 / len(chosen)) for name in chosen]


def showing(model: Path, names: list[str], folder: Path) -> Path:
    """The model with these tensors beside its outputs."""
    given = copied(inlined(load(model)))
    give_out(given, [*(value.name for value in given.graph.output), *names])
    return save(given, folder / f"showing-{model.name}")


def _candidates(model: onnx.ModelProto) -> Iterator[str]:
    graph = inlined(model).graph
    constants = {weight.name for weight in graph.initializer}
    constants |= {name for node in graph.node if node.op_type == "Constant" for name in node.output}
    outputs = {value.name for value in graph.output}
    for node in graph.node:
        if is_standard(node, *POOLING):
            yield node.input[0]
        elif is_standard(node, *MEETING) and sum(name not in constants for name in node.input) > 1:
            yield from set(node.output) - outputs


def _values(model: Path, names: list[str], feeds: Feeds, folder: Path, threads: int) -> dict[str, np.ndarray]:
    return LiveTeacher.open(showing(model, names, folder), names, threads).arrays(feeds)


def _have_something_in_common(said: np.ndarray, shown: np.ndarray) -> bool:
    if said.dtype.kind != "f" or said.shape != shown.shape or not np.isfinite(shown).all():
        return False
    power = float(np.var(shown))
    return power > 0 and float(np.mean(np.square(said - shown))) < NOTHING_IN_COMMON * power
