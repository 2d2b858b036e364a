"""The differentiable graph: an ONNX graph that torch can differentiate, trained in place and written back.

graph = DifferentiableGraph(model)
logits = graph({"image": images})["logits"]
loss(logits).backward()                      # graph.parameters() are the float initializers
save(graph.written_back(), path)             # the same file with other values
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from engine.differentiable import ops
from engine.differentiable.elements import stored_tensors, to_numpy
from engine.differentiable.plan import planned
from engine.graph import all_graphs, inlined

assert ops.FAMILIES  # importing them has entered their operators


class DifferentiableGraph(nn.Module):
    """An ONNX graph as a torch module whose parameters are the graph's float initializers.

    model: kept, not copied, and never changed. taps: names of inner tensors that are wanted beside the outputs.
    Raises UnsupportedOperator where a node cannot be computed.
    """

    def __init__(self, model: onnx.ModelProto, *, taps: Sequence[str] = ()) -> None:
        super().__init__()
        self._model = model
        plain = inlined(model)
        self._main, whole = planned(plain, taps)
        self._programs = whole.programs
        self._places = _places(model, plain, whole.weights.protos)
        names = whole.weights.trained()
        self._names = [name for name in names if name in self._places]
        for name in set(names) - set(self._names):
            self._main.constants[whole.weights.slots[name]] = whole.weights.values[name]
        self._weights = nn.ParameterList([nn.Parameter(whole.weights.values[name]) for name in self._names])
        stored = {weight.name for weight in plain.graph.initializer}
        self.inputs = [value.name for value in plain.graph.input if value.name not in stored]
        self.outputs = [*(value.name for value in plain.graph.output), *taps]
        self._main.inputs += [whole.weights.slots[name] for name in self._names]
        self._settle(lambda constant: constant)

    def forward(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Outputs and taps by name; feeds by the names of the inputs, of which optional ones may be left out."""
        results = self._main([*(feeds.get(name) for name in self.inputs), *self._parameter_list])
        return dict(zip(self.outputs, results, strict=True))

    def weights(self) -> dict[str, nn.Parameter]:
        """The parameters by the names of their initializers."""
        return dict(zip(self._names, self._parameter_list, strict=True))

    def written_back(self) -> onnx.ModelProto:
        """The model with the present values of the weights; what was not trained is the same bit for bit."""
        model = onnx.ModelProto()
        model.CopyFrom(self._model)
        stored = _stored(model)
        for name, weight in self.weights().items():
            own_name, number = self._places[name]
            _write(stored[own_name][number], weight)
        return model

    def _settle(self, change: Callable[[Tensor], Tensor]) -> None:
        """Bring the constants to where the parameters are."""
        self._parameter_list = list(self._weights)
        on_host = change(torch.empty(0)).device.type == "cpu"
        for program in self._programs:
            program.move(change, on_host=on_host)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "DifferentiableGraph":  # noqa: FBT001, FBT002
        super()._apply(fn, recurse)
        self._settle(fn)
        return self


Place = tuple[str, int]  #: the name of a tensor of the file, and which it is among those of the name


def _stored(model: onnx.ModelProto) -> dict[str, list[onnx.TensorProto]]:
    """Tensors that all graphs hold, by name; graphs beside each other may use a name twice."""
    found = defaultdict(list)
    for graph in all_graphs(model.graph):
        for name, tensor in stored_tensors(graph):
            found[name].append(tensor)
    return found


def _places(
    model: onnx.ModelProto, plain: onnx.ModelProto, protos: Mapping[str, tuple[str, onnx.TensorProto]]
) -> dict[str, Place]:
    """Where each weight lies in the model's file; those inside of functions lie in no place of their own."""
    there, here = _stored(model), _stored(plain)
    places = {}
    for key, (name, proto) in protos.items():
        number = next((number for number, other in enumerate(here[name]) if other is proto), None)
        if number is not None and len(there[name]) == len(here[name]):
            places[key] = name, number
    return places


def _write(place: onnx.TensorProto, weight: Tensor) -> None:
    """Put other values into an initializer, unless they are the same."""
    before = numpy_helper.to_array(place)
    values = to_numpy(weight).astype(before.dtype)
    if np.array_equal(values.reshape(-1).view(np.uint8), before.reshape(-1).view(np.uint8)):
        return
    for data in ("float_data", "double_data", "int32_data"):
        place.ClearField(data)
    place.raw_data = values.tobytes()
