"""Smoothing: the outputs stay, outliers go into the weights, and a product of its own is put in only where it pays."""

from pathlib import Path

import numpy as np
import pytest

from engine.quantize.remedies.smooth import channel_peaks, smoothed
from tests.engine.quantize.remedies.graphs import PER_CHANNEL, calibrator, fidelity_db, outputs, same
from tests.models import Net, small_cnn, transformer

WIDTH = 32


def tokens(count: int = 16) -> dict[str, np.ndarray]:
    return {"tokens": np.random.default_rng(0).standard_normal((count, 6, WIDTH)).astype(np.float32)}


def outliers(channels: int = 2, size: float = 60) -> np.ndarray:
    """Scales of a norm: most are 1, some are large."""
    scales = np.ones(WIDTH, np.float32)
    scales[:channels] = size
    return scales


def balanced(net: Net, width: int, scales: np.ndarray) -> str:
    """A weight that makes up for the scales, so that all channels matter alike."""
    weight = net.random.standard_normal((WIDTH, width)) / scales[:, None]
    return net.constant(weight.astype(np.float32))


def normed(net: Net, scales: np.ndarray) -> str:
    x = net.input("tokens", ["batch", 6, WIDTH])
    return net.op("LayerNormalization", x, net.constant(scales), net.weight(WIDTH), axis=-1)


def block(scales: np.ndarray, *, residual: bool = False) -> Net:
    """A norm and two products that read it; with a sum that reads it too, or without."""
    net = Net()
    x = normed(net, scales)
    products = [net.op("MatMul", x, balanced(net, WIDTH, scales)) for _ in range(2)]
    total = net.op("Add", *products, name="y" if not residual else "")
    if residual:
        net.op("Add", total, x, name="y")
    return net.output("y", ["batch", 6, WIDTH])


def result_of(net: Net, feeds: dict[str, np.ndarray], folder: Path) -> tuple[list[str], bool]:
    """Operators that smoothing added, and whether it found something to do and kept the outputs."""
    model = net.model()
    result = smoothed(model, channel_peaks(calibrator(model, feeds, folder)))
    if result is None:
        return [], False
    before = [node.op_type for node in model.graph.node]
    return [node.op_type for node in result.graph.node][len(before) :], same(model, result, feeds)


@pytest.mark.parametrize("opset", [17, 18])
def test_peaks_are_the_largest_absolute_value_of_each_channel(tmp_path: Path, opset: int) -> None:
    model, feeds = block(outliers()).model(opset), tokens()
    found = channel_peaks(calibrator(model, feeds, tmp_path))
    model.graph.output[0].name = "t0"
    assert list(found) == ["t0"]
    assert np.allclose(found["t0"], np.abs(outputs(model, feeds)[0]).max(axis=(0, 1)))


def test_outliers_go_into_the_weights_at_no_cost(tmp_path: Path) -> None:
    assert result_of(block(outliers()), tokens(), tmp_path) == ([], True)


def test_a_norm_with_outliers_is_far_truer_in_8_bits(tmp_path: Path) -> None:
    model, feeds = block(outliers()).model(), tokens()
    result, wanted = smoothed(model, channel_peaks(calibrator(model, feeds, tmp_path))), outputs(model, feeds)
    assert result is not None
    before = fidelity_db(wanted, model, feeds, tmp_path, PER_CHANNEL)
    assert fidelity_db(wanted, result, feeds, tmp_path, PER_CHANNEL) > before + 10


def test_a_tensor_that_a_sum_reads_too_is_divided_in_front_of_its_layers(tmp_path: Path) -> None:
    model, feeds = block(outliers(), residual=True).model(), tokens()
    result = smoothed(model, channel_peaks(calibrator(model, feeds, tmp_path)))
    assert result is not None
    assert [node.op_type for node in result.graph.node].count("Mul") == 1
    assert same(model, result, feeds)


def test_without_outliers_no_product_is_put_in(tmp_path: Path) -> None:
    _, changed = result_of(block(np.ones(WIDTH, np.float32), residual=True), tokens(), tmp_path)
    assert not changed


