"""Element types and values: between ONNX, NumPy and torch.

torch has no types of fewer than 8 bits, so integers of these are held in 8 bits and 4-bit floats as float32; strings
are held as NumPy arrays of objects.
"""

from collections.abc import Callable, Iterator
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import torch
from onnx import TensorProto, numpy_helper

from engine.graph import constant_of

DTYPES: dict[int, torch.dtype] = {
    TensorProto.FLOAT: torch.float32,
    TensorProto.DOUBLE: torch.float64,
    TensorProto.FLOAT16: torch.float16,
    TensorProto.BFLOAT16: torch.bfloat16,
    TensorProto.INT8: torch.int8,
    TensorProto.INT16: torch.int16,
    TensorProto.INT32: torch.int32,
    TensorProto.INT64: torch.int64,
    TensorProto.UINT8: torch.uint8,
    TensorProto.UINT16: torch.uint16,
    TensorProto.UINT32: torch.uint32,
    TensorProto.UINT64: torch.uint64,
    TensorProto.BOOL: torch.bool,
    TensorProto.COMPLEX64: torch.complex64,
    TensorProto.COMPLEX128: torch.complex128,
    TensorProto.FLOAT8E4M3FN: torch.float8_e4m3fn,
    TensorProto.FLOAT8E4M3FNUZ: torch.float8_e4m3fnuz,
    TensorProto.FLOAT8E5M2: torch.float8_e5m2,
    TensorProto.FLOAT8E5M2FNUZ: torch.float8_e5m2fnuz,
    TensorProto.FLOAT8E8M0: torch.float8_e8m0fnu,
    TensorProto.FLOAT4E2M1: torch.float32,
    TensorProto.INT4: torch.int8,
    TensorProto.UINT4: torch.uint8,
    TensorProto.INT2: torch.int8,
    TensorProto.UINT2: torch.uint8,
}
#: types that a weight may have
FLOATS = frozenset({TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16})
#: NumPy types that torch only takes as bits
BITS = {
    np.dtype(ml_dtypes.bfloat16): (np.int16, torch.bfloat16),
    np.dtype(ml_dtypes.float8_e4m3fn): (np.uint8, torch.float8_e4m3fn),
    np.dtype(ml_dtypes.float8_e4m3fnuz): (np.uint8, torch.float8_e4m3fnuz),
    np.dtype(ml_dtypes.float8_e5m2): (np.uint8, torch.float8_e5m2),
    np.dtype(ml_dtypes.float8_e5m2fnuz): (np.uint8, torch.float8_e5m2fnuz),
    np.dtype(ml_dtypes.float8_e8m0fnu): (np.uint8, torch.float8_e8m0fnu),
}
#: NumPy types of fewer than 8 bits, and the type that holds them here
NARROW = {
    np.dtype(ml_dtypes.float4_e2m1fn): np.float32,
    np.dtype(ml_dtypes.int4): np.int8,
    np.dtype(ml_dtypes.uint4): np.uint8,
    np.dtype(ml_dtypes.int2): np.int8,
    np.dtype(ml_dtypes.uint2): np.uint8,
}
#: torch types that have next to no arithmetic, and the type that computes for them
WIDER = {torch.uint16: torch.int32, torch.uint32: torch.int64, torch.uint64: torch.int64}


def dtype_of(element: int) -> torch.dtype | None:
    """The torch type of an ONNX element type; None where torch has none."""
    return DTYPES.get(element)


def to_torch(values: np.ndarray) -> Any:
    """A tensor with the array's values, in memory of its own; strings stay an array."""
    if values.dtype in BITS:
        bits, dtype = BITS[values.dtype]
        return torch.from_numpy(values.view(bits).copy()).view(dtype)
    if values.dtype in NARROW:
        return torch.from_numpy(values.astype(NARROW[values.dtype]))
    if values.dtype.kind in "OSU":
        return values.astype(object)
    tensor = torch.empty(values.shape, dtype=torch.from_numpy(np.empty(0, values.dtype)).dtype)
    tensor.numpy()[...] = values  # into memory of torch's own, which is aligned for its kernels
    return tensor


def to_numpy(tensor: Any) -> np.ndarray:
    """The values of a tensor as an array, in their own type."""
    if isinstance(tensor, np.ndarray):
        return tensor
    tensor = tensor.detach().cpu().resolve_conj()
    for dtype, (bits, torch_dtype) in BITS.items():
        if tensor.dtype == torch_dtype:
            view = torch.int16 if bits is np.int16 else torch.uint8
            return tensor.contiguous().view(view).numpy().view(bits).view(dtype)
    return tensor.numpy()


def tensor_of(proto: onnx.TensorProto) -> Any:
    """The values of a tensor of the model's file."""
    return to_torch(numpy_helper.to_array(proto))


def stored_tensors(graph: onnx.GraphProto) -> Iterator[tuple[str, onnx.TensorProto]]:
    """The tensors that a graph itself holds, with their names: initializers, and what its Constant nodes make."""
    for weight in graph.initializer:
        yield weight.name, weight
    for node in graph.node:
        tensor = constant_of(node)
        if tensor is not None:
            yield node.output[0], tensor


def dense(sparse: onnx.SparseTensorProto) -> np.ndarray:
    """A sparse tensor with all its zeros; its indices count through all values, or are places of several axes."""
    values, indices = numpy_helper.to_array(sparse.values), numpy_helper.to_array(sparse.indices)
    result = np.zeros(tuple(sparse.dims), values.dtype)
    if indices.ndim == 1:
        result.reshape(-1)[indices] = values
    else:
        result[tuple(indices.T)] = values
    return result


def widened(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, for unsigned types that torch cannot compute in as well; all inputs have one type."""

    def compute(*values: torch.Tensor) -> torch.Tensor:
        wide = WIDER.get(values[0].dtype)
        if wide is None:
            return function(*values)
        result = function(*(value.to(wide) for value in values))
        return result.to(values[0].dtype) if result.dtype == wide else result

    return compute
