"""Replacement as a step: it aims for a time, says what it chose, and refuses what cannot be."""

from pathlib import Path

from engine.data import Samples, open_samples
from engine.graph import load
from engine.measure.complexity import count
from engine.recipe import Move, ReplaceLayers, Replacement
from engine.signature import Signature
from engine.steps import Skipped, Variant
from tests.engine.steps.outcome import outputs, run
from tests.models import Net, small_cnn

DIGITS = Path("examples/digits")


def digits(part: str, folder: Path) -> Samples:
    signature = Signature.of(load(DIGITS / "model.onnx"))
    return open_samples(DIGITS / f"{part}.npz", signature, None, folder / part)


def replaced(folder: Path, step: ReplaceLayers) -> Variant:
    outcome = run(step, DIGITS / "model.onnx", folder / "out", samples=digits("calibration", folder))
    assert not isinstance(outcome, Skipped), outcome.reason
    return outcome[0]


def top1(model: Path, folder: Path) -> float:
    samples = digits("test", folder)
    assert samples.labels is not None
    (scores,) = outputs(model, samples)
    return float((scores.reshape(len(samples.labels), -1).argmax(1) == samples.labels).mean())


def test_dense_convolutions_become_depthwise_pairs_and_most_decisions_stay_right(tmp_path: Path) -> None:
    made = replaced(tmp_path, ReplaceLayers(moves=(Move.DEPTHWISE,), time_share=0.01, samples=128, steps=30))
    before, after = count(load(DIGITS / "model.onnx")).macs, count(load(made.path)).macs
    assert before
    assert after
    assert after < 0.4 * before
    assert top1(made.path, tmp_path) > top1(DIGITS / "model.onnx", tmp_path) - 0.2


def test_the_table_tells_what_was_chosen_and_the_step_names_it(tmp_path: Path) -> None:
    made = replaced(tmp_path, ReplaceLayers(time_share=0.7, samples=64, steps=0))
    table = made.replacements
    assert table is not None
    chosen = [(one.layer, one.move) for one in table.layers if one.chosen]
    assert chosen == [(one.layer, one.move) for one in made.step.replacements]
    assert 0 < len(chosen) < len(table.layers)
    assert all(one.saved_ms > 0 for one in table.layers)


def test_what_was_asked_for_by_name_is_done_untimed(tmp_path: Path) -> None:
    net = Net()
    net.op("Conv", net.input("x", ["batch", 64, 8, 8]), net.weight(64, 64, 3, 3), pads=[1] * 4, name="y")
    path = net.output("y", ["batch", 64, 8, 8]).save(tmp_path / "model.onnx")
    asked = Replacement(layer="y_Conv", move=Move.LOW_RANK)
    outcome = run(ReplaceLayers(replacements=(asked,), steps=0), path, tmp_path / "out")
    assert not isinstance(outcome, Skipped), outcome.reason
    (made,) = outcome
    assert made.step.replacements == (asked,)
    assert made.replacements is None
    assert sum(node.op_type == "Conv" for node in load(made.path).graph.node) == 2


def test_what_cannot_stand_there_is_refused_by_name(tmp_path: Path) -> None:
    path = small_cnn(width=64).save(tmp_path / "model.onnx")
    asked = Replacement(layer="nothing", move=Move.TUCKER)
    outcome = run(ReplaceLayers(replacements=(asked,)), path, tmp_path / "out")
    assert isinstance(outcome, Skipped)
    assert "tucker cannot stand in the place of “nothing”" in outcome.reason
