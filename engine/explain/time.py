"""Where the time of the offered file goes, or of the original where none is offered."""

from engine.report import Bound, Finding, OperatorTime, Outcome, Profile, Report
from engine.words import digits, milliseconds, share, size

DOMINANT = 0.5
NEAR_PEAK = 0.7
MUCH = 0.25  #: share of the time that is worth a sentence
SOME = 0.1
OUT_OF_PROPORTION = 3  #: times as large a share of the time as of the work
TINY_OPERATOR_MS = 0.01
MOST_NAMED = 3
CONVOLUTIONS = {"Conv", "FusedConv"}
CONVERSIONS = {"QuantizeLinear", "DequantizeLinear"}
BODIES = {"If", "Loop", "Scan"}  #: what multiplies inside of them is not counted as theirs
X86, WIDE_VECTORS = "sse4_2", "avx512f"


def latest(report: Report) -> Profile | None:
    profile = report.profile_after or report.profile_before
    return profile if profile and profile.operators and profile.total_ms > 0 else None


def whose(report: Report) -> str:
    return "the optimized file" if report.profile_after else _original(report)


def _original(report: Report) -> str:
    """By its name where nothing is optimized: there it is the original of none."""
    is_neutral = report.verdict.outcome in (Outcome.COMPARED, Outcome.ANALYZED)
    return report.name if is_neutral else "the original"


def dominated_by(report: Report) -> Finding | None:
    profile = latest(report)
    if profile is None:
        return None
    kinds: dict[str, list[OperatorTime]] = {}
    for operator in profile.operators:
        kinds.setdefault(operator.operator, []).append(operator)
    kind = max(kinds, key=lambda name: _time(kinds[name]))
    time_ms, number = _time(kinds[kind]), len(kinds[kind])
    if time_ms < DOMINANT * profile.total_ms:
        return None
    text = f"In {whose(report)} {number} × {kind} take {share(time_ms / profile.total_ms)} of the time of a run."
    return Finding(code="dominated_by", text=text)


def near_peak(report: Report) -> Finding | None:
    """The original's own kernels leave little to gain but by less work or smaller types."""
    profile, peak = report.profile_before, report.environment.machine.peak_gflops
    heavy = [operator for operator in profile.operators if operator.macs] if profile else []
    time_ms = sum(operator.time_ms for operator in heavy)
    if not peak or not time_ms:
        return None
    reached = sum(2 * (operator.macs or 0) for operator in heavy) / time_ms / 1e6
    if reached < NEAR_PEAK * peak:
        return None
    text = (
        f"In {_original(report)} the layers that multiply run at {digits(reached)} GOP/s, where a plain matrix "
        f"product in float32 reaches {digits(peak)} on this machine: only less work or "
        "smaller types can make them faster."
    )
    return Finding(code="near_peak", text=text)


def memory_bound(report: Report) -> Finding | None:
    profile, bandwidth = latest(report), report.environment.machine.bandwidth_gb_s
    if profile is None or not bandwidth:
        return None
    bound = [operator for operator in profile.operators if operator.bound is Bound.MEMORY]
    time_ms, moved = _time(bound), sum(operator.bytes_moved or 0 for operator in bound)
    if time_ms < MUCH * profile.total_ms:
        return None
    text = (
        f"In {whose(report)} {share(time_ms / profile.total_ms)} of the time goes into operators that wait for memory: "
        f"they move {size(moved)} a run at {digits(moved / time_ms / 1e6)} GB/s, where a plain copy reaches "
        f"{digits(bandwidth)}."
    )
    return Finding(code="memory_bound", text=text)


def tiny_model(report: Report) -> Finding | None:
    """Most of the time goes into operators so short that neither arithmetic nor memory explains theirs."""
    profile = latest(report)
    tiny = [operator for operator in profile.operators if _is_mostly_started(operator)] if profile else []
    time_ms = _time(tiny)
    if profile is None or time_ms < DOMINANT * profile.total_ms:
        return None
    more = "still less work or smaller types bring" if report.profile_after else "less work or smaller types bring"
    text = (
        f"In {whose(report)} {share(time_ms / profile.total_ms)} of the time goes into {len(tiny)} operators of "
        f"{milliseconds(time_ms / len(tiny))} each on average: starting them costs as much as computing, so there "
        f"{more} little."
    )
    return Finding(code="tiny_model", text=text)


def _is_mostly_started(operator: OperatorTime) -> bool:
    return operator.time_ms <= TINY_OPERATOR_MS and operator.bound not in (Bound.COMPUTE, Bound.MEMORY)


def time_not_flops(report: Report) -> Finding | None:
    profile = latest(report)
    slow = [operator for operator in profile.operators if _out_of_proportion(operator)] if profile else []
    if not slow:
        return None
    named = [
        f"“{operator.name}” ({operator.operator}) takes {share(operator.time_share)} of the time for "
        f"{share(operator.macs_share)} of the multiply-accumulates"
        for operator in sorted(slow, key=lambda operator: -operator.time_share)[:MOST_NAMED]
    ]
    return Finding(code="time_not_flops", text=f"Fewer FLOPs would not help everywhere: {'; '.join(named)}.")


def _out_of_proportion(operator: OperatorTime) -> bool:
    if not operator.macs or operator.macs_share is None or operator.time_share < SOME:
        return False
    return operator.time_share > OUT_OF_PROPORTION * operator.macs_share


def time_without_flops(report: Report) -> Finding | None:
    profile = latest(report)
    if profile is None:
        return None
    others = [each for each in profile.operators if each.macs == 0 and each.operator not in CONVERSIONS | BODIES]
    time_ms = _time(others)
    if time_ms < MUCH * profile.total_ms:
        return None
    slowest = max(others, key=lambda operator: operator.time_ms)
    text = (
        f"{share(time_ms / profile.total_ms)} of the time of {whose(report)} goes into {len(others)} operators that do "
        f"not multiply at all, most of it into “{slowest.name}” ({slowest.operator}, {milliseconds(slowest.time_ms)})."
    )
    return Finding(code="time_without_flops", text=text)


def widths_not_multiple(report: Report) -> Finding | None:
    """Convolutions of a width that fills no whole vectors: the kernels pad, or fall back to a slower layout."""
    profile, flags = report.profile_before, report.environment.machine.flags
    if profile is None or not profile.total_ms or X86 not in flags:
        return None
    block = 16 if WIDE_VECTORS in flags else 8
    uneven = [operator for operator in profile.operators if _width(operator) % block]
    time_ms = _time(uneven)
    if time_ms < SOME * profile.total_ms:
        return None
    widths = ", ".join(str(width) for width in sorted({_width(operator) for operator in uneven})[:8])
    text = (
        f"{len(uneven)} × Conv with a width that is no multiple of {block} ({widths}) take "
        f"{share(time_ms / profile.total_ms)} of the time of {_original(report)}: kernels compute "
        f"{block} channels at once."
    )
    return Finding(code="widths_not_multiple", text=text)


def _width(operator: OperatorTime) -> int:
    """Output channels of a convolution; 0 of any other operator."""
    is_convolution = operator.operator in CONVOLUTIONS and operator.shape is not None and len(operator.shape) > 2
    return operator.shape[1] if is_convolution and operator.shape else 0


def _time(operators: list[OperatorTime]) -> float:
    return sum(operator.time_ms for operator in operators)
