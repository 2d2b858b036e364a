"""The ranges of activations, learned from samples that stream through ONNX Runtime.

    min-max      one pass: ReduceMin and ReduceMax of each tensor inside the graph, so that two numbers come back
    percentile   a second pass: a histogram of fixed bins over the range of the first, of evenly spaced elements

One sample runs at a time and only counts are kept: memory does not grow with the number of samples, and no way of
putting samples into batches can change a range.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from engine.data import Samples
from engine.errors import StepFailed
from engine.graph import Names, copied, save
from engine.measure.session import open_session, session_options
from engine.runtime import ERRORS, reason

BINS = 4096
ELEMENTS_READ = 1 << 16  #: about as many elements of one tensor and sample go into its histogram

Ranges = dict[str, tuple[float, float]]


@dataclass(frozen=True)
class Calibrator:
    """Samples, and the float graph they run through."""

    model: onnx.ModelProto
    samples: Samples
    folder: Path
    threads: int
    pause: Callable[[], None]

    def minmax(self, names: Iterable[str]) -> Ranges:
        """Smallest and largest value of each tensor; not finite where the values are not."""
        wanted = list(names)
        lows, highs = np.full(len(wanted), np.inf), np.full(len(wanted), -np.inf)
        for values in self._run(*_with_extremes(self.model, wanted)):
            extremes = np.array([float(value) for value in values])
            lows, highs = np.minimum(lows, extremes[0::2]), np.maximum(highs, extremes[1::2])
        return {name: (low, high) for name, low, high in zip(wanted, lows.tolist(), highs.tolist(), strict=True)}

    def percentile(self, ranges: Ranges, percent: float) -> Ranges:
        """Ranges that hold so many percent of the values, inside the given ones."""
        histograms = {name: np.zeros(BINS, np.int64) for name in ranges}
        for values in self._run(*_with_selections(self.model, list(ranges))):
            for name, value in zip(ranges, values, strict=True):
                histograms[name] += histogram(value, *ranges[name])
        return {name: inner_range(histograms[name], *ranges[name], percent) for name in ranges}

    def run(self, graph: onnx.ModelProto, outputs: Sequence[str]) -> Iterator[list[np.ndarray]]:
        """What a graph with the same inputs gives out, sample after sample."""
        yield from self._run(graph, outputs)

    def _run(self, graph: onnx.ModelProto, outputs: Sequence[str]) -> Iterator[list[np.ndarray]]:
        path = save(graph, self.folder / "calibration.onnx")
        try:
            session = open_session(path, "cpu", session_options(self.threads))
            for feeds in self.samples.batches(1):
                self.pause()
                yield session.run(outputs, feeds)
        except ERRORS as error:
            detail = f"The model fails on a calibration sample: {reason(error)}"
            raise StepFailed("calibration_failed", detail, "Check that the model runs on each sample.") from error
        finally:
            path.unlink()


# ── what the graph gives out ─────────────────────────────────────────────────────────────────────────────────────────


def _with_extremes(model: onnx.ModelProto, wanted: list[str]) -> tuple[onnx.ModelProto, list[str]]:
    """The graph with the smallest and largest value of each tensor as its outputs."""
    graph, names = _observed(model)
    outputs = []
    for name in wanted:
        for operator in ("ReduceMin", "ReduceMax"):
            outputs.append(names.fresh(f"{name}_{operator}"))
            graph.graph.node.append(helper.make_node(operator, [name], outputs[-1:], keepdims=0))
    return _giving(graph, outputs), outputs


def _with_selections(model: onnx.ModelProto, wanted: list[str]) -> tuple[onnx.ModelProto, list[str]]:
    """The graph with evenly spaced elements of each tensor as its outputs."""
    graph, names = _observed(model)
    constants = {"flat": [-1], "twice": [2 * ELEMENTS_READ], "two": [2], "one": [1], "start": [0], "end": [2**62]}
    named = {key: names.fresh(f"selection_{key}") for key in constants}
    for key, value in constants.items():
        graph.graph.initializer.append(numpy_helper.from_array(np.array(value, np.int64), named[key]))
    outputs = []
    for name in wanted:
        flat, size, half, even, step, chosen = (names.fresh(f"{name}_selection") for _ in range(6))
        # an odd step, so that it does not fall in step with the channels: 2 · (size // (2 · elements)) + 1
        steps = (
            ("Reshape", [name, named["flat"]], flat),
            ("Size", [name], size),
            ("Div", [size, named["twice"]], half),
            ("Mul", [half, named["two"]], even),
            ("Add", [even, named["one"]], step),
            ("Slice", [flat, named["start"], named["end"], named["start"], step], chosen),
        )
        graph.graph.node.extend(helper.make_node(operator, inputs, [output]) for operator, inputs, output in steps)
        outputs.append(chosen)
    return _giving(graph, outputs), outputs


def _observed(model: onnx.ModelProto) -> tuple[onnx.ModelProto, Names]:
    return copied(model), Names.of(model)


def _giving(graph: onnx.ModelProto, outputs: list[str]) -> onnx.ModelProto:
    del graph.graph.output[:]
    graph.graph.output.extend(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in outputs)
    return graph


# ── histograms ───────────────────────────────────────────────────────────────────────────────────────────────────────


def histogram(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """How many values fall into each of the equal bins between low and high."""
    if high <= low:
        return np.zeros(BINS, np.int64)
    position = (values.ravel().astype(np.float64) - low) * (BINS / (high - low))
    return np.bincount(np.clip(position, 0, BINS - 1).astype(np.int64), minlength=BINS)


def inner_range(counts: np.ndarray, low: float, high: float, percent: float) -> tuple[float, float]:
    """The range without the outermost values, half of them on either side."""
    total = counts.sum()
    if not total:
        return low, high
    outside = total * (100 - percent) / 200
    below = int(np.searchsorted(np.cumsum(counts), outside, side="right"))
    above = int(np.searchsorted(np.cumsum(counts[::-1]), outside, side="right"))
    width = (high - low) / BINS
    return low + below * width, high - above * width
