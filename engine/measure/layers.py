"""Times of small graphs on the target: single layers at some width, replacements of them, or whole small networks.

    time = lower quartile over rounds of the graph - the same of an empty graph

since what disturbs a run only makes it slower, and calling the runtime takes as long as a small layer. The values of
weights decide nothing, so a time belongs to a structure: operators, attributes, shapes, and whole numbers that may be
shapes. It is kept in a file beside the machine that it was taken on, and no structure is timed twice.

A layer alone pays for bringing its input into the layout of its kernels, which it often does not inside of a network,
and misses what is fused into it there. Where a network is small, the difference between two whole networks is truer.
"""

import hashlib
import json
import math
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from engine.data import synthetic_samples
from engine.errors import StepFailed
from engine.graph import save
from engine.measure.lock import HostLock
from engine.measure.machine import processor
from engine.measure.probe.launch import run_probe
from engine.measure.probe.spec import GraphTimesSpec, write_feeds
from engine.recipe import Target
from engine.signature import Signature

TABLE = "layer-times.json"
AT_ONCE, BYTES_AT_ONCE = 48, 256 << 20  #: graphs in one process, and bytes of their files
ROUNDS = 40
SECONDS = (0.3, 8.0)  #: least and most time for the rounds of one process
SHORT_CONSTANT = 64  #: elements of a whole-number constant that may be a shape

Times = dict[str, float]


@dataclass
class LayerTimes:
    """A table of times by structure; `kept` is a folder in which it outlives this process."""

    target: Target
    lock: HostLock = field(default_factory=lambda: HostLock(None))
    kept: Path | None = None

    def __post_init__(self) -> None:
        cpu, flags = processor()
        machine = [cpu, flags, self.target.device, self.target.threads, self.target.batch_size, version("onnxruntime")]
        self._machine = json.dumps(machine)
        self._times = self._read()

    def milliseconds(self, models: Sequence[onnx.ModelProto], beside: onnx.ModelProto | None = None) -> list[float]:
        """Of one run of each, on made-up inputs; infinite where a graph does not run.

        A machine is not always equally fast. `beside` is a graph that is timed again in each process, and what it takes
        there against what it took at first scales the others.
        """
        keys = [self.key(model) for model in models]
        unknown = {key: model for key, model in zip(keys, models, strict=True) if key not in self._times}
        for portion in _portions(unknown):
            self._times |= self._timed(portion) if beside is None else self._scaled(portion, beside)
            self._write()
        return [self._times[key] for key in keys]

    def _scaled(self, models: dict[str, onnx.ModelProto], beside: onnx.ModelProto) -> Times:
        key = self.key(beside)
        times = self._timed({key: beside} | models)
        before, now = self._times.setdefault(key, times[key]), times.pop(key)
        if not 0 < now < math.inf:
            return times
        return {key: time * before / now for key, time in times.items()} | {key: before}

    def key(self, model: onnx.ModelProto) -> str:
        """The same for graphs that take the same time on this machine, whatever their weights and names."""
        return hashlib.sha256((self._machine + structure(model)).encode()).hexdigest()[:32]

    def _timed(self, models: dict[str, onnx.ModelProto]) -> Times:
        """All in turns; where that breaks in halves, so that only what breaks is left out."""
        try:
            with self.lock.measuring():
                return dict(zip(models, _in_turns(list(models.values()), self.target), strict=True))
        except StepFailed:
            keys = list(models)
            if len(keys) == 1:
                return {keys[0]: math.inf}
            half = len(keys) // 2
            parts = [{key: models[key] for key in some} for some in (keys[:half], keys[half:])]
            return self._timed(parts[0]) | self._timed(parts[1])

    def _read(self) -> Times:
        try:
            stored = json.loads((self.kept / TABLE).read_text()) if self.kept else {}
            return {str(key): float(value) for key, value in stored.items()}
        except (OSError, ValueError, TypeError, AttributeError):
            return {}

    def _write(self) -> None:
        if self.kept is None:
            return
        self.kept.mkdir(parents=True, exist_ok=True)
        draft = (self.kept / TABLE).with_suffix(".draft")
        draft.write_text(json.dumps({key: time for key, time in self._times.items() if math.isfinite(time)}))
        draft.rename(self.kept / TABLE)


