"""Operators by family; importing this package enters them all into the registry."""

from engine.differentiable.ops import (
    arithmetic,
    cast,
    control,
    indexing,
    pointwise,
    random,
    reduction,
    sequence,
    shaping,
)

FAMILIES = (arithmetic, cast, control, indexing, pointwise, random, reduction, sequence, shaping)
