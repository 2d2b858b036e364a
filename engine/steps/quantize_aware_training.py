"""Quantization-aware training: an 8-bit graph learns to say what the original says, rounding as it will be served.

    w_q = s · clip(round(w / s), ±127)        in each step, with 64 in place of 127 where weights have 7 bits
    ∂w_q/∂w = 1 inside the range, 0 outside   the gradient goes straight through the rounding (Bengio et al. 2013)
    ∂w_q/∂s = w_q/s - w/s inside the range    where scales learn too (LSQ, Esser et al. 2020)
    loss                                      the one of `distill`, from unlabelled samples, or labels too

A float model is first quantized as `quantize_static` would, options left `auto` decided by its search: the format that
is trained is the one that was measured fastest, written with QuantizeLinear and DequantizeLinear. A model that a step
before has quantized is taken as it is, also one with 4-bit weights behind DequantizeLinear (`quantize_weights` with the
layout dequantize). The weights, kept in float meanwhile, and the biases learn, zero points stay. In the end all is
rounded: the file has the nodes and kernels of the quantized one, and is as fast. The learning rate counts eights of a
level, so that one suits all layers.

Scales learn where 8 bits leave less than 10 dB, for then the ranges themselves are wrong; else they would only slow the
weights down. Weights that `prune_weights` made zero stay zero. A residual network on Fashion-MNIST (92.4 %) with uneven
channels and one 7-bit scale for each weight, 100 steps of 32 unlabelled images: 10.4 % → 79.6 % with scales as they
were, 87.8 % with scales that learn. A depthwise one that was right from the beginning: 24.2 dB → 31.4 dB as they were,
28.2 dB with scales that learn.

Pays where 8 bits alone cost too much accuracy: the residual network with a scale per channel went from 45.8 % to 92.8 %
in 150 steps. Does not pay where 8 bits cost next to nothing: handwritten digits went from 32 to 41 dB, and stayed at
99.1 %. Of layers that rounding has made nearly all zero nothing comes back, whether scales learn or not: digits with
uneven channels and one scale stayed at 9 %; take a scale per channel, or `equalize`.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from engine.digest import sha256
from engine.graph import lift_constants, load, save, weights_of
from engine.quantize import twin
from engine.quantize.refusal import is_quantized
from engine.recipe import EightBits, Layout, QuantizeAwareTraining, QuantizeStatic
from engine.steps import learning, quantize_static
from engine.steps.base import Skipped, StepContext, Variant

POOR_DB = 10.0  #: signal to noise; above it, scales that learn too are slower to get as far
CHOICE = "format.json"  #: in the folder that a later attempt finds


def refuse(model: onnx.ModelProto) -> str | None:
    """Why there is nothing to train in 8 bits, as far as a glance can tell."""
    reason = twin.refusal(model) if is_quantized(model) else quantize_static.refuse(model)
    return reason or learning.refusal(model)


def run(step: QuantizeAwareTraining, model: Path, context: StepContext) -> list[Variant] | Skipped:
    """One file: the 8-bit graph with trained weights."""
    from engine.recover import Classroom, recover

    began = time.monotonic()
    start = _start(step, model, context)
    if isinstance(start, Skipped):
        return start
    if step.learn_scales == "auto":
        start = replace(start, step=start.step.model_copy(update={"learn_scales": _is_poor(start.path, context)}))
    pupil = twin.Twin(start.graph, start.floats, learn_scales=start.step.learn_scales is True)
    student = save(pupil.model, context.folder / "twin.onnx")
    options = learning.options(step, context, context.seconds - (time.monotonic() - began))
    here = Classroom(context.folder, context.kept, context.pause, context.tell)
    outcome = recover(student, learning.teacher(step, model, context), context.calibration, options, here)
    if isinstance(outcome, str):
        return Skipped(f"{outcome}; quantize_static alone does as well")
    path = save(pupil.rounded(load(outcome.path)), context.folder / "trained.onnx")
    label = f"{start.label}, trained in {outcome.course.step:,} steps"
    return [Variant(path, learning.decided(start.step, outcome), label, training=learning.training(outcome))]


@dataclass(frozen=True)
class _Start:
    """An 8-bit graph before it is trained."""

    step: QuantizeAwareTraining
    path: Path
    graph: onnx.ModelProto
    label: str
    floats: Mapping[str, np.ndarray] = field(default_factory=dict)  #: weights before they were rounded


def _start(step: QuantizeAwareTraining, model: Path, context: StepContext) -> _Start | Skipped:
    graph = load(model)
    reason = refuse(graph)
    if reason is not None:
        return Skipped(reason)
    if is_quantized(graph):
        lift_constants(graph)
        return _Start(step, model, graph, "as it was quantized")
    return _quantized(step, model, context)


def _quantized(step: QuantizeAwareTraining, model: Path, context: StepContext) -> _Start | Skipped:
    """The format that `quantize_static` finds fastest."""
    options = {name: getattr(step, name) for name in EightBits.model_fields}
    asked = QuantizeStatic(**options, layout=Layout.QDQ, mixed=False)
    note = _Note(context.kept / CHOICE, sha256(model), asked) if context.kept else None
    search = quantize_static.search((note.read() if note else None) or asked, model, context)
    if isinstance(search, Skipped):
        return search
    best = next(search.rounds())[0]
    if note:
        note.write(best.step)
    update = {name: getattr(best.step, name) for name in EightBits.model_fields}
    weights = weights_of(search.workshop.base(best.step).graph)
    floats = {name: numpy_helper.to_array(one) for name, one in weights.items()}
    return _Start(step.model_copy(update=update), best.path, load(best.path), best.label, floats)


def _is_poor(path: Path, context: StepContext) -> bool:
    """Whether little of the original is left, so that the ranges themselves may be wrong."""
    return context.glimpse is not None and context.glimpse.fidelity(path) < POOR_DB


@dataclass(frozen=True)
class _Note:
    """Which format was chosen, for another attempt at the job: it can only go on with the training of the same one."""

    path: Path
    model: str  #: its digest
    asked: QuantizeStatic

    def read(self) -> QuantizeStatic | None:
        if not self.path.exists():
            return None
        note = json.loads(self.path.read_text())
        same = (note["model"], note["asked"]) == (self.model, self.asked.model_dump(mode="json"))
        return QuantizeStatic.model_validate(note["chosen"]) if same else None

    def write(self, chosen: QuantizeStatic) -> None:
        """Whole or not at all."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        asked, decided = (one.model_dump(mode="json") for one in (self.asked, chosen))
        draft = self.path.with_suffix(".draft")
        draft.write_text(json.dumps({"model": self.model, "asked": asked, "chosen": decided}))
        draft.rename(self.path)
