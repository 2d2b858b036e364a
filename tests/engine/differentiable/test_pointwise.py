"""Functions of one tensor give what ONNX Runtime gives, and gradients that are finite differences or go straight on."""

import numpy as np
import pytest
import torch

from engine.differentiable import DifferentiableGraph
from tests.engine.differentiable.nodes import OneNode, floats, positives

ANYWHERE = ("Abs", "Atan", "Asinh", "Cos", "Erf", "Exp", "HardSwish", "Mish", "Neg", "Relu", "Sigmoid", "Sin", "Sinh",
            "Softplus", "Softsign", "Tan", "Tanh", "Elu", "Selu", "LeakyRelu", "HardSigmoid", "ThresholdedRelu",
            "Shrink", "Gelu", "Celu", "Cosh")  # fmt: skip
POSITIVE = ("Log", "Sqrt", "Reciprocal")
WITHIN_ONE = ("Acos", "Asin", "Atanh")
CASES = {
    **{name: OneNode(name, floats(3, 5)) for name in ANYWHERE},
    **{name: OneNode(name, positives(3, 5)) for name in POSITIVE},
    **{name: OneNode(name, np.tanh(floats(3, 5))) for name in WITHIN_ONE},
    "Acosh": OneNode("Acosh", positives(3, 5) + 1),
    "LeakyRelu, steep": OneNode("LeakyRelu", floats(3, 5), alpha=0.3),
    "Elu, alpha": OneNode("Elu", floats(3, 5), alpha=2.0),
    "Celu, alpha": OneNode("Celu", floats(3, 5), alpha=2.0),
    "HardSigmoid of PyTorch": OneNode("HardSigmoid", floats(3, 5) * 3, alpha=1 / 6, beta=0.5),
    "Gelu, by tanh": OneNode("Gelu", floats(3, 5), approximate="tanh"),
    "Shrink, with a bias": OneNode("Shrink", floats(3, 5), bias=0.2, lambd=0.7),
    "Clip, between": OneNode("Clip", floats(3, 5), np.float32(-0.5), np.float32(0.7), constants=(1, 2)),
    "Clip, from below": OneNode("Clip", floats(3, 5), np.float32(-0.5), constants=(1,)),
    "Clip, from above": OneNode("Clip", floats(3, 5), None, np.float32(0.7), constants=(2,)),
    "Clip of opset 10": OneNode("Clip", floats(3, 5), opset=10, min=-0.5, max=0.7),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_functions_of_one_tensor_give_what_onnx_runtime_gives_and_right_gradients(case: OneNode) -> None:
    case.check()


@pytest.mark.parametrize("operator", ["Round", "Floor", "Ceil"])
def test_rounding_passes_the_gradient_on(operator: str) -> None:
    case = OneNode(operator, floats(3, 5) * 3)
    case.check_outputs()
    x = torch.from_numpy(case.arrays[0]).requires_grad_()
    (DifferentiableGraph(case.model())({"i0": x})["o0"] * torch.arange(5.0)).sum().backward()
    assert torch.equal(x.grad, torch.arange(5.0).expand(3, 5))


def test_limits_that_are_inputs_get_gradients_too() -> None:
    low, high = np.float32(-0.5), np.float32(0.7)
    OneNode("Clip", floats(3, 5), low, high).check()


@pytest.mark.parametrize("element", [np.float16, np.float64, np.int32, np.uint32, np.uint64])
def test_casts_keep_what_the_new_type_can_hold(element: type) -> None:
    number = {np.float16: 10, np.float64: 11, np.int32: 6, np.uint32: 12, np.uint64: 13}[element]
    OneNode("Cast", positives(3, 5) * 9, to=number).check_outputs()
