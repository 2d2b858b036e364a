"""Operators of ONNX Runtime's own domain give what it gives."""

from typing import Any

import numpy as np
import pytest
import torch

from engine.differentiable import DifferentiableGraph, UnsupportedOperator
from tests.engine.differentiable.nodes import OneNode, floats, levels, positives


def own(operator: str, *inputs: Any, **rest: Any) -> OneNode:
    return OneNode(operator, *inputs, domain="com.microsoft", opset=17, **rest)


IMAGE, KERNEL, BIAS = floats(1, 3, 6, 6), floats(4, 3, 3, 3), floats(4)
SCALE, ZERO = np.float32(0.02), np.uint8(90)
FUSED = {
    "Conv and Relu": own("FusedConv", IMAGE, KERNEL, BIAS, activation="Relu", pads=[1, 1, 1, 1], kernel_shape=[3, 3]),
    "Conv, sum and Relu": own(
        "FusedConv", IMAGE, KERNEL, BIAS, floats(1, 4, 4, 4), activation="Relu", kernel_shape=[3, 3]
    ),
    "Conv and LeakyRelu": own(
        "FusedConv", IMAGE, KERNEL, activation="LeakyRelu", activation_params=[0.2], kernel_shape=[3, 3]
    ),
    "Conv and Clip": own(
        "FusedConv", IMAGE, KERNEL, activation="Clip", activation_params=[-0.1, 2.0], kernel_shape=[3, 3]
    ),
    "MatMul, second turned": own("FusedMatMul", floats(2, 3, 4), floats(2, 5, 4), transB=1, alpha=0.5),
    "MatMul, batch inside": own("FusedMatMul", floats(3, 2, 4), floats(2, 4, 5), transBatchA=1),
    "Gemm and LeakyRelu": own(
        "FusedGemm", floats(3, 4), floats(5, 4), floats(5), transB=1, activation="LeakyRelu", activation_alpha=0.3
    ),
    "Gelu": own("Gelu", floats(3, 4)),
    "Gelu of a sum": own("BiasGelu", floats(3, 4), floats(4)),
    "Gelu with tanh": own("FastGelu", floats(3, 4), floats(4)),
    "Gelu with a sigmoid": own("QuickGelu", floats(3, 4), alpha=1.3),
    "LayerNormalization of a sum": own(
        "SkipLayerNormalization", floats(2, 3, 4), floats(2, 3, 4, seed=1), floats(4), floats(4, seed=1),
        floats(4, seed=2), outputs=4, epsilon=1e-5,
    ),
    "positions": own("RotaryEmbedding", floats(2, 3, 16), np.int64([2]), floats(16, 4), floats(16, 4, seed=1)),
    "attention": own("MultiHeadAttention", floats(2, 3, 8), floats(2, 5, 8), floats(2, 5, 8), floats(24), num_heads=2),
    "attention, masked": own(
        "MultiHeadAttention", floats(2, 3, 8), floats(2, 5, 8), floats(2, 5, 8), None,
        np.int32([[1, 1, 0, 1, 1], [1, 0, 1, 1, 0]]), floats(2, 2, 3, 5), num_heads=2,
    ),
    "attention with its projections": own("Attention", floats(2, 3, 8), floats(8, 24), floats(24), num_heads=2),
    "attention of what came before": own(
        "Attention", floats(2, 3, 8), floats(8, 24), floats(24), np.int32([2, 3]), num_heads=2, unidirectional=1
    ),
}  # fmt: skip
QUANTIZED = {
    "4-bit weights": own("MatMulNBits", floats(3, 40), levels(6, 3, 8, high=255), positives(18), levels(12, high=255),
                         constants=(1, 2, 3), K=40, N=6, bits=4, block_size=16),
    "8-bit weights": own("MatMulNBits", floats(3, 32), levels(6, 2, 16, high=255), positives(12),
                         constants=(1, 2), K=32, N=6, bits=8, block_size=16),
    "dynamically quantized": own("DynamicQuantizeMatMul", floats(3, 8, seed=1), levels(8, 5, element=np.int8, low=-60),
                                 0.02 * positives(5), None, floats(5), constants=(1, 2, 4)),
    "back to floats": own("MatMulIntegerToFloat", levels(3, 8), levels(8, 5, element=np.int8, low=-60), SCALE,
                          0.02 * positives(5), ZERO, None, floats(5), constants=(1, 3, 6)),
    "layer of a matrix": own("QGemm", levels(3, 8), SCALE, ZERO, levels(5, 8, element=np.int8, low=-60),
                             0.02 * positives(5), np.zeros(5, np.int8), np.int32([10, -200, 30, 0, 500]),
                             0.5 * SCALE, ZERO, constants=(3, 4, 5, 6), transB=1),
    "layer of a matrix that gives floats": own("QGemm", levels(3, 8), SCALE, ZERO, levels(8, 5), SCALE, ZERO,
                                               constants=(3,), alpha=0.5),
    "rows of a table": own("GatherBlockQuantized", levels(9, 32, high=255), np.int64([[3, 8], [0, 1]]),
                           positives(9, 2), levels(9, 2, high=255), constants=(0, 2, 3), bits=8, block_size=16,
                           gather_axis=0, quantize_axis=1),
    "rows of a table of 4 bits": own("GatherBlockQuantized", levels(9, 16, high=255), np.int64([3, 8]),
                                     positives(9, 2), constants=(0, 2), bits=4, block_size=16,
                                     gather_axis=0, quantize_axis=1),
    "sum": own("QLinearAdd", levels(3, 8), SCALE, ZERO, levels(3, 8), SCALE, np.uint8(30), SCALE, ZERO),
    "product": own("QLinearMul", levels(3, 8), SCALE, ZERO, levels(8), SCALE, np.uint8(30), SCALE, ZERO),
    "sigmoid": own("QLinearSigmoid", levels(3, 8), SCALE, ZERO, np.float32(1 / 256), np.uint8(0),
                   constants=(1, 2, 3, 4)),
    "mean": own("QLinearGlobalAveragePool", levels(1, 3, 4, 4), SCALE, ZERO, SCALE, ZERO),
    "side by side": own("QLinearConcat", SCALE, ZERO, levels(3, 8), SCALE, ZERO, levels(3, 2), SCALE, np.uint8(30),
                        axis=1),
    "levels of 16 bits": own("QuantizeLinear", floats(3, 4), SCALE, np.int16(3)),
    "back from 16 bits": own("DequantizeLinear", levels(3, 4, element=np.int16), SCALE, np.int16(3)),
}  # fmt: skip


