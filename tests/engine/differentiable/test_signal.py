"""Losses and signals give what ONNX Runtime gives, and gradients that are finite differences."""

import numpy as np
import pytest

from tests.engine.differentiable.nodes import OneNode, floats, positives

SIGNALS = {
    "spectrum": OneNode("DFT", floats(1, 6, 2), opset=20),
    "half of it": OneNode("DFT", floats(2, 6, 1), None, np.int64(1), constants=(2,), opset=20, onesided=1),
    "back": OneNode("DFT", floats(1, 5, 2), opset=17, axis=1, inverse=1),
    "padded": OneNode("DFT", floats(1, 5, 1), np.int64(8), constants=(1,), opset=17, axis=1),
    "over time": OneNode(
        "STFT", floats(1, 16, 1), np.int64(3), positives(4), np.int64(4), constants=(1, 3), opset=17, onesided=1
    ),
}
LABELS = np.int64([[0, 2], [1, 0], [2, 2]])
LOSSES = {
    "of scores": OneNode("SoftmaxCrossEntropyLoss", floats(3, 3, 2), LABELS),
    "of scores, weighted, some ignored": OneNode(
        "SoftmaxCrossEntropyLoss", floats(3, 3, 2), LABELS, positives(3), constants=(2,), outputs=2, ignore_index=2
    ),
    "of scores, each": OneNode("SoftmaxCrossEntropyLoss", floats(3, 3, 2), LABELS, reduction="none"),
    "of log-probabilities": OneNode("NegativeLogLikelihoodLoss", floats(3, 3, 2), LABELS, positives(3), constants=(2,)),
    "of log-probabilities, summed": OneNode(
        "NegativeLogLikelihoodLoss", floats(3, 3), np.int32([1, 0, 2]), reduction="sum", ignore_index=0
    ),
}


@pytest.mark.parametrize("case", SIGNALS.values(), ids=SIGNALS)
def test_transforms_give_what_onnx_runtime_gives_and_right_gradients(case: OneNode) -> None:
    case.check()


@pytest.mark.parametrize("operator", ["HannWindow", "HammingWindow", "BlackmanWindow"])
@pytest.mark.parametrize("periodic", [0, 1])
def test_windows_are_onnx_runtimes(operator: str, periodic: int) -> None:
    OneNode(operator, np.int64(9), opset=17, periodic=periodic).check_outputs()


def test_bands_of_the_mel_scale_are_onnx_runtimes() -> None:
    numbers = [np.int64(8), np.int64(64), np.int64(8000), np.float32(20), np.float32(3800)]
    OneNode("MelWeightMatrix", *numbers, opset=17).check_outputs()


@pytest.mark.parametrize("case", LOSSES.values(), ids=LOSSES)
def test_losses_are_those_of_the_definition_with_right_gradients(case: OneNode) -> None:
    case.check_gradients()
    scores, labels, *weight = case.arrays
    attributes = {entry.name: entry for entry in case.node.attribute}
    if "Softmax" in case.node.op_type:
        scores = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
    weights = (weight[0] if weight else np.ones(3))[labels]
    if "ignore_index" in attributes:
        weights = np.where(labels == attributes["ignore_index"].i, 0, weights)
    each = -np.take_along_axis(scores, labels[:, None].astype(int), axis=1)[:, 0] * weights
    reduction = attributes["reduction"].s.decode() if "reduction" in attributes else "mean"
    expected = {"none": each, "sum": each.sum(), "mean": each.sum() / weights.sum()}[reduction]
    np.testing.assert_allclose(case.ours()[0], expected, rtol=1e-5)
