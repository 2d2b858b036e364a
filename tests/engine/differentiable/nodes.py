"""Models of one node, computed by ONNX Runtime and by the differentiable graph.

OneNode("Conv", floats(1, 3, 8, 8), floats(4, 3, 3, 3)).check()       # equal outputs, gradients as they should be
"""

from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import helper, numpy_helper

from engine.differentiable import DifferentiableGraph
from engine.differentiable.elements import to_numpy, to_torch

TOLERANCE = 2e-5


def floats(*shape: int, seed: int = 0) -> np.ndarray:
    """Random numbers around zero."""
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def positives(*shape: int) -> np.ndarray:
    return np.abs(floats(*shape)) + np.float32(0.5)


def levels(*shape: int, element: type = np.uint8, low: int = 0, high: int = 127) -> np.ndarray:
    """Random whole numbers of a quantized type."""
    return np.random.default_rng(shape).integers(low, high, shape, endpoint=True).astype(element)


class OneNode:
    """An operator with its inputs by position (None: left out); those named in `constants` are initializers."""

    def __init__(
        self,
        operator: str,
        *inputs: Any,
        outputs: int = 1,
        constants: tuple[int, ...] = (),
        opset: int = 21,
        domain: str = "",
        **attributes: Any,
    ) -> None:
        self.arrays = [None if value is None else np.asarray(value) for value in inputs]
        self.names = ["" if value is None else f"i{index}" for index, value in enumerate(inputs)]
        self.constants, self.opset = constants, opset
        self.results = [f"o{index}" for index in range(outputs)]
        self.node = helper.make_node(operator, self.names, self.results, domain=domain, **attributes)

    def model(self, element: type | None = None) -> onnx.ModelProto:
        """The node as a model; `element`: with floats of that type."""
        stored, fed = [], []
        for index, (name, array) in enumerate(zip(self.names, self.arrays, strict=True)):
            if array is None:
                continue
            values = _as(array, element)
            if index in self.constants:
                stored.append(numpy_helper.from_array(values, name))
            else:
                fed.append(helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(values.dtype), None))
        outputs = [helper.make_empty_tensor_value_info(name) for name in self.results]
        graph = helper.make_graph([self.node], "one node", fed, outputs, stored)
        versions = {"": self.opset, "com.microsoft": 1, "ai.onnx.ml": 3}
        opsets = [helper.make_opsetid(domain, version) for domain, version in versions.items()]
        return helper.make_model(graph, opset_imports=opsets, ir_version=10)

    def feeds(self) -> dict[str, np.ndarray]:
        return {
            name: array
            for index, (name, array) in enumerate(zip(self.names, self.arrays, strict=True))
            if array is not None and index not in self.constants
        }

    def ours(self) -> list[np.ndarray]:
        with torch.no_grad():
            results = DifferentiableGraph(self.model())({name: to_torch(value) for name, value in self.feeds().items()})
        return [to_numpy(value) for value in results.values()]

    def onnxruntimes(self) -> list[np.ndarray]:
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = onnxruntime.InferenceSession(self.model().SerializeToString(), options)
        return session.run(None, self.feeds())

    def check_outputs(self, tolerance: float = TOLERANCE) -> None:
        """All outputs are ONNX Runtime's, in value, shape and type."""
        for ours, theirs in zip(self.ours(), self.onnxruntimes(), strict=True):
            assert ours.dtype == theirs.dtype
            assert ours.shape == theirs.shape
            np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance)

    def check_gradients(self) -> None:
        """Gradients by all float inputs are finite differences, in double precision."""
        graph = DifferentiableGraph(self.model(np.float64))
        fed = {name: to_torch(_as(value, np.float64)) for name, value in self.feeds().items()}
        wanted = [name for name, value in fed.items() if value.is_floating_point()]

        def run(*values: torch.Tensor) -> tuple[torch.Tensor, ...]:
            results = graph({**fed, **dict(zip(wanted, values, strict=True))}).values()
            return tuple(value for value in results if value.requires_grad)

        inputs = [fed[name].requires_grad_() for name in wanted]
        assert torch.autograd.gradcheck(run, inputs, check_undefined_grad=False)

    def check(self, tolerance: float = TOLERANCE) -> None:
        self.check_outputs(tolerance)
        self.check_gradients()


def _as(array: np.ndarray, element: type | None) -> np.ndarray:
    return array if element is None or array.dtype.kind != "f" else array.astype(element)
