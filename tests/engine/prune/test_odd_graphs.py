"""Graphs as other exporters write them: lengths that are computed, parts, rows that depend on the data, old shapes."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from benchmarks.zoo.specimen import made
from engine.data import synthetic_samples
from engine.graph import load, save
from engine.prune.groups import followed, groups
from engine.prune.surgery import without, zeroed
from engine.recipe import Distill, Importance, PruneChannels, Step
from engine.signature import Signature
from engine.steps import Skipped, Variant
from tests.engine.prune.running import outputs
from tests.engine.steps.outcome import run

HEAD = '<ir_version: 8, opset_import: ["" : 17]>'
BODY = "a = Conv <pads=[1,1,1,1]> (x, w1) r = Relu (a)"
W1, W2 = {"w1": (16, 3, 3, 3)}, {"w2": (5, 16, 1, 1)}

GRAPHS: dict[str, onnx.ModelProto] = {
    "a length is an output": made(
        f"{HEAD} g (float[N,3,8,8] x) => (float[N,5,8,8] y, int64[4] s) {{ {BODY} s = Shape (r) y = Conv (r, w2) }}",
        W1 | W2,
    ),
    "a length is computed with inside of an If": made(
        f"""{HEAD} g (float[N,3,8,8] x, bool c) => (float[N,5,8,8] y, float k) {{ {BODY} s = Shape (r)
        k = If (c) <then_branch = one () => (float q) {{
          i = Constant<value_int=1>() g1 = Gather (s, i) q = Cast<to=1> (g1) }},
          else_branch = two () => (float z) {{ z = Constant<value_float=0.0>() }}>
        y = Conv (r, w2) }}""",
        W1 | W2,
    ),
    "a length scales": made(
        f"""{HEAD} g (float[N,3,8,8] x) => (float[N,5,8,8] y) {{ {BODY} s = Shape (r) n, c, h, w = Split<axis=0> (s)
        f = Cast<to=1> (c) q = Sqrt (f) d = Div (r, q) y = Conv (d, w2) }}""",
        W1 | W2,
    ),
    "lengths make a matrix": made(
        f"""{HEAD} g (float[N,3,H,W] x) => (float[N,5,A,B] y, int64[1,2] q) {{ {BODY} s = Shape (r) n = Gather (s, one)
        nn = Concat<axis=0> (n, n) q = Unsqueeze (nn, zero) y = Conv (r, w2) }}""",
        W1 | W2 | {"one": np.array([1]), "zero": np.array([0])},
    ),
    "a part is cut out with 32-bit indices": made(
        f"{HEAD} g (float[N,3,8,8] x) => (float[N,5,8,8] y) {{ {BODY} p = Slice (r, s0, e0, ax) y = Conv (p, w2) }}",
        W1 | {"w2": (5, 8, 1, 1), "s0": np.array([8], np.int32), "e0": np.array([16], np.int32), "ax": np.int32([1])},
    ),
    "it is resized to a size that is computed": made(
        f"""{HEAD} g (float[1,3,H,W] x) => (float[1,5,A,B] y) {{ {BODY}
        p = MaxPool<kernel_shape=[2,2],strides=[2,2]> (r) c = Conv <pads=[1,1,1,1]> (p, w2) d = Relu (c)
        sr = Shape (r) hw = Slice (sr, two, four, zero) sd = Shape (d) nc = Slice (sd, zero, two, zero)
        k = Concat<axis=0> (nc, hw) z = Resize<mode="linear"> (d, , , k) m = Concat<axis=1> (z, r)
        y = Conv (m, w3) }}""",
        W1
        | {"w2": (24, 16, 3, 3), "w3": (5, 40, 1, 1)}
        | {"zero": np.array([0]), "two": np.array([2]), "four": np.array([4])},
    ),
    "the size of a sample is written out": made(
        f"""{HEAD} g (float[N,3,H,W] x) => (float[N,5,A,B] y) {{ {BODY} s = Shape (x) n = Gather (s, zero)
        k = Concat<axis=0> (n, c, hw) z = Resize<mode="nearest"> (r, , , k) y = Conv (z, w2) }}""",
        W1 | W2 | {"zero": np.array([0]), "c": np.array([16]), "hw": np.array([9, 9])},
    ),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_what_can_leave_may_leave(name: str) -> None:
    model = GRAPHS[name]
    walk = followed(model)
    found = groups(walk)
    removed = np.concatenate([group.channels[: len(group) // 2] for group in found] or [np.array([], np.int64)])
    samples = synthetic_samples(Signature.of(model), 4, 0)
    for one, other in zip(
        outputs(without(walk, removed), samples), outputs(zeroed(walk, removed), samples), strict=True
    ):
        assert one.shape == other.shape
        assert np.allclose(one, other, atol=1e-5)


def stepped(step: Step, model: onnx.ModelProto, folder: Path) -> onnx.ModelProto | None:
    """What the step makes; None where it has a reason to make nothing."""
    outcome = run(step, save(model, folder / "model.onnx"), folder / "out")
    if isinstance(outcome, Skipped):
        return None
    assert isinstance(outcome[0], Variant)
    return load(outcome[0].path)


def regions(threshold: float) -> onnx.ModelProto:
    """So many rows as positions of the picture score above the threshold."""
    return made(
        f"""{HEAD} g (float[N,3,8,8] x) => (float[M,5] y) {{ {BODY} b = Conv <pads=[1,1,1,1]> (r, w2) q = Relu (b)
        score = Conv (q, ws) t = Transpose<perm=[0,2,3,1]> (q) flat = Squeeze (score, one)
        above = Greater (flat, threshold) where = NonZero (above) places = Transpose<perm=[1,0]> (where)
        f = GatherND (t, places) m = MatMul (f, w3) d = Relu (m) e = MatMul (d, w4) h = Relu (e)
        y = MatMul (h, w5) }}""",
        W1
        | {"w2": (16, 16, 3, 3), "ws": (1, 16, 1, 1), "w3": (16, 32), "w4": (32, 32), "w5": (32, 5)}
        | {"one": np.array([1]), "threshold": np.array(threshold, np.float32)},
    )


@pytest.mark.parametrize("threshold", [0.0, 1e3], ids=["some rows", "none"])
@pytest.mark.parametrize(
    "step", [PruneChannels(), PruneChannels(macs_share=0.5), Distill(steps=3, batch_size=4)], ids=lambda step: step.kind
)
def test_rows_may_depend_on_the_data(step: Step, threshold: float, tmp_path: Path) -> None:
    stepped(step, regions(threshold), tmp_path)


def test_something_of_each_part_stays(tmp_path: Path) -> None:
    kernel = np.random.default_rng(0).standard_normal((16, 3, 3, 3)).astype(np.float32)
    kernel[:8] *= 0.01
    model = made(
        f"""{HEAD} g (float[N,3,8,8] x) => (float[N,5,8,8] y) {{ a = Conv <pads=[1,1,1,1]> (x, w1)
        p, q = Split<axis=1> (a) r = MaxPool<kernel_shape=[3,3],pads=[1,1,1,1]> (p)
        t = AveragePool<kernel_shape=[3,3],pads=[1,1,1,1]> (q) c = Concat<axis=1> (r, t) y = Conv (c, w2) }}""",
        {"w1": kernel} | W2,
    )
    narrower = stepped(PruneChannels(ratio=0.5, reconstruct=False), model, tmp_path)
    assert narrower is not None
    outputs(narrower, synthetic_samples(Signature.of(model), 4, 0))


def test_shapes_that_a_file_declares_do_not_bind_axes_that_are_open(tmp_path: Path) -> None:
    text = f"""{HEAD} g (float[N,3,H,W] x) => (float[N,L,5] y) {{ {BODY} b = Conv <pads=[1,1,1,1]> (r, w2)
        f = Reshape (b, k) t = Transpose<perm=[0,2,1]> (f) y = MatMul (t, w3) }}"""
    model = made(text, W1 | {"w2": (16, 16, 3, 3), "w3": (16, 5), "k": np.array([0, 16, -1])})
    fixed = made(
        text.replace("N,3,H,W", "1,3,8,8"), W1 | {"w2": (16, 16, 3, 3), "w3": (16, 5), "k": np.array([0, 16, -1])}
    )
    old = onnx.shape_inference.infer_shapes(fixed, data_prop=True).graph.value_info
    model.graph.value_info.extend(old)
    narrower = stepped(PruneChannels(ratio=0.5, reconstruct=False), model, tmp_path)
    assert narrower is not None
    larger = made(text.replace("N,3,H,W", "2,3,10,10"))
    assert outputs(narrower, synthetic_samples(Signature.of(larger), 4, 0))[0].shape == (2, 100, 5)


@pytest.mark.parametrize("importance", Importance)
def test_a_model_without_rows_of_samples_gets_narrower(importance: Importance, tmp_path: Path) -> None:
    model = made(
        f"""{HEAD} g (float[20] x) => (float[5] y) {{ a = MatMul (x, w1) r = Relu (a) b = MatMul (r, w2)
        c = Add (b, half) d = Relu (c) y = MatMul (d, w3) }}""",
        {"w1": (20, 32), "w2": (32, 32), "w3": (32, 5), "half": np.array([0.5], np.float32)},
    )
    assert stepped(PruneChannels(importance=importance), model, tmp_path) is not None


def test_a_sequence_among_the_outputs_does_not_stop_teaching(tmp_path: Path) -> None:
    model = made(
        f"""{HEAD} g (float[N,20] x) => (float[N,5] y, seq(float[N,5]) z) {{ a = MatMul (x, w1) r = Relu (a)
        y = MatMul (r, w3) z = SplitToSequence<axis=0> (y) }}""",
        {"w1": (20, 32), "w3": (32, 5)},
    )
    assert stepped(Distill(steps=3, batch_size=4), model, tmp_path) is not None
