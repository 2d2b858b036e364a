"""Branches and loops: outputs are those of ONNX Runtime, and gradients reach the weights inside and outside of them."""

import numpy as np
import onnx
import pytest
import torch

from engine.differentiable import DifferentiableGraph
from engine.differentiable.elements import to_torch
from tests.engine.differentiable.test_graph import ours, theirs

HEAD = '<ir_version: 8, opset_import: ["" : 17]>'
X = np.linspace(-1, 1, 6, dtype=np.float32).reshape(3, 2)
WEIGHTS = "<float[2, 2] w = {0.5, 0.25, -1, 2}>"
IF = f"""{HEAD} net (float[N, 2] x, bool c) => (float[N, 2] y) {WEIGHTS} {{
    s = MatMul (x, w)
    y = If (c) <then_branch = a () => (float[N, 2] p) {{ p = Mul (s, s) }},
                else_branch = b () => (float[N, 2] q) {{ q = MatMul (s, w) }}>
}}"""
LOOP = f"""{HEAD} net (float[N, 2] x, int64 n) => (float[N, 2] y, float[K, N, 2] all) {WEIGHTS} {{
    go = Constant <value = bool {{1}}> ()
    y, all = Loop (n, go, x) <body = b (int64 i, bool c, float[N, 2] s) => (bool d, float[N, 2] t, float[N, 2] u) {{
        d = Identity (c)
        m = MatMul (s, w)
        f = Cast <to = 1> (i)
        t = Tanh (m)
        u = Add (t, f)
    }}>
}}"""
WHILE = f"""{HEAD} net (float[N, 2] x) => (float[N, 2] y) {WEIGHTS} {{
    go = Constant <value = bool {{1}}> ()
    limit = Constant <value = float {{9}}> ()
    y = Loop ("", go, x) <body = b (int64 i, bool c, float[N, 2] s) => (bool d, float[N, 2] t) {{
        m = MatMul (s, w)
        t = Add (m, s)
        z = ReduceMax <keepdims = 0> (t)
        d = Less (z, limit)
    }}>
}}"""
SCAN = f"""{HEAD} net (float[T, 2] x) => (float[2] last, float[T, 2] all) {WEIGHTS} {{
    start = Constant <value = float[2] {{0.5, -0.5}}> ()
    last, all = Scan <num_scan_inputs = 1, scan_input_directions = [1], scan_output_directions = [1],
                      body = b (float[2] h, float[2] v) => (float[2] k, float[2] o) {{
        m = MatMul (h, w)
        k0 = Add (m, v)
        k = Tanh (k0)
        o = Mul (k, v)
    }}> (start, x)
}}"""
NESTED = f"""{HEAD} net (float[N, 2] x, int64 n) => (float[N, 2] y) {WEIGHTS} {{
    go = Constant <value = bool {{1}}> ()
    two = Constant <value = int64 {{2}}> ()
    y = Loop (n, go, x) <body = b (int64 i, bool c, float[N, 2] s) => (bool d, float[N, 2] t) {{
        d = Identity (c)
        r = Mod (i, two)
        odd = Cast <to = 9> (r)
        t = If (odd) <then_branch = a () => (float[N, 2] p) {{ p = MatMul (s, w) }},
                      else_branch = e () => (float[N, 2] q) {{ q = Sub (s, x) }}>
    }}>
}}"""
CASES = {
    "If, true": (IF, {"x": X, "c": np.array(True)}),
    "If, false": (IF, {"x": X, "c": np.array(False)}),
    "Loop": (LOOP, {"x": X, "n": np.array(3)}),
    "Loop, until": (WHILE, {"x": np.abs(X)}),
    "Scan, backwards": (SCAN, {"x": X}),
    "If in Loop": (NESTED, {"x": X, "n": np.array(4)}),
}


@pytest.mark.parametrize(("text", "feeds"), CASES.values(), ids=CASES)
def test_graphs_inside_give_what_onnx_runtime_gives_and_right_gradients(
    text: str, feeds: dict[str, np.ndarray]
) -> None:
    model = onnx.parser.parse_model(text)
    graph = DifferentiableGraph(model)
    for mine, their in zip(ours(graph, feeds), theirs(model, feeds), strict=True):
        np.testing.assert_allclose(mine, their, rtol=1e-5, atol=1e-6)
    graph = graph.double()
    fed = {name: to_torch(value) for name, value in feeds.items()}
    weight = graph.weights()["w"]

    def run(x: torch.Tensor, _weight: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(graph({**fed, "x": x}).values())

    assert torch.autograd.gradcheck(run, [fed["x"].double().requires_grad_(), weight])


def test_a_loop_that_never_runs_gives_its_inputs_and_empty_outputs() -> None:
    model = onnx.parser.parse_model(LOOP)
    y, every = ours(DifferentiableGraph(model), {"x": X, "n": np.array(0)})
    assert np.array_equal(y, X)
    assert every.shape[0] == 0


def test_of_branches_whose_condition_is_known_only_the_one_taken_is_needed() -> None:
    model = onnx.parser.parse_model(f"""{HEAD} net (float[N, 2] x) => (float[N, 2] y) {{
        c = Constant <value = bool {{1}}> ()
        y = If (c) <then_branch = a () => (float[N, 2] p) {{ p = Neg (x) }},
                    else_branch = b () => (float[N, 2] q) {{ q = my.Magic (x) }}>
    }}""")
    assert np.array_equal(ours(DifferentiableGraph(model), {"x": X})[0], -X)
