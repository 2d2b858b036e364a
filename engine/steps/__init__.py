"""The techniques, bound to their options; the order is the one in which they are shown."""

from engine.recipe import QuantizeDynamic, QuantizeStatic, SimplifyGraph, Step
from engine.steps import quantize_dynamic, quantize_static, simplify_graph
from engine.steps.base import Rounds, Skipped, Standing, StepContext, Technique, Variant

STEPS: dict[type[Step], Technique] = {
    SimplifyGraph: simplify_graph,
    QuantizeStatic: quantize_static,
    QuantizeDynamic: quantize_dynamic,
}

__all__ = ["STEPS", "Rounds", "Skipped", "Standing", "StepContext", "Technique", "Variant"]
