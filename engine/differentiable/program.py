"""A planned graph: slots instead of names, closures instead of nodes, and each value dropped after its last use."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from engine.differentiable.registry import Compute

ABSENT, UNREAD = 0, 1  #: slots of left-out inputs and of left-out outputs
LARGEST_ON_HOST = 64  #: integers; more than that is no shape


@dataclass
class Step:
    compute: Compute
    reads: tuple[int, ...]
    described: str
    host: frozenset[int]
    writes: tuple[int, ...] = ()
    dead: tuple[int, ...] = ()  #: slots that nothing reads after this step


@dataclass
class Program:
    """Call it with its inputs and the values that it reads from outside; it gives its outputs in order."""

    slots: int = 2
    constants: dict[int, Any] = field(default_factory=dict)
    inputs: list[int] = field(default_factory=list)
    outer: list[int] = field(default_factory=list)
    outputs: list[int] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    _first: list[Any] = field(init=False)  #: the values before the first step: constants, and None
    _plan: list[tuple[Compute, tuple[int, ...], tuple[int, ...], tuple[int, ...]]] = field(init=False)

    def finish(self) -> None:
        """Note after which step each value is read for the last time; must be called once, when all steps are there."""
        kept = {*self.outputs, *self.constants, ABSENT}
        for step in reversed(self.steps):
            step.dead = tuple({*step.reads, *step.writes} - kept)
            kept.update(step.dead)
        self.move(lambda constant: constant, on_host=True)

    def move(self, change: Callable[[Any], Any], *, on_host: bool) -> None:
        """Apply a change of device or type to the constants; shapes stay in main memory."""
        for slot, constant in self.constants.items():
            if isinstance(constant, torch.Tensor) and _follows(constant):
                self.constants[slot] = change(constant)
        self._first = [self.constants.get(slot) for slot in range(self.slots)]
        self._plan = [
            (step.compute if on_host else _together(step), step.reads, step.writes, step.dead) for step in self.steps
        ]

    def __call__(self, inputs: Sequence[Any], outer: Sequence[Any] = ()) -> list[Any]:
        values = self._first.copy()
        for slot, value in zip(self.inputs, inputs, strict=False):
            values[slot] = value
        for slot, value in zip(self.outer, outer, strict=True):
            values[slot] = value
        number = 0
        try:
            for number, (compute, reads, writes, dead) in enumerate(self._plan):  # noqa: B007
                result = compute(*[values[slot] for slot in reads])
                if type(result) is tuple:
                    for slot, value in zip(writes, result, strict=False):
                        values[slot] = value
                else:
                    values[writes[0]] = result
                for slot in dead:
                    values[slot] = None
        except Exception as error:
            error.add_note(f"in {self.steps[number].described}")
            raise
        return [values[slot] for slot in self.outputs]


def _follows(constant: torch.Tensor) -> bool:
    return constant.is_floating_point() or constant.numel() > LARGEST_ON_HOST


def _together(step: Step) -> Compute:
    """The step's computation with all that it reads on one device, where any of it is on a GPU."""
    compute, host = step.compute, step.host

    def on_one_device(*values: Any) -> Any:
        device = next((value.device for value in values if isinstance(value, torch.Tensor) and value.is_cuda), None)
        if device is None:
            return compute(*values)
        return compute(
            *(
                value.to(device) if isinstance(value, torch.Tensor) and index not in host else value
                for index, value in enumerate(values)
            )
        )

    return on_one_device
