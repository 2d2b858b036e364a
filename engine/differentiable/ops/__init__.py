"""Operators by family; importing this package enters them all into the registry."""

from engine.differentiable.ops import (
    arithmetic,
    attention,
    cast,
    control,
    convolution,
    indexing,
    normalization,
    pointwise,
    pooling,
    random,
    recurrent,
    reduction,
    resize,
    sequence,
    shaping,
)

FAMILIES = (
    arithmetic,
    attention,
    cast,
    control,
    convolution,
    indexing,
    normalization,
    pointwise,
    pooling,
    random,
    recurrent,
    reduction,
    resize,
    sequence,
    shaping,
)
