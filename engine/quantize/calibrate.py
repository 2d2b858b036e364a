"""The ranges of activations, learned from samples that stream through ONNX Runtime.

    min-max                    one pass: the smallest and the largest value of each tensor, found inside the graph
    percentile, entropy, mse   one more for all three: a histogram of each tensor, of evenly spaced elements

One sample runs at a time, or as many as the model insists on, and only counts are kept: memory does not grow with the
number of samples. Which elements are read depends on the size of one sample alone, so no way of putting samples into
batches can change a range.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from engine import beside
from engine.data import Samples
from engine.errors import StepFailed
from engine.graph import Names, copied, give_out, save
from engine.measure.session import open_session, session_options
from engine.quantize.histograms import LEVELS, LEVELS_OF_ONE_SIGN, Histogram, entropy, mse, percentile
from engine.quantize.qdq import Format
from engine.recipe import Calibration
from engine.runtime import ERRORS, reason

ELEMENTS_READ = 1 << 16  #: about as many elements of one tensor and sample go into its histogram, at most twice as many
BYTES_AT_ONCE = 256 << 20  #: that a run gives out at most; for more, there are more passes

#: how elements are chosen inside the graph: operator, inputs, output. A tensor that the rows do not divide is one row.
#: The step is odd, 2 · (size // (2 · ELEMENTS_READ)) + 1, so that it does not fall in step with the channels.
SELECTION = (
    ("Size", ("tensor",), "size"),
    ("Mod", ("size", "rows"), "left_over"),
    ("Equal", ("left_over", "zero"), "divisible"),
    ("Where", ("divisible", "rows", "one"), "parts"),
    ("Where", ("divisible", "by_row", "as_one"), "shape"),
    ("Reshape", ("tensor", "shape"), "table"),
    ("Div", ("size", "parts"), "part_size"),
    ("Div", ("part_size", "twice"), "half"),
    ("Mul", ("half", "two"), "even"),
    ("Add", ("even", "one"), "step"),
    ("Slice", ("table", "zero", "end", "one", "step"), "chosen"),
)

Ranges = dict[str, tuple[float, float]]


@dataclass(frozen=True)
class Calibrator:
    """Samples, and the float graph they run through."""

    model: onnx.ModelProto
    samples: Samples
    folder: Path
    threads: int
    pause: Callable[[], None]
    _histograms: dict[str, Histogram] = field(default_factory=dict, init=False, repr=False, compare=False)

    def minmax(self, names: Iterable[str]) -> Ranges:
        """Smallest and largest value of each tensor; not finite where one value is not."""
        wanted = list(names)
        lows, highs = np.full(len(wanted), np.inf), np.full(len(wanted), -np.inf)
        for values in self.run(*_with_extremes(self.model, wanted)):
            low, high, total = np.array([float(value) for value in values]).reshape(-1, 3).T
            unsound = np.where(np.isfinite(total), 0.0, np.nan)  # the reductions above pass over NaN
            lows, highs = np.minimum(lows, low + unsound), np.maximum(highs, high + unsound)
        return {name: (low, high) for name, low, high in zip(wanted, lows.tolist(), highs.tolist(), strict=True)}

    def ranges(self, method: Calibration, extremes: Ranges, *, percent: float, form: Format) -> Ranges:
        """The ranges this method gives activations of this format, inside the extremes that `minmax` found.

        `percent` is the share of values that a percentile leaves inside. Extremes that are not finite stay as they are.
        """
        if method is Calibration.MINMAX:
            return dict(extremes)
        finite = {name: ends for name, ends in extremes.items() if np.isfinite(ends).all()}
        self._learn({name: ends for name, ends in finite.items() if name not in self._histograms})
        return extremes | {name: _range(self._histograms[name], method, percent, form) for name in finite}

    def run(self, graph: onnx.ModelProto, outputs: Sequence[str]) -> Iterator[list[np.ndarray]]:
        """These outputs of a graph that takes the samples, run after run."""
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
            beside.remove(path)

    def _learn(self, extremes: Ranges) -> None:
        """Fill the histograms of these tensors."""
        rows = self.samples.run_rows(1)
        tensors = max(BYTES_AT_ONCE // (rows * 2 * ELEMENTS_READ * np.float32().nbytes), 1)
        for start in range(0, len(extremes), tensors):
            names = list(extremes)[start : start + tensors]
            histograms = [Histogram.over(*extremes[name]) for name in names]
            for values in self.run(*_with_selections(self.model, names, rows)):
                for histogram, some in zip(histograms, values, strict=True):
                    histogram.add(some)
            self._histograms.update(zip(names, histograms, strict=True))


def _range(histogram: Histogram, method: Calibration, percent: float, form: Format) -> tuple[float, float]:
    seen = histogram.folded() if form.symmetric else histogram
    levels = LEVELS_OF_ONE_SIGN if form.symmetric else LEVELS
    if method is Calibration.PERCENTILE:
        low, high = percentile(seen, 2 * percent - 100 if form.symmetric else percent)  # all are left out at one end
    else:
        low, high = {Calibration.ENTROPY: entropy, Calibration.MSE: mse}[method](seen, levels)
    return (-high, high) if form.symmetric else (low, high)


# ── what the graph gives out ─────────────────────────────────────────────────────────────────────────────────────────


def _with_extremes(model: onnx.ModelProto, wanted: list[str]) -> tuple[onnx.ModelProto, list[str]]:
    """The graph with the smallest and largest value of each tensor, and the sum of all, as its outputs."""
    graph, names = _observed(model)
    outputs = []
    for name in wanted:
        for operator in ("ReduceMin", "ReduceMax", "ReduceSum"):
            outputs.append(names.fresh(f"{name}_{operator}"))
            graph.graph.node.append(helper.make_node(operator, [name], outputs[-1:], keepdims=0))
    give_out(graph, outputs)
    return graph, outputs


def _with_selections(model: onnx.ModelProto, wanted: list[str], rows: int) -> tuple[onnx.ModelProto, list[str]]:
    """The graph with evenly spaced elements of each tensor, of each of the rows that run at once, as its outputs."""
    graph, names = _observed(model)
    constants = {"zero": [0], "one": [1], "two": [2], "twice": [2 * ELEMENTS_READ], "end": [2**62]}
    constants |= {"rows": [rows], "by_row": [rows, -1], "as_one": [1, -1]}
    shared = {part: names.fresh(f"selection_{part}") for part in constants}
    for part, value in constants.items():
        graph.graph.initializer.append(numpy_helper.from_array(np.array(value), shared[part]))
    outputs = []
    for name in wanted:
        named = shared | {"tensor": name} | {part: names.fresh(f"{name}_{part}") for _, _, part in SELECTION}
        for operator, inputs, part in SELECTION:
            graph.graph.node.append(helper.make_node(operator, [named[key] for key in inputs], [named[part]]))
        outputs.append(named["chosen"])
    give_out(graph, outputs)
    return graph, outputs


def _observed(model: onnx.ModelProto) -> tuple[onnx.ModelProto, Names]:
    return copied(model), Names.of(model)
