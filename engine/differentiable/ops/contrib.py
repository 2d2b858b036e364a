"""Operators of ONNX Runtime's own domain that its optimizer writes: fused layers, normalizations, attention.

FusedConv, FusedMatMul, FusedGemm            a product, then an activation
BiasGelu, FastGelu, QuickGelu                activations of transformers; FastGelu is the one with tanh
Skip…LayerNormalization                      normalize(x + skip + bias); the fourth output is that sum
Attention, MultiHeadAttention                softmax(Q Kᵀ · scale + bias) V over packed heads
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F  # noqa: N812 - its name everywhere
from torch import Tensor

from engine.differentiable.ops.attention import heads, rotated
from engine.differentiable.ops.convolution import convolved
from engine.differentiable.ops.normalization import layer_normalized, rms_normalized
from engine.differentiable.ops.recurrent import ACTIVATIONS
from engine.differentiable.ops.window import Window
from engine.differentiable.registry import Compute, Node, operator, pointwise

MICROSOFT = "com.microsoft"

fast_gelu = partial(F.gelu, approximate="tanh")

pointwise(
    {
        "Gelu": F.gelu,
        "BiasGelu": lambda x, bias: F.gelu(x + bias),
        "FastGelu": lambda x, bias=None: fast_gelu(x if bias is None else x + bias),
        "BiasAdd": lambda x, bias, skip: x + bias + skip,
    },
    domain=MICROSOFT,
)


@operator("QuickGelu", domain=MICROSOFT)
def quick_gelu(node: Node) -> Compute:
    alpha = node.attribute("alpha", 1.702)
    return lambda x: x * torch.sigmoid(alpha * x)


def _activation(node: Node, values: Sequence[float]) -> Callable[[Tensor], Tensor]:
    """The activation that a fused node ends with."""
    name = node.attribute("activation", "").lower()
    if not name:
        return lambda x: x
    if name == "clip":
        return lambda x: x.clamp(*values)
    if name not in ACTIVATIONS:
        raise node.refuse(f"an activation called {name!r}")
    function, defaults = ACTIVATIONS[name]
    chosen = list(values[: len(defaults)]) or defaults
    return lambda x: function(x, *chosen)


@operator("FusedConv", domain=MICROSOFT)
def fused_conv(node: Node) -> Compute:
    window, group = Window.of(node), node.attribute("group", 1)
    activation = _activation(node, node.attribute("activation_params", ()))

    def convolve(x: Tensor, weight: Tensor, bias: Tensor | None = None, summand: Tensor | None = None) -> Tensor:
        y = convolved(x, weight, bias, window, group)
        return activation(y if summand is None else y + summand)

    return convolve


@operator("FusedMatMul", "TransposeMatMul", domain=MICROSOFT)
def fused_matmul(node: Node) -> Compute:
    first = (node.attribute("transA", 0), node.attribute("transBatchA", 0))
    second = (node.attribute("transB", 0), node.attribute("transBatchB", 0))
    alpha = node.attribute("alpha", 1.0)

    def multiply(a: Tensor, b: Tensor) -> Tensor:
        y = _turned(a, *first) @ _turned(b, *second)
        return y if alpha == 1 else y * alpha

    return multiply


def _turned(x: Tensor, matrix: int, batch: int) -> Tensor:
    """Transposed; `batch`: the first axis is moved behind those of the batch first."""
    if batch and x.dim() > 2:
        x = x.movedim(0, -2)
    return x.transpose(-1, -2) if matrix and x.dim() > 1 else x


@operator("FusedGemm", domain=MICROSOFT)
def fused_gemm(node: Node) -> Compute:
    turn_a, turn_b = node.attribute("transA", 0), node.attribute("transB", 0)
    alpha, beta = node.attribute("alpha", 1.0), node.attribute("beta", 1.0)
    given = [node.attribute(f"activation_{name}") for name in ("alpha", "beta", "gamma")]
    activation = _activation(node, [value for value in given if value is not None])

    def multiply(a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
        y = alpha * (_turned(a, turn_a, 0) @ _turned(b, turn_b, 0))
        return activation(y if c is None else y + beta * c)

    return multiply


@operator("SimplifiedLayerNormalization")
def simplified_layer_normalization(node: Node) -> Compute:
    axis, epsilon = node.attribute("axis", -1), node.attribute("epsilon", 1e-5)
    return lambda x, scale: rms_normalized(x, scale, axis, epsilon)


@operator("SkipLayerNormalization", domain=MICROSOFT)
def skip_layer_normalization(node: Node) -> Compute:
    epsilon = node.attribute("epsilon", 1e-12)

    def normalize(
        x: Tensor, skip: Tensor, scale: Tensor, shift: Tensor | None = None, bias: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        total = x + skip if bias is None else x + skip + bias
        return *layer_normalized(total, scale, shift, -1, epsilon), total

    return normalize


@operator("SkipSimplifiedLayerNormalization", domain=MICROSOFT)
def skip_simplified_layer_normalization(node: Node) -> Compute:
    epsilon = node.attribute("epsilon", 1e-12)

    def normalize(
        x: Tensor, skip: Tensor, scale: Tensor, bias: Tensor | None = None
    ) -> tuple[Tensor, None, None, Tensor]:
        total = x + skip if bias is None else x + skip + bias
        return rms_normalized(total, scale, -1, epsilon), None, None, total

    return normalize


@operator("EmbedLayerNormalization", domain=MICROSOFT)
def embed_layer_normalization(node: Node) -> Compute:
    epsilon = node.attribute("epsilon", 1e-12)

    def embed(
        tokens: Tensor,
        segments: Tensor | None,
        words: Tensor,
        positions: Tensor,
        parts: Tensor | None,
        scale: Tensor,
        shift: Tensor,
        mask: Tensor | None = None,
        places: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """All numbers are (batch, sequence); the second output counts what the mask lets through."""
        total = F.embedding(tokens, words)
        total = total + (positions[: tokens.shape[1]] if places is None else F.embedding(places, positions))
        if segments is not None and parts is not None:
            total = total + F.embedding(segments, parts)
        counts = tokens.new_zeros(tokens.shape[0]) if mask is None else mask.sum(dim=1)
        return layer_normalized(total, scale, shift, -1, epsilon)[0], counts.to(torch.int32), total

    return embed


@operator("RotaryEmbedding", domain=MICROSOFT)
def rotary_embedding(node: Node) -> Compute:
    count, size = node.attribute("num_heads", 0), node.attribute("rotary_embedding_dim", 0)
    interleaved = bool(node.attribute("interleaved", 0))
    if node.attribute("is_packed_batching", 0):
        raise node.refuse("packed batches")

    def rotate(x: Tensor, places: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
        """One place is that of the first token; else there is one for each."""
        packed = x.dim() == 3
        by_heads = heads(x, count or x.shape[2] // (2 * cosines.shape[1])) if packed else x
        if places.numel() == 1:
            places = places.reshape(1, 1) + torch.arange(by_heads.shape[2], device=x.device)
        y = rotated(by_heads, cosines[places][:, None], sines[places][:, None], size, interleaved=interleaved)
        return y.transpose(1, 2).flatten(2) if packed else y

    return rotate


@operator("MultiHeadAttention", domain=MICROSOFT)
def multi_head_attention(node: Node) -> Compute:
    count, scale = node.attribute("num_heads"), node.attribute("scale", 0.0) or None
    causal, filler = bool(node.attribute("unidirectional", 0)), node.attribute("mask_filter_value", -10000.0)
    if any(node.has(index) for index in (6, 7, 8, 9)):
        raise node.refuse("a cache of earlier keys and values")

    def attend(
        query: Tensor,
        key: Tensor,
        value: Tensor,
        bias: Tensor | None = None,
        mask: Tensor | None = None,
        summand: Tensor | None = None,
    ) -> Tensor:
        if query.dim() != 3 or key is None or key.dim() != 3:
            raise NotImplementedError("queries, keys and values in one tensor")
        if bias is not None:
            of_query, of_key, of_value = bias.split([query.shape[2], key.shape[2], value.shape[2]])
            query, key, value = query + of_query, key + of_key, value + of_value
        q, k, v = (heads(part, count) for part in (query, key, value))
        scores = _scores_bias(q, k, mask, summand, filler, causal=causal)
        return F.scaled_dot_product_attention(q, k, v, scores, scale=scale).transpose(1, 2).flatten(2)

    return attend


def _scores_bias(
    q: Tensor, k: Tensor, mask: Tensor | None, summand: Tensor | None, filler: float, *, causal: bool
) -> Tensor | None:
    """What is added to the scores; the mask is (batch), (batch, keys) or (batch, queries, keys), nonzero to be seen."""
    total = summand
    keys = torch.arange(k.shape[2], device=q.device)
    if mask is not None:
        seen = keys < mask[:, None] if mask.dim() == 1 else mask != 0
        seen = seen[:, None, None] if seen.dim() == 2 else seen[:, None]
        hidden = (~seen).to(q.dtype) * filler
        total = hidden if total is None else total + hidden
    if causal:
        ahead = keys > keys[: q.shape[2], None] + k.shape[2] - q.shape[2]
        later = torch.zeros_like(ahead, dtype=q.dtype).masked_fill(ahead, filler)
        total = later if total is None else total + later
    return total


@operator("Attention", domain=MICROSOFT)
def attention(node: Node) -> Compute:
    count, scale = node.attribute("num_heads"), node.attribute("scale", 0.0) or None
    causal, filler = bool(node.attribute("unidirectional", 0)), node.attribute("mask_filter_value", -10000.0)
    sizes = list(node.attribute("qkv_hidden_sizes", ()))
    if node.has(4) or node.has(6) or node.attribute("do_rotary", 0) or len([n for n in node.outputs if n]) > 1:
        raise node.refuse("a cache of earlier keys and values, or rotary positions inside")

    def attend(
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        mask: Tensor | None = None,
        _past: None = None,
        summand: Tensor | None = None,
    ) -> Tensor:
        projected = x @ weight if bias is None else x @ weight + bias
        parts = projected.split(sizes or projected.shape[2] // 3, dim=2)
        q, k, v = (heads(part, count) for part in parts)
        if mask is not None and mask.dim() not in (2, 3):
            mask = mask[: x.shape[0]] if mask.dim() == 1 else mask[:, 0]
        scores = _scores_bias(q, k, mask, summand, filler, causal=causal)
        return F.scaled_dot_product_attention(q, k, v, scores, scale=scale).transpose(1, 2).flatten(2)

    return attend
