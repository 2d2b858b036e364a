"""Sites and moves: what is found, what stands in its place, and that nothing else changes."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from engine.data import Samples, synthetic_samples
from engine.graph import load, tensor_types, weights_of
from engine.measure.complexity import count, infer_shapes
from engine.quantize.prepare import prepared
from engine.recipe import Move
from engine.replace.moves import declared_types, parts
from engine.replace.parts import Part, grafted
from engine.replace.sites import Site, sites
from engine.signature import Signature
from tests.engine.prune.running import outputs
from tests.models import Net, mlp, residual_cnn

EVERY = frozenset(Move)


def ready(net: Net, folder: Path) -> tuple[onnx.ModelProto, Samples]:
    path = net.save(folder / "model.onnx")
    samples = synthetic_samples(Signature.of(load(path)), 8, 0)
    model = prepared(path, samples, folder)
    assert not isinstance(model, str), model
    return model, samples


def moves(model: onnx.ModelProto, allowed: frozenset[Move] = EVERY) -> list[Part]:
    types = tensor_types(infer_shapes(model).graph)
    return [part for site in sites(model) for part in parts(model, site, allowed, types, declared_types(model))]


def error(model: onnx.ModelProto, part: Part, samples: Samples) -> float:
    """Of the outputs, as a share of their power."""
    before, after = outputs(model, samples)[0], outputs(grafted(model, [part]), samples)[0]
    return float(np.square(before - after).sum() / np.square(before).sum())


def named(found: list[Site]) -> list[str]:
    return [site.node.op_type for site in found]


def test_layers_and_residual_blocks_are_sites_but_a_sum_with_a_shortcut_of_its_own_is_not(tmp_path: Path) -> None:
    model, _ = ready(residual_cnn(), tmp_path)
    found = sites(model)
    assert named(found).count("Add") == 1
    assert named(found).count("Conv") == 8
    (block,) = (site for site in found if site.is_block)
    inner = [site for site in found if not site.is_block and site.covered & block.covered]
    assert len(inner) == 2


def test_every_move_at_every_site_runs_and_keeps_the_shapes(tmp_path: Path) -> None:
    model, samples = ready(residual_cnn(width=48), tmp_path)
    found = moves(model)
    assert {part.move for part in found} == EVERY
    for part in found:
        after = outputs(grafted(model, [part]), samples)
        assert [value.shape for value in after] == [value.shape for value in outputs(model, samples)]


def test_a_replaced_model_keeps_all_other_weights_and_names(tmp_path: Path) -> None:
    model, _ = ready(residual_cnn(), tmp_path)
    part = next(part for part in moves(model) if part.move is Move.DEPTHWISE)
    after = grafted(model, [part])
    gone = set(weights_of(model)) - set(weights_of(after))
    assert gone == set(part.site.node.input[1:])
    assert {node.output[0] for node in model.graph.node} <= {node.output[0] for node in after.graph.node}


def separable(channels: int, rank: int) -> Net:
    """One 3×3 convolution whose kernels are, for each input channel, sums of so many kernels times mixes."""
    net = Net(0)
    filters = net.random.standard_normal((channels, rank, 1, 3, 3))
    mixes = net.random.standard_normal((channels, rank, channels, 1, 1))
    weight = (filters * mixes).sum(1).transpose(1, 0, 2, 3).astype(np.float32)
    x = net.input("x", ["batch", channels, 8, 8])
    net.op("Conv", x, net.constant(weight), net.weight(channels), pads=[1] * 4, strides=[2, 2], name="y")
    return net.output("y", ["batch", channels, 4, 4])


@pytest.mark.parametrize(("rank", "move"), [(1, Move.DEPTHWISE), (2, Move.DEPTHWISE_TWICE)])
def test_what_is_separable_is_replaced_without_loss(rank: int, move: Move, tmp_path: Path) -> None:
    model, samples = ready(separable(16, rank), tmp_path)
    (part,) = moves(model, frozenset({move}))
    assert error(model, part, samples) < 1e-8


def test_what_is_of_low_rank_is_replaced_without_loss_in_half_the_work(tmp_path: Path) -> None:
    net = Net(0)
    weight = net.random.standard_normal((64, 8)) @ net.random.standard_normal((8, 64))
    product = net.op("MatMul", net.input("x", ["batch", 5, 64]), net.constant(weight.astype(np.float32)))
    net.op("Tanh", product, name="y")
    model, samples = ready(net.output("y", ["batch", 5, 64]), tmp_path)
    found = {part.move: part for part in moves(model)}
    assert error(model, found[Move.LOWER_RANK], samples) < 1e-8
    before, after = (count(one).macs for one in (model, grafted(model, [found[Move.LOW_RANK]])))
    assert before
    assert after
    assert after <= before / 2


def test_products_that_share_a_weight_or_two_activations_are_left_alone() -> None:
    net = Net()
    x, weight = net.input("x", ["batch", 32]), net.weight(32, 32)
    net.op("MatMul", net.op("MatMul", x, weight), weight, name="y")
    assert sites(net.output("y", ["batch", 32]).model()) == []


def test_a_skipped_layer_is_gone(tmp_path: Path) -> None:
    model, _ = ready(mlp(), tmp_path)
    (part,) = moves(model, frozenset({Move.SKIP}))
    before, after = (
        sum(node.op_type in ("MatMul", "Gemm") for node in one.graph.node) for one in (model, grafted(model, [part]))
    )
    assert after == before - 1
