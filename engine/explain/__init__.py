"""Why a model is, or is not, faster: sentences that each rest on figures of the report.

Each rule looks at a report and gives a finding or none; none is given without a figure. The order is the reader's: what
brought the speed, where the time goes, what 8 bits can do here, and how far the figures can be trusted.
"""

from collections.abc import Callable

from engine.explain.activations import dead_channels, far_outliers, mostly_zero
from engine.explain.change import faster_kernels, fewer_operators, less_traffic, less_work
from engine.explain.eight_bits import (
    accuracy_depends_on_cpu,
    accuracy_same_on_cpus,
    conversion_cost,
    float_islands,
    format_matters,
    limit_of_int8,
    nothing_to_quantize,
)
from engine.explain.time import (
    dominated_by,
    memory_bound,
    near_peak,
    time_not_flops,
    time_without_flops,
    tiny_model,
    widths_not_multiple,
)
from engine.explain.trust import few_samples, made_up_inputs, noise_floor
from engine.report import Finding, Report

Rule = Callable[[Report], Finding | None]

RULES: tuple[Rule, ...] = (
    less_work,
    less_traffic,
    fewer_operators,
    faster_kernels,
    dominated_by,
    near_peak,
    memory_bound,
    tiny_model,
    time_not_flops,
    time_without_flops,
    widths_not_multiple,
    limit_of_int8,
    format_matters,
    float_islands,
    conversion_cost,
    accuracy_depends_on_cpu,
    accuracy_same_on_cpus,
    nothing_to_quantize,
    dead_channels,
    far_outliers,
    mostly_zero,
    noise_floor,
    few_samples,
    made_up_inputs,
)


def findings(report: Report) -> list[Finding]:
    """All that can be said of this report."""
    return [finding for rule in RULES if (finding := rule(report)) is not None]


__all__ = ["RULES", "Rule", "findings"]
