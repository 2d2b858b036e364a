"""What parts learn: to do less harm than they start with, on samples that they did not see, and the same each time."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.zoo.specimen import made
from engine.data import Samples, open_samples, synthetic_samples
from engine.graph import load, save
from engine.measure.layers import LayerTimes
from engine.quantize.calibrate import Calibrator
from engine.quantize.prepare import prepared
from engine.recipe import Move, ReplaceLayers, Replacement, Target
from engine.replace.kept import FILE, Taught
from engine.replace.parts import Part
from engine.replace.work import Work
from engine.signature import Signature
from engine.steps import Skipped
from engine.surroundings import never_pause, tell_nobody
from tests.engine.steps.outcome import made_up, outputs, run

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


BLOCKS = """<ir_version: 8, opset_import: ["" : 17]>
g (float[BATCH,32,8,8] x) => (float[BATCH,5,8,8] y) {
  a = Conv <pads=[1,1,1,1]> (x, w0) r = Relu (a)
  b = Conv <pads=[1,1,1,1]> (r, w1, zero) c = Relu (b) p = GlobalAveragePool (c) f = Reshape (p, flat)
  g1 = Gemm (f, w2) g2 = Sigmoid (g1) g3 = Reshape (g2, four) m = Mul (c, g3) d = Conv <pads=[1,1,1,1]> (m, w3)
  s1 = Add (d, r) t = Relu (s1)
  e = Conv <pads=[1,1,1,1]> (t, w4, zero) h = Relu (e) i = Conv <pads=[1,1,1,1]> (h, w5) s2 = Add (i, t)
  y = Conv (s2, w6) }"""
SIZES = {f"w{index}": (32, 32, 3, 3) for index in (0, 1, 3, 4, 5)} | {"w2": (32, 32), "w6": (5, 32, 1, 1)}


@pytest.mark.parametrize("batch", ["N", "4"])
def test_blocks_with_shapes_inside_get_narrower_for_any_batch(batch: str, tmp_path: Path) -> None:
    rows = -1 if batch == "N" else 4
    shapes = {"flat": np.array([rows, 32]), "four": np.array([rows, 32, 1, 1]), "zero": np.zeros(32, np.float32)}
    model = made(BLOCKS.replace("BATCH", batch), SIZES | shapes)
    for node in model.graph.node:
        node.name = node.output[0]
    path = save(model, tmp_path / "model.onnx")
    step = ReplaceLayers(
        steps=2, replacements=tuple(Replacement(layer=name, move=Move.NARROWER) for name in ("s1", "s2"))
    )
    outcome = run(step, path, tmp_path / "out", samples=made_up(path, 48))
    assert not isinstance(outcome, Skipped), outcome.reason
    narrower = load(outcome[0].path)
    names = [weight.name for weight in narrower.graph.initializer]
    assert len(names) == len(set(names)), "each block has weights of its own"
    several = synthetic_samples(Signature.of(narrower), 8, 0)
    assert outputs(outcome[0].path, several)[0].size == 8 * 5 * 8 * 8
