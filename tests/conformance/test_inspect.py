"""The models that ONNX's own tests run, one per operator and oddity: none may crash inspection or a step.

A hundred or so of about two thousand, evenly spaced, so that a run stays short; STROP_CONFORMANCE=all takes the rest.
"""

import os
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnx.backend.test
import onnxruntime
import pytest
from onnx import numpy_helper
from onnx.backend.test.case import node

from engine.data import synthetic_samples
from engine.errors import DataRejected, ModelRejected
from engine.graph import load
from engine.inspect import inspect_model
from engine.recipe import (
    ConvertFloat16,
    Layout,
    QuantizeDynamic,
    QuantizeWeights,
    Range,
    Scales,
    SimplifyGraph,
    Step,
    UseModel,
)
from engine.signature import Signature
from engine.steps import STEPS, Skipped
from tests.engine.steps.outcome import FIXED, run

STRIDE = 1 if os.environ.get("STROP_CONFORMANCE") == "all" else 18
STATIC = FIXED.model_copy(update={"samples": 256, "equalize": True, "smooth": True, "correct_bias": True})
STEPS_TRIED: list[Step] = [
    SimplifyGraph(),
    STATIC,
    STATIC.model_copy(update={"layout": Layout.QOPERATOR, "weight_scales": Scales.PER_TENSOR}),
    QuantizeDynamic(weight_range=Range.REDUCED),
    QuantizeWeights(),
    QuantizeWeights(bits=4, block_size=16),
    ConvertFloat16(),
]
KINDS_THAT_CHANGE_A_MODEL = {kind.model_fields["kind"].default for kind in STEPS if kind is not UseModel}
onnxruntime.set_default_logger_severity(4)
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # ONNX's own cases divide by zero on purpose


@cache
def node_cases() -> dict[str, tuple[onnx.ModelProto, list[np.ndarray]]]:
    """Model and inputs of each test of an operator."""
    cases = {}
    for case in node.collect_testcases(None):
        if case.model is not None and case.data_sets:
            cases[case.name] = case.model, list(case.data_sets[0][0])
    return cases


@cache
def models() -> dict[str, onnx.ModelProto]:
    """Some models of operators, and some old ones with weights inside that the onnx package ships as files."""
    folder = Path(onnx.backend.test.__file__).parent / "data"
    files = {path.parent.name: load(path) for path in sorted(folder.rglob("*.onnx"))[:: max(STRIDE // 4, 1)]}
    return files | {name: model for name, (model, _) in list(node_cases().items())[::STRIDE]}


def accepted(folder: Path) -> Iterator[tuple[str, Path]]:
    for name, model in models().items():
        path = folder / "model.onnx"
        path.write_bytes(model.SerializeToString())
        try:
            inspect_model(path, folder / "work")
        except ModelRejected:
            continue
        yield name, path


def test_every_model_gets_a_summary_or_a_reason(tmp_path: Path) -> None:
    outcomes: Counter[str] = Counter()
    for model in models().values():
        path = tmp_path / "model.onnx"
        path.write_bytes(model.SerializeToString())
        try:
            summary = inspect_model(path, tmp_path / "work").summary
        except ModelRejected as error:
            outcomes[error.code] += 1
        else:
            outcomes["summary"] += 1
            assert summary.model_dump_json()
            assert {fit.kind for fit in summary.steps} == KINDS_THAT_CHANGE_A_MODEL
    assert set(outcomes) <= {"summary", "model_does_not_load", "unknown_operator_domain"}
    assert outcomes["summary"] > 0.85 * outcomes.total()


def test_no_step_breaks_on_any_model_and_all_it_makes_loads(tmp_path: Path) -> None:
    made: Counter[str] = Counter()
    for name, path in accepted(tmp_path):
        signature = Signature.of(load(path))
        try:
            samples = synthetic_samples(signature, 2, 0)
        except DataRejected:
            continue
        for step in STEPS_TRIED:
            outcome = run(step, path, tmp_path / "out", samples=samples)
            for variant in [] if isinstance(outcome, Skipped) else outcome:
                made[step.kind] += 1
                assert Signature.of(load(variant.path)) == signature, name
                onnxruntime.InferenceSession(variant.path, providers=["CPUExecutionProvider"])
    assert min(made["simplify_graph"], made["quantize_static"]) > 5


@pytest.mark.parametrize("layer", ["conv", "gemm", "matmul"])
def test_each_form_of_a_layer_is_quantized_or_left_alone(layer: str, tmp_path: Path) -> None:
    quantized = 0
    for name, (model, inputs) in node_cases().items():
        if not name.startswith((f"test_{layer}_", f"test_basic_{layer}_")):
            continue
        path = tmp_path / "model.onnx"
        path.write_bytes(_with_constant_weights(model, inputs).SerializeToString())
        try:
            samples = synthetic_samples(Signature.of(load(path)), 4, 0)
        except DataRejected:
            continue
        outcome = run(STATIC, path, tmp_path / "out", samples=samples)
        for variant in [] if isinstance(outcome, Skipped) else outcome:
            quantized += 1
            sessions = [onnxruntime.InferenceSession(file) for file in (path, variant.path)]
            expected, actual = (session.run(None, next(samples.batches(1)))[0] for session in sessions)
            assert np.sum((expected - actual) ** 2) < 0.01 * np.sum(expected**2), name
    assert quantized > 0


def _with_constant_weights(model: onnx.ModelProto, data: list[np.ndarray]) -> onnx.ModelProto:
    """The case's model with all inputs but the first as initializers."""
    copy = onnx.ModelProto.FromString(model.SerializeToString())
    for value, values in list(zip(model.graph.input, data, strict=True))[1:]:
        copy.graph.initializer.append(numpy_helper.from_array(values, value.name))
        copy.graph.input.remove(value)
    return copy
