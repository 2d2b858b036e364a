"""Distillation: the weights learn to say what the original model says, from unlabelled samples.

    loss = T² · KL(softmax(t / T) ‖ softmax(s / T)) + |s - t|² / var(t)       for scores of classes, t the original's
    loss = |s - t|² / var(t)                                                  for any other float output

The graph stays as it is, only the values of its weights change (AdamW, one warm-up, a cosine down to nothing). A tenth
of the samples is held out: the weights that do best there are kept, and where none does better than before, nothing
changes. Batch, learning rate and number of steps are found out by short trials and the time there is.

Pays after a step that took much from the model, such as `prune_channels`: most of what was lost comes back within
minutes. Does not pay on the original, which has nothing to learn from itself.
Following Hinton et al. 2015 and Beyer et al. 2022.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import onnx

from engine.digest import sha256
from engine.graph import all_graphs, load
from engine.recipe import Distill
from engine.report import LearningPoint, Training
from engine.steps.base import Skipped, StepContext, Variant

if TYPE_CHECKING:
    from engine.recover import Options, Recovered  # torch takes seconds to import, and inspection needs none

SPENT = 0.9  #: of what the budget leaves


def refuse(model: onnx.ModelProto) -> str | None:
    """Why there is nothing to teach, as far as a glance can tell."""
    weights = {weight.data_type for graph in all_graphs(model.graph) for weight in graph.initializer if weight.dims}
    if onnx.TensorProto.FLOAT not in weights:
        return "it has no float32 weights that could learn"
    return None


def run(step: Distill, model: Path, context: StepContext) -> list[Variant] | Skipped:
    """One file: the same graph with other weights."""
    from engine.recover import Surroundings, recover

    reason = refuse(load(model))
    if reason is not None:
        return Skipped(reason)
    teacher = context.original or model
    if not step.labels and sha256(teacher) == sha256(model):
        return Skipped("it is the original still, and has nothing to learn from itself; distil after another step")
    here = Surroundings(context.folder, context.kept, context.pause, context.tell)
    outcome = recover(model, teacher, context.calibration, _options(step, context), here)
    if isinstance(outcome, str):
        return Skipped(outcome)
    return [Variant(outcome.path, _decided(step, outcome), _label(outcome), training=_training(step, outcome))]


def _options(step: Distill, context: StepContext) -> "Options":
    from engine.recover import Options

    seconds = min(SPENT * context.seconds, 60 * (step.minutes or float("inf")))
    return Options(
        steps=None if step.steps == "auto" else step.steps,
        seconds=seconds,
        rows=None if step.batch_size == "auto" else step.batch_size,
        rate=None if step.learning_rate == "auto" else step.learning_rate,
        temperature=step.temperature,
        labels=step.labels,
        seed=context.seed,
        threads=context.cores,
    )


def _decided(step: Distill, outcome: "Recovered") -> Distill:
    course = outcome.course
    update = {"steps": course.steps, "minutes": None, "batch_size": course.rows, "learning_rate": course.rate}
    return step.model_copy(update=update)


def _label(outcome: "Recovered") -> str:
    return f"distilled in {outcome.course.steps:,} steps"


def _training(step: Distill, outcome: "Recovered") -> Training:
    course = outcome.course
    return Training(
        taught_by="the original and labels" if step.labels else "the original",
        steps=course.step,
        batch_size=course.rows,
        learning_rate=course.rate,
        samples=outcome.taught,
        held_out_samples=outcome.held_out,
        best_step=course.best_step,
        curve=[LearningPoint(step=one.step, loss=one.loss, held_out=one.held_out) for one in course.points],
        seconds=round(course.seconds, 1),
        notes=list(course.notes),
    )
