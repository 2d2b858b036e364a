"""The techniques, bound to their options; the order is the one in which they are shown."""

from engine.recipe import (
    ConvertFloat16,
    Distill,
    PruneChannels,
    PruneWeights,
    QuantizeAwareTraining,
    QuantizeDynamic,
    QuantizeStatic,
    QuantizeWeights,
    ReplaceLayers,
    SimplifyGraph,
    Step,
    UseModel,
)
from engine.steps import (
    convert_float16,
    distill,
    prune_channels,
    prune_weights,
    quantize_aware_training,
    quantize_dynamic,
    quantize_static,
    quantize_weights,
    replace_layers,
    simplify_graph,
    use_model,
)
from engine.steps.base import Rounds, Skipped, Standing, StepContext, Technique, Variant

STEPS: dict[type[Step], Technique] = {
    SimplifyGraph: simplify_graph,
    QuantizeStatic: quantize_static,
    QuantizeDynamic: quantize_dynamic,
    QuantizeWeights: quantize_weights,
    ConvertFloat16: convert_float16,
    PruneChannels: prune_channels,
    ReplaceLayers: replace_layers,
    PruneWeights: prune_weights,
    Distill: distill,
    QuantizeAwareTraining: quantize_aware_training,
    UseModel: use_model,
}

__all__ = ["STEPS", "Rounds", "Skipped", "Standing", "StepContext", "Technique", "Variant"]
