"""Attention in every spelling: whole heads leave, with the queries, keys and values that are theirs."""

import numpy as np
import onnx
import pytest

from benchmarks.zoo.specimen import made
from engine.prune.groups import followed, groups
from tests.engine.prune.test_surgery import MOST_DIFFERENCE, difference_when_halved

WEIGHTS = {"wq": (32, 64), "wk": (32, 64), "wv": (32, 64), "wo": (64, 32)}
SHARED = {"wq": (32, 64), "wk": (32, 32), "wv": (32, 32), "wo": (64, 32)}  #: two heads of keys for four of queries
MADE = "q = MatMul (x, wq) k = MatMul (x, wk) v = MatMul (x, wv)"


def model(body: str, weights: dict, opset: int = 23, *, time: int | str = 6, inputs: str = "") -> onnx.ModelProto:
    """Queries, keys and values of one input, what `body` makes `c` of, and a product behind it."""
    opsets = f'["" : {opset}, "com.microsoft" : 1]'
    return made(
        f"""<ir_version: 10, opset_import: {opsets}> g (float[N,{time},32] x{inputs}) => (float[N,{time},32] y) {{
        {MADE} {body} y = MatMul (c, wo) }}""",
        weights,
    )


def apart(name: str, shape: str) -> str:
    """(batch, time, heads · size) → (batch, heads, time, size)"""
    return f"{name}s = Reshape ({name}, {shape}) {name}h = Transpose<perm=[0,2,1,3]> ({name}s)"


TOGETHER = "t = Transpose<perm=[0,2,1,3]> (ch) c = Reshape (t, flat)"
SHAPES = {"four": np.array([0, 0, 4, 16]), "two": np.array([0, 0, 2, 16]), "flat": np.array([0, 0, 64])}
REPEATED = " ".join(
    f"{name}u = Unsqueeze ({name}h, axis) {name}e = Expand ({name}u, {{shape}}) {name}r = Reshape ({name}e, all)"
    for name in "kv"
)
MET = "kt = Transpose<perm=[0,1,3,2]> (kr) m = MatMul (qh, kt) p = Softmax<axis=-1> (m) ch = MatMul (p, vr)"
TOLD = """n = Shape<start=0,end=1> (x) l = Shape<start=1,end=2> (x) shape = Concat<axis=0> (n, twice, l, size)
all = Concat<axis=0> (n, heads, l, size)"""
BY_EXPAND = f"{apart('q', 'four')} {apart('k', 'two')} {apart('v', 'two')}"
NUMBERS = {"axis": np.array([2]), "twice": np.array([2, 2]), "size": np.array([16]), "heads": np.array([4])}

SPELLINGS: dict[str, tuple[onnx.ModelProto, list[int]]] = {
    "one operator": (model("c = Attention<q_num_heads=4,kv_num_heads=4> (q, k, v)", WEIGHTS), [4]),
    "heads of keys are shared": (model("c = Attention<q_num_heads=4,kv_num_heads=2> (q, k, v)", SHARED), [2]),
    "all share one head of keys": (
        model("c = Attention<q_num_heads=4,kv_num_heads=1> (q, k, v)", WEIGHTS | {"wk": (32, 16), "wv": (32, 16)}),
        [4],
    ),
    "values of another width": (
        model("c = Attention<q_num_heads=4,kv_num_heads=4> (q, k, v)", WEIGHTS | {"wv": (32, 32), "wo": (32, 32)}),
        [4],
    ),
    "a mask for each head": (
        model("c = Attention<q_num_heads=4,kv_num_heads=2,is_causal=1> (q, k, v, m)", SHARED | {"m": (1, 4, 6, 6)}),
        [2],
    ),
    "one mask for all": (
        model("c = Attention<q_num_heads=4,kv_num_heads=4> (q, k, v, m)", WEIGHTS | {"m": (6, 6)}),
        [4],
    ),
    "heads along an axis of their own": (
        model(
            f"{apart('q', 'four')} {apart('k', 'two')} {apart('v', 'two')} ch = Attention (qh, kh, vh) {TOGETHER}",
            SHARED | SHAPES,
        ),
        [2],
    ),
    "heads of keys repeated": (
        model(
            f"{BY_EXPAND} {REPEATED.format(shape='shape')} {MET} {TOGETHER}",
            SHARED | SHAPES | NUMBERS | {"shape": np.array([1, 2, 2, 6, 16]), "all": np.array([-1, 4, 6, 16])},
            17,
        ),
        [2],
    ),
    "heads of keys repeated to a length that is computed": (
        model(
            f"{TOLD} {BY_EXPAND} {REPEATED.format(shape='shape')} {MET} {TOGETHER}",
            SHARED | SHAPES | NUMBERS,
            17,
            time="T",
        ),
        [2],
    ),
    "heads of keys repeated as torch spells it": (
        model(
            f"{TOLD} open = Equal (shape, least) full = Where (open, ones, shape) size_of = Abs (full) {BY_EXPAND} "
            f"{REPEATED.format(shape='size_of')} {MET} {TOGETHER}",
            SHARED | SHAPES | NUMBERS | {"ones": np.ones(5, np.int64), "least": np.full(5, -1)},
            17,
            time="T",
        ),
        [2],
    ),
    "ONNX Runtime's own": (
        model("c = com.microsoft.MultiHeadAttention<num_heads=4> (q, k, v, b)", WEIGHTS | {"b": (192,)}, 17),
        [4],
    ),
    "ONNX Runtime's own with its projection": (
        made(
            """<ir_version: 10, opset_import: ["" : 17, "com.microsoft" : 1]> g (float[N,6,32] x) => (float[N,6,32] y) {
            i = MatMul (x, wi) j = Relu (i) c = com.microsoft.Attention<num_heads=4> (j, w, b) y = MatMul (c, wo) }""",
            {"wi": (32, 24), "w": (24, 192), "b": (192,), "wo": (64, 32)},
        ),
        [4, 24],
    ),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_heads_leave(spelling: str) -> None:
    graph, sizes = SPELLINGS[spelling]
    assert sorted(map(len, groups(followed(graph)))) == sizes
    difference, left = difference_when_halved(graph)
    assert difference < MOST_DIFFERENCE
    assert left < 0.65
