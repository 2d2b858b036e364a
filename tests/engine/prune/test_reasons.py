"""What the step says where no channel can leave, and where fewer operations were asked for than there can be."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from benchmarks.zoo.specimen import made
from engine.graph import save
from engine.recipe import PruneChannels
from engine.steps import Skipped, Variant
from tests.engine.prune.test_odd_graphs import BODY, HEAD, W1, W2
from tests.engine.steps.outcome import run

LOST: dict[str, tuple[str, onnx.ModelProto]] = {
    "no rule": (
        "in Det and DFT",
        made(
            f"""{HEAD} g (float[N,3,8,8] x) => (float[N,32] y, float[N,5,8,8,2] z) {{ {BODY} f = MatMul (r, w)
            d = Det (f) y = MatMul (d, w4) b = Conv (x, w3) u = Unsqueeze (b, last) z = DFT (u) }}""".replace(
                "17]", "20]"
            ),
            W1 | {"w": (8, 8), "w4": (16, 32), "w3": (5, 3, 1, 1), "last": np.array([-1])},
        ),
    ),
    "a branch": (
        "in If",
        made(
            f"""{HEAD} g (float[N,3,8,8] x, bool c) => (float[N,5,8,8] y) {{ {BODY}
            e = If (c) <then_branch = one () => (float[N,16,8,8] p) {{ p = Identity (r) }},
              else_branch = two () => (float[N,16,8,8] q) {{ q = Neg (r) }}>
            y = Conv (e, w2) }}""",
            W1 | W2,
        ),
    ),
}


@pytest.mark.parametrize("name", LOST)
def test_the_operators_that_channels_are_lost_in_are_named(name: str, tmp_path: Path) -> None:
    where, model = LOST[name]
    outcome = run(PruneChannels(), save(model, tmp_path / "model.onnx"), tmp_path / "out")
    assert isinstance(outcome, Skipped)
    assert outcome.reason.endswith(f"or is lost where none can be followed: {where}")


def test_where_all_channels_meet_no_operator_is_blamed(tmp_path: Path) -> None:
    model = made(
        f"""{HEAD} g (float[N,20] x) => (float[N,5] y) {{ a = MatMul (x, w1) r = Softmax<axis=-1> (a)
        y = MatMul (r, w3) }}""",
        {"w1": (20, 32), "w3": (32, 5)},
    )
    outcome = run(PruneChannels(), save(model, tmp_path / "model.onnx"), tmp_path / "out")
    assert isinstance(outcome, Skipped)
    assert outcome.reason.endswith("meets all others")


def test_a_share_of_operations_that_cannot_be_had_is_told(tmp_path: Path) -> None:
    """The second layer, which makes an output, is most of the work, and cannot get narrower than its output."""
    model = made(
        f"""{HEAD} g (float[N,64] x) => (float[N,5] y, float[N,64] z) {{ a = MatMul (x, w1) r = Relu (a)
        y = MatMul (r, w2) z = MatMul (x, w3) }}""",
        {"w1": (64, 16), "w2": (16, 5), "w3": (64, 64)},
    )
    path = save(model, tmp_path / "model.onnx")
    labels = []
    for share in (0.5, 0.95):
        outcome = run(PruneChannels(macs_share=share), path, tmp_path / f"out{share}")
        assert isinstance(outcome, list)
        assert isinstance(outcome[0], Variant)
        labels.append(outcome[0].label)
    assert ", as few as its widths allow; 50 % were asked for" in labels[0]
    assert "asked for" not in labels[1]
