"""The interface of a model, as plain values: what goes in and what comes out."""

from dataclasses import dataclass

import onnx

from engine.report import TensorInfo

STRING = "string"


@dataclass(frozen=True)
class Signature:
    """Inputs that a caller feeds (initializers left out) and outputs, in the model's order."""

    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]

    @classmethod
    def of(cls, model: onnx.ModelProto) -> "Signature":
        """Read it off a graph. Weights that old exporters list among the inputs are not inputs."""
        graph = model.graph
        weights = {tensor.name for tensor in graph.initializer}
        weights |= {tensor.values.name for tensor in graph.sparse_initializer}
        inputs = tuple(_tensor(value) for value in graph.input if value.name not in weights)
        return cls(inputs, tuple(_tensor(value) for value in graph.output))

    def input_names(self) -> list[str]:
        return [tensor.name for tensor in self.inputs]


def _tensor(value: onnx.ValueInfoProto) -> TensorInfo:
    kind = value.type.WhichOneof("value")
    if kind != "tensor_type":
        return TensorInfo(name=value.name, dtype=(kind or "unknown").removesuffix("_type"), shape=None)
    declared = value.type.tensor_type
    shape = [_dimension(dimension) for dimension in declared.shape.dim] if declared.HasField("shape") else None
    return TensorInfo(name=value.name, dtype=dtype_name(declared.elem_type), shape=shape)


def _dimension(dimension: onnx.TensorShapeProto.Dimension) -> int | str | None:
    kind = dimension.WhichOneof("value")
    if kind == "dim_value":
        return dimension.dim_value if dimension.dim_value >= 0 else None
    name = dimension.dim_param
    return name if any(map(str.isalnum, name)) else None  # Paddle calls every open dimension “?”, whatever its size


def dtype_name(element_type: int) -> str:
    """NumPy's name of an ONNX element type, such as float32; `string` for text."""
    if element_type == onnx.TensorProto.STRING:
        return STRING
    try:
        return onnx.helper.tensor_dtype_to_np_dtype(element_type).name
    except KeyError:
        return "unknown"
