"""Models on disk, and what admission says of them."""

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from engine.admission import admit
from engine.errors import ModelRejected
from tests.models import mlp


def refusal(path: Path, companions: dict[str, Path] | None = None) -> ModelRejected:
    with pytest.raises(ModelRejected) as caught:
        admit(path, companions or {})
    assert caught.value.remedy
    return caught.value


def written(tmp_path: Path, model: onnx.ModelProto | bytes) -> Path:
    path = tmp_path / "model.onnx"
    path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    return path


def with_weight(change: Callable[[onnx.TensorProto], object]) -> onnx.ModelProto:
    model = mlp().model()
    change(model.graph.initializer[0])
    return model
