"""How right a candidate is beside the original, and how sure that is."""

from engine.measure.accuracy.choice import choose_metric
from engine.measure.accuracy.comparison import AccuracyComparison, Outputs, compare, fidelity, look_at_sums, run_outputs

__all__ = ["AccuracyComparison", "Outputs", "choose_metric", "compare", "fidelity", "look_at_sums", "run_outputs"]
