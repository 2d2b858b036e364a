"""What only multiplies and adds behind a layer becomes part of it, and the outputs stay."""

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest

from engine.graph import save
from engine.quantize.affine import fuse_affine, pool_means
from tests.engine.steps.outcome import made_up, outputs
from tests.models import Net


def operators(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


def same_before_and_after(net: Net, folder: Path, opset: int = 17) -> onnx.ModelProto:
    """The model after the fusion; fails where its outputs differ."""
    model = net.model(opset)
    before = save(model, folder / "before.onnx")
    fuse_affine(model)
    pool_means(model)
    onnx.checker.check_model(model)
    after = save(model, folder / "after.onnx")
    samples = made_up(before, 8)
    for expected, actual in zip(outputs(before, samples), outputs(after, samples), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
    return model


def test_a_chain_of_constants_and_a_norm_fuse_into_a_convolution(tmp_path: Path) -> None:
    net = Net()
    x = net.conv(net.input("x", ["batch", 3, 8, 8]), (3, 5))
    x = net.op("Mul", net.constant(np.array([0.7], np.float32)), x)
    x = net.op("Add", x, net.weight(1, 5, 1, 1))
    x = net.norm(x, 5)
    x = net.op("Sub", x, net.weight(5, 1, 1))
    net.op("Div", x, net.constant(np.float32(-3)), name="y")
    model = same_before_and_after(net.output("y", ["batch", 5, 8, 8]), tmp_path)
    assert operators(model) == {"Conv": 1}


@pytest.mark.parametrize("rank", [2, 3])
def test_a_product_takes_a_bias_only_with_two_axes(rank: int, tmp_path: Path) -> None:
    net = Net()
    x = net.op("MatMul", net.input("x", ["batch", 4, 6][:1] + [4, 6][-rank + 1 :]), net.weight(6, 7))
    x = net.op("Mul", x, net.weight(7))
    net.op("Add", x, net.weight(7), name="y")
    model = same_before_and_after(net.output("y", ["batch", 4, 7][:1] + [4, 7][-rank + 1 :]), tmp_path)
    assert operators(model) == ({"Gemm": 1} if rank == 2 else {"MatMul": 1, "Add": 1})


def test_what_is_read_twice_or_varies_over_pixels_stays(tmp_path: Path) -> None:
    net = Net()
    x = net.conv(net.input("x", ["batch", 3, 8, 8]), (3, 3))
    y = net.op("Mul", x, net.constant(np.float32(2)))
    z = net.op("Mul", net.conv(x, (3, 3)), net.weight(1, 8))
    net.op("Add", y, net.op("Add", x, z), name="y")
    model = same_before_and_after(net.output("y", ["batch", 3, 8, 8]), tmp_path)
    assert operators(model) == {"Conv": 2, "Mul": 2, "Add": 2}


def test_weights_that_two_layers_share_are_scaled_for_one(tmp_path: Path) -> None:
    net = Net()
    x, weight = net.input("x", ["batch", 3, 8, 8]), net.weight(3, 3, 1, 1)
    first = net.op("Mul", net.op("Conv", x, weight), net.constant(np.float32(5)))
    net.op("Add", first, net.op("Conv", x, weight), name="y")
    model = same_before_and_after(net.output("y", ["batch", 3, 8, 8]), tmp_path)
    assert operators(model) == {"Conv": 2, "Add": 1}


@pytest.mark.parametrize(("keepdims", "axes"), [(1, [2, 3]), (0, [-1, -2])])
def test_a_mean_of_all_pixels_is_a_pooling(keepdims: int, axes: list[int], tmp_path: Path) -> None:
    net = Net()
    net.op("ReduceMean", net.input("x", ["batch", 3, 8, 8]), name="y", axes=axes, keepdims=keepdims)
    shape = ["batch", 3, 1, 1] if keepdims else ["batch", 3]
    model = same_before_and_after(net.output("y", shape), tmp_path, 13)
    assert operators(model)["GlobalAveragePool"] == 1


def test_a_mean_of_other_axes_stays(tmp_path: Path) -> None:
    net = Net()
    net.op("ReduceMean", net.input("x", ["batch", 3, 8, 8]), name="y", axes=[1, 2], keepdims=1)
    model = same_before_and_after(net.output("y", ["batch", 1, 1, 8]), tmp_path, 13)
    assert operators(model) == {"ReduceMean": 1}
