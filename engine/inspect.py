"""What is this file? Answers within seconds of an upload: a summary, or a refusal with the reason and the remedy."""

from dataclasses import dataclass
from pathlib import Path

import onnx

from engine import beside
from engine.admission import admit
from engine.bundle import canonical
from engine.data import common_length, is_feedable, open_arrays
from engine.errors import ModelRejected
from engine.footprint import peak_activations
from engine.graph import all_graphs, operators, opset
from engine.measure.complexity import count
from engine.recipe import UseModel
from engine.report import ArrayInfo, DatasetSummary, ModelSummary, StepFit
from engine.runtime import check_loads
from engine.signature import Signature
from engine.steps import STEPS
from engine.words import shown

LOWEST_QUANTIZABLE_OPSET = 13
OLDEST_SERVED_OPSET = 7  #: of older ones ONNX Runtime promises nothing, but models of ai.onnx.ml may load
T = onnx.TensorProto


@dataclass(frozen=True)
class InspectedModel:
    summary: ModelSummary
    canonical: Path | None  #: the model as one file, where it was uploaded as a bundle and one file can hold it


def inspect_model(path: Path, folder: Path) -> InspectedModel:
    """Admit a model, load it once, and sum it up; `folder` takes what a bundle unpacks to. Raises ModelRejected."""
    read = canonical(path, folder)
    model = admit(read, beside.companions(read))
    _check_loads(read, model)
    is_one_file = read != path and not beside.is_apart(read)
    return InspectedModel(summarize(model, beside.size_bytes(read)), read if is_one_file else None)


def _check_loads(path: Path, model: onnx.ModelProto) -> None:
    """Raises ModelRejected; an operator set that is too old is the reason then, whatever ONNX Runtime says."""
    try:
        check_loads(path)
    except ModelRejected as error:
        version = opset(model)
        if version >= OLDEST_SERVED_OPSET:
            raise
        detail = f"The model is of opset {version}; ONNX Runtime serves models from opset {OLDEST_SERVED_OPSET} on."
        remedy = "Export it again for opset 13 or later; onnx.version_converter may be able to upgrade it."
        raise ModelRejected(error.code, detail, remedy) from error


def summarize(model: onnx.ModelProto, size_bytes: int) -> ModelSummary:
    """What there is to know about a model that was admitted."""
    signature = Signature.of(model)
    complexity = count(model)
    found = operators(model)
    return ModelSummary(
        inputs=list(signature.inputs),
        outputs=list(signature.outputs),
        opset=opset(model),
        ir_version=model.ir_version,
        producer=f"{model.producer_name} {model.producer_version}".strip() or None,
        operators=dict(found.most_common()),
        nodes=found.total(),
        parameters=complexity.parameters,
        macs=complexity.macs,
        size_bytes=size_bytes,
        expected_memory_bytes=size_bytes + peak_activations(model),
        steps=[
            _fit(kind.model_fields["kind"].default, technique.refuse(model))
            for kind, technique in STEPS.items()
            if kind is not UseModel  # which says nothing of this model
        ],
        warnings=_warnings(model, signature),
    )


def inspect_dataset(path: Path, folder: Path) -> DatasetSummary:
    """The arrays of a data set; which model they fit is seen when a job names both. Raises DataRejected."""
    arrays = open_arrays(path, folder)
    counted = [name for name, array in arrays.items() if array.ndim]
    return DatasetSummary(
        samples=common_length(arrays, counted) if counted else 1,
        arrays=[
            ArrayInfo(name=name, dtype=array.dtype.name, shape=list(array.shape)) for name, array in arrays.items()
        ],
        size_bytes=path.stat().st_size,
    )


def _fit(kind: str, refusal: str | None) -> StepFit:
    return StepFit(kind=kind, applies=refusal is None, reason=refusal)


def _warnings(model: onnx.ModelProto, signature: Signature) -> list[str]:
    checks = (_overridable_weights, _old_opset, _half_precision, _control_flow, _quantized)
    found = [words for check in checks if (words := check(model)) is not None]
    return found + [
        f"Input {shown(tensor.name)} is of the type {tensor.dtype}; no data set can feed it, so nothing is measured."
        for tensor in signature.inputs
        if not is_feedable(tensor)
    ]


def _overridable_weights(model: onnx.ModelProto) -> str | None:
    weights = {tensor.name for tensor in model.graph.initializer}
    count = sum(value.name in weights for value in model.graph.input)
    return f"{count} weights are also inputs, as old exporters wrote; they are taken as constants." if count else None


def _old_opset(model: onnx.ModelProto) -> str | None:
    version = opset(model)
    if version >= LOWEST_QUANTIZABLE_OPSET:
        return None
    return f"Opset {version} is old; quantization first upgrades it to {LOWEST_QUANTIZABLE_OPSET}."


def _half_precision(model: onnx.ModelProto) -> str | None:
    types = {tensor.data_type for graph in all_graphs(model.graph) for tensor in graph.initializer}
    if types.isdisjoint((T.FLOAT16, T.BFLOAT16)):
        return None
    return "Weights are of half precision, which most CPUs convert to float32 as they compute."


def _control_flow(model: onnx.ModelProto) -> str | None:
    if sum(1 for _ in all_graphs(model.graph)) == 1:
        return None
    return "The model has branches or loops; what is inside them is left as it is, and its MACs count once."


def _quantized(model: onnx.ModelProto) -> str | None:
    found = {"QuantizeLinear", "DequantizeLinear", "QLinearConv", "MatMulInteger"} & set(operators(model))
    return "The model is quantized already, at least in part." if found else None