def structure(model: onnx.ModelProto) -> str:
    """A graph in words, without names and without the values of weights."""
    graph, numbers = model.graph, dict[str, int]()

    def number(name: str) -> int:
        return numbers.setdefault(name, len(numbers)) if name else -1

    inputs = [(number(value.name), value.type.SerializeToString(deterministic=True).hex()) for value in graph.input]
    weights = [(number(weight.name), weight.data_type, list(weight.dims), _shape(weight)) for weight in _used(graph)]
    nodes = [
        (node.domain, node.op_type, _attributes(node), list(map(number, node.input)), list(map(number, node.output)))
        for node in graph.node
    ]
    opsets = sorted((entry.domain, entry.version) for entry in model.opset_import)
    return repr((opsets, inputs, weights, nodes, [number(value.name) for value in graph.output]))


def _used(graph: onnx.GraphProto) -> list[onnx.TensorProto]:
    """Initializers in the order in which nodes read them."""
    stored = {weight.name: weight for weight in graph.initializer}
    read = dict.fromkeys(name for node in graph.node for name in node.input if name in stored)
    return [stored[name] for name in read]


def _shape(weight: onnx.TensorProto) -> list[int]:
    """Values of what may be a shape."""
    whole = weight.data_type in (TensorProto.INT64, TensorProto.INT32)
    return onnx.numpy_helper.to_array(weight).ravel().tolist() if whole and _size(weight) <= SHORT_CONSTANT else []


def _size(weight: onnx.TensorProto) -> int:
    return math.prod(weight.dims)


def _attributes(node: onnx.NodeProto) -> list[str]:
    return sorted(entry.SerializeToString(deterministic=True).hex() for entry in node.attribute)


def _portions(models: dict[str, onnx.ModelProto]) -> Iterator[dict[str, onnx.ModelProto]]:
    """As many as one process may hold."""
    portion: dict[str, onnx.ModelProto] = {}
    size = 0
    for key, model in models.items():
        if portion and (len(portion) == AT_ONCE or size + model.ByteSize() > BYTES_AT_ONCE):
            yield portion
            portion, size = {}, 0
        portion[key] = model
        size += model.ByteSize()
    if portion:
        yield portion


def _in_turns(models: Sequence[onnx.ModelProto], target: Target) -> list[float]:
    """Milliseconds of each, by a fresh process."""
    with tempfile.TemporaryDirectory(prefix="layers-") as name:
        folder = Path(name)
        files = [_written(model, folder / f"{slot}", target) for slot, model in enumerate([_empty(), *models])]
        least, most = SECONDS
        spec = GraphTimesSpec(
            model=files[0][0],
            device=target.device,
            threads=target.threads,
            graphs=files,
            rounds=ROUNDS,
            seconds=[least, most],
            samples=str(folder / "samples.npy"),
        )
        run_probe(spec)
        times = np.percentile(np.load(spec.samples), 25, axis=0)
        return [max(float(time - times[0]), 0.0) for time in times[1:]]


def _written(model: onnx.ModelProto, path: Path, target: Target) -> tuple[str, str]:
    """Paths of the graph and of made-up inputs for it."""
    samples = synthetic_samples(Signature.of(model), target.batch_size, seed=0)
    write_feeds(next(samples.batches(target.batch_size)), path.with_suffix(".npz"))
    return str(save(model, path.with_suffix(".onnx"))), str(path.with_suffix(".npz"))


def _empty() -> onnx.ModelProto:
    """What remains of a run when nothing is computed."""
    value: Any = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "empty", value[:1], value[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
