"""What parts learn: to do less harm than they start with, on samples that they did not see, and the same each time."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine.data import Samples, open_samples
from engine.graph import load
from engine.measure.layers import LayerTimes
from engine.quantize.calibrate import Calibrator
from engine.quantize.prepare import prepared
from engine.recipe import Move, Target
from engine.replace.kept import FILE, Taught
from engine.replace.parts import Part
from engine.replace.work import Work
from engine.signature import Signature
from engine.surroundings import never_pause, tell_nobody

DIGITS = Path("examples/digits")


@pytest.fixture
def work(tmp_path: Path) -> Work:
    signature = Signature.of(load(DIGITS / "model.onnx"))
    samples = open_samples(DIGITS / "calibration.npz", signature, None, tmp_path / "samples")
    model = prepared(DIGITS / "model.onnx", samples, tmp_path)
    assert not isinstance(model, str), model
    calibrator = Calibrator(model, part_of(samples, slice(0, 96)), tmp_path, 1, never_pause)
    held_out = part_of(samples, slice(96, 128))
    return Work(model, calibrator, held_out, LayerTimes(Target()), tmp_path / "kept", 0, tell_nobody)


def part_of(samples: Samples, rows: slice) -> Samples:
    return replace(samples, rows=samples.rows[rows])


def costs(taught: Sequence[Taught]) -> np.ndarray:
    return np.array([one.cost for one in taught])


def depthwise(work: Work) -> list[Part]:
    return work.parts(frozenset({Move.DEPTHWISE}))


def test_least_squares_and_training_each_do_less_harm(work: Work) -> None:
    found = depthwise(work)
    untaught = np.array(list(work._costs(found)))
    refitted, steps = work.taught(found, 0, np.inf)
    trained, _ = work.taught(found, 40, np.inf)
    assert steps == 0
    assert np.all(costs(refitted) < untaught)
    assert np.all(costs(trained) < costs(refitted))


def test_what_was_taught_is_kept_for_another_plan_and_no_other_options(work: Work) -> None:
    found = depthwise(work)
    first, _ = work.taught(found, 4, np.inf)
    work._teach = None  # type: ignore[assignment]  # nothing may be taught any more
    again, steps = work.taught(found[:1], 4, np.inf)
    assert steps == 4
    assert again[0].cost == first[0].cost
    assert again[0].part.model == first[0].part.model
    with pytest.raises(TypeError):
        work.taught(found, 5, np.inf)


def test_torn_notes_of_what_was_taught_are_left_aside(work: Work) -> None:
    assert work.kept is not None
    work.kept.mkdir()
    (work.kept / FILE).write_bytes(b"PK\x03\x04 torn")
    taught, _ = work.taught(depthwise(work)[:1], 0, np.inf)
    assert np.isfinite(taught[0].cost)


def test_without_time_there_are_no_steps_but_a_last_layer_that_fits(work: Work) -> None:
    found = depthwise(work)[:1]
    taught, steps = work.taught(found, None, 0.0)
    assert steps == 0
    assert taught[0].cost < next(work._costs(found))
