"""Which layers pay for 8 bits, and which suffer from them: measured one by one.

    noise    the model with this layer alone in 8 bits, against the float model: noise over signal of the worst output
    gain     time of the layer in float minus its time in 8 bits and that of the conversions around it

Noise of layers adds up as long as it is small, so the sum over the layers that stay in 8 bits predicts the whole; what
is decided with that is measured afterwards.
"""

import math
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx

from engine import beside
from engine.data import Samples
from engine.errors import StepFailed
from engine.graph import Wiring, is_standard, load_structure, save
from engine.measure.session import open_session, output_names, session_options
from engine.quantize.plan import CLIPPING, Plan
from engine.quantize.workshop import Base, Workshop
from engine.recipe import Layout, QuantizeStatic
from engine.report import LayerChoice, Profile
from engine.runtime import ERRORS, reason

if TYPE_CHECKING:
    from engine.measure.glimpse import Glimpse  # its libraries take a second to import, and inspection needs none

MOST_BYTES = 128 << 20  #: of outputs that are kept to compare with
MOST_SAMPLES = 32
SHARE_OF_TIME, MOST_SECONDS = 0.25, 120.0  #: of what is left of the budget; and at most
CONVERSIONS = ("QuantizeLinear", "DequantizeLinear")

Outputs = list[list[np.ndarray]]


@dataclass(frozen=True)
class LayerEffect:
    """What 8 bits do to one layer."""

    name: str  #: of its first output
    node: str  #: its name for people
    operator: str
    noise_share: float | None  #: noise over signal of the outputs; None where it was not measured
    gained_ms: float | None

    def choice(self, *, kept_float: bool) -> LayerChoice:
        return LayerChoice(
            layer=self.node,
            operator=self.operator,
            noise_share=self.noise_share,
            gained_ms=self.gained_ms,
            kept_float=kept_float,
        )

    @property
    def harm(self) -> float:
        """Noise for each millisecond that is gained; the first to go back to float are those with most of it."""
        noise = self.noise_share if self.noise_share is not None else 0.0
        return noise / max(self.gained_ms if self.gained_ms is not None else 1.0, 1e-4)


@dataclass
class Sensitivity:
    """A quantized file and the float graph that it was made of, taken apart layer by layer."""

    workshop: Workshop
    options: QuantizeStatic
    file: Path
    glimpse: "Glimpse"

    def effects(self, *, noise: bool) -> list[LayerEffect]:
        """Of each layer, the most harmful first. Without `noise` only the time is looked at."""
        planned = self.workshop.plan(self.options)
        nodes = {node.output[0]: node for node in self.base.graph.graph.node if node.output}
        floats = save(self.base.graph, self.workshop.folder / "float.onnx")
        try:
            gained = self._gained(floats, planned, nodes)
            noises = self._noises(floats, list(planned.layers)) if noise else {}
        finally:
            beside.remove(floats)
        effects = [
            LayerEffect(name, nodes[name].name or name, nodes[name].op_type, noises.get(name), gained.get(name))
            for name in planned.layers
        ]
        return sorted(effects, key=lambda effect: effect.harm, reverse=True)

    @property
    def base(self) -> Base:
        return self.workshop.base(self.options)

    def _gained(self, floats: Path, planned: Plan, nodes: Mapping[str, onnx.NodeProto]) -> dict[str, float]:
        before, after = self.glimpse.profile(floats), self.glimpse.profile(self.file)
        wiring = Wiring.of(self.base.graph.graph)
        aliases = {name: _aliases(nodes[name], wiring) for name in planned.layers}
        return gained_ms(before, after, load_structure(self.file), aliases)

    def _noises(self, floats: Path, layers: Sequence[str]) -> dict[str, float]:
        """Noise of each layer alone; where there is no time for each, of neighbours together, shared evenly."""
        reference = run_all(floats, self.workshop.samples, self.workshop.threads)
        noises: dict[str, float] = {}
        deadline = time.monotonic() + SHARE_OF_TIME * min(self.glimpse.left_seconds(), MOST_SECONDS / SHARE_OF_TIME)
        waiting, seconds_each = list(layers), 0.0
        while waiting:
            started = time.monotonic()
            size = _affordable(len(waiting), deadline - started, seconds_each)
            group, waiting = waiting[:size], waiting[size:]
            share = self._noise_of(group, layers, reference) / len(group)
            noises |= dict.fromkeys(group, share)
            seconds_each = time.monotonic() - started
        return noises

    def _noise_of(self, group: Sequence[str], layers: Sequence[str], reference: Outputs) -> float:
        kept = (*self.options.keep_float, *(name for name in layers if name not in group))
        path = self.workshop.write(self.options.model_copy(update={"keep_float": kept, "layout": Layout.QDQ}))
        try:
            return noise_over_signal(reference, run_all(path, self.workshop.samples, self.workshop.threads))
        finally:
            beside.remove(path)


def _affordable(layers: int, left_seconds: float, seconds_each: float) -> int:
    """How many layers must be looked at together."""
    looks = max(left_seconds / max(seconds_each, 1e-3), 1.0)
    return max(math.ceil(layers / looks), 1)


