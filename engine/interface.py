"""May one model stand in for another? Inputs and outputs keep name, order, type, rank, and each size that is fixed."""

from collections.abc import Sequence
from typing import Protocol

from engine.report import TensorInfo
from engine.words import shown


class Interface(Protocol):
    """What goes in and what comes out; a summary has it, and so has a signature."""

    @property
    def inputs(self) -> Sequence[TensorInfo]: ...

    @property
    def outputs(self) -> Sequence[TensorInfo]: ...


def difference(before: Interface, after: Interface) -> str | None:
    """What stands in the way, as the end of a sentence; None where nothing does."""
    for what, old, new in (("input", before.inputs, after.inputs), ("output", before.outputs, after.outputs)):
        if [tensor.name for tensor in old] != [tensor.name for tensor in new]:
            return f"its {what}s are {_names(new)}, not {_names(old)}"
        for one, other in zip(old, new, strict=True):
            if one.dtype != other.dtype or not _same_shape(one, other):
                return f"{what} {shown(one.name)} is {_tensor(other)}, not {_tensor(one)}"
    return None


def _names(tensors: Sequence[TensorInfo]) -> str:
    return ", ".join(shown(tensor.name) for tensor in tensors) or "none"


def _tensor(tensor: TensorInfo) -> str:
    if tensor.shape is None:
        return tensor.dtype
    return f"{tensor.dtype}[{', '.join('?' if size is None else str(size) for size in tensor.shape)}]"


def _same_shape(before: TensorInfo, after: TensorInfo) -> bool:
    if before.shape is None or after.shape is None:
        return True
    pairs = zip(before.shape, after.shape, strict=False)
    sizes_agree = all(old == new or not (isinstance(old, int) and isinstance(new, int)) for old, new in pairs)
    return len(before.shape) == len(after.shape) and sizes_agree
