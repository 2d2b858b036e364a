"""Recurrent layers give what ONNX Runtime gives, by torch's kernels and step by step, with gradients that fit."""

from typing import Any

import numpy as np
import pytest
import torch

from engine.differentiable import DifferentiableGraph
from engine.differentiable.elements import to_torch
from tests.engine.differentiable.nodes import OneNode, floats

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
TIME, BATCH, INPUTS, HIDDEN = 4, 2, 3, 2


def layer(
    kind: str, *, both: bool = False, bias: bool = True, lengths: Any = None, states: bool = False, **rest: Any
) -> OneNode:
    """A layer of random weights with all of its outputs."""
    ways, gates = 2 if both else 1, GATES[kind]
    inputs = [
        floats(TIME, BATCH, INPUTS),
        0.5 * floats(ways, gates * HIDDEN, INPUTS),
        0.5 * floats(ways, gates * HIDDEN, HIDDEN),
        floats(ways, 2 * gates * HIDDEN) if bias else None,
        None if lengths is None else np.int32(lengths),
        *[floats(ways, BATCH, HIDDEN, seed=seed) if states else None for seed in range(2 if kind == "LSTM" else 1)],
    ]
    if rest.pop("peepholes", False):
        inputs.append(floats(ways, 3 * HIDDEN))
    if both:
        rest["direction"] = "bidirectional"
    while inputs[-1] is None:
        inputs.pop()
    return OneNode(kind, *inputs, outputs=3 if kind == "LSTM" else 2, opset=14, hidden_size=HIDDEN, **rest)


LAYERS = {
    "LSTM": layer("LSTM"),
    "LSTM both ways": layer("LSTM", both=True, states=True),
    "LSTM backwards": layer("LSTM", direction="reverse", bias=False),
    "LSTM that looks at its cell": layer("LSTM", peepholes=True, states=True),
    "LSTM of sequences that end": layer("LSTM", both=True, lengths=[2, 4], states=True),
    "LSTM of full lengths": layer("LSTM", lengths=[4, 4]),
    "LSTM clipped": layer("LSTM", clip=0.2, states=True),
    "LSTM with other activations": layer("LSTM", activations=["HardSigmoid", "Softsign", "Relu"]),
    "LSTM that forgets what it admits": layer("LSTM", input_forget=1),
    "GRU": layer("GRU", linear_before_reset=1),
    "GRU both ways": layer("GRU", both=True, linear_before_reset=1, states=True),
    "GRU that resets first": layer("GRU", both=True, states=True),
    "GRU backwards": layer("GRU", direction="reverse", linear_before_reset=1),
    "GRU of sequences that end": layer("GRU", direction="reverse", lengths=[3, 1], linear_before_reset=1),
    "GRU clipped": layer("GRU", clip=0.4),
    "RNN": layer("RNN", states=True),
    "RNN both ways, one with Relu": layer("RNN", both=True, activations=["Relu", "Tanh"]),
    "RNN of Relu": layer("RNN", activations=["Relu"]),
    "RNN with values for its activation": layer(
        "RNN", both=True, activations=["LeakyRelu", "ScaledTanh"], activation_alpha=[0.3, 0.7], activation_beta=[0.8]
    ),
}


@pytest.mark.parametrize("case", LAYERS.values(), ids=LAYERS)
def test_layers_give_what_onnx_runtime_gives(case: OneNode) -> None:
    case.check_outputs()


@pytest.mark.parametrize(
    "name",
    ["LSTM both ways", "LSTM that looks at its cell", "LSTM of sequences that end", "GRU", "GRU that resets first"],
)
def test_layers_have_right_gradients(name: str) -> None:
    LAYERS[name].check_gradients()


@pytest.mark.parametrize("kind", GATES)
def test_the_batch_may_come_first(kind: str) -> None:
    """Its layout 1 is one that ONNX Runtime lacks."""
    timed = layer(kind, both=True, states=True, linear_before_reset=1) if kind == "GRU" else layer(kind, states=True)
    x, w, r, b, lengths, *states = timed.arrays
    attributes = {"direction": "bidirectional", "linear_before_reset": 1} if kind == "GRU" else {}
    batched = OneNode(
        kind, x.swapaxes(0, 1), w, r, b, lengths, *[state.swapaxes(0, 1) for state in states],
        outputs=len(timed.results), opset=14, hidden_size=HIDDEN, layout=1, **attributes,
    )  # fmt: skip
    y, *last = timed.ours()
    for ours, theirs in zip(batched.ours(), [y.transpose(2, 0, 1, 3), *(s.swapaxes(0, 1) for s in last)], strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_what_lies_beyond_the_end_of_a_sequence_changes_nothing() -> None:
    case = layer("LSTM", lengths=[2, 4])
    graph = DifferentiableGraph(case.model())
    feeds = {name: to_torch(value) for name, value in case.feeds().items()}
    x = feeds["i0"].requires_grad_()
    graph(feeds)["o1"].sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad[2:, 0], torch.zeros(2, INPUTS))
    assert bool((x.grad[2:, 1] != 0).all())
