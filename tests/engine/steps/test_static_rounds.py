"""Static int8 with everything left open: what is looked at, what goes on, and how layers go back to float."""

from pathlib import Path

import numpy as np
import pytest
from onnx import numpy_helper

from engine.measure.glimpse import Glimpse
from engine.quantize.sensitivity import noise_over_signal
from engine.recipe import QuantizeStatic, Target
from engine.steps import Rounds, Skipped, Standing, StepContext, Variant, quantize_static
from tests.engine.steps.outcome import FIXED, made_up, sqnr_db
from tests.models import Net, mlp, small_cnn

MIXING = FIXED.model_copy(update={"mixed": "auto"})
MISSED, KEPT = Standing(inside=False, loss_over_limit=3.0), Standing(inside=True)


def _start(step: QuantizeStatic, path: Path, folder: Path) -> tuple[Rounds, StepContext]:
    folder.mkdir()
    samples = made_up(path, 32)
    glimpse = Glimpse(path, samples, Target(), folder / "glimpse")
    context = StepContext(samples, folder, Target(), 0, saturates=True, glimpse=glimpse)
    rounds = quantize_static.run(step, path, context)
    assert not isinstance(rounds, Skipped)
    return rounds, context


def _fragile() -> Net:
    """Four convolutions; the second one has large weights for a channel that is always zero."""
    net = Net()
    x = net.input("image", ["N", 32, 24, 24])
    for _ in range(4):
        x = net.op("Relu", net.conv(x, (32, 32)))
    _change(net, 1, 0, -1000.0)
    _change(net, 2, (slice(None), 0), 60.0)
    return net.output(x, ["N", 32, 24, 24])


def _change(net: Net, number: int, where: object, value: float) -> None:
    weights = numpy_helper.to_array(net.weights[number]).copy()
    weights[where] = value
    net.weights[number].CopyFrom(numpy_helper.from_array(weights, net.weights[number].name))


def test_all_that_is_left_open_is_decided_by_looking(tmp_path: Path) -> None:
    path = small_cnn().save(tmp_path / "model.onnx")
    rounds, context = _start(QuantizeStatic(samples=32, mixed=False), path, tmp_path / "out")
    proposed = next(rounds)
    assert 1 <= len(proposed) <= 2
    assert all("auto" not in map(str, variant.step.model_dump(mode="json").values()) for variant in proposed)
    passed_over = [variant.label for variant in context.looked_at]
    assert any("signed activations" in label for label in passed_over)
    assert any("one scale per tensor" in label for label in [*passed_over, *(one.label for one in proposed)])
    assert context.glimpse is not None
    assert all(variant.path in context.glimpse.fidelities for variant in context.looked_at)
    assert max(sqnr_db(path, variant.path) for variant in proposed) > 25
    with pytest.raises(StopIteration):
        rounds.send(MISSED)


def test_the_layer_that_suffers_goes_back_to_float_first(tmp_path: Path) -> None:
    path = _fragile().save(tmp_path / "model.onnx")
    rounds, _ = _start(MIXING, path, tmp_path / "out")
    (whole,) = next(rounds)
    (mixture,) = rounds.send(MISSED)
    layers = {layer.layer: layer for layer in mixture.layers}
    noisiest = max(mixture.layers, key=lambda layer: layer.noise_share or 0)
    assert noisiest.layer == "t2_Conv"
    assert layers["t2_Conv"].kept_float
    assert "t2" in mixture.step.keep_float
    assert sqnr_db(path, mixture.path) > sqnr_db(path, whole.path) + 6


def test_a_limit_that_is_missed_again_asks_for_more_float_and_one_that_holds_for_less(tmp_path: Path) -> None:
    path = _fragile().save(tmp_path / "model.onnx")
    floats = {}
    for name, answer in (("missed", MISSED), ("kept", KEPT)):
        rounds, _ = _start(MIXING, path, tmp_path / name)
        next(rounds)
        proposed = [rounds.send(MISSED)[0]]
        floats[name] = [_floats(proposed[0])]
        for _ in range(8):
            try:
                floats[name].append(_floats(rounds.send(answer)[0]))
            except StopIteration:
                break
    assert floats["missed"] == sorted(set(floats["missed"]))
    assert floats["kept"] == sorted(set(floats["kept"]), reverse=True)
    assert max(floats["missed"]) < 4, "all of them in float would be the original"


def test_a_limit_that_holds_asks_for_no_sensitivity(tmp_path: Path) -> None:
    path = _fragile().save(tmp_path / "model.onnx")
    rounds, _ = _start(MIXING, path, tmp_path / "out")
    next(rounds)
    for variant in _rest(rounds, KEPT):
        assert all(layer.noise_share is None for layer in variant.layers)
        assert all((layer.gained_ms or 0) < 0 for layer in variant.layers if layer.kept_float)


def test_where_all_layers_are_slower_none_is_proposed_that_would_be_the_original(tmp_path: Path) -> None:
    path = mlp(width=8).save(tmp_path / "model.onnx")
    rounds, _ = _start(MIXING, path, tmp_path / "out")
    next(rounds)
    assert all(_floats(variant) < len(variant.layers) for variant in _rest(rounds, KEPT))


def _floats(variant: Variant) -> int:
    return sum(layer.kept_float for layer in variant.layers)


def _rest(rounds: Rounds, answer: Standing) -> list[Variant]:
    try:
        return rounds.send(answer)
    except StopIteration:
        return []


def test_noise_of_the_outputs_is_relative_to_their_power() -> None:
    wanted = [[np.array([3.0, 4.0], np.float32), np.array([1], np.int64)]]
    found = [[np.array([3.0, 4.5], np.float32), np.array([2], np.int64)]]
    assert noise_over_signal(wanted, found) == pytest.approx(0.25 / 25)
    assert noise_over_signal(wanted, wanted) == 0
    assert noise_over_signal(wanted, [[np.array([3.0, np.nan], np.float32), np.array([1], np.int64)]]) == np.inf