@pytest.mark.parametrize("case", FUSED.values(), ids=FUSED)
def test_fused_operators_give_what_onnx_runtime_gives_and_right_gradients(case: OneNode) -> None:
    case.check()


@pytest.mark.parametrize("case", QUANTIZED.values(), ids=QUANTIZED)
def test_quantized_operators_give_what_onnx_runtime_gives(case: OneNode) -> None:
    """Products may be rounded in another order, by ONNX Runtime to fewer digits."""
    case.check_outputs(tolerance=2e-3)


def test_an_lstm_of_stored_levels_is_near_to_the_one_with_rounded_activations() -> None:
    weight, recurrent = (levels(1, size, 16, element=np.int8, low=-60) for size in (3, 4))
    case = own(
        "DynamicQuantizeLSTM", floats(2, 2, 3), weight, recurrent, floats(1, 32), None, None, None, None,
        0.004 * positives(1, 16), np.zeros((1, 16), np.int8), 0.004 * positives(1, 16), np.zeros((1, 16), np.int8),
        constants=(1, 2, 3, 8, 9, 10, 11), outputs=3, hidden_size=4,
    )  # fmt: skip
    for ours, theirs in zip(case.ours(), case.onnxruntimes(), strict=True):
        assert ours.shape == theirs.shape
        assert np.abs(ours - theirs).mean() < 0.1 * np.abs(theirs).mean()


def test_weights_of_few_bits_stay_and_pass_gradients_on() -> None:
    graph = DifferentiableGraph(QUANTIZED["4-bit weights"].model())
    x = torch.from_numpy(floats(3, 40)).requires_grad_()
    y = graph({"i0": x})["o0"]
    y.sum().backward()
    assert not graph.weights()
    unit = torch.eye(40)
    with torch.no_grad():
        weight = graph({"i0": unit})["o0"]
    assert x.grad is not None
    np.testing.assert_allclose(x.grad, weight.sum(1).expand(3, 40), rtol=1e-4, atol=1e-4)


def test_a_form_that_is_not_done_is_refused_with_the_reason() -> None:
    past = floats(2, 2, 1, 4)
    case = own("MultiHeadAttention", floats(2, 3, 8), floats(2, 5, 8), floats(2, 5, 8), None, None, None, past, past,
               num_heads=2, outputs=3)  # fmt: skip
    with pytest.raises(UnsupportedOperator, match=r"MultiHeadAttention.*a cache of earlier keys and values"):
        DifferentiableGraph(case.model())
