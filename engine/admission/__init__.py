"""What a stranger's file must pass before any native parser sees it.

    sniff      is it ONNX at all, or a pickle, a program, another framework's file?
    wire       a bounded walk over the protobuf encoding: how many messages, how deep, nothing cut off
    tensors    each tensor's declared shape accounts for its bytes; data outside of the file stays in its bundle
    operators  known domains only; functions call each other without a circle
    bombs      no node makes gigabytes out of nothing

Each refusal has a stable code, names the tensor or node, and says what to do.
"""

from collections.abc import Mapping
from pathlib import Path

import onnx

from engine.admission.bombs import check_sizes
from engine.admission.operators import check_operators
from engine.admission.sniff import check_magic
from engine.admission.tensors import check_tensors
from engine.admission.wire import check_wire
from engine.graph import load

NO_COMPANIONS: Mapping[str, Path] = {}


def admit(path: Path, companions: Mapping[str, Path] = NO_COMPANIONS) -> onnx.ModelProto:
    """Read a model that passes every check, or raise ModelRejected; `companions` are its data files by location."""
    check_magic(path)
    check_wire(path)
    model = load(path)
    check_tensors(model, companions)
    check_operators(model)
    check_sizes(model)
    return model