def _aliases(node: onnx.NodeProto, wiring: Wiring) -> set[str]:
    """Names by which a profile may know a layer: its own, its output's, or those of the clipping that joins it."""
    readers = wiring.readers[node.output[0]]
    joined = readers if len(readers) == 1 and is_standard(readers[0], *CLIPPING) else []
    return {name for one in (node, *joined) for name in (one.name, one.output[0]) if name}


def first_guess(effects: Sequence[LayerEffect], order: Sequence[str], loss_over_limit: float | None) -> int:
    """How many layers must go back to float so that the noise of the rest is as much less as the loss must be."""
    noise = {effect.name: effect.noise_share or 0.0 for effect in effects}
    rest = sum(noise[name] for name in order)
    allowed = rest / max(loss_over_limit or 2.0, 1.1)
    for number, name in enumerate(order, start=1):
        rest -= noise[name]
        if rest <= allowed:
            return min(number, len(order) - 1)
    return len(order) // 2


# ── accuracy ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def run_all(path: Path, samples: Samples, threads: int) -> Outputs:
    """The float outputs of as many samples as are kept. Raises StepFailed."""
    try:
        session = open_session(path, "cpu", session_options(threads))
        names = output_names(session)
        kept: Outputs = []
        left = MOST_BYTES
        for feeds in samples.first(MOST_SAMPLES).batches(1):
            kept.append([np.asarray(value) for value in session.run(names, feeds)])
            left -= sum(value.nbytes for value in kept[-1])
            if left <= 0:
                break
    except ERRORS as error:
        detail = f"With one layer alone in 8 bits the model does not run: {reason(error)}"
        raise StepFailed("sensitivity_failed", detail, "Set mixed to false, or name layers in keep_float.") from error
    return kept


def noise_over_signal(reference: Outputs, other: Outputs) -> float:
    """Of the worst output; infinite where one is not finite or has another shape."""
    worst = 0.0
    for column in zip(*(zip(one, two, strict=True) for one, two in zip(reference, other, strict=False)), strict=True):
        noise = signal = 0.0
        for wanted, found in column:
            if wanted.dtype.kind != "f":
                continue
            if wanted.shape != found.shape:
                return np.inf
            finite = np.isfinite(wanted)
            noise += float(np.square(wanted - found, dtype=np.float64)[finite].sum())
            signal += float(np.square(wanted, dtype=np.float64)[finite].sum())
        ratio = noise / signal if signal else noise
        worst = max(worst, ratio if np.isfinite(ratio) else np.inf)
    return worst


# ── time ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def gained_ms(
    before: Profile, after: Profile, quantized: onnx.ModelProto, layers: Mapping[str, set[str]]
) -> dict[str, float]:
    """Milliseconds that each layer saves in one run; `layers` holds the names by which a profile may know it."""
    known = {alias: layer for layer, aliases in layers.items() for alias in aliases}
    saved: dict[str, float] = defaultdict(float)
    for sign, profile in ((1, before), (-1, after)):
        for operator in profile.operators:
            if operator.name in known and operator.operator not in CONVERSIONS:
                saved[known[operator.name]] += sign * operator.time_ms
    for layer, cost in _conversions(after, quantized, known).items():
        saved[layer] -= cost
    return {layer: saved[layer] for layer in layers if layer in saved}


def _conversions(after: Profile, quantized: onnx.ModelProto, known: Mapping[str, str]) -> dict[str, float]:
    """Time of the conversions that were left standing, shared among the layers that they serve."""
    neighbours = _neighbours(quantized.graph, known)
    cost: dict[str, float] = defaultdict(float)
    for operator in after.operators:
        served = neighbours.get(operator.name, set()) if operator.operator in CONVERSIONS else set()
        for layer in served:
            cost[layer] += operator.time_ms / len(served)
    return cost


def _neighbours(graph: onnx.GraphProto, known: Mapping[str, str]) -> dict[str, set[str]]:
    """Layers that read what a conversion gives, or made what it takes, by the conversion's name."""
    makers = {name: [node] for node in graph.node for name in node.output}
    readers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
    for node in graph.node:
        readers[node.input[0] if node.input else ""].append(node)
    return {
        node.name: {
            *_met(node, lambda one: readers[one.output[0]], known),
            *_met(node, lambda one: makers.get(one.input[0], []), known),
        }
        for node in graph.node
        if is_standard(node, *CONVERSIONS)
    }


def _met(
    start: onnx.NodeProto, onward: Callable[[onnx.NodeProto], list[onnx.NodeProto]], known: Mapping[str, str]
) -> set[str]:
    """Layers that one comes to through conversions alone."""
    met: set[str] = set()
    waiting = list(onward(start))
    while waiting:
        node = waiting.pop()
        if is_standard(node, *CONVERSIONS):
            waiting += onward(node)
        else:
            met |= {known[name] for name in (node.name, *node.output) if name in known}
    return met
