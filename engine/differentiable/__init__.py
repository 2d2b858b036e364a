"""An ONNX graph as a torch module: torch is only its autograd, the graph stays what it is.

Importing this package does not import torch; `DifferentiableGraph` does, when it is first asked for.
"""

from typing import TYPE_CHECKING, Any

from engine.differentiable.known import UnsupportedOperator, supported

if TYPE_CHECKING:
    from engine.differentiable.graph import DifferentiableGraph

__all__ = ["DifferentiableGraph", "UnsupportedOperator", "supported"]


def __getattr__(name: str) -> Any:
    if name == "DifferentiableGraph":
        from engine.differentiable.graph import DifferentiableGraph

        return DifferentiableGraph
    raise AttributeError(name)
