"""Attention, rotary positions, sums over named axes, and linear attention.

    Attention           Y = softmax(softcap(Q Kᵀ · scale) + mask) V            (Vaswani et al. 2017)
    RotaryEmbedding     pairs of a head's elements turned by angles of the position (Su et al. 2021)
    LinearAttention     S' = exp(g)·S + β·k ⊗ (v − exp(g)·Sᵀk);  o = scale · qᵀS'   (Yang et al. 2024; parts by rule)

Q is (batch, heads, queries, head size), or (batch, queries, heads · head size); K and V may have fewer heads, each of
which serves several of Q's. Row i of the queries is position `offset + i`: behind the keys of the past. A query that
may see no key gives zeros.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - its name everywhere
from torch import Tensor

from engine.differentiable.elements import dtype_of
from engine.differentiable.registry import Compute, Node, operator


@operator("Einsum")
def einsum(node: Node) -> Compute:
    equation = node.attribute("equation").replace(" ", "")
    return lambda *operands: torch.einsum(equation, *operands)


@dataclass(frozen=True)
class Rules:
    """What an Attention node says."""

    query_heads: int
    key_heads: int
    scale: float | None
    softcap: float
    causal: bool
    left: int  #: how many earlier keys a query sees; −1 for all
    right: int
    precision: torch.dtype | None  #: of the softmax
    shows: int  #: scores of the fourth output: 0 raw, 1 capped, 2 masked, 3 probabilities

    @classmethod
    def of(cls, node: Node) -> "Rules":
        return cls(
            query_heads=node.attribute("q_num_heads", 0),
            key_heads=node.attribute("kv_num_heads", 0),
            scale=node.attribute("scale"),
            softcap=node.attribute("softcap", 0.0),
            causal=bool(node.attribute("is_causal", 0)),
            left=node.attribute("left_window_size", -1),
            right=node.attribute("right_window_size", -1),
            precision=dtype_of(node.attribute("softmax_precision", 0)),
            shows=node.attribute("qk_matmul_output_mode", 0),
        )


@operator("Attention")
def attention(node: Node) -> Compute:
    rules = Rules.of(node)
    shows_scores = len(node.outputs) > 3 and bool(node.outputs[3])

    def attend(
        q: Tensor,
        k: Tensor,
        v: Tensor,
        mask: Tensor | None = None,
        past_key: Tensor | None = None,
        past_value: Tensor | None = None,
        valid: Tensor | None = None,
    ) -> tuple[Tensor | None, ...]:
        packed = q.dim() == 3
        if packed:
            q, k, v = heads(q, rules.query_heads), heads(k, rules.key_heads), heads(v, rules.key_heads)
        past = 0 if past_key is None else past_key.shape[2]
        k = k if past_key is None else torch.cat([past_key, k], dim=2)
        v = v if past_value is None else torch.cat([past_value, v], dim=2)
        offset = past if valid is None else (valid.reshape(-1, 1, 1, 1) - q.shape[2])
        bias = _bias(mask, _allowed(q, k, rules, offset, valid), k.shape[2])
        explicit = shows_scores or _is_odd(rules, q)
        y, scores = _explicit(q, k, v, bias, rules) if explicit else (_fused(q, k, v, bias, rules), None)
        y = y.transpose(1, 2).flatten(2) if packed else y
        return y, k, v, scores

    return attend


def heads(x: Tensor, count: int) -> Tensor:
    """From (batch, sequence, heads · size) to (batch, heads, sequence, size)."""
    return x.unflatten(2, (count, -1)).transpose(1, 2)


def _allowed(q: Tensor, k: Tensor, rules: Rules, offset: int | Tensor, valid: Tensor | None) -> Tensor | None:
    """Which keys a query may see by position; None for all."""
    keys = torch.arange(k.shape[2], device=q.device)
    ahead = keys - torch.arange(q.shape[2], device=q.device)[:, None] - offset
    limits = [ahead <= 0] if rules.causal else []
    if rules.left >= 0:
        limits.append(ahead >= -rules.left)
    if rules.right >= 0:
        limits.append(ahead <= rules.right)
    if valid is not None:
        limits.append(keys < valid.reshape(-1, 1, 1, 1))
    allowed = None
    for limit in limits:
        allowed = limit if allowed is None else allowed & limit
    return allowed


def _bias(mask: Tensor | None, allowed: Tensor | None, keys: int) -> Tensor | None:
    """Mask and positions in one: of bool (may be seen) or of floats (added to the scores)."""
    if mask is None:
        return allowed
    if mask.shape[-1] < keys:
        mask = F.pad(mask, (0, keys - mask.shape[-1]), value=0 if mask.dtype == torch.bool else -math.inf)
    if allowed is None:
        return mask
    return mask & allowed if mask.dtype == torch.bool else torch.where(allowed, mask, -math.inf)


def _is_odd(rules: Rules, q: Tensor) -> bool:
    """Torch's fused attention does not do this."""
    return bool(rules.softcap) or (rules.precision is not None and rules.precision != q.dtype)