def test_a_norm_spelled_out_takes_the_factors_in_its_last_product_and_sum(tmp_path: Path) -> None:
    net, scales = Net(), outliers()
    x = net.op("Tanh", net.input("tokens", ["batch", 6, WIDTH]))
    x = net.op("Add", net.op("Mul", net.constant(scales), x), net.weight(WIDTH))
    net.op("MatMul", x, balanced(net, 8, scales), name="y")
    assert result_of(net.output("y", ["batch", 6, 8]), tokens(), tmp_path) == ([], True)


def test_a_reshape_and_readers_of_shapes_are_no_hindrance(tmp_path: Path) -> None:
    net, scales = Net(), outliers()
    x = normed(net, scales)
    net.op("Shape", x, name="shape")
    rows = net.op("Reshape", x, net.constant(np.array([-1, WIDTH])))
    net.op("Gemm", rows, balanced(net, 8, scales), name="y")
    net.output("y", ["rows", 8]).output("shape", [3], 7)
    assert result_of(net, tokens(), tmp_path) == ([], True)


def test_a_gated_product_takes_the_factors_in_the_layer_behind_its_ungated_side(tmp_path: Path) -> None:
    net, scales = Net(), outliers()
    x = net.input("tokens", ["batch", 6, WIDTH])
    gate = net.op("Sigmoid", net.op("MatMul", x, net.weight(WIDTH, WIDTH)))
    up = net.op("MatMul", x, net.constant((net.random.standard_normal((WIDTH, WIDTH)) * scales).astype(np.float32)))
    net.op("MatMul", net.op("Mul", gate, up), balanced(net, 8, scales), name="y")
    assert result_of(net.output("y", ["batch", 6, 8]), tokens(), tmp_path) == ([], True)


@pytest.mark.parametrize(("size", "products"), [(1, 0), (2, 1)])
def test_a_flattened_pool_takes_the_factors_where_each_channel_is_one_value(
    tmp_path: Path, size: int, products: int
) -> None:
    net, scales = Net(), outliers()
    x = net.input("image", ["batch", WIDTH, size, size])
    kernel = np.eye(WIDTH, dtype=np.float32)[..., None, None] * scales[:, None, None, None]
    x = net.op("Flatten", net.op("Conv", x, net.constant(kernel)))
    weight = net.random.standard_normal((WIDTH, size**2, 8)) / scales[:, None, None]
    net.op("MatMul", x, net.constant(weight.reshape(-1, 8).astype(np.float32)), name="y")
    feeds = {"image": np.random.default_rng(0).standard_normal((16, WIDTH, size, size)).astype(np.float32)}
    assert result_of(net.output("y", ["batch", 8]), feeds, tmp_path) == (["MatMul"] * products, True)


def test_norms_that_share_a_constant_each_get_their_own(tmp_path: Path) -> None:
    net, scales = Net(), outliers()
    x, shared = net.input("tokens", ["batch", 6, WIDTH]), net.constant(scales)
    for _ in range(2):
        x = net.op("MatMul", net.op("LayerNormalization", x, shared, axis=-1), balanced(net, WIDTH, scales))
    net.op("Tanh", x, name="y")
    assert result_of(net.output("y", ["batch", 6, WIDTH]), tokens(), tmp_path) == ([], True)


def test_a_tensor_with_infinite_peaks_is_left_alone() -> None:
    assert smoothed(block(outliers()).model(), {"t0": np.full(WIDTH, np.inf)}) is None


def test_whole_transformers_keep_their_outputs(tmp_path: Path) -> None:
    model = transformer().model()
    feeds = {"ids": np.random.default_rng(0).integers(0, 50, (8, 8))}
    result = smoothed(model, channel_peaks(calibrator(model, feeds, tmp_path)))
    assert result is None or same(model, result, feeds)


def test_convolutions_are_left_alone(tmp_path: Path) -> None:
    net = small_cnn()
    net.nodes = net.nodes[:-1]
    net.outputs = []
    model = net.output(net.nodes[-1].output[0], ["batch", 16]).model()
    feeds = {"image": np.ones((1, 3, 16, 16), np.float32)}
    assert smoothed(model, channel_peaks(calibrator(model, feeds, tmp_path))) is None
