"""Pooling gives what ONNX Runtime gives, and gradients that are finite differences."""

import numpy as np
import pytest

from tests.engine.differentiable.nodes import OneNode, floats, levels

REGIONS = np.float32([[0, 0, 3, 3], [1.2, 0.5, 4.1, 5.0], [-2, -2, 1, 9]])
POOLS = {
    "largest": OneNode("MaxPool", floats(1, 2, 6, 6), kernel_shape=[2, 2], strides=[2, 2]),
    "largest, padded wide and uneven": OneNode(
        "MaxPool", floats(1, 2, 5, 5), kernel_shape=[3, 3], pads=[2, 0, 1, 2], strides=[2, 1]
    ),
    "largest, a window over the end": OneNode(
        "MaxPool", floats(1, 1, 6, 7), kernel_shape=[3, 2], strides=[2, 2], ceil_mode=1, pads=[0, 1, 1, 0]
    ),
    "largest, with holes": OneNode("MaxPool", floats(1, 2, 7, 7), kernel_shape=[3, 3], dilations=[2, 2]),
    "largest, same": OneNode("MaxPool", floats(1, 2, 5, 6), kernel_shape=[2, 3], auto_pad="SAME_LOWER"),
    "largest, over one axis": OneNode("MaxPool", floats(2, 2, 9), kernel_shape=[3], strides=[2]),
    "largest, over three axes": OneNode("MaxPool", floats(1, 2, 4, 4, 4), kernel_shape=[2, 2, 3]),
    "mean": OneNode("AveragePool", floats(1, 2, 6, 6), kernel_shape=[2, 2], strides=[2, 2], pads=[1, 1, 1, 1]),
    "mean, of paddings too": OneNode(
        "AveragePool", floats(1, 2, 5, 5), kernel_shape=[3, 3], pads=[1, 0, 2, 1], count_include_pad=1
    ),
    "mean, a window over the end": OneNode(
        "AveragePool", floats(1, 1, 6, 6), kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1, pads=[1, 1, 1, 1]
    ),
    "mean, with holes": OneNode("AveragePool", floats(1, 2, 7, 7), kernel_shape=[2, 3], dilations=[3, 2]),
    "mean, same": OneNode("AveragePool", floats(1, 2, 5, 6), kernel_shape=[2, 3], auto_pad="SAME_UPPER"),
    "norm": OneNode("LpPool", floats(1, 2, 6, 6), kernel_shape=[2, 2], p=3, pads=[1, 1, 0, 0]),
    "largest of all": OneNode("GlobalMaxPool", floats(2, 3, 4, 5)),
    "mean of all": OneNode("GlobalAveragePool", floats(2, 3, 4, 5)),
    "norm of all": OneNode("GlobalLpPool", floats(2, 3, 4, 5), p=2),
}


@pytest.mark.parametrize("case", POOLS.values(), ids=POOLS)
def test_pools_give_what_onnx_runtime_gives_and_right_gradients(case: OneNode) -> None:
    case.check()


@pytest.mark.parametrize("mode", ["avg", "max"])
@pytest.mark.parametrize("samples", [0, 2])
def test_regions_of_interest_are_read_between_pixels(mode: str, samples: int) -> None:
    """Regions have no gradient in ONNX; how many samples are taken depends on their size."""
    OneNode(
        "RoiAlign", floats(2, 1, 6, 6), REGIONS, np.int64([0, 1, 1]),
        constants=(1,), opset=16, mode=mode, output_height=2, output_width=3, sampling_ratio=samples,
    ).check()  # fmt: skip


def test_regions_may_be_pooled_by_their_largest_values() -> None:
    regions = np.float32([[0, 0, 0, 3, 3], [1, 1, 2, 5, 4]])
    OneNode("MaxRoiPool", floats(2, 3, 6, 6), regions, constants=(1,), pooled_shape=[2, 2]).check()


@pytest.mark.parametrize("order", [0, 1])
def test_places_of_the_largest_values_count_through_the_whole_tensor(order: int) -> None:
    OneNode(
        "MaxPool", floats(2, 2, 5, 5), outputs=2, kernel_shape=[3, 3], pads=[1, 1, 1, 1], storage_order=order
    ).check_outputs()


def test_the_largest_values_can_be_put_back() -> None:
    values, places = OneNode("MaxPool", floats(2, 2, 4, 4), outputs=2, kernel_shape=[2, 2], strides=[2, 2]).ours()
    OneNode("MaxUnpool", values, places, kernel_shape=[2, 2], strides=[2, 2]).check()


def test_bytes_are_pooled_as_bytes() -> None:
    OneNode("MaxPool", levels(1, 1, 4, 4), kernel_shape=[2, 2], pads=[1, 1, 0, 0]).check_outputs()
