"""Attention gives what ONNX Runtime gives, and gradients that are finite differences."""

import numpy as np
import pytest
import torch

from engine.differentiable import DifferentiableGraph
from tests.engine.differentiable.nodes import OneNode, floats

SEEN = np.array([[True, False, True, True], [True, True, False, True], [False, True, True, True]])
Q, K, V = floats(1, 4, 3, 4), floats(1, 4, 4, 4, seed=1), floats(1, 4, 4, 2, seed=2)
ATTENTIONS = {
    "plain": OneNode("Attention", Q, K, V, opset=23),
    "causal": OneNode("Attention", Q, K[:, :, :3], V[:, :, :3], opset=23, is_causal=1),
    "masked": OneNode("Attention", Q, K, V, SEEN, opset=23, scale=0.4),
    "with what is added to the scores": OneNode("Attention", Q, K, V, floats(1, 1, 3, 4), opset=23),
    "softly capped": OneNode("Attention", Q, K, V, opset=23, softcap=1.5),
    "heads that share keys": OneNode("Attention", Q, K[:, :2], V[:, :2], opset=23),
    "heads side by side": OneNode(
        "Attention", floats(2, 3, 8), floats(2, 4, 8), floats(2, 4, 8), opset=23, q_num_heads=4, kv_num_heads=4
    ),
    "with a past": OneNode(
        "Attention", Q, K[:, :, :1], V[:, :, :1], None, K[:, :, 1:], V[:, :, 1:], outputs=3, opset=23
    ),
}
TURNED = {
    "by halves": OneNode("RotaryEmbedding", floats(2, 3, 4, 8), floats(2, 4, 4), floats(2, 4, 4, seed=1), opset=23),
    "by pairs": OneNode(
        "RotaryEmbedding", floats(2, 4, 16), floats(9, 4), floats(9, 4, seed=1), np.int64([[0, 1, 2, 3], [5, 6, 7, 8]]),
        opset=23, interleaved=1, num_heads=2,
    ),
    "in part": OneNode(
        "RotaryEmbedding", floats(1, 3, 4, 8), floats(1, 4, 2), floats(1, 4, 2, seed=1), opset=23,
        rotary_embedding_dim=4,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", ATTENTIONS.values(), ids=ATTENTIONS)
def test_attention_gives_what_onnx_runtime_gives_and_right_gradients(case: OneNode) -> None:
    case.check()


@pytest.mark.parametrize("case", TURNED.values(), ids=TURNED)
def test_positions_turn_pairs_as_onnx_runtime_turns_them(case: OneNode) -> None:
    case.check()


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [("bij,bjk->bik", ((2, 3, 4), (2, 4, 2))), ("...ii->...i", ((2, 3, 3),)), ("ij, kj", ((2, 3), (4, 3)))],
)
def test_sums_over_named_axes(equation: str, shapes: tuple[tuple[int, ...], ...]) -> None:
    OneNode("Einsum", *[floats(*shape) for shape in shapes], equation=equation).check()


def test_a_query_that_sees_no_key_gives_zeros_and_no_gradient() -> None:
    mask = torch.tensor([[True, True], [False, False]])
    graph = DifferentiableGraph(OneNode("Attention", *[floats(1, 1, 2, 3)] * 3, mask.numpy(), opset=23).model())
    q, k, v = (torch.rand(1, 1, 2, 3, requires_grad=True) for _ in range(3))
    y = graph({"i0": q, "i1": k, "i2": v, "i3": mask})["o0"]
    y.sum().backward()
    assert torch.equal(y[0, 0, 1], torch.zeros(3))
    assert all(bool(torch.isfinite(value.grad).all()) for value in (q, k, v))


def test_linear_attention_is_the_same_token_by_token() -> None:
    rules = {"opset": 27, "q_num_heads": 2, "kv_num_heads": 2, "outputs": 2}
    q, k, v, fade = (floats(1, 4, 4, seed=seed) * 0.5 for seed in range(4))
    rate = np.abs(floats(1, 4, 2))
    whole, end = OneNode("LinearAttention", q, k, v, None, -abs(fade), rate, **rules).ours()
    state, parts = None, []
    for token in range(4):
        step = [part[:, token : token + 1] for part in (q, k, v, -abs(fade), rate)]
        y, state = OneNode("LinearAttention", *step[:3], state, *step[3:], **rules).ours()
        parts.append(y)
    np.testing.assert_allclose(np.concatenate(parts, axis=1), whole, atol=1e-6)
    np.testing.assert_allclose(state, end, atol=1e-6)
