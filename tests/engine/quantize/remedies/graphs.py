"""What the tests of the remedies share: runs of a graph as it stands, nets with channels that differ."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from engine.data import fit_samples
from engine.measure.session import session_options
from engine.quantize.calibrate import Calibrator
from engine.quantize.plan import plan
from engine.quantize.qdq import Format, quantized
from engine.signature import Signature
from tests.models import Net

Arrays = Mapping[str, np.ndarray]

PER_TENSOR = Format(signed=True, reduced=False, per_channel=False)
PER_CHANNEL = Format(signed=True, reduced=False, per_channel=True)


def outputs(model: onnx.ModelProto, feeds: Arrays) -> list[np.ndarray]:
    """Outputs of the graph as it is written, so that no kernel of this machine saturates."""
    options = session_options(1)
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, dict(feeds)))


def same(one: onnx.ModelProto, other: onnx.ModelProto, feeds: Arrays) -> bool:
    """Whether all outputs are equal but for the rounding of float32."""
    pairs = zip(outputs(one, feeds), outputs(other, feeds), strict=True)
    return all(np.abs(first - second).max() <= 1e-4 * np.abs(first).max() for first, second in pairs)


def calibrator(model: onnx.ModelProto, feeds: Arrays, folder: Path) -> Calibrator:
    return Calibrator(model, fit_samples(dict(feeds), Signature.of(model), None), folder, 1, lambda: None)


def fidelity_db(
    reference: list[np.ndarray], model: onnx.ModelProto, feeds: Arrays, folder: Path, form: Format
) -> float:
    """SQNR of the quantized model's first output, ranges by min-max."""
    planned = plan(model)
    ranges = calibrator(model, feeds, folder).minmax(sorted(set(planned.owners.values())))
    noise = outputs(quantized(model, planned, ranges, form), feeds)[0] - reference[0]
    return float(10 * np.log10(np.square(reference[0]).sum() / np.square(noise).sum()))


def uneven(net: Net, spread: float, seed: int = 0) -> Net:
    """The net with each output channel of its convolutions a different size, some tiny and some huge."""
    random = np.random.default_rng(seed)
    for index, tensor in enumerate(net.weights):
        values = onnx.numpy_helper.to_array(tensor)
        if values.ndim == 4:
            factors = np.exp(random.normal(0, spread, (len(values), 1, 1, 1))).astype(np.float32)
            net.weights[index] = onnx.numpy_helper.from_array(values * factors, tensor.name)
    return net


def images(count: int, channels: int = 3, size: int = 16) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((count, channels, size, size)).astype(np.float32)
