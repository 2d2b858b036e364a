"""What removed channels brought, taken over by those that stay: least squares on calibration samples.

    x_R ≈ A x_K + m        A = Cov[x_R, x_K] (Cov[x_K, x_K] + λ)⁻¹,   m = E[x_R] - A E[x_K]
    W_K ← W_K + W_R A      b ← b + W_R m

R are the removed channels that a layer reads, K those that stay. Each tap of a kernel is corrected alike, so A has the
size of the channels alone. The mean goes into the bias where the layer has one of its own. After He et al. 2017,
“Channel pruning for accelerating very deep neural networks”, and Luo et al. 2017 (ThiNet).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from engine.graph import Wiring, attribute, is_standard
from engine.prune.channels import Ids
from engine.prune.moments import Key, Moments, key_of
from engine.prune.walk import Reader, Walk

RIDGE = 1e-3  #: λ, as a share of the mean variance of the channels that stay

Array = NDArray[np.float64]


@dataclass
class Reconstruction:
    walk: Walk
    removed: Ids
    seen: Mapping[Key, Moments]

    def __post_init__(self) -> None:
        self._gone = np.isin(self.walk.channels.all_roots(), self.removed)
        self._wiring = Wiring.of(self.walk.model.graph)
        self._values: dict[str, Array] = {}

    def weights(self) -> dict[str, onnx.TensorProto]:
        """Weights and biases that make up for what is removed, to be cut as the others are."""
        for reader in self.walk.readers:
            self._correct(reader)
        return {name: self._tensor(name, values) for name, values in self._values.items()}

    def _tensor(self, name: str, values: Array) -> onnx.TensorProto:
        dtype = numpy_helper.to_array(self.walk.weights[name]).dtype
        return numpy_helper.from_array(values.astype(dtype), name)

    def _correct(self, reader: Reader) -> None:
        found, ids = self.seen.get(key_of(reader)), (self.walk.axes[reader.tensor] or [])[reader.axis]
        if found is None or not found.has_pairs or not isinstance(ids, np.ndarray):
            return
        gone = self._gone[ids]
        if not gone.any() or self._wiring.uses[reader.weight] != 1:
            return
        bias = None if reader.groups > 1 else self._bias(reader.node)
        weight = self._value(reader.weight)
        inputs = np.moveaxis(weight, reader.weight_axis, 0)  # a view: what is written goes into the weight
        width = len(inputs)
        for group in range(reader.groups):
            part, rows = slice(group * width, (group + 1) * width), _outputs_of(inputs, group, reader.groups)
            shift = _take_over(rows, found, part, gone[part], centred=bias is not None)
            if bias is not None and shift is not None:
                self._values[bias] = self._value(bias) + shift
        self._values[reader.weight] = weight

    def _value(self, name: str) -> Array:
        if name in self._values:
            return self._values[name]
        return numpy_helper.to_array(self.walk.weights[name]).astype(np.float64)

    def _bias(self, node: onnx.NodeProto) -> str | None:
        """The constant of one value per output channel that this node alone adds."""
        if is_standard(node, "MatMul"):
            readers = self._wiring.readers[node.output[0]]
            added = list(readers[0].input) if len(readers) == 1 and is_standard(readers[0], "Add") else []
        else:
            added = list(node.input[2:3])
        plain = attribute(node, "alpha", 1.0) == attribute(node, "beta", 1.0) == 1.0
        for name in added:
            if plain and name in self.walk.weights and self._wiring.uses[name] == 1:
                return name if len(self.walk.weights[name].dims) == 1 else None
        return None


def _outputs_of(inputs: Array, group: int, groups: int) -> Array:
    """The rows of a weight (inputs, outputs, …) that make the outputs of one group."""
    size = inputs.shape[1] // groups
    return inputs[:, group * size : (group + 1) * size] if groups > 1 else inputs


def _take_over(inputs: Array, found: Moments, part: slice, gone: NDArray[np.bool_], *, centred: bool) -> Array | None:
    """Correct a weight (inputs, outputs, …) in place; what its outputs get on top, where means go into a bias."""
    mean = found.mean[part]
    second = found.second[part, part] - np.outer(mean, mean) if centred else found.second[part, part]
    stays = ~gone
    among, across = second[np.ix_(stays, stays)], second[np.ix_(gone, stays)]
    ridge = RIDGE * np.trace(among) / max(len(among), 1) + np.finfo(np.float32).tiny
    share = np.linalg.solve(among + ridge * np.eye(len(among)), across.T).T  # A: (removed, kept)
    removed = inputs[gone]
    inputs[stays] += np.tensordot(share, removed, axes=(0, 0))
    if not centred:
        return None
    shift = np.tensordot(mean[gone] - share @ mean[stays], removed, axes=(0, 0))
    return shift.sum(axis=tuple(range(1, shift.ndim)))
