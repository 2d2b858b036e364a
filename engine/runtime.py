"""Does ONNX Runtime take this model, and do two models agree? Its answer decides, for it is what serves them.

Nothing is optimized here: folding constants would run parts of a model at its upload, and hide what differs.
"""

import re
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as native

from engine.data import Samples
from engine.errors import ModelRejected
from engine.measure.session import open_session, session_options

#: what ONNX Runtime raises; its exceptions have no common class
ERRORS = (
    native.EPFail,
    native.Fail,
    native.InvalidArgument,
    native.InvalidGraph,
    native.InvalidProtobuf,
    native.NoModel,
    native.NoSuchFile,
    native.NotFound,
    native.NotImplemented,
    native.RuntimeException,
    RuntimeError,
    ValueError,
)
LONGEST_MESSAGE = 400
NO_KERNEL = "Could not find an implementation"  #: what it says of an operator in a type or version that it lacks
NO_KERNEL_REMEDY = "Export the model in float32, or for another opset: it has no kernel for this operator as it stands."
NO_LOCALE = "Failed to construct locale"  #: of a StringNormalizer, which wants en_US.UTF-8 unless it says otherwise
NO_LOCALE_REMEDY = "Install this locale on the machine that runs Strop; on Debian: the package locales, and localedef."
SAME_NAME = "two nodes with same node name"
SAME_NAME_REMEDY = "Give each node a name of its own, or none of them a name."
INVALID_REMEDY = "Check the model with onnx.checker.check_model, or export it for another opset."
REMEDIES = {
    NO_KERNEL: NO_KERNEL_REMEDY,
    NO_LOCALE: NO_LOCALE_REMEDY,
    SAME_NAME: SAME_NAME_REMEDY,
}  #: by what ONNX Runtime says
RELATIVE_TOLERANCE = 1e-3


def check_loads(path: Path) -> None:
    """Open a session on the model, or raise ModelRejected with ONNX Runtime's reason."""
    try:
        _plain_session(path)
    except ERRORS as error:
        detail = f"ONNX Runtime {onnxruntime.__version__} cannot load the model: {reason(error)}"
        remedies = (remedy for words, remedy in REMEDIES.items() if words in str(error))
        raise ModelRejected("model_does_not_load", detail, next(remedies, INVALID_REMEDY)) from error


def same_outputs(first: Path, second: Path, samples: Samples) -> bool:
    """Whether two models give the same outputs on samples, but for rounding; not where one of them fails."""
    try:
        one, other = _plain_session(first), _plain_session(second)
        return all(_close(one.run(None, feeds), other.run(None, feeds)) for feeds in samples.batches(1))
    except ERRORS:
        return False


def breakage(original: Path, other: Path, samples: Samples) -> str | None:
    """Why another form of a model cannot serve, run node by node in the types that it says; None where it can."""
    try:
        first, second = _plain_session(original), _plain_session(other)
        for feeds in samples.batches(1):
            pairs = zip(first.run(None, feeds), second.run(None, feeds), strict=True)
            if any(_is_finite(before) and not _is_finite(after) for before, after in pairs):
                return "its outputs would be infinite, or not numbers"
    except ERRORS as error:
        return f"ONNX Runtime cannot run it: {reason(error)}"
    return None


def _is_finite(output: Any) -> bool:
    values = np.asarray(output)
    return values.dtype.kind != "f" or bool(np.isfinite(values).all())


def _plain_session(path: Path) -> onnxruntime.InferenceSession:
    options = session_options(1)
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return open_session(path, "cpu", options)


def _close(first: list[Any], second: list[Any]) -> bool:
    pairs = [(np.asarray(one), np.asarray(other)) for one, other in zip(first, second, strict=True)]
    return all(one.shape == other.shape and (one.dtype.kind != "f" or _near(one, other)) for one, other in pairs)


def _near(one: np.ndarray, other: np.ndarray) -> bool:
    tolerance = RELATIVE_TOLERANCE * np.abs(one).max(initial=0)
    return bool(np.allclose(one, other, RELATIVE_TOLERANCE, tolerance, equal_nan=True))


def reason(error: Exception) -> str:
    """ONNX Runtime's message without its status code, source lines and paths of this machine."""
    text = re.sub(r"\[ONNXRuntimeError\] : \d+ : \w+ : ", "", str(error))
    text = re.sub(r"Load model from \S+ failed:\s*", "", text)
    text = re.sub(r"(?:/[\w.+-]+){2,}(?::\d+)?(?: [\w:~<>, *&()]*?\))? ?", "", text)
    return " ".join(text.split())[:LONGEST_MESSAGE]
