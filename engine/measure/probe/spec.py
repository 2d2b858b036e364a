"""What a probe is asked, as plain values: written as JSON by the engine, read in a fresh process.

Paths are absolute or relative to the work folder, which is the working directory of both.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import ClassVar

import numpy as np

Feeds = dict[str, np.ndarray]


class Sums(StrEnum):
    """How a CPU sums products of 8-bit numbers."""

    EXACT = "exact"  #: in 32 bits, as with VNNI
    SATURATING = "saturating"  #: pair by pair in 16 bits, as x86 CPUs without VNNI


@dataclass(frozen=True, kw_only=True)
class Spec:
    """A model file, and the processor it runs on."""

    kind: ClassVar[str]
    model: str
    device: str
    threads: int


@dataclass(frozen=True, kw_only=True)
class LoadSpec(Spec):
    """Does it load, and what are its inputs and outputs?"""

    kind: ClassVar[str] = "load"


@dataclass(frozen=True, kw_only=True)
class LatencySpec(Spec):
    """Time `model` and its rivals in turns."""

    kind: ClassVar[str] = "latency"
    rivals: list[str]
    feeds: str
    order: list[int]  #: in which the sessions are opened; 0 is the model itself
    seconds: float
    precision: float
    seed: int
    samples: str  #: .npy to write: rounds × models, in milliseconds


@dataclass(frozen=True, kw_only=True)
class GraphTimesSpec(Spec):
    """Time small graphs in turns, each on inputs of its own; `model` is the first of them."""

    kind: ClassVar[str] = "graph_times"
    graphs: list[tuple[str, str]]  #: .onnx and .npz of its inputs
    rounds: int  #: as many as fit between the least and the most seconds
    seconds: list[float]
    samples: str  #: .npy to write: rounds × graphs, in milliseconds


@dataclass(frozen=True, kw_only=True)
class MemorySpec(Spec):
    """How much memory does a process need that only loads and runs it?"""

    kind: ClassVar[str] = "memory"
    feeds: str
    runs: int


@dataclass(frozen=True, kw_only=True)
class OutputsSpec(Spec):
    """Run all samples and write one .npy per output."""

    kind: ClassVar[str] = "outputs"
    samples: str  #: note of `engine.data.save_samples`
    batch_size: int
    folder: str
    emulated_sums: str | None = None  #: of `Sums`; None for what the kernels of this machine make of the file


@dataclass(frozen=True, kw_only=True)
class EmulationSpec(Spec):
    """Which products may saturate, and how long does an emulated run take?"""

    kind: ClassVar[str] = "emulation"
    feeds: str


@dataclass(frozen=True, kw_only=True)
class ProfileSpec(Spec):
    """Run under ONNX Runtime's profiler; write the graph as it is executed."""

    kind: ClassVar[str] = "profile"
    feeds: str
    warm_up: int
    runs: int  #: at most, after the warm-up
    seconds: float  #: after which no further run begins
    executed: str  #: .onnx to write
    prefix: str  #: of the trace's file


SPECS: dict[str, type[Spec]] = {
    spec.kind: spec
    for spec in (LoadSpec, LatencySpec, GraphTimesSpec, MemorySpec, OutputsSpec, EmulationSpec, ProfileSpec)
}


def write_spec(spec: Spec, path: Path) -> None:
    path.write_text(json.dumps({"kind": spec.kind, **asdict(spec)}))


def read_spec(path: Path) -> Spec:
    fields = json.loads(path.read_text())
    return SPECS[fields.pop("kind")](**fields)


def write_feeds(feeds: Mapping[str, np.ndarray], path: Path) -> None:
    """Arrays by position, since an input's name need not be a file's; texts as NumPy's own text type."""
    arrays = [array.astype(str) if array.dtype == object else array for array in feeds.values()]
    np.savez(path, np.array(list(feeds), dtype=str), *arrays)


def read_feeds(path: Path) -> Feeds:
    with np.load(path, allow_pickle=False) as stored:
        names, *arrays = (stored[f"arr_{index}"] for index in range(len(stored.files)))
    values = [array.astype(object) if array.dtype.kind == "U" else array for array in arrays]
    return dict(zip(names.tolist(), values, strict=True))
