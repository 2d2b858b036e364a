"""Replacement: cheaper layers take the place of others, each taught to give what the one before it gave.

    times     every move at every site is timed on the target, alone in the whole network
    lessons   those that save time learn the output of what they replace, on calibration samples without labels
    costs     each alone in place: noise over signal of the model's outputs, on other samples
    choice    the moves of least cost whose time is within the target, by an integer program; the joined network is
              timed, and what the sum got wrong is corrected

A dense convolution may become a depthwise and a pointwise one, one of a smaller kernel, or two or three of low rank; a
matrix product two thin ones; a residual block a narrower one; what does little is left out. Each starts from the
weights that it replaces (singular value decomposition), so that little is left to learn.

Pays on networks of dense 3×3 convolutions, which depthwise pairs do in a seventh of the operations; put `distill`
behind it, which teaches all together. Does not pay where convolutions are depthwise already, and a machine may run a
dense layer faster than a clever one of fewer operations: that is why every move is timed.
Jaderberg et al. 2014; Zhang et al. 2016; Kim et al. 2016; Guo et al. 2018; Cai et al. 2020 (choice by measured time).
"""

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import onnx

from engine import words
from engine.graph import inlined, is_standard, load, save
from engine.measure.complexity import count
from engine.quantize.calibrate import Calibrator
from engine.quantize.prepare import prepared
from engine.recipe import Move, ReplaceLayers, Replacement
from engine.report import LayerReplacement, Replacements
from engine.steps.base import Skipped, StepContext, Variant

if TYPE_CHECKING:
    from engine.replace.choice import Choice
    from engine.replace.kept import Taught
    from engine.replace.parts import Part
    from engine.replace.work import Work

LAYERS = ("Conv", "Gemm", "MatMul")
HELD_OUT = 32  #: samples that costs are measured on
TEACHING_SHARE = 0.1  #: of the time that the budget leaves


def refuse(model: onnx.ModelProto) -> str | None:
    """Why there is nothing to replace, as far as a glance can tell."""
    if not any(is_standard(node, *LAYERS) for node in inlined(model).graph.node):
        return "its main graph has no convolution and no matrix product that could be replaced"
    if importlib.util.find_spec("torch") is None:
        return words.NO_TORCH
    return None


def run(step: ReplaceLayers, model: Path, context: StepContext) -> list[Variant] | Skipped:
    """One file, with the moves that were chosen."""
    reason = refuse(load(model))
    graph = reason or prepared(model, context.calibration, context.folder)
    if isinstance(graph, str):
        return Skipped(graph)
    return _Replacing(step, context, graph).outcome()


@dataclass
class _Replacing:
    step: ReplaceLayers
    context: StepContext
    graph: onnx.ModelProto

    def outcome(self) -> list[Variant] | Skipped:
        work = self._work()
        found = work.parts(frozenset(Move if self.step.moves == "auto" else self.step.moves))
        return self._chosen_freely(work, found) if self.step.replacements == "auto" else self._as_asked(work, found)

    def _work(self) -> "Work":
        import torch  # takes seconds, and inspection needs none of this

        from engine.measure.layers import LayerTimes
        from engine.measure.lock import HostLock
        from engine.replace.work import Work

        torch.set_num_threads(self.context.cores)
        torch.manual_seed(self.context.seed)
        context, samples = self.context, self.context.calibration.first(self.step.samples)
        apart = len(samples) >= 2 * HELD_OUT
        learned = replace(samples, rows=samples.rows[:-HELD_OUT]) if apart else samples
        held_out = replace(samples, rows=samples.rows[-HELD_OUT:])
        lock = context.glimpse.lock if context.glimpse else HostLock(None)
        calibrator = Calibrator(self.graph, learned, context.folder, context.target.threads, context.pause)
        times = LayerTimes(context.target, lock, context.kept)
        return Work(self.graph, calibrator, held_out, times, context.kept, context.seed, context.tell)

    def _chosen_freely(self, work: "Work", found: "Sequence[Part]") -> list[Variant] | Skipped:
        from engine.replace.choice import Option, choose

        saved = work.worthwhile(found)
        if not saved:
            return Skipped(f"none of {len(found)} replacements that were timed makes it faster")
        worth = [found[index] for index in saved]
        taught, steps = work.taught(worth, self._steps, TEACHING_SHARE * self.context.seconds)
        sound = [(one, time) for one, time in zip(taught, saved.values(), strict=True) if one.cost < float("inf")]
        if not sound:
            return Skipped("the outputs of the model are not finite with any of the replacements")
        taught, gains = [one for one, _ in sound], [time for _, time in sound]
        options = [Option(one.part.site.covered, gain, one.cost) for one, gain in zip(taught, gains, strict=True)]
        whole = work.whole_ms()
        choice = choose(
            options,
            whole,
            self.step.time_share * whole,
            lambda picked: work.whole_ms([taught[index].part for index in picked]),
        )
        rows = Replacements(
            whole_ms=whole,
            predicted_ms=choice.predicted_ms,
            measured_ms=choice.measured_ms,
            layers=_rows(taught, gains, choice),
        )
        return self._variant([taught[index] for index in choice.chosen], steps, rows)

    def _as_asked(self, work: "Work", found: "Sequence[Part]") -> list[Variant] | Skipped:
        asked = [(one.layer, one.move) for one in self.step.replacements if isinstance(one, Replacement)]
        by_name = {(part.site.name, part.move): part for part in found}
        missing = next((name for name in asked if name not in by_name), None)
        if missing is not None:
            return Skipped(f"{missing[1]} cannot stand in the place of “{missing[0]}” in this model")
        wanted = [by_name[name] for name in asked]
        covered = [name for part in wanted for name in part.site.covered]
        if len(covered) > len(set(covered)):
            return Skipped("two of the replacements are for the same layer, or one lies inside of the other")
        taught, steps = work.taught(wanted, self._steps, TEACHING_SHARE * self.context.seconds)
        return self._variant(taught, steps, None)

    @property
    def _steps(self) -> int | None:
        return None if self.step.steps == "auto" else self.step.steps

    def _variant(self, made: "Sequence[Taught]", steps: int, rows: Replacements | None) -> list[Variant] | Skipped:
        from engine.replace.parts import grafted

        if not made:
            return Skipped("the target is met without any replacement")
        joined = grafted(self.graph, [one.part for one in made])
        replacements = tuple(Replacement(layer=one.part.site.name, move=one.part.move) for one in made)
        moves = tuple(dict.fromkeys(one.move for one in replacements))
        decided = self.step.model_copy(update={"replacements": replacements, "moves": moves, "steps": steps})
        path = save(joined, self.context.folder / "replaced.onnx")
        return [Variant(path, decided, _label(self.graph, joined, len(made)), replacements=rows)]


def _label(before: onnx.ModelProto, after: onnx.ModelProto, made: int) -> str:
    label = f"{made} layer{'s' if made > 1 else ''} replaced"
    old, new = count(before).macs, count(after).macs
    return label if not old or new is None else f"{label}, {100 * new / old:.0f} % of the operations left"


def _rows(taught: "Sequence[Taught]", gains: Sequence[float], choice: "Choice") -> list[LayerReplacement]:
    """The table of all that was tried, for the report."""
    return [
        LayerReplacement(
            layer=one.part.site.name,
            operator="block" if one.part.site.is_block else one.part.site.node.op_type,
            move=one.part.move,
            saved_ms=gain,
            noise_share=one.cost,
            chosen=index in choice.chosen,
        )
        for index, (one, gain) in enumerate(zip(taught, gains, strict=True))
    ]
