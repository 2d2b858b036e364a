"""What the offered file does otherwise than the original: work, traffic, operators, kernels."""

from engine.report import Finding, Profile, Report
from engine.words import change, count, digits, milliseconds, size

CLEARLY_LESS = 0.95  #: of what it was
CLEARLY_DIFFERENT = 0.1  #: of the rate of the kernels


def less_work(report: Report) -> Finding | None:
    before, after = report.baseline.macs, report.optimized.macs
    if not before or after is None or after > CLEARLY_LESS * before:
        return None
    text = f"A run takes {count(after)} multiply-accumulates instead of {count(before)}, {change(before, after)}."
    return Finding(code="less_work", text=text, severity="good")


def less_traffic(report: Report) -> Finding | None:
    before, after = report.baseline.bytes_moved, report.optimized.bytes_moved
    if not before or not after or after > CLEARLY_LESS * before:
        return None
    text = f"A run reads and writes about {size(after)} instead of {size(before)}, {change(before, after)}."
    return Finding(code="less_traffic", text=text, severity="good")


def fewer_operators(report: Report) -> Finding | None:
    if report.profile_before is None or report.profile_after is None:
        return None
    before, after = len(report.profile_before.operators), len(report.profile_after.operators)
    if after >= before:
        return None
    text = f"ONNX Runtime executes {after} operators instead of {before}: the rest was folded or fused."
    return Finding(code="fewer_operators", text=text, severity="good")


def faster_kernels(report: Report) -> Finding | None:
    """The rate of all operators that multiply, before and after."""
    before, after = rate(report.profile_before), rate(report.profile_after)
    if before is None or after is None or abs(after / before - 1) < CLEARLY_DIFFERENT:
        return None
    rates = f"{digits(after)} instead of {digits(before)} GOP/s"
    if after > before:
        return Finding(code="faster_kernels", text=f"The layers that multiply run at {rates}.", severity="good")
    spent = milliseconds(multiplying_ms(report.profile_after))
    text = f"The layers that multiply run at only {rates}, and take {spent} of a run: their kernels suit them less."
    return Finding(code="slower_kernels", text=text, severity="warning")


def rate(profile: Profile | None) -> float | None:
    """10⁹ operations per second, two for each multiply-accumulate."""
    time_ms = multiplying_ms(profile)
    if profile is None or not time_ms:
        return None
    return sum(2 * (operator.macs or 0) for operator in profile.operators) / time_ms / 1e6


def multiplying_ms(profile: Profile | None) -> float:
    return sum(operator.time_ms for operator in profile.operators if operator.macs) if profile else 0.0
