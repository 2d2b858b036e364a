"""What every step keeps to, whatever it does."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from engine.graph import load
from engine.recipe import (
    ConvertFloat16,
    Distill,
    EightBits,
    Move,
    PruneChannels,
    PruneWeights,
    QuantizeAwareTraining,
    QuantizeDynamic,
    QuantizeStatic,
    QuantizeWeights,
    ReplaceLayers,
    SimplifyGraph,
    Step,
    UseModel,
)
from engine.signature import Signature
from engine.steps import STEPS, Skipped
from tests.engine.steps.outcome import FIXED, run, session, variants
from tests.models import Net, branching, depthwise_cnn, mlp, recurrent, residual_cnn, small_cnn, transformer

STEP = TypeAdapter(Step)
EVERY_STEP = [
    SimplifyGraph(),
    QuantizeStatic(),
    QuantizeDynamic(),
    QuantizeWeights(),
    ConvertFloat16(),
    PruneChannels(),
    ReplaceLayers(moves=(Move.DEPTHWISE, Move.LOW_RANK, Move.SKIP), samples=16, steps=2),
    PruneWeights(),
    Distill(steps=8, batch_size=8),
    QuantizeAwareTraining(
        **{name: getattr(FIXED, name) for name in EightBits.model_fields}, steps=8, batch_size=8, learning_rate=3e-4
    ),
]
EVERY_NET = [small_cnn, residual_cnn, depthwise_cnn, mlp, transformer, recurrent, branching]
every_step = pytest.mark.parametrize("step", EVERY_STEP, ids=lambda step: step.kind)
every_net = pytest.mark.parametrize("net", EVERY_NET)


def test_every_kind_of_step_has_a_technique() -> None:
    assert set(STEPS) == {type(step) for step in EVERY_STEP} | {UseModel}  # which is given its file


@every_step
@every_net
def test_what_a_step_proposes_loads_and_keeps_the_interface(step: Step, net: Callable[[], Net], tmp_path: Path) -> None:
    path = net().save(tmp_path / "model.onnx")
    outcome = run(step, path, tmp_path / "out")
    if isinstance(outcome, Skipped):
        assert len(outcome.reason) > 10
        return
    original = load(path)
    for variant in outcome:
        changed = load(variant.path)
        assert Signature.of(changed) == Signature.of(original)
        assert changed.metadata_props == original.metadata_props
        assert [entry.name for entry in session(variant.path).get_inputs()] == [
            tensor.name for tensor in original.graph.input
        ]


@every_step
def test_every_option_of_a_proposal_is_decided(step: Step, tmp_path: Path) -> None:
    path = small_cnn(width=128).save(tmp_path / "model.onnx")
    for variant in variants(step, path, tmp_path / "out"):
        assert "auto" not in variant.step.model_dump(mode="json").values()
        assert STEP.validate_json(variant.step.model_dump_json()) == variant.step


@every_step
def test_a_proposal_can_be_made_again_from_its_options(step: Step, tmp_path: Path) -> None:
    path = small_cnn(width=128).save(tmp_path / "model.onnx")
    for variant in variants(step, path, tmp_path / "first"):
        (again,) = variants(variant.step, path, tmp_path / "again")
        assert _digest(again.path) == _digest(variant.path)
        assert again.label == variant.label


@every_step
@every_net
def test_a_step_that_refuses_says_why_and_skips_for_the_same_reason(
    step: Step, net: Callable[[], Net], tmp_path: Path
) -> None:
    path = net().save(tmp_path / "model.onnx")
    reason = STEPS[type(step)].refuse(load(path))
    if reason is not None:
        assert run(step, path, tmp_path / "out") == Skipped(reason)


@every_step
def test_a_graph_without_nodes_is_refused(step: Step, tmp_path: Path) -> None:
    net = Net()
    net.input("x", ["batch", 2])
    path = net.output("x", ["batch", 2]).save(tmp_path / "model.onnx")
    assert STEPS[type(step)].refuse(load(path)) is not None


@every_step
def test_the_original_file_is_not_touched(step: Step, tmp_path: Path) -> None:
    path = small_cnn(width=128).save(tmp_path / "model.onnx")
    before = _digest(path)
    run(step, path, tmp_path / "out")
    assert _digest(path) == before


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
