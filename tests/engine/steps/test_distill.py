"""Distillation as a step: what it asks for, what it says of itself, and when it has nothing to do."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine.graph import load, weights_of
from engine.recipe import Distill, PruneChannels, Recipe, Target
from engine.steps import STEPS, Skipped, StepContext, Variant
from tests.engine.recover.pupils import without_weights
from tests.engine.steps.outcome import halved, made_up, outputs, shaken, sqnr_db
from tests.models import Net, mlp, residual_cnn, small_cnn


def context(folder: Path, model: Path, original: Path) -> StepContext:
    return StepContext(made_up(model, 128), folder, Target(), 0, original=original, cores=1)


def distilled(step: Distill, folder: Path, **changes: object) -> Variant:
    """A network that lost something learns from the one that it was."""
    original = small_cnn().save(folder / "original.onnx")
    model = shaken(original, folder / "model.onnx")
    outcome = STEPS[Distill].run(step, model, replace(context(folder, model, original), **changes))
    assert isinstance(outcome, list), outcome
    return outcome[0]


def weights(path: Path) -> int:
    """How many numbers a model has learned."""
    return sum(math.prod(weight.dims) for weight in weights_of(load(path)).values())


def test_it_learns_from_the_original(tmp_path: Path) -> None:
    variant = distilled(Distill(steps=60, batch_size=16), tmp_path)
    original, before = tmp_path / "original.onnx", tmp_path / "model.onnx"
    assert sqnr_db(original, variant.path) > sqnr_db(original, before) + 3


def test_the_original_has_nothing_to_learn_from_itself(tmp_path: Path) -> None:
    model = small_cnn().save(tmp_path / "model.onnx")
    outcome = STEPS[Distill].run(Distill(), model, context(tmp_path, model, model))
    assert isinstance(outcome, Skipped) and "nothing to learn from itself" in outcome.reason


def test_time_becomes_a_number_of_steps_that_makes_the_same_file_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.recover.plan.MOST_PASSES", 5)
    monkeypatch.setattr("engine.recover.plan.WANTED_STEPS", 60)
    told: list[float] = []
    plenty = Distill(minutes=5, batch_size=8)  # the passes over so few samples end it, not the clock
    variant = distilled(plenty, tmp_path, tell=lambda left, _: told.append(left))
    assert isinstance(variant.step.steps, int) and variant.step.minutes is None
    assert told and max(told) < 300
    first = variant.path.read_bytes()
    assert distilled(variant.step, tmp_path).path.read_bytes() == first


def test_a_training_that_time_cut_down_says_how_many_steps_it_really_took(tmp_path: Path) -> None:
    variant = distilled(Distill(steps=100_000, minutes=0.2, batch_size=8), tmp_path)
    assert variant.training is not None
    assert variant.training.steps <= variant.step.steps < 100_000  # on a fast machine it learns all there is before
    assert f"cut down from 100,000 to {variant.step.steps:,} steps" in variant.training.notes[-1]


def test_the_report_says_how_it_was_taught(tmp_path: Path) -> None:
    training = distilled(Distill(steps=40, batch_size=16), tmp_path).training
    assert training is not None
    assert training.samples + training.held_out_samples == 128
    assert [point.step for point in training.curve] == list(range(0, 41, 2))
    assert training.curve[-1].held_out < training.curve[0].held_out
    assert training.taught_by == "the original"


def test_a_narrower_copy_is_made_and_taught(tmp_path: Path) -> None:
    variant = distilled(Distill(width=0.5, steps=60, batch_size=16), tmp_path)
    original, before = tmp_path / "original.onnx", tmp_path / "model.onnx"
    assert weights(variant.path) < 0.5 * weights(original)
    assert variant.step.width == 0.5 and "channels removed" in variant.label and "distilled" in variant.label
    pruned = STEPS[PruneChannels].run(PruneChannels(ratio=0.5), before, context(tmp_path, before, original))
    assert isinstance(pruned, list)
    assert sqnr_db(original, variant.path) > sqnr_db(original, pruned[0].path) + 3


def test_a_copy_that_cannot_be_narrower_is_told(tmp_path: Path) -> None:
    net = Net()
    net.gemm(net.input("x", ["batch", 8]), (8, 3), name="y")
    model = net.output("y", ["batch", 3]).save(tmp_path / "model.onnx")
    outcome = STEPS[Distill].run(Distill(width=0.5), model, context(tmp_path, model, model))
    assert isinstance(outcome, Skipped) and "no narrower copy" in outcome.reason


def test_a_student_of_the_users_own_learns_from_the_original(tmp_path: Path) -> None:
    """It shares inputs and outputs with its teacher, and nothing else."""
    original = small_cnn().save(tmp_path / "original.onnx")
    student = residual_cnn().save(tmp_path / "student.onnx")
    outcome = STEPS[Distill].run(Distill(steps=40, batch_size=16), student, context(tmp_path, student, original))
    assert isinstance(outcome, list), outcome
    assert sqnr_db(original, outcome[0].path) > sqnr_db(original, student) + 3
    assert [node.op_type for node in load(outcome[0].path).graph.node] == [
        node.op_type for node in load(student).graph.node
    ]


def test_a_float16_network_learns_and_stays_one(tmp_path: Path) -> None:
    whole = small_cnn().save(tmp_path / "whole.onnx")
    original = halved(whole, tmp_path / "original.onnx")
    model = halved(shaken(whole, tmp_path / "shaken.onnx"), tmp_path / "model.onnx")
    outcome = STEPS[Distill].run(Distill(steps=40, batch_size=16), model, context(tmp_path, model, original))
    assert isinstance(outcome, list), outcome
    assert sqnr_db(original, outcome[0].path) > sqnr_db(original, model) + 3
    assert without_weights(load(outcome[0].path)) == without_weights(load(model))


def test_labels_alone_teach_where_a_recipe_says_so(tmp_path: Path) -> None:
    """The original itself may learn then, which has nothing to learn from itself."""
    model = mlp().save(tmp_path / "model.onnx")
    samples = made_up(model, 1024)
    samples = replace(samples, label_array=samples.columns["features"].array[:, :5].argmax(1))
    recipe = Recipe.model_validate({"steps": [{"kind": "distill", "labels": "only", "steps": 100, "batch_size": 32}]})
    assert recipe.steps is not None
    here = replace(context(tmp_path, model, model), calibration=samples)
    outcome = STEPS[Distill].run(recipe.steps[0], model, here)
    assert isinstance(outcome, list), outcome
    assert outcome[0].training is not None and outcome[0].training.taught_by == "labels"

    def right(path: Path) -> float:
        return float(np.mean(outputs(path, samples)[0].reshape(-1, 5).argmax(1) == samples.labels))

    assert right(outcome[0].path) > right(model) + 0.1
