"""Where something else could stand: regions of a graph with one input and one output.

    layer    a dense convolution, or a matrix product with a constant; the activation behind it stays
    block    a residual sum x + f(x) and all that makes f(x) of x

Sites may overlap, as a block and the layers inside of it do; only one of those is replaced.
"""

from dataclasses import dataclass
from math import prod

import onnx

from engine.graph import Wiring, attribute, is_standard, weights_of

ACTIVATIONS = ("Clip", "Elu", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu", "Mish", "Relu", "Sigmoid", "Tanh")
FEWEST_WEIGHTS = 256  #: of a layer that is worth a look


@dataclass(frozen=True)
class Site:
    """One place. A node is known by the name of its first output."""

    name: str  #: for people: of its node, or of its output
    node: onnx.NodeProto  #: the layer, or the addition at the end of a block
    input: str
    output: str
    covered: frozenset[str]  #: nodes that go
    activation: onnx.NodeProto | None = None  #: what alone reads the output

    @property
    def is_block(self) -> bool:
        return is_standard(self.node, "Add")

    @property
    def activated(self) -> str:
        """What the rest of the network sees of it."""
        return self.activation.output[0] if self.activation is not None else self.output


def sites(model: onnx.ModelProto) -> list[Site]:
    """All of them in the main graph, in its order. Constants of the model are initializers."""
    wiring, weights = Wiring.of(model.graph), weights_of(model)
    found = (_layer(node, wiring, weights) or _block(node, wiring, weights) for node in model.graph.node)
    return [site for site in found if site is not None]


def _layer(node: onnx.NodeProto, wiring: Wiring, weights: dict[str, onnx.TensorProto]) -> Site | None:
    if not is_standard(node, "Conv", "MatMul", "Gemm") or not _is_plain(node, wiring, weights):
        return None
    readers = wiring.readers[node.output[0]]
    alone = len(readers) == 1 == wiring.uses[node.output[0]] and is_standard(readers[0], *ACTIVATIONS)
    constants = all(name in weights for name in readers[0].input[1:] if name) if alone else False
    covered = frozenset(node.output[:1])
    name = node.name or node.output[0]
    return Site(name, node, node.input[0], node.output[0], covered, readers[0] if constants else None)


def _is_plain(node: onnx.NodeProto, wiring: Wiring, weights: dict[str, onnx.TensorProto]) -> bool:
    """Whether it multiplies something by a constant of its own, and adds a constant at most."""
    weight = weights.get(node.input[1])
    if weight is None or weight.data_type != onnx.TensorProto.FLOAT or node.input[0] in weights:
        return False
    usual = attribute(node, "alpha", 1.0) == attribute(node, "beta", 1.0) == 1.0 and not attribute(node, "transA", 0)
    added = [name for name in node.input[2:] if name]
    sole = wiring.uses[node.input[1]] == 1 and all(_is_vector(weights.get(name)) for name in added)
    rank = 4 if is_standard(node, "Conv") else 2
    return (
        usual
        and sole
        and len(weight.dims) == rank
        and prod(weight.dims) >= FEWEST_WEIGHTS
        and attribute(node, "group", 1) == 1
    )


def _is_vector(bias: onnx.TensorProto | None) -> bool:
    """Whether it is a constant that has the same values for every row."""
    return bias is not None and all(size == 1 for size in bias.dims[:-1])


def _block(node: onnx.NodeProto, wiring: Wiring, weights: dict[str, onnx.TensorProto]) -> Site | None:
    if not is_standard(node, "Add") or len(set(node.input)) != 2:
        return None
    for start, end in (tuple(node.input), tuple(node.input)[::-1]):
        inner = _between(start, end, wiring, weights)
        if inner and start not in weights:
            name = node.name or node.output[0]
            return Site(name, node, start, node.output[0], frozenset({*inner, node.output[0]}))
    return None


def _between(start: str, end: str, wiring: Wiring, weights: dict[str, onnx.TensorProto]) -> set[str] | None:
    """Nodes that make `end` of `start` and constants alone, and serve nothing else; None where there is more to it."""
    inner: set[str] = set()
    waiting, reads_start = [end], False
    while waiting:
        name = waiting.pop()
        if name == start:
            reads_start = True
            continue
        node = wiring.producers.get(name)
        if name in weights or (node is not None and node.output[0] in inner):
            continue
        if node is None or len(node.output) != 1 or any(entry.HasField("g") for entry in node.attribute):
            return None
        inner.add(name)
        waiting += [one for one in node.input if one]
    return inner if reads_start and _closed(inner, end, wiring) else None


def _closed(inner: set[str], end: str, wiring: Wiring) -> bool:
    """Whether nothing outside reads what is made inside; the end is read once, by the sum."""
    reads = (wiring.uses[name] == len(_readers_inside(name, inner, wiring)) + (name == end) for name in inner)
    return all(reads)


def _readers_inside(name: str, inner: set[str], wiring: Wiring) -> list[onnx.NodeProto]:
    return [reader for reader in wiring.readers[name] if reader.output[0] in inner]