def _fused(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, rules: Rules) -> Tensor:
    grouped = q.shape[1] != k.shape[1]
    if bias is not None and bias.dim() < 2:
        bias = bias.expand(q.shape[2], k.shape[2])
    return F.scaled_dot_product_attention(q, k, v, bias, scale=rules.scale, enable_gqa=grouped)


def _explicit(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, rules: Rules) -> tuple[Tensor, Tensor]:
    """The output, and the scores that the node shows."""
    shared = q.shape[1] // k.shape[1]
    k, v = (k, v) if shared == 1 else (k.repeat_interleave(shared, 1), v.repeat_interleave(shared, 1))
    root = math.sqrt(1 / math.sqrt(q.shape[3]) if rules.scale is None else rules.scale)
    raw = (q * root) @ (k * root).transpose(2, 3)
    capped = rules.softcap * torch.tanh(raw / rules.softcap) if rules.softcap else raw
    masked, blind = _masked(capped, bias)
    probabilities = torch.softmax(masked, dim=-1, dtype=rules.precision)
    if blind is not None:
        probabilities = torch.where(blind, 0.0, probabilities)
    probabilities = probabilities.to(q.dtype)
    return probabilities @ v, (raw, capped, masked, probabilities)[rules.shows]


def _masked(scores: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Scores with the bias, and the rows that see no key."""
    if bias is None:
        return scores, None
    if bias.dtype == torch.bool:
        return torch.where(bias, scores, -math.inf), ~bias.any(-1, keepdim=True)
    return scores + bias, (bias == -math.inf).all(-1, keepdim=True)


@operator("RotaryEmbedding")
def rotary_embedding(node: Node) -> Compute:
    count, interleaved = node.attribute("num_heads", 0), bool(node.attribute("interleaved", 0))
    turned_size = node.attribute("rotary_embedding_dim", 0)

    def rotate(x: Tensor, cosines: Tensor, sines: Tensor, positions: Tensor | None = None) -> Tensor:
        if positions is not None:
            cosines, sines = cosines[positions], sines[positions]
        by_heads = heads(x, count) if x.dim() == 3 else x
        y = rotated(by_heads, cosines[:, None], sines[:, None], turned_size, interleaved=interleaved)
        return y.transpose(1, 2).flatten(2) if x.dim() == 3 else y

    return rotate


def rotated(x: Tensor, cosines: Tensor, sines: Tensor, turned_size: int, *, interleaved: bool) -> Tensor:
    """The first `turned_size` elements (0: all) of each head turned in pairs; x is (…, sequence, head size)."""
    turned, still = x.split([turned_size or x.shape[-1], x.shape[-1] - (turned_size or x.shape[-1])], dim=-1)
    if interleaved:
        first, second = turned[..., 0::2], turned[..., 1::2]
    else:
        first, second = turned.chunk(2, dim=-1)
    real, imaginary = cosines * first - sines * second, sines * first + cosines * second
    turned = torch.stack([real, imaginary], -1).flatten(-2) if interleaved else torch.cat([real, imaginary], -1)
    return torch.cat([turned, still], dim=-1)


@operator("LinearAttention")
def linear_attention(node: Node) -> Compute:
    query_heads, key_heads = node.attribute("q_num_heads"), node.attribute("kv_num_heads")
    corrects = "delta" in node.attribute("update_rule", "gated_delta")
    scale = node.attribute("scale", 0.0)

    def attend(
        query: Tensor,
        key: Tensor,
        value: Tensor,
        past: Tensor | None = None,
        decay: Tensor | None = None,
        rate: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        q = heads(query, query_heads).float()
        k, v = heads(key, key_heads).float(), heads(value, key_heads).float()
        fades = None if decay is None else heads(decay, key_heads).float().exp()
        rates = rate.transpose(1, 2)[..., None].float() if corrects and rate is not None else None
        state = k.new_zeros(*k.shape[:2], k.shape[3], v.shape[3]) if past is None else past.float()
        reads, state = _recurred(q * (scale or q.shape[3] ** -0.5), (k, v), fades, rates, state)
        return reads.transpose(1, 2).flatten(2).to(query.dtype), state.to(query.dtype if past is None else past.dtype)

    return attend


def _recurred(
    q: Tensor, written: tuple[Tensor, Tensor], fades: Tensor | None, rates: Tensor | None, state: Tensor
) -> tuple[Tensor, Tensor]:
    """Token after token: the state fades, is corrected, is written, is read."""
    reads = []
    for time in range(q.shape[2]):
        k, v = (part[:, :, time] for part in written)
        state = state if fades is None else state * fades[:, :, time, :, None]
        if rates is not None:
            v = rates[:, :, time] * (v - torch.einsum("bhdm,bhd->bhm", state, k))
        state = state + k[..., None] * v[..., None, :]
        shared = state.repeat_interleave(q.shape[1] // state.shape[1], dim=1)
        reads.append(torch.einsum("bhd,bhdm->bhm", q[:, :, time], shared))
    return torch.stack(reads, dim=2), state
