"""Static int8 quantization: weights stored in 8 bits, activations computed in 8 bits.

    x ≈ s · (q - z)       s and z from calibration data, one pair per activation
    w ≈ s_c · q           symmetric, one scale per output channel

Pays for convolutions and large matrix products on CPUs with 8-bit dot products, and saves three quarters of the weights
anywhere. Does not pay where layers are small or depthwise, and costs accuracy where activations have outliers.

Which format is best is not known before it is measured, so what is `auto` is chosen by looking:

    1  formats     signs, ranges and scales, each timed beside the original and compared with it on calibration data
    2  refinement  of the fastest ones: the calibration, each remedy that brings the outputs nearer to the original, and
                   the calibration again where one did
    3  mixed       where the limit is missed, the layers that cost most accuracy for least time go back to float, and
                   those that 8 bits make slower do in any case

Of the remedies, rounding by least squares helps nearly anywhere, most with 7-bit weights: 26.2 → 32.3 dB on a residual
network, 32.0 → 35.0 dB on a depthwise one. It takes the calibration samples and seconds (Frantar et al. 2023).

On x86 CPUs without VNNI pairs of unsigned times signed products are summed in 16 bits and saturate with full weights;
there, 7-bit weights come first. Following Jacob et al. 2018, Krishnamoorthi 2018 and Nagel et al. 2021.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import onnx

from engine.graph import load_structure
from engine.quantize.formats import CALIBRATIONS, REMEDIES, formats, label, plainest
from engine.quantize.kept import refuse_unknown
from engine.quantize.mixing import mixtures
from engine.quantize.prepare import prepared
from engine.quantize.refusal import refusal
from engine.quantize.sensitivity import LayerEffect, Sensitivity
from engine.quantize.workshop import Workshop
from engine.recipe import Calibration, Layout, QuantizeStatic
from engine.steps.base import Rounds, Skipped, Standing, StepContext, Variant
from engine.steps.leaders import LEAST_DB, NOISE, leaders

if TYPE_CHECKING:
    from engine.measure.glimpse import Glimpse  # its libraries take a second to import, and inspection needs none


def refuse(model: onnx.ModelProto) -> str | None:
    """Why there is nothing to quantize."""
    return refusal(model, ("Conv", "Gemm", "MatMul"))


def run(step: QuantizeStatic, model: Path, context: StepContext) -> Rounds | Skipped:
    """First the best of the formats, then mixtures with float where the limit asks for them."""
    found = search(step, model, context)
    return found if isinstance(found, Skipped) else found.rounds()


def search(step: QuantizeStatic, model: Path, context: StepContext) -> "Search | Skipped":
    """What chooses a format for the model."""
    original = load_structure(model)
    graph = refuse(original) or prepared(model, context.calibration, context.folder)
    if isinstance(graph, str):
        return Skipped(graph)
    refuse_unknown(original, step.keep_float)
    samples = context.calibration.first(step.samples)
    workshop = Workshop(original, graph, samples, context.folder, context.target.threads, context.pause)
    if reason := workshop.nothing_to_do(plainest(step)):
        return Skipped(reason)
    return Search(step, workshop, context)


_File = Variant[QuantizeStatic]


@dataclass
class Search:
    """From a step with things left to choose to files without."""

    step: QuantizeStatic
    workshop: Workshop
    context: StepContext

    @property
    def glimpse(self) -> "Glimpse":
        assert self.context.glimpse is not None, "a choice needs a quick look"
        return self.context.glimpse

    def rounds(self) -> Rounds:
        looked_at = [self._write(options) for options in formats(self.step, saturates=self.context.saturates)]
        proposed = [self._refined(leader) for leader in leaders(looked_at, self.context)]
        standing = yield proposed
        if standing is not None and self.step.mixed is not False:
            yield from self._mixtures(proposed[0], standing)

    # ── choosing a format ────────────────────────────────────────────────────────────────────────────────────────────

    def _refined(self, leader: _File) -> _File:
        """The same format with the calibration, the remedies and the layout that serve it best."""
        best = calibrated = self._calibrated(leader)
        for remedy in REMEDIES:
            if getattr(self.step, remedy) == "auto" and self.workshop.can(remedy, best.step):
                best = self._truest(best, [{remedy: True}])
        if best is not calibrated:  # other values, other ranges
            best = self._calibrated(best)
        if self.step.layout is Layout.AUTO:
            best = self._faster(best, self._write(best.step.model_copy(update={"layout": Layout.QOPERATOR})))
        return best

    def _calibrated(self, best: _File) -> _File:
        if self.step.calibration is not Calibration.AUTO:
            return best
        methods = [method for method in CALIBRATIONS if method is not best.step.calibration]
        return self._truest(best, [{"calibration": method} for method in methods])

    def _truest(self, best: _File, changes: Sequence[dict[str, object]]) -> _File:
        """The variant, or what becomes of it under the change that brings its outputs nearest to the original's."""
        others = [self._write(best.step.model_copy(update=change)) for change in changes]
        nearest = max(others, key=self._db)
        kept = nearest if self._db(nearest) > self._db(best) + LEAST_DB else best
        self._leave([best, *others], [kept])
        return kept

    def _faster(self, best: _File, other: _File) -> _File:
        before, after = self.glimpse.times([best.path, other.path])
        as_true = self._db(other) > self._db(best) - LEAST_DB
        kept = other if as_true and after > before * (1 + NOISE) else best
        self._leave([best, other], [kept])
        return kept

    def _db(self, variant: _File) -> float:
        return self.glimpse.fidelity(variant.path)

    def _leave(self, variants: Sequence[_File], kept: Sequence[_File]) -> None:
        self.context.looked_at.extend(one for one in variants if one not in kept)

    # ── mixing with float ────────────────────────────────────────────────────────────────────────────────────────────

    def _mixtures(self, best: _File, standing: Standing) -> Rounds:
        """Fewer layers in 8 bits, as few as it takes."""
        effects = self._effects(best, noise=not standing.inside)
        asked = mixtures(effects, standing)
        answer = None
        with suppress(StopIteration):
            while True:
                kept = asked.send(answer)
                answer = yield [self._mixture(best, effects, kept)]

    def _effects(self, best: _File, *, noise: bool) -> list[LayerEffect]:
        """What 8 bits do to each layer, the most harmful first."""
        return Sensitivity(self.workshop, best.step, best.path, self.glimpse).effects(noise=noise)

    def _mixture(self, best: _File, effects: Sequence[LayerEffect], kept: Sequence[str]) -> _File:
        options = best.step.model_copy(update={"keep_float": (*best.step.keep_float, *sorted(kept))})
        layers = tuple(effect.choice(kept_float=effect.name in kept) for effect in effects)
        return Variant(self.workshop.write(options), options, label(options, len(kept)), layers)

    def _write(self, options: QuantizeStatic) -> _File:
        return Variant(self.workshop.write(options), options, label(options))
