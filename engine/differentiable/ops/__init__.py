"""Operators by family; importing this package enters them all into the registry."""

from engine.differentiable.ops import arithmetic, pointwise, shaping

FAMILIES = (arithmetic, pointwise, shaping)
