"""What operators make of channels, one file per family."""

from engine.prune.rules.attention import ATTENTION
from engine.prune.rules.layers import LAYERS
from engine.prune.rules.normalization import NORMALIZATIONS
from engine.prune.rules.numbers import NUMBERS, SHAPE
from engine.prune.rules.parts import PARTS
from engine.prune.rules.pointwise import POINTWISE
from engine.prune.rules.shaping import SHAPING
from engine.prune.rules.spatial import SPATIAL
from engine.prune.walk import Rule

RULES: dict[str, Rule] = {
    **ATTENTION,
    **LAYERS,
    **NORMALIZATIONS,
    **PARTS,
    **POINTWISE,
    **SHAPE,
    **SHAPING,
    **SPATIAL,
}

__all__ = ["NUMBERS", "RULES"]
