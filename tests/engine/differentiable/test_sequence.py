"""Sequences and optionals pass tensors on as ONNX Runtime does, with their gradients."""

import numpy as np
import onnx
import torch

from engine.differentiable import DifferentiableGraph
from tests.engine.differentiable.test_graph import ours, theirs

HEAD = '<ir_version: 8, opset_import: ["" : 17]>'
X = np.arange(12, dtype=np.float32).reshape(4, 3)


def model(body: str, outputs: str) -> onnx.ModelProto:
    return onnx.parser.parse_model(f"{HEAD} net (float[4, 3] x) => ({outputs}) {{ {body} }}")


def check(body: str, outputs: str = "float[N, M] y") -> None:
    one = model(body, outputs)
    for mine, their in zip(ours(DifferentiableGraph(one), {"x": X}), theirs(one, {"x": X}), strict=True):
        assert np.array_equal(mine, their)


INDICES = "first = Constant <value = int64 {0}> ()  last = Constant <value = int64 {-1}> ()"
ROWS = f"{INDICES} s = SplitToSequence <axis = 0> (x)"


def test_a_sequence_is_split_changed_and_joined_again() -> None:
    check(f"{ROWS} a = SequenceAt (s, last) t = SequenceInsert (s, a, first) y = ConcatFromSequence <axis = 0> (t)")
    check(f"{ROWS} t = SequenceErase (s, first) y = ConcatFromSequence <axis = 0> (t)")
    check(f"{ROWS} t = SequenceErase (s) n = SequenceLength (t) y = Unsqueeze (n, first)", "int64[N] y")
    check(f"{ROWS} a = SequenceAt (s, first) t = SequenceInsert (s, a) y = ConcatFromSequence <axis = 0> (t)")
    check("e = SequenceEmpty () t = SequenceInsert (e, x) y = ConcatFromSequence <axis = 0, new_axis = 1> (t)",
          "float[N, M, K] y")  # fmt: skip


def test_pieces_have_the_sizes_that_are_asked_for() -> None:
    check(f"{INDICES} n = Constant <value = int64 {{3}}> () s = SplitToSequence <axis = 0> (x, n)"
          "y = SequenceAt (s, last)")  # fmt: skip
    check(f"{INDICES} n = Constant <value = int64[2] {{1, 3}}> () s = SplitToSequence <axis = 0> (x, n)"
          "y = SequenceAt (s, last)")  # fmt: skip
    check(f"{INDICES} s = SplitToSequence <axis = 0, keepdims = 0> (x) y = SequenceAt (s, last)", "float[N] y")


def test_gradients_go_through_a_sequence() -> None:
    graph = DifferentiableGraph(model(f"{ROWS} a = SequenceAt (s, last) y = Mul (a, a)", "float[N, M] y"))
    x = torch.from_numpy(X).requires_grad_()
    graph({"x": x})["y"].sum().backward()
    assert torch.equal(x.grad[-1], 2 * x[-1])
    assert not x.grad[:-1].any()


def test_a_body_is_run_on_each_tensor_of_a_sequence() -> None:
    one = model(f"{ROWS} t = SequenceMap (s) <body = b (float[N, M] v) => (float[N, M] u) {{ u = Add (v, v) }}>"
                "y = ConcatFromSequence <axis = 0> (t)", "float[N, M] y")  # fmt: skip
    assert np.array_equal(ours(DifferentiableGraph(one), {"x": X})[0], 2 * X)


def test_an_optional_holds_a_value_or_none() -> None:
    one = model("o = Optional (x) h = OptionalHasElement (o) y = OptionalGetElement (o)", "float[N, M] y, bool h")
    y, has = ours(DifferentiableGraph(one), {"x": X})
    assert np.array_equal(y, X)
    assert has
