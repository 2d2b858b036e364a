"""Recurrent layers: RNN, GRU and LSTM.

    RNN     h' = f(x Wᵀ + h Rᵀ + b)
    GRU     z, r = f(…);  n = g(x Wᵀ + (r·h) Rᵀ + b), or g(x Wᵀ + r·(h Rᵀ + b_R) + b_W) if linear_before_reset
            h' = (1 − z)·n + z·h
    LSTM    i, f, o = f(… + P·c);  c' = f·c + i·g(…);  h' = o·h(c')

x is (time, batch, inputs), W (directions, gates · hidden, inputs), R (directions, gates · hidden, hidden), the bias
(directions, 2 · gates · hidden) with that of W first. ONNX orders gates i o f c and z r h, torch i f c o and r z h.
What torch's fused kernels compute exactly goes to them; the rest is unrolled over time.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import torch
import torch.nn.functional as F  # noqa: N812 - its name everywhere
from torch import Tensor

from engine.differentiable.registry import Compute, Node, operator

Activation: TypeAlias = Callable[[Tensor], Tensor]

#: activations, with the values of alpha and beta that they take if the node gives none
ACTIVATIONS: dict[str, tuple[Callable[..., Tensor], tuple[float, ...]]] = {
    "relu": (torch.relu, ()),
    "tanh": (torch.tanh, ()),
    "sigmoid": (torch.sigmoid, ()),
    "softsign": (F.softsign, ()),
    "softplus": (F.softplus, ()),
    "affine": (lambda x, alpha, beta: alpha * x + beta, (1.0, 0.0)),
    "leakyrelu": (F.leaky_relu, (0.01,)),
    "thresholdedrelu": (lambda x, alpha: torch.where(x > alpha, x, 0.0), (1.0,)),
    "scaledtanh": (lambda x, alpha, beta: alpha * torch.tanh(beta * x), (1.0, 1.0)),
    "hardsigmoid": (lambda x, alpha, beta: (alpha * x + beta).clamp(0, 1), (0.2, 0.5)),
    "elu": (F.elu, (1.0,)),
}


@dataclass(frozen=True)
class Weights:
    """What one direction needs at each step."""

    recurrent: Tensor  #: (gates · hidden, hidden)
    bias: Tensor  #: (gates · hidden), of the recurrent product
    peepholes: Tensor | None  #: (3 · hidden), for input, output and forget gate


@dataclass(frozen=True)
class Rules:
    """What the node says about one direction."""

    activations: Sequence[Activation]
    linear_before_reset: bool
    input_forget: bool


State: TypeAlias = tuple[Tensor, ...]
Advance: TypeAlias = Callable[[Weights, Rules, Tensor, State], State]


def _rnn_step(weights: Weights, rules: Rules, x: Tensor, state: State) -> State:
    (hidden,) = state
    return (rules.activations[0](x + F.linear(hidden, weights.recurrent, weights.bias)),)


def _gru_step(weights: Weights, rules: Rules, x: Tensor, state: State) -> State:
    (hidden,) = state
    squash, bend = rules.activations
    size = hidden.shape[-1]
    gates = F.linear(hidden, weights.recurrent[: 2 * size], weights.bias[: 2 * size])
    update, reset = squash(x[:, : 2 * size] + gates).chunk(2, dim=-1)
    recurrent, bias = weights.recurrent[2 * size :], weights.bias[2 * size :]
    if rules.linear_before_reset:
        remembered = reset * F.linear(hidden, recurrent, bias)
    else:
        remembered = F.linear(reset * hidden, recurrent, bias)
    return ((1 - update) * bend(x[:, 2 * size :] + remembered) + update * hidden,)


def _lstm_step(weights: Weights, rules: Rules, x: Tensor, state: State) -> State:
    hidden, cell = state
    squash, bend, show = rules.activations
    admit, give, forget, new = (x + F.linear(hidden, weights.recurrent, weights.bias)).chunk(4, dim=-1)
    at_input, at_output, at_forget = (0.0, 0.0, 0.0) if weights.peepholes is None else weights.peepholes.chunk(3)
    admitted = squash(admit + at_input * cell)
    kept = 1 - admitted if rules.input_forget else squash(forget + at_forget * cell)
    cell = kept * cell + admitted * bend(new)
    return squash(give + at_output * cell) * show(cell), cell


@dataclass(frozen=True)
class Kind:
    """One of the three layers."""

    gates: int
    states: int
    activations: tuple[str, ...]  #: of each direction if the node names none
    advance: Advance
    order: tuple[tuple[int, int], ...]  #: gates in torch's order: from, to
    fused: dict[tuple[str, ...], Callable[..., tuple[Tensor, ...]]]  #: torch's kernels by the activations they have


RNN = Kind(1, 1, ("tanh",), _rnn_step, ((0, 1),), {("tanh",): torch.rnn_tanh, ("relu",): torch.rnn_relu})
GRU = Kind(3, 1, ("sigmoid", "tanh"), _gru_step, ((1, 2), (0, 1), (2, 3)), {("sigmoid", "tanh"): torch.gru})
LSTM = Kind(
    4, 2, ("sigmoid", "tanh", "tanh"), _lstm_step, ((0, 1), (2, 4), (1, 2)), {("sigmoid", "tanh", "tanh"): torch.lstm}
)


GATED = 2  #: activations of gates, whose inputs are clipped; that of an LSTM's cell is not, as in ONNX Runtime


@operator("RNN", host=(4,))
def rnn(node: Node) -> Compute:
    return _layer(node, RNN)


@operator("GRU", host=(4,))
def gru(node: Node) -> Compute:
    return _layer(node, GRU)


@operator("LSTM", host=(4,))
def lstm(node: Node) -> Compute:
    return _layer(node, LSTM)


def _layer(node: Node, kind: Kind) -> Compute:
    direction, batch_first = node.attribute("direction", "forward"), bool(node.attribute("layout", 0))
    directions = 2 if direction == "bidirectional" else 1
    names = [name.lower() for name in node.attribute("activations", kind.activations * directions)]
    rules = _rules(node, names, directions)
    fused = _fused(node, kind, names, directions, reverse=direction == "reverse")
    unrolled = partial(_unrolled, kind=kind, rules=rules, backwards=(direction == "reverse", True)[:directions])

    def layer(
        x: Tensor,
        w: Tensor,
        r: Tensor,
        b: Tensor | None = None,
        lengths: Tensor | None = None,
        hidden: Tensor | None = None,
        cell: Tensor | None = None,
        peepholes: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        x = x.transpose(0, 1) if batch_first else x
        given = [state.transpose(0, 1) if batch_first and state is not None else state for state in (hidden, cell)]
        zeros = x.new_zeros(directions, x.shape[1], r.shape[-1])
        states = [zeros if state is None else state for state in given[: kind.states]]
        b = x.new_zeros(directions, 2 * w.shape[1]) if b is None else b
        if lengths is not None and bool((lengths == x.shape[0]).all()):
            lengths = None
        if fused and lengths is None and peepholes is None:
            y, last = fused(x, w, r, b, states)
        else:
            y, last = unrolled(x, w, r, b, states, lengths=lengths, peepholes=peepholes)
        return (y.permute(2, 0, 1, 3), *(state.transpose(0, 1) for state in last)) if batch_first else (y, *last)

    return layer


def _rules(node: Node, names: Sequence[str], directions: int) -> list[Rules]:
    """The rules of each direction; values of alpha and beta go to the activations that take them, in order."""
    alphas, betas = iter(node.attribute("activation_alpha", ())), iter(node.attribute("activation_beta", ()))
    clip = node.attribute("clip")
    activations: list[Activation] = []
    each = len(names) // directions
    for index, name in enumerate(names):
        if name not in ACTIVATIONS:
            raise node.refuse(f"an activation called {name!r}")
        function, defaults = ACTIVATIONS[name]
        values = [next(source, default) for source, default in zip((alphas, betas), defaults, strict=False)]
        bounds = clip if index % each < GATED else None
        activations.append(_activation(function, values, bounds))
    return [
        Rules(
            activations[each * index : each * (index + 1)],
            bool(node.attribute("linear_before_reset", 0)),
            bool(node.attribute("input_forget", 0)),
        )
        for index in range(directions)
    ]


def _activation(function: Callable[..., Tensor], values: Sequence[float], clip: float | None) -> Activation:
    if clip is None:
        return lambda x: function(x, *values)
    return lambda x: function(x.clamp(-clip, clip), *values)


def _fused(node: Node, kind: Kind, names: Sequence[str], directions: int, *, reverse: bool) -> Compute | None:
    """Torch's kernel, where it computes exactly this."""
    each = tuple(names[: len(names) // directions])
    kernel = kind.fused.get(each) if each * directions == tuple(names) else None
    if kernel is None or node.attribute("clip") or node.attribute("input_forget", 0):
        return None
    if kind is GRU and not node.attribute("linear_before_reset", 0):
        return None

    def run(x: Tensor, w: Tensor, r: Tensor, b: Tensor, states: Sequence[Tensor]) -> tuple[Tensor, State]:
        each = zip(w.unbind(), r.unbind(), b.unbind(), strict=True)
        weights = [part for own in each for part in _torch_weights(kind, *own)]
        start = tuple(states) if len(states) > 1 else states[0]
        x = x.flip(0) if reverse else x
        y, *last = kernel(x, start, weights, True, 1, 0.0, torch.is_grad_enabled(), directions == 2, False)  # noqa: FBT003
        y = y.flip(0) if reverse else y
        return y.reshape(*y.shape[:2], directions, -1).transpose(1, 2), tuple(last)

    return run


def _torch_weights(kind: Kind, w: Tensor, r: Tensor, b: Tensor) -> list[Tensor]:
    """Weights and biases with their gates in torch's order."""
    if kind.gates == 1:
        return [w, r, *b.chunk(2)]
    return [
        torch.cat([gate for first, last in kind.order for gate in part.chunk(kind.gates)[first:last]])
        for part in (w, r, *b.chunk(2))
    ]


def _unrolled(
    x: Tensor,
    w: Tensor,
    r: Tensor,
    b: Tensor,
    states: Sequence[Tensor],
    *,
    lengths: Tensor | None,
    peepholes: Tensor | None,
    kind: Kind,
    rules: Sequence[Rules],
    backwards: Sequence[bool],
) -> tuple[Tensor, State]:
    """Step by step; beyond its length a sequence gives zeros and keeps its state."""
    active = None
    if lengths is not None:
        active = (torch.arange(x.shape[0])[:, None] < lengths[None, :])[..., None].to(x.device)
    results = []
    for index, backward in enumerate(backwards):
        of_input, of_state = b[index].chunk(2)
        weights = Weights(r[index], of_state, None if peepholes is None else peepholes[index])
        advance = partial(kind.advance, weights, rules[index])
        projected, start = F.linear(x, w[index], of_input), tuple(state[index] for state in states)
        results.append(_run(projected, start, advance, active, backward=backward))
    last = tuple(torch.stack(parts) for parts in zip(*(final for _, final in results), strict=True))
    return torch.stack([y for y, _ in results], dim=1), last


def _run(
    x: Tensor, state: State, advance: Callable[[Tensor, State], State], active: Tensor | None, *, backward: bool
) -> tuple[Tensor, State]:
    """One direction over projected inputs (time, batch, gates · hidden)."""
    outputs: list[Tensor] = []
    order = range(x.shape[0])
    for time in reversed(order) if backward else order:
        following = advance(x[time], state)
        shown = following[0]
        if active is not None:
            following = tuple(torch.where(active[time], new, old) for new, old in zip(following, state, strict=True))
            shown = torch.where(active[time], shown, 0.0)
        state = following
        outputs.append(shown)
    return torch.stack(outputs[::-1] if backward else outputs), state
