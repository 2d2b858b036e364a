"""What steps that train have in common: from their options to a recovery, and from what came of it to the report."""

import importlib.util
import math
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import onnx

from engine import words
from engine.differentiable import supported
from engine.recipe import Learning
from engine.report import LearningPoint, Training
from engine.steps.base import StepContext

if TYPE_CHECKING:
    from engine.recover import Options, Recovered  # torch takes seconds to import, and inspection needs none

SPENT = 0.9  #: of what the budget leaves

L = TypeVar("L", bound=Learning)


def refusal(model: onnx.ModelProto) -> str | None:
    """Why no gradient can be had of it, as far as a glance can tell, and without importing torch."""
    if importlib.util.find_spec("torch") is None:
        return words.NO_TORCH
    return next(iter(supported(model)), None)


def teacher(step: Learning, model: Path, context: StepContext) -> Path | None:
    """Whom it learns from beside labels; None where they alone shall teach."""
    return None if step.labels == "only" else context.original or model


def options(step: Learning, context: StepContext, seconds: float) -> "Options":
    """What is asked of the recovery, which may take so many seconds of the budget at most."""
    from engine.recover import Options

    return Options(
        steps=None if step.steps == "auto" else step.steps,
        seconds=min(SPENT * seconds, 60 * (step.minutes or math.inf)),
        minutes=step.minutes,
        rows=None if step.batch_size == "auto" else step.batch_size,
        rate=None if step.learning_rate == "auto" else step.learning_rate,
        temperature=step.temperature,
        labels=step.labels is not False,
        seed=context.seed,
        threads=context.cores,
        device=context.target.device.value,
    )


def decided(step: L, outcome: "Recovered") -> L:
    """The step with what was found out."""
    course = outcome.course
    update = {"steps": course.steps, "minutes": None, "batch_size": course.rows, "learning_rate": course.rate}
    return step.model_copy(update=update)


def training(outcome: "Recovered") -> Training:
    """For the report."""
    course = outcome.course
    return Training(
        taught_by=" and ".join(outcome.taught_by),
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
