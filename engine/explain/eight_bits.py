"""What 8-bit arithmetic brings on this machine, and what it costs."""

from engine.explain.time import CONVERSIONS, X86
from engine.measure.machine import has_fast_int8
from engine.recipe import Activations, EightBits, QuantizeDynamic, Range, Step
from engine.report import Finding, Report, Trial, TrialState
from engine.words import digits, loss, milliseconds, share, times

HARDLY_FASTER = 1.2
CLEARLY_APART = 1.1
WITH_VNNI = 4  #: times the products of a float32 instruction; 3.8 were measured
NOTICEABLE = 0.05  #: share of the time of a run
EIGHT_BITS = {"uint8", "int8"}
QUANTIZED = (EightBits, QuantizeDynamic)


def limit_of_int8(report: Report) -> Finding | None:
    """How much faster than float32 the machine multiplies 8-bit numbers bounds what quantization can bring."""
    machine = report.environment.machine
    tried = any(_is_quantized(trial.steps) for trial in report.trials)
    if not tried or not machine.peak_gflops or not machine.peak_gops_int8:
        return None
    ratio = machine.peak_gops_int8 / machine.peak_gflops
    rates = f"{digits(machine.peak_gops_int8)} against {digits(machine.peak_gflops)} billion operations per second"
    if has_fast_int8(machine.flags):
        text = f"This CPU has instructions for 8-bit products: {rates}, {times(ratio)} as fast as float32."
        return Finding(code="int8_with_vnni", text=text, severity="good")
    text = (
        f"This CPU has no instructions for 8-bit dot products, such as VNNI or AMX: it reaches {rates}, so int8 can "
        f"make layers that are bound by computing at most about {times(ratio)} as fast. On one with VNNI expect up to "
        f"{times(WITH_VNNI)}."
    )
    return Finding(code="int8_without_vnni", text=text, severity="warning" if ratio < HARDLY_FASTER else "info")


def format_matters(report: Report) -> Finding | None:
    """The fastest and the slowest way to quantize that was tried."""
    tried = sorted(_quantized_speedups(report), key=lambda pair: pair[0])
    if len(tried) < 2 or tried[-1][0] < CLEARLY_APART * tried[0][0]:
        return None
    (slow, slowest), (fast, fastest) = tried[0], tried[-1]
    text = (
        f"How one quantizes decides: {fastest.label} ran {times(fast)} as fast as the original, "
        f"{slowest.label} {times(slow)}."
    )
    return Finding(code="format_matters", text=text, severity="warning" if slow < 1 else "info")


def float_islands(report: Report) -> Finding | None:
    """Layers that stayed in float between quantized ones."""
    profile = report.profile_after
    heavy = [operator for operator in profile.operators if operator.macs] if profile else []
    floats = [operator for operator in heavy if operator.precision not in EIGHT_BITS]
    if profile is None or not floats or len(floats) == len(heavy):
        return None
    time_ms = sum(operator.time_ms for operator in floats)
    slowest = max(floats, key=lambda operator: operator.time_ms)
    text = (
        f"{len(floats)} of {len(heavy)} layers that multiply stayed in {slowest.precision} and take "
        f"{share(time_ms / profile.total_ms)} of the time; the slowest is “{slowest.name}” with "
        f"{milliseconds(slowest.time_ms)}."
    )
    return Finding(code="float_islands", text=text)


def conversion_cost(report: Report) -> Finding | None:
    profile = report.profile_after
    if profile is None or profile.quantize_dequantize_ms < NOTICEABLE * profile.total_ms:
        return None
    number = sum(operator.operator in CONVERSIONS for operator in profile.operators)
    text = (
        f"{number} conversions between float and 8 bits take {milliseconds(profile.quantize_dequantize_ms)}, "
        f"{share(profile.quantize_dequantize_ms / profile.total_ms)} of a run."
    )
    return Finding(code="quantize_overhead", text=text)


def accuracy_depends_on_cpu(report: Report) -> Finding | None:
    """Unsigned times signed full-range products saturate in 16 bits on x86 CPUs without VNNI, and there only."""
    machine, drop = report.environment.machine, report.comparison.accuracy_drop
    if drop is None or X86 not in machine.flags or not any(_may_saturate(step) for step in report.reproduce):
        return None
    fast, accuracy, emulated = has_fast_int8(machine.flags), report.optimized.accuracy, report.comparison.emulated_drop
    here, there = ("with", "without") if fast else ("without", "with")
    otherwise = f"it would be {loss(emulated.value, accuracy)}" if emulated and not fast else "it may differ"
    text = (
        f"The drop of {loss(drop.value, accuracy)} holds for CPUs {here} VNNI, such as this one. On those {there} "
        f"{otherwise}: without VNNI, sums of unsigned activations times weights of the full range saturate at 16 bits. "
        "Weights of the reduced range give the same outputs on both."
    )
    return Finding(code="int8_accuracy_depends_on_cpu", text=text, severity="warning")


def nothing_to_quantize(report: Report) -> Finding | None:
    skipped = [trial for trial in report.trials if trial.state is TrialState.SKIPPED and _is_quantized(trial.steps)]
    if not skipped:
        return None
    products = sum(report.model.operators.get(kind, 0) for kind in ("Conv", "MatMul", "Gemm"))
    text = (
        f"“{skipped[0].label}” was skipped: {skipped[0].reason} The model has {products} Conv, MatMul and Gemm nodes."
    )
    return Finding(code="nothing_to_quantize", text=text)


def _is_quantized(steps: list[Step]) -> bool:
    return any(isinstance(step, QUANTIZED) for step in steps)


def _quantized_speedups(report: Report) -> list[tuple[float, Trial]]:
    return [
        (trial.comparison.speedup.value, trial)
        for trial in report.trials
        if _is_quantized(trial.steps) and trial.comparison is not None and trial.comparison.speedup is not None
    ]


def _may_saturate(step: Step) -> bool:
    if not isinstance(step, QUANTIZED):
        return False
    return step.weight_range is Range.FULL and step.activations is Activations.UNSIGNED
