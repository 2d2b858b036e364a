"""Channel pruning as a step: how narrow models get, what is kept of them, and what it says when it has nothing."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from engine.data import Samples, open_samples
from engine.graph import load
from engine.measure.complexity import count
from engine.recipe import Importance, PruneChannels
from engine.signature import Signature
from engine.steps import Skipped, Variant
from tests.engine.steps.outcome import made_up, outputs, run, sqnr_db, variants
from tests.models import Net, mlp, residual_cnn, small_cnn

DIGITS = Path("examples/digits")


def digits(part: str, folder: Path) -> Samples:
    signature = Signature.of(load(DIGITS / "model.onnx"))
    return open_samples(DIGITS / f"{part}.npz", signature, None, folder / part)


def pruned_digits(folder: Path, **options: object) -> Variant:
    step = PruneChannels(**options)  # type: ignore[arg-type]
    outcome = run(step, DIGITS / "model.onnx", folder / "out", samples=digits("calibration", folder))
    assert not isinstance(outcome, Skipped), outcome.reason
    return outcome[0]


def top1(model: Path, folder: Path) -> float:
    samples = digits("test", folder)
    assert samples.labels is not None
    (scores,) = outputs(model, samples)
    return float((scores.reshape(len(samples.labels), -1).argmax(1) == samples.labels).mean())


def widths(model: onnx.ModelProto) -> list[int]:
    return [weight.dims[0] for weight in model.graph.initializer if len(weight.dims) == 4]


def test_half_of_the_channels_are_a_quarter_of_the_work_and_most_decisions_stay_right(tmp_path: Path) -> None:
    variant = pruned_digits(tmp_path, ratio=0.5)
    before, after = count(load(DIGITS / "model.onnx")).macs, count(load(variant.path)).macs
    assert before
    assert after
    assert after < 0.3 * before
    assert top1(variant.path, tmp_path) > top1(DIGITS / "model.onnx", tmp_path) - 0.1


def test_reconstruction_wins_back_most_of_what_is_lost(tmp_path: Path) -> None:
    plain = pruned_digits(tmp_path / "plain", ratio=0.5, reconstruct=False)
    rebuilt = pruned_digits(tmp_path / "rebuilt", ratio=0.5)
    assert top1(rebuilt.path, tmp_path) > top1(plain.path, tmp_path) + 0.1


@pytest.mark.parametrize("importance", Importance)
def test_widths_stay_multiples(importance: Importance, tmp_path: Path) -> None:
    path = small_cnn(width=48).save(tmp_path / "model.onnx")
    for multiple in (8, 16):
        step = PruneChannels(ratio=0.4, multiple=multiple, importance=importance)
        (variant,) = variants(step, path, tmp_path / f"{multiple}")
        assert widths(load(variant.path)) == [32, 32]


def test_small_layers_keep_a_channel_however_large_the_ratio(tmp_path: Path) -> None:
    path = residual_cnn(width=4).save(tmp_path / "model.onnx")
    (variant,) = variants(PruneChannels(ratio=0.95), path, tmp_path / "out")
    assert all(width >= 1 for width in widths(load(variant.path)))


def test_dead_channels_leave_without_loss(tmp_path: Path) -> None:
    path = with_silent_channels(20).save(tmp_path / "model.onnx")
    (variant,) = variants(PruneChannels(ratio=0), path, tmp_path / "out")
    assert sqnr_db(path, variant.path) > 100
    assert "16 of 48 dead channels removed" in variant.label
    assert 32 in widths(load(variant.path))


def with_silent_channels(count: int) -> Net:
    """Some channels of a hidden layer of 48 are always negative, so that nothing of them passes the Relu."""
    net = Net(3)
    x = net.input("image", ["batch", 3, 8, 8])
    hidden = net.op("Relu", net.conv(x, (3, 48)))
    weight, bias = (numpy_helper.to_array(tensor).copy() for tensor in net.weights)
    weight[:count], bias[:count] = 0, -1
    for tensor, values in zip(net.weights, (weight, bias), strict=True):
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    net.op("Conv", hidden, net.weight(4, 48, 1, 1), net.weight(4), name="y")
    return net.output("y", ["batch", 4, 8, 8])


def test_a_ratio_of_nothing_skips_where_every_channel_lives(tmp_path: Path) -> None:
    outcome = run(PruneChannels(ratio=0), mlp().save(tmp_path / "model.onnx"), tmp_path / "out")
    assert isinstance(outcome, Skipped)
    assert "none of its 128 channels is dead" in outcome.reason


def test_half_precision_is_pruned_as_it_is(tmp_path: Path) -> None:
    net = Net(4)
    x = net.input("x", ["batch", 16], onnx.TensorProto.FLOAT16)
    first, second = (net.constant(net.random.standard_normal((16, 16)).astype(np.float16)) for _ in range(2))
    net.op("MatMul", net.op("Relu", net.op("MatMul", x, first)), second, name="y")
    path = net.output("y", ["batch", 16], onnx.TensorProto.FLOAT16).save(tmp_path / "model.onnx")
    (variant,) = variants(PruneChannels(), path, tmp_path / "out")
    assert outputs(variant.path, made_up(path))[0].dtype == np.float16
    assert sorted(tuple(weight.dims) for weight in load(variant.path).graph.initializer) == [(8, 16), (16, 8)]


def test_a_model_of_one_layer_has_no_channels_in_between(tmp_path: Path) -> None:
    net = Net()
    net.gemm(net.input("x", ["batch", 4]), (4, 2), name="y")
    path = net.output("y", ["batch", 2]).save(tmp_path / "model.onnx")
    outcome = run(PruneChannels(), path, tmp_path / "out")
    assert isinstance(outcome, Skipped)
    assert "no two layers in a row" in outcome.reason


def test_a_share_of_the_operations_is_kept_and_goes_where_it_matters(tmp_path: Path) -> None:
    """One of two branches is added with a weight of a thousandth: it gets narrow, the other one hardly."""
    net = Net(6)
    x = net.input("image", ["batch", 3, 8, 8])
    loud, quiet = (net.op("Relu", net.conv(x, (3, 64))) for _ in range(2))
    loud, quiet = (net.conv(branch, (64, 4)) for branch in (loud, quiet))
    net.op("Add", loud, net.op("Mul", quiet, net.constant(np.float32(1e-3))), name="y")
    path = net.output("y", ["batch", 4, 8, 8]).save(tmp_path / "model.onnx")
    (variant,) = variants(PruneChannels(macs_share=0.6), path, tmp_path / "out")
    before, after = count(load(path)).macs, count(load(variant.path)).macs
    assert before
    assert after
    assert 0.5 * before < after <= 0.6 * before
    assert sorted(width for width in widths(load(variant.path)) if width > 4) == [8, 64]
    assert sqnr_db(path, variant.path) > 50


def test_a_share_of_the_time_narrows_too(tmp_path: Path) -> None:
    path = small_cnn(width=48).save(tmp_path / "model.onnx")
    (variant,) = variants(PruneChannels(time_share=0.6), path, tmp_path / "out")
    assert min(widths(load(variant.path))) < 48


def test_there_is_one_target_at_most() -> None:
    with pytest.raises(ValueError, match="time_share or macs_share, not both"):
        PruneChannels(time_share=0.5, macs_share=0.5)
