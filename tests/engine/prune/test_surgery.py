"""A pruned graph computes what the original does with zeros in place of the removed channels."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.zoo.specimen import made
from engine.data import synthetic_samples
from engine.graph import lift_constants, load
from engine.measure.complexity import count
from engine.prune.groups import followed, groups
from engine.prune.surgery import without, zeroed
from engine.signature import Signature
from engine.simplify import simplified
from tests.engine.prune.networks import BLOCKS, both_ways, heads, heads_in_the_batch, stacked
from tests.engine.prune.running import outputs
from tests.models import Net, depthwise_cnn, mlp, recurrent, residual_cnn, small_cnn, transformer

EVERY_NET = [small_cnn, residual_cnn, depthwise_cnn, mlp, transformer, recurrent, heads, both_ways, heads_in_the_batch]
MOST_DIFFERENCE = 1e-5  #: of the largest output


def difference_when_halved(model: onnx.ModelProto, seed: int = 0) -> tuple[float, float]:
    """Largest difference to the model with zeros, and the share of weights that stays."""
    walk = followed(model)
    random = np.random.default_rng(seed)
    found = groups(walk)
    assert found, "nothing can be removed"
    removed = np.concatenate([random.permutation(group.channels)[: len(group) // 2] for group in found])
    pruned = without(walk, removed)
    samples = synthetic_samples(Signature.of(model), 4, seed)
    assert Signature.of(pruned) == Signature.of(model)
    pairs = zip(outputs(pruned, samples), outputs(zeroed(walk, removed), samples), strict=True)
    worst = max(float(np.abs(one - other).max() / np.abs(other).max()) for one, other in pairs)
    return worst, weights_of(pruned) / weights_of(model)


def weights_of(model: onnx.ModelProto) -> int:
    return sum(int(np.prod(weight.dims)) for weight in model.graph.initializer)


@pytest.mark.parametrize("net", EVERY_NET)
def test_removing_channels_is_the_same_as_zeroing_them(net: Callable[[], Net]) -> None:
    difference, left = difference_when_halved(net().model())
    assert difference < MOST_DIFFERENCE
    assert left < 0.7


@pytest.mark.parametrize("name", ["digits/model", "fashion/residual", "fashion/transformer", "fashion/recurrent"])
def test_trained_models_get_narrower(name: str) -> None:
    model = load(Path(f"examples/{name}.onnx"))
    lift_constants(model)
    difference, left = difference_when_halved(model)
    assert difference < MOST_DIFFERENCE
    assert left < 0.6


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.__name__)
def test_every_kind_of_block_gets_narrower(block: Callable[[Net, str, int], str]) -> None:
    difference, left = difference_when_halved(stacked([block, block]).model())
    assert difference < MOST_DIFFERENCE
    assert left < 0.8


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.lists(st.sampled_from(BLOCKS), min_size=1, max_size=5), st.integers(0, 1000), st.booleans())
def test_blocks_in_any_order(blocks: list[Callable[[Net, str, int], str]], seed: int, folded: bool) -> None:
    model = stacked(blocks).model()
    if folded:
        model = simplified(model) or model
        lift_constants(model)
    difference, _ = difference_when_halved(model, seed)
    assert difference < MOST_DIFFERENCE


def test_heads_leave_though_they_share_an_axis_with_the_batch() -> None:
    model = heads_in_the_batch().model()
    walk = followed(model)
    assert [(len(group), group.positions) for group in groups(walk)] == [(4, 8)]
    samples = synthetic_samples(Signature.of(model), 4, 0)
    assert np.allclose(outputs(walk.model, samples)[0], outputs(model, samples)[0], atol=1e-6)


@pytest.mark.parametrize(("operator", "gates"), [("LSTM", 4), ("GRU", 3), ("RNN", 1)])
def test_hidden_sizes_shrink_though_their_first_state_is_written_out(operator: str, gates: int) -> None:
    difference, left = difference_when_halved(both_ways(operator, gates).model())
    assert difference < MOST_DIFFERENCE
    assert left < 0.8


def test_a_scale_stays_what_it_was_in_training() -> None:
    """1 / √(size of a head) is computed from a width that may shrink."""
    walk = followed(heads().model())
    whole = without(walk, np.array([], np.int64))
    assert not any(node.op_type == "Div" and "Shape" in node.input[0] for node in whole.graph.node)
    assert sum(node.op_type == "Div" for node in whole.graph.node) == 1


def test_layers_that_share_no_more_than_a_bias_of_zeros_are_not_tied() -> None:
    net = Net(2)
    x, zeros = net.input("x", ["batch", 8]), net.constant(np.zeros(16, np.float32))
    for came in (8, 16):
        x = net.op("Relu", net.op("Gemm", x, net.weight(came, 16), zeros))
    net.op("MatMul", x, net.weight(16, 2), name="y")
    found = groups(followed(net.output("y", ["batch", 2]).model()))
    assert [len(group) for group in found] == [16, 16]


@pytest.mark.parametrize(("opset", "scales"), [(18, 4), (21, 32)])
def test_whole_groups_leave_where_they_are_normalized(opset: int, scales: int) -> None:
    model = made(
        f"""<ir_version: 10, opset_import: ["" : {opset}]> g (float[N,3,8,8] x) => (float[N,5,8,8] y) {{
        a = Conv<pads=[1,1,1,1]> (x, w1) n = GroupNormalization<num_groups=4> (a, s, b) r = Relu (n)
        c = Conv (r, w2) d = Relu (c) y = Conv (d, w3) }}""",
        {"w1": (32, 3, 3, 3), "s": (scales,), "b": (scales,), "w2": (24, 32, 1, 1), "w3": (5, 24, 1, 1)},
    )
    assert [len(group) for group in groups(followed(model))] == [4, 24]
    difference, left = difference_when_halved(model)
    assert difference < MOST_DIFFERENCE
    assert left < 0.5
    assert count(model).macs == 64 * (32 * 27 + 24 * 32 + 5 * 24)
