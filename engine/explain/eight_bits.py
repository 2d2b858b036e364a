"""What 8-bit arithmetic brings on this machine, and what it costs."""

from engine.explain.time import CONVERSIONS, X86
from engine.measure.machine import has_fast_int8
from engine.quantize.formats import may_saturate
from engine.recipe import EightBits, QuantizeDynamic, Step
from engine.report import Finding, Interval, Report, Trial, TrialState
from engine.words import count, digits, loss, milliseconds, share, times

HARDLY_FASTER = 1.2
CLEARLY_APART = 1.1
WITH_VNNI = 4  #: times the products of a float32 instruction; 3.8 were measured
AS_FAITHFUL_DB = 0.05
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
    rates = f"{digits(machine.peak_gops_int8)} against {digits(machine.peak_gflops)} GOP/s"
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
    """The fastest and the slowest way to quantize one and the same network: that for which it matters most."""
    pairs = [pair for tried in _by_network(report).values() if (pair := _fastest_and_slowest(tried))]
    if not pairs:
        return None
    (fast, fastest), (slow, slowest) = max(pairs, key=lambda pair: pair[0][0] / pair[1][0])
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
    drop, emulated = report.comparison.accuracy_drop, report.comparison.emulated_drop
    if drop is None or not _is_for_x86(report) or not any(map(may_saturate, report.reproduce)) or _is_same(report):
        return None
    here, there = ("with", "without") if has_fast_int8(report.environment.machine.flags) else ("without", "with")
    otherwise = (
        f"Emulated on {count(report.comparison.emulated_samples)} samples, it is "
        f"{_lost(emulated, report.comparison.emulated_sqnr_db, report)} on those {there}"
        if emulated
        else f"On those {there} it may differ"
    )
    text = (
        f"The drop of {_lost(drop, report.comparison.sqnr_db, report)} holds for CPUs {here} VNNI, such as this one. "
        f"{otherwise}: without VNNI, sums of 8-bit products saturate at 16 bits. Weights of the reduced range "
        "(weight_range: reduced) give the same outputs on both."
    )
    return Finding(code="int8_accuracy_depends_on_cpu", text=text, severity="warning")


def accuracy_same_on_cpus(report: Report) -> Finding | None:
    """Where no sum can saturate, or none did on samples, one figure holds for all x86 CPUs."""
    drop = report.comparison.accuracy_drop
    if drop is None or not _is_for_x86(report) or not any(_is_quantized([step]) for step in report.reproduce):
        return None
    if not any(map(may_saturate, report.reproduce)):
        why = "weights of 7 bits and sums of signed numbers cannot saturate at 16 bits"
    elif report.comparison.emulated_samples == 0:
        why = "no two weights that meet are large enough for their products to saturate at 16 bits"
    elif _is_same(report):
        why = f"emulated on {count(report.comparison.emulated_samples)} samples, no sum that saturates changes it"
    else:
        return None
    text = (
        f"The drop of {loss(drop.value, report.optimized.accuracy)} is the same on CPUs with and without VNNI: {why}."
    )
    return Finding(code="int8_accuracy_same_on_cpus", text=text)


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


def _by_network(report: Report) -> dict[str, list[tuple[float, Trial]]]:
    """Formats that were timed, apart by all that was done besides: what pruning gained is no merit of a format."""
    networks: dict[str, list[tuple[float, Trial]]] = {}
    for trial in report.trials:
        speedup = trial.comparison.speedup if trial.comparison else None
        if speedup is not None and _is_quantized(trial.steps):
            networks.setdefault(_besides(trial.steps), []).append((speedup.value, trial))
    return networks


def _besides(steps: list[Step]) -> str:
    return "\n".join("in 8 bits" if isinstance(step, QUANTIZED) else step.model_dump_json() for step in steps)


def _fastest_and_slowest(tried: list[tuple[float, Trial]]) -> tuple[tuple[float, Trial], tuple[float, Trial]] | None:
    """None where they are not clearly apart."""
    fastest, slowest = max(tried, key=lambda pair: pair[0]), min(tried, key=lambda pair: pair[0])
    return (fastest, slowest) if fastest[0] > CLEARLY_APART * slowest[0] else None


def _is_for_x86(report: Report) -> bool:
    return X86 in report.environment.machine.flags


def _is_same(report: Report) -> bool:
    """Whether the other class of CPU was found to give the same."""
    found = report.comparison
    if found.emulated_samples == 0:
        return True
    if found.emulated_drop is None or found.accuracy_drop is None or found.emulated_drop != found.accuracy_drop:
        return False
    return found.emulated_sqnr_db == found.sqnr_db or (
        found.emulated_sqnr_db is not None
        and found.sqnr_db is not None
        and abs(found.emulated_sqnr_db - found.sqnr_db) < AS_FAITHFUL_DB
    )


def _lost(drop: Interval, sqnr_db: float | None, report: Report) -> str:
    """The drop, with the fidelity where it is known."""
    lost = loss(drop.value, report.optimized.accuracy)
    return lost if sqnr_db is None else f"{lost} ({digits(sqnr_db)} dB)"
