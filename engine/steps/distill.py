"""Distillation: the weights learn to say what the original model says, from unlabelled samples.

    loss = T² · KL(softmax(t / T) ‖ softmax(s / T)) + |s - t|² / var(t)       for scores of classes, t the original's
    loss = |s - t|² / var(t)                                                  for any other float output

With `width`, a narrower copy is made first, as `prune_channels` does, and taught in the place of the model. With
`features`, sums and pooled tensors inside are compared as well, where both have them in one shape; a step then takes
1.6 times as long.

With `labels`, those of the calibration data teach as well: cross-entropy for classes, squared error for values. With
`labels: only` nothing else does, which is plain training: the model may become better than the original.

A float16 model learns in float32, and is float16 again in the end.

The graph stays as it is, only the values of its weights change (Adam, one warm-up, a cosine down to nothing). A tenth
of the samples is held out: the weights that do best there are kept, and where none does better than before, nothing
changes. Weights that `prune_weights` made zero stay zero. Batch, learning rate and number of steps are found out by
short trials and the time there is.

Pays after a step that took much from the model, such as `prune_channels`: of a residual network (92.1 % top-1 on
Fashion-MNIST) half of the channels left 88.3 %, and 700 steps of 64 of 20,000 unlabelled images, 91 s of computing,
brought it back to 91.6 %. Does not pay on the original, which has nothing to learn from itself.
Following Hinton et al. 2015 and Beyer et al. 2022.
"""

import time
from dataclasses import replace
from pathlib import Path

import onnx

from engine.digest import sha256
from engine.graph import all_graphs, all_nodes, constant_of, load, save
from engine.quantize.widen import has_half_weights, narrowed, widened
from engine.recipe import Distill, PruneChannels
from engine.steps import learning, prune_channels
from engine.steps.base import Skipped, StepContext, Variant

FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)


def refuse(model: onnx.ModelProto) -> str | None:
    """Why there is nothing to teach, as far as a glance can tell."""
    constants = [weight for graph in all_graphs(model.graph) for weight in graph.initializer]
    constants += [tensor for node in all_nodes(model) if (tensor := constant_of(node)) is not None]
    if not any(constant.data_type in FLOATS and constant.dims for constant in constants):
        return "it has no float32 or float16 weights that could learn"
    return learning.refusal(model)


def run(step: Distill, model: Path, context: StepContext) -> list[Variant] | Skipped:
    """One file: the same graph with other weights."""
    from engine.recover import Classroom, recover  # torch takes seconds to import, and inspection needs none

    reason = refuse(load(model))
    if reason is not None:
        return Skipped(reason)
    teacher, began = learning.teacher(step, model, context), time.monotonic()
    narrower = _narrower(step, model, context)
    if isinstance(narrower, Skipped):
        return narrower
    model, whose = narrower
    if teacher and not step.labels and sha256(teacher) == sha256(model):
        return Skipped("it is the original still, and has nothing to learn from itself; distil after another step")
    here = Classroom(context.folder, context.kept, context.pause, context.tell)
    options = learning.options(step, context, context.seconds - (time.monotonic() - began))
    options = replace(options, features=step.features and teacher is not None)
    outcome = recover(_wide(model, context.folder), teacher, context.calibration, options, here)
    if isinstance(outcome, str):
        return Skipped(outcome)
    label = f"{whose}distilled in {outcome.course.step:,} steps"
    path = _as_before(outcome.path, model, context.folder)
    return [Variant(path, learning.decided(step, outcome), label, training=learning.training(outcome))]


def _narrower(step: Distill, model: Path, context: StepContext) -> tuple[Path, str] | Skipped:
    """The file to teach, and what was done to it, in words."""
    if step.width is None:
        return model, ""
    outcome = prune_channels.run(PruneChannels(ratio=1 - step.width), model, context)
    if isinstance(outcome, Skipped):
        return Skipped(f"there is no narrower copy of it: {outcome.reason}")
    return outcome[0].path, f"{outcome[0].label}, "


def _wide(model: Path, folder: Path) -> Path:
    """What learns: in float32, since the steps of a training are too small for float16."""
    graph = load(model)
    return save(widened(graph), folder / "wide.onnx") if has_half_weights(graph) else model


def _as_before(taught: Path, model: Path, folder: Path) -> Path:
    """The file that learned, in the floats of the model."""
    graph = load(model)
    return save(narrowed(load(taught), graph), folder / "distilled.onnx") if has_half_weights(graph) else taught
