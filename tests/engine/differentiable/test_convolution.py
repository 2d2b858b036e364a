"""Convolutions give what ONNX Runtime gives, and gradients that are finite differences."""

import numpy as np
import pytest

from tests.engine.differentiable.nodes import OneNode, floats

CONVOLUTIONS = {
    "plain": OneNode("Conv", floats(2, 3, 5, 6), floats(4, 3, 3, 3), floats(4)),
    "same, an odd padding behind": OneNode(
        "Conv", floats(1, 2, 6, 7), floats(3, 2, 3, 2), auto_pad="SAME_UPPER", strides=[2, 2]
    ),
    "same, an odd padding before": OneNode(
        "Conv", floats(1, 2, 6, 7), floats(3, 2, 2, 3), auto_pad="SAME_LOWER", strides=[2, 1]
    ),
    "uneven paddings": OneNode("Conv", floats(1, 2, 5, 5), floats(3, 2, 3, 3), pads=[0, 1, 2, 3], strides=[1, 2]),
    "grouped with holes": OneNode(
        "Conv", floats(1, 4, 7, 7), floats(6, 2, 3, 3), floats(6), group=2, dilations=[2, 2], pads=[2, 2, 2, 2]
    ),
    "depthwise": OneNode("Conv", floats(1, 4, 5, 5), floats(4, 1, 3, 3), group=4, pads=[1, 1, 1, 1]),
    "over one axis": OneNode("Conv", floats(2, 3, 9), floats(4, 3, 4), floats(4), pads=[2, 1], strides=[2]),
    "over three axes": OneNode("Conv", floats(1, 2, 4, 4, 4), floats(2, 2, 2, 3, 2), pads=[0, 1, 0, 1, 1, 0]),
    "transposed": OneNode("ConvTranspose", floats(1, 3, 4, 4), floats(3, 2, 3, 3), floats(2), strides=[2, 2]),
    "transposed, uneven paddings": OneNode(
        "ConvTranspose", floats(1, 2, 4, 4), floats(2, 3, 3, 3), floats(3), pads=[0, 1, 2, 1], strides=[2, 2]
    ),
    "transposed, longer": OneNode(
        "ConvTranspose", floats(1, 2, 3, 3), floats(2, 2, 3, 3), strides=[3, 3], output_padding=[2, 1]
    ),
    "transposed, to a shape": OneNode(
        "ConvTranspose", floats(1, 2, 3, 3), floats(2, 2, 3, 3), floats(2), strides=[2, 2], output_shape=[6, 6]
    ),
    "transposed, same": OneNode(
        "ConvTranspose", floats(1, 2, 4, 4), floats(2, 2, 3, 3), strides=[2, 2], auto_pad="SAME_UPPER"
    ),
    "transposed, grouped with holes": OneNode(
        "ConvTranspose", floats(1, 4, 4, 4), floats(4, 1, 2, 2), group=2, dilations=[2, 2], pads=[1, 1, 1, 1]
    ),
    "transposed, over one axis": OneNode("ConvTranspose", floats(2, 2, 5), floats(2, 3, 4), strides=[2], pads=[1, 1]),
    "columns put back": OneNode(
        "Col2Im", floats(1, 8, 9), np.int64([4, 5]), np.int64([2, 2]), pads=[0, 0, 0, 1], strides=[1, 2]
    ),
}


@pytest.mark.parametrize("case", CONVOLUTIONS.values(), ids=CONVOLUTIONS)
def test_convolutions_give_what_onnx_runtime_gives_and_right_gradients(case: OneNode) -> None:
    case.check()


def test_deformed_convolutions_have_right_gradients_by_offsets_and_masks_too() -> None:
    x, weight, bias = floats(1, 4, 4, 4), floats(2, 2, 2, 2), floats(2)
    offset, mask = 0.7 * floats(1, 16, 3, 3), floats(1, 8, 3, 3)
    OneNode("DeformConv", x, weight, offset, bias, mask, kernel_shape=[2, 2], group=2, offset_group=2).check_gradients()


def test_a_causal_convolution_goes_on_from_its_state() -> None:
    x, weight, bias = floats(1, 3, 6), floats(3, 1, 4), floats(3)
    whole, last = OneNode("CausalConvWithState", x, weight, bias, outputs=2, opset=27).ours()
    first, state = OneNode("CausalConvWithState", x[..., :4], weight, bias, outputs=2, opset=27).ours()
    second, end = OneNode("CausalConvWithState", x[..., 4:], weight, bias, state, outputs=2, opset=27).ours()
    np.testing.assert_allclose(np.concatenate([first, second], axis=2), whole, atol=1e-6)
    np.testing.assert_array_equal(end, last)
    OneNode("CausalConvWithState", x, weight, bias, outputs=2, opset=27, activation="silu").check_gradients()
