"""Odd models of the zoo (`benchmarks/zoo`), made by hand: each is optimized, or refused with a reason that is true."""

from pathlib import Path

import pytest

from benchmarks.zoo import formats, odd
from benchmarks.zoo.specimen import Specimen
from benchmarks.zoo.trial import check_file, samples_for
from engine.data import Samples
from engine.errors import DataRejected, ModelRejected
from engine.graph import load, operators
from engine.inspect import inspect_model
from engine.recipe import ConvertFloat16, QuantizeDynamic, QuantizeWeights, Range, SimplifyGraph
from engine.signature import Signature
from engine.steps import Skipped
from tests.conformance.test_inspect import STATIC
from tests.engine.steps.outcome import run, sqnr_db

SPECIMENS = {specimen.name: specimen for specimen in (*odd.specimens(), *formats.specimens())}
LEAST_DB = {
    SimplifyGraph(): 100.0,
    STATIC: 30.0,
    QuantizeDynamic(weight_range=Range.REDUCED): 30.0,
    QuantizeWeights(): 35.0,
    ConvertFloat16(): 60.0,
}
#: what admission or the data says; all others are accepted
REFUSED = {
    "optional input": "no .npz array can hold",
    "one name for all nodes": "same node name",
    "float64 CNN": "implementation for Conv",
    "opset 6": "opset 6; ONNX Runtime serves models from opset 7 on",
    "operator of an unknown domain": "domain “my.company”",
}
#: why quantize_static does nothing; all others get a file
LEFT_FLOAT = {
    "products inside of Loop": "inside a branch or loop",
    "products inside of Scan": "inside a branch or loop",
    "weights inside of Loop": "inside a branch or loop",
    "no nodes": "no Conv, Gemm or MatMul",
    "nothing but Identity": "no Conv, Gemm or MatMul",
    "no inputs": "constant float32 weights",
    "NaN in the outputs": "hold NaN or infinity",
    "integers only": "constant float32 weights",
    "QDQ CNN": "quantized already",
    "QLinearConv CNN": "quantized already",
    "8-bit weights behind DequantizeLinear": "quantized already",
}
NOT_COMPARED = {"strings in and out", "NaN in the outputs"}
ACCEPTED = [pytest.param(one, id=name) for name, one in SPECIMENS.items() if name not in REFUSED]
accepted = pytest.mark.parametrize("specimen", ACCEPTED)
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # one of the models makes NaN on purpose


def admitted(specimen: Specimen, folder: Path) -> tuple[Path, Samples]:
    """The model as a job gets it, and samples for it."""
    path = folder / "model.onnx"
    specimen.write(path)
    path = inspect_model(path, folder / "work").canonical or path
    return path, samples_for(Signature.of(load(path)), specimen.shapes)


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_served_or_fed_is_refused_with_the_reason(name: str, tmp_path: Path) -> None:
    with pytest.raises((ModelRejected, DataRejected)) as caught:
        admitted(SPECIMENS[name], tmp_path)
    assert REFUSED[name] in caught.value.detail
    assert len(caught.value.remedy) > 20


@accepted
def test_what_a_step_makes_of_an_odd_model_is_near_and_keeps_interface_and_metadata(
    specimen: Specimen, tmp_path: Path
) -> None:
    path, samples = admitted(specimen, tmp_path)
    for step, least_db in LEAST_DB.items():
        outcome = run(step, path, tmp_path / step.kind, samples=samples)
        for variant in [] if isinstance(outcome, Skipped) else outcome:
            check_file(load(path), variant.path)
            assert specimen.name in NOT_COMPARED or sqnr_db(path, variant.path, samples) > least_db, step.kind


@accepted
def test_static_quantization_leaves_none_out_without_a_reason_that_is_true(specimen: Specimen, tmp_path: Path) -> None:
    path, samples = admitted(specimen, tmp_path)
    outcome = run(STATIC, path, tmp_path / "out", samples=samples)
    if specimen.name in LEFT_FLOAT:
        assert isinstance(outcome, Skipped)
        assert LEFT_FLOAT[specimen.name] in outcome.reason
    else:
        assert not isinstance(outcome, Skipped), outcome.reason
        assert "DequantizeLinear" in operators(load(outcome[0].path))
