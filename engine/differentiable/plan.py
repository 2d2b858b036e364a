"""Planning: names become slots, nodes become closures; what depends on no input and no weight is computed at once."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import torch

from engine.differentiable.elements import FLOATS, dense, stored_tensors, tensor_of, to_numpy, to_torch
from engine.differentiable.fuse import fused
from engine.differentiable.known import UnsupportedOperator, described, key_of
from engine.differentiable.program import ABSENT, UNREAD, Program, Step
from engine.differentiable.registry import OPERATORS, Body, Node, Operator
from engine.graph import NO_INPUT, ONNX_DOMAINS, Names, all_nodes, tensor_types

#: operators whose weights are trained though they may be single numbers
LAYERS = ("Conv", "ConvTranspose", "Gemm", "PRelu", "QuantizeLinear", "DequantizeLinear")
#: what a computation in advance may raise where it would also fail later, if it is reached at all
FAILURES = (RuntimeError, ValueError, TypeError, IndexError, ZeroDivisionError, NotImplementedError)


@dataclass
class Weights:
    """The float initializers that can be trained, of the graph and of the bodies inside."""

    protos: dict[str, tuple[str, onnx.TensorProto]] = field(default_factory=dict)  #: each with the name in its graph
    values: dict[str, torch.Tensor] = field(default_factory=dict)
    slots: dict[str, int] = field(default_factory=dict)
    settings: set[str] = field(default_factory=set)  #: those that an operator asked for as constants

    def trained(self) -> list[str]:
        """Names of those that are parameters."""
        return [name for name in self.protos if name not in self.settings]


@dataclass
class Whole:
    """What all graphs of a model share while they are planned."""

    versions: dict[str, int]  #: opset of each domain
    singles: set[str]  #: names of what may be a weight though it is a single number
    names: Names
    weights: Weights = field(default_factory=Weights)
    programs: list[Program] = field(default_factory=list)

    @classmethod
    def of(cls, model: onnx.ModelProto) -> "Whole":
        domains = {"" if entry.domain in ONNX_DOMAINS else entry.domain: entry.version for entry in model.opset_import}
        singles = {name for node in all_nodes(model) if node.op_type in LAYERS for name in node.input[1:]}
        return cls(domains, singles, Names.of(model))

    def trains(self, name: str, proto: onnx.TensorProto) -> bool:
        """Whether a tensor of the file is a weight. Most single numbers are not: ε, exponents, factors of a formula."""
        return proto.data_type in FLOATS and (math.prod(proto.dims) > 1 or name in self.singles)


class Scope:
    """The names of one graph while it is being planned."""

    def __init__(self, graph: onnx.GraphProto, whole: "Whole", outside: "Scope | None" = None) -> None:
        self.graph = graph
        self.whole = whole
        self.outside = outside
        self.root: Scope = outside.root if outside else self
        self.program = Program()
        self.slots: dict[str, int] = {}
        self.read_outside: list[str] = []  #: names of outer values, in the order of `program.outer`
        self.stored = dict(stored_tensors(graph))
        self.types = tensor_types(graph)
        self.keys: dict[str, str] = {}  #: names of weights, as this graph and as the whole model knows them

    def plan(self, outputs: Sequence[str]) -> Program:
        """Plan all nodes."""
        self.program.inputs = [self.fresh(value.name) for value in self.graph.input if value.name not in self.stored]
        for sparse in self.graph.sparse_initializer:
            self.program.constants[self.fresh(sparse.values.name)] = to_torch(dense(sparse))
        for node in fused(self.graph, outputs):
            self._add(node)
        self.program.outputs = [self.slot(name) for name in outputs]
        self.whole.programs.append(self.program)
        return self.program

    # ── names ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def fresh(self, name: str) -> int:
        """A slot for a value that is made here."""
        slot = self.program.slots
        self.program.slots += 1
        self.slots[name] = slot
        return slot

    def slot(self, name: str) -> int:
        """The slot of a value that is read here; outer values and weights get one when they are first read."""
        if name == NO_INPUT:
            return ABSENT
        if name not in self.slots:
            if name in self.stored:
                self._store(name)
            else:
                self._take_from_outside(name)
        return self.slots[name]

    def _store(self, name: str) -> None:
        proto = self.stored[name]
        if not self.whole.trains(name, proto):
            self.program.constants[self.fresh(name)] = tensor_of(proto)
            return
        weights = self.whole.weights
        key = name if name not in weights.protos else self.whole.names.fresh(name)
        weights.protos[key] = name, proto
        weights.values[key] = tensor_of(proto)
        weights.slots[key] = self.root.fresh(key)
        self.root.keys[key] = key
        if self is not self.root:
            self._capture(name, key)

    def _take_from_outside(self, name: str) -> None:
        if self.outside is None:
            raise KeyError(f"nothing makes the tensor {name!r}")
        outer = self.outside.slot(name)
        if outer in self.outside.program.constants:
            self.program.constants[self.fresh(name)] = self.outside.program.constants[outer]
        else:
            self._capture(name, name)

    def _capture(self, name: str, outer_name: str) -> None:
        """Read a value from outside; where it is a weight, the name that the whole model gives it goes along."""
        assert self.outside is not None
        self.outside.slot(outer_name)
        if outer_name in self.outside.keys:
            self.keys[name] = self.outside.keys[outer_name]
        self.read_outside.append(outer_name)
        self.program.outer.append(self.fresh(name))

    # ── what nodes ask ───────────────────────────────────────────────────────────────────────────────────────────────

    def constant(self, name: str) -> np.ndarray | None:
        """The value of a constant; a float initializer becomes one by that."""
        value = self._known(name)
        if name in self.keys:
            self.whole.weights.settings.add(self.keys[name])
        return None if value is None or isinstance(value, list) else to_numpy(value)

    def shape(self, name: str) -> tuple[int, ...] | None:
        value = self._known(name)
        return None if value is None or isinstance(value, list) else tuple(value.shape)

    def element(self, name: str) -> int:
        """The declared element type of a value; 0 where it is not declared."""
        if name in self.types:
            return self.types[name].element
        return self.outside.element(name) if self.outside else 0

    def _known(self, name: str) -> Any:
        """The value of a weight or a constant; None for others."""
        slot = self.slot(name)
        if name in self.keys:
            return self.whole.weights.values[self.keys[name]]
        return self.program.constants.get(slot)

    def body(self, node: Node, graph: onnx.GraphProto) -> Body:
        """Plan a graph inside of a node; what it reads from outside is read by the node."""
        inner = Scope(graph, self.whole, self)
        program = inner.plan([value.name for value in graph.output])
        for name in inner.read_outside:
            if name not in node.outer:
                node.outer.append(name)
        places = [node.outer.index(name) for name in inner.read_outside]
        return lambda inputs, outer: program(inputs, [outer[place] for place in places])

    # ── nodes ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _add(self, proto: onnx.NodeProto) -> None:
        if proto.op_type == "Constant" and proto.output[0] in self.stored:
            return  # it is stored when it is first read
        entered = OPERATORS.get(key_of(proto))
        if entered is None:
            raise UnsupportedOperator(proto)
        node = Node(proto, self._version(proto), self)
        compute = entered.prepare(node)  # planning its bodies tells what the node reads from outside
        reads = tuple(self.slot(name) for name in (*proto.input, *node.outer))
        step = Step(compute, reads, described(proto), entered.host)
        if not self._computed(step, proto, entered):
            step.writes = tuple(self.fresh(name) if name else UNREAD for name in proto.output)
            self.program.steps.append(step)

    def _version(self, proto: onnx.NodeProto) -> int:
        return self.whole.versions.get("" if proto.domain in ONNX_DOMAINS else proto.domain, 1)

    def _computed(self, step: Step, proto: onnx.NodeProto, entered: Operator) -> bool:
        """Whether the node's outputs are constants now."""
        constants = self.program.constants
        if entered.stochastic or not all(slot == ABSENT or slot in constants for slot in step.reads):
            return False
        try:
            with torch.no_grad():
                result = step.compute(*[constants.get(slot) for slot in step.reads])
        except FAILURES:
            return False
        values = result if isinstance(result, tuple) else (result,)
        for name, value in zip(proto.output, values, strict=False):
            if name:
                constants[self.fresh(name)] = value
        return True


def planned(model: onnx.ModelProto, taps: Sequence[str]) -> tuple[Program, Whole]:
    """The program of a model whose functions are inlined; taps are outputs beside its own."""
    whole = Whole.of(model)
    scope = Scope(model.graph, whole)
    program = scope.plan([*(value.name for value in model.graph.output), *taps])
    for name in whole.weights.settings:
        program.constants[whole.weights.slots[name]] = whole.weights.values[name]
    for each in whole.programs:
        each.finish()
    return program, whole
