"""Each finding appears where its figures call for it, names them, and is silent elsewhere."""

import re

import pytest

from engine.explain import RULES, findings
from engine.recipe import (
    Activations,
    Layout,
    Limits,
    PruneChannels,
    QuantizeDynamic,
    QuantizeStatic,
    Range,
    Recipe,
    SimplifyGraph,
    Step,
)
from engine.report import Bound, Comparison, Finding, Interval, OperatorTime, Profile, Report, Trial, TrialState
from tests.engine.render.reports import analyzed, figures, improved, interval, trial, unimproved

FULL_RANGE = QuantizeStatic(activations="unsigned", weight_range="full", calibration="minmax", layout="qdq")
SIGNED = FULL_RANGE.model_copy(update={"activations": Activations.SIGNED})
DYNAMIC = QuantizeDynamic(weight_range="full")


def operator(name: str = "layer", kind: str = "Conv", **facts: object) -> OperatorTime:
    usual = {"time_ms": 1.0, "time_share": 0.5, "macs": 10_000_000, "macs_share": 0.5, "bytes_moved": 1_000_000}
    return OperatorTime(name=name, operator=kind, **(usual | facts))


def profile(*operators: OperatorTime, conversions_ms: float = 0) -> Profile:
    total = sum(each.time_ms for each in operators)
    return Profile(operators=list(operators), total_ms=total, quantize_dequantize_ms=conversions_ms)


def report(**parts: object) -> Report:
    return improved().model_copy(update={"profile_before": None, "profile_after": None, **parts})


def on_machine(**facts: object) -> Report:
    environment = improved().environment
    machine = environment.machine.model_copy(update=facts)
    return report(environment=environment.model_copy(update={"machine": machine}))


def finding(code: str, given: Report) -> Finding | None:
    return next((each for each in findings(given) if each.code == code), None)


def text(code: str, given: Report) -> str:
    found = finding(code, given)
    assert found is not None, [each.code for each in findings(given)]
    return found.text


@pytest.mark.parametrize("given", [improved(), unimproved(), report()])
def test_no_finding_is_without_a_figure_and_no_two_have_one_code(given: Report) -> None:
    found = findings(given)
    assert all(re.search(r"\d", each.text) for each in found)
    assert len({each.code for each in found}) == len(found)
    assert len(RULES) >= len(found) > 0


def test_less_work_and_less_traffic_are_told_with_both_figures() -> None:
    before, after = figures(2, 1000, 0.9), figures(1, 1000, 0.9)
    smaller = after.model_copy(update={"macs": 10_000_000, "bytes_moved": 1_000_000})
    given = report(baseline=before, optimized=smaller)
    assert "10" in text("less_work", given) and "40.6" in text("less_work", given)
    assert "3.21 MB" in text("less_traffic", given)
    assert finding("less_work", report(baseline=before, optimized=after)) is None


def test_fused_operators_are_counted() -> None:
    given = report(profile_before=profile(operator(), operator(), operator()), profile_after=profile(operator()))
    assert "1 operators instead of 3" in text("fewer_operators", given)


def test_kernels_that_run_slower_are_a_warning() -> None:
    fast, slow = profile(operator(time_ms=1.0)), profile(operator(time_ms=2.0))
    assert "10.0 instead of 20.0" in text("slower_kernels", report(profile_before=fast, profile_after=slow))
    assert "20.0 instead of 10.0" in text("faster_kernels", report(profile_before=slow, profile_after=fast))
    assert finding("faster_kernels", report(profile_before=fast, profile_after=fast)) is None


def test_the_operator_that_takes_most_of_the_time_is_named() -> None:
    taken = profile(operator(time_ms=3), operator(time_ms=3), operator(kind="Gemm", time_ms=2))
    assert "2 × Conv take 75.0 %" in text("dominated_by", report(profile_before=taken))


def test_kernels_near_the_peak_of_the_machine_leave_little_to_gain() -> None:
    close = profile(operator(macs=35_000_000, time_ms=1.0))
    assert "70.0 GOP/s" in text("near_peak", report(profile_before=close))
    assert finding("near_peak", report(profile_before=profile(operator()))) is None


def test_a_model_that_is_not_optimized_is_called_by_its_name() -> None:
    given = analyzed().model_copy(update={"profile_before": profile(operator(macs=35_000_000))})
    assert text("near_peak", given).startswith("In a.onnx the layers that multiply")
    assert text("dominated_by", given).startswith("In a.onnx 1 × Conv")


def test_waiting_for_memory_is_told_with_its_rate() -> None:
    taken = profile(operator(bound=Bound.MEMORY, bytes_moved=8_000_000), operator(bound=Bound.COMPUTE))
    assert "50.0 %" in text("memory_bound", report(profile_before=taken))
    assert "8.00 GB/s" in text("memory_bound", report(profile_before=taken))


def test_layers_that_beat_the_measured_peak_do_not_change_it() -> None:
    faster = profile(operator(macs=40_000_000, time_ms=1.0))
    assert "80.0 GOP/s" in text("near_peak", report(profile_before=faster))
    assert "reaches 71.2 on this machine" in text("near_peak", report(profile_before=faster))


def test_a_model_of_tiny_operators_is_called_one() -> None:
    tiny = profile(*[operator(time_ms=0.004) for _ in range(10)])
    sentence = text("tiny_model", report(profile_before=tiny))
    assert "100.0 % of the time goes into 10 operators of 4.00 µs each" in sentence
    assert finding("tiny_model", report(profile_before=profile(operator()))) is None


def test_few_long_operators_among_many_tiny_ones_make_no_tiny_model() -> None:
    mean_is_tiny = profile(operator(time_ms=0.04), *[operator(time_ms=0.002) for _ in range(10)])
    assert finding("tiny_model", report(profile_before=mean_is_tiny)) is None


def test_short_operators_at_the_peak_of_the_machine_are_not_said_to_gain_nothing() -> None:
    close = [operator(macs=280_000, time_ms=0.008, bound=Bound.COMPUTE) for _ in range(10)]
    given = report(profile_before=profile(*close))
    assert "only less work or smaller types" in text("near_peak", given)
    assert finding("tiny_model", given) is None


def test_time_that_is_not_in_the_flops_is_pointed_at() -> None:
    taken = profile(
        operator("stem", time_share=0.4, macs_share=0.05), operator("rest", time_share=0.6, macs_share=0.95)
    )
    sentence = text("time_not_flops", report(profile_before=taken))
    assert "“stem”" in sentence and "40.0 %" in sentence and "5.00 %" in sentence and "rest" not in sentence


def test_operators_that_do_not_multiply_are_summed_up() -> None:
    taken = profile(operator(), operator("up", "Resize", time_ms=2.0, macs=0, macs_share=0))
    sentence = text("time_without_flops", report(profile_before=taken))
    assert "66.7 %" in sentence and "“up” (Resize, 2.00 ms)" in sentence


def test_a_branch_is_not_said_to_multiply_nothing() -> None:
    taken = profile(operator("choose", "If", time_ms=2.0, macs=0, macs_share=0))
    assert finding("time_without_flops", report(profile_before=taken)) is None


@pytest.mark.parametrize(
    ("flags", "width", "told"),
    [(["sse4_2"], 30, True), (["sse4_2"], 24, False), (["sse4_2", "avx512f"], 24, True), (["asimd"], 30, False)],
)
def test_widths_that_fill_no_vectors_are_told_by_the_width_of_the_vectors(
    flags: list[str], width: int, told: bool
) -> None:
    given = on_machine(flags=flags).model_copy(update={"profile_before": profile(operator(shape=[1, width, 8, 8]))})
    assert (finding("widths_not_multiple", given) is not None) is told


def test_what_int8_can_bring_is_the_ratio_of_the_peaks() -> None:
    assert "1.95 times" in text("int8_without_vnni", on_machine(peak_gflops=71.2, peak_gops_int8=139.0))
    hardly = finding("int8_without_vnni", on_machine(peak_gflops=71.2, peak_gops_int8=75.0))
    assert hardly is not None and hardly.severity == "warning"
    assert "4.00 times" in text(
        "int8_with_vnni", on_machine(peak_gflops=50.0, peak_gops_int8=200.0, flags=["avx512_vnni"])
    )


def test_nothing_is_said_about_int8_where_none_was_tried() -> None:
    plain = trial(1, "simplified graph", TrialState.KEPT, speedup=1.1, drop=0)
    given = report(trials=[plain.model_copy(update={"steps": [SimplifyGraph()]})])
    assert not {each.code for each in findings(given)} & {"int8_without_vnni", "format_matters"}


def test_the_fastest_and_the_slowest_format_are_set_side_by_side() -> None:
    sentence = text("format_matters", report())
    assert "1.74 times" in sentence and "signed activations, full range 0.71 times" in sentence


def test_what_pruning_gained_is_not_credited_to_a_format() -> None:
    dynamic = trial(1, "dynamic int8", TrialState.DOMINATED, speedup=0.99, drop=0)
    static = trial(2, "static int8", TrialState.DOMINATED, speedup=2.7, drop=0)
    pruned = trial(3, "pruned + static int8", TrialState.KEPT, speedup=5.1, drop=0)
    smaller = pruned.model_copy(update={"steps": [PruneChannels(ratio=0.5), FULL_RANGE]})
    sentence = text("format_matters", report(trials=[dynamic, static, smaller]))
    assert "static int8 ran 2.70 times" in sentence and "dynamic int8 0.99 times" in sentence
    assert "pruned" not in sentence
    assert finding("format_matters", report(trials=[dynamic, smaller])) is None


def test_layers_left_in_float_and_their_conversions_are_told() -> None:
    taken = profile(operator(precision="uint8"), operator("head", time_ms=0.5, precision="float32"), conversions_ms=0.3)
    assert "1 of 2 layers" in text("float_islands", report(profile_after=taken))
    assert "20.0 % of a run" in text("quantize_overhead", report(profile_after=taken))
    assert finding("float_islands", report(profile_after=profile(operator(precision="uint8")))) is None


def test_full_range_int8_is_flagged_because_other_cpus_give_other_outputs() -> None:
    given = on_machine(flags=["sse4_2", "avx2"]).model_copy(update={"reproduce": [FULL_RANGE]})
    assert "0.2 points" in text("int8_accuracy_depends_on_cpu", given)
    assert "without VNNI, such as this one" in text("int8_accuracy_depends_on_cpu", given)
    assert finding("int8_accuracy_depends_on_cpu", on_machine(flags=["sse4_2", "avx2"])) is None


def elsewhere(step: Step, flags: list[str], **emulated: object) -> Report:
    """A report of a file that loses 0.2 points here, at 30 dB."""
    comparison = Comparison(accuracy_drop=interval(0.002, 0.001), sqnr_db=30.0, **emulated)
    return on_machine(flags=["sse4_2", *flags]).model_copy(update={"reproduce": [step], "comparison": comparison})


EMULATED = {"emulated_drop": interval(0.031, 0.005), "emulated_sqnr_db": 12.3, "emulated_samples": 400}


def test_what_another_cpu_would_lose_is_told_beside_what_this_one_loses() -> None:
    sentence = text("int8_accuracy_depends_on_cpu", elsewhere(FULL_RANGE, ["avx512_vnni"], **EMULATED))
    assert "0.2 points (30.0 dB) holds for CPUs with VNNI" in sentence
    assert "Emulated on 400 samples, it is 3.1 points (12.3 dB) on those without" in sentence
    assert "weight_range: reduced" in sentence
    assert "3.1 points (12.3 dB) on those with:" in text(
        "int8_accuracy_depends_on_cpu", elsewhere(FULL_RANGE, ["avx2"], **EMULATED)
    )


@pytest.mark.parametrize("step", [DYNAMIC, SIGNED], ids=["dynamic", "signed qdq"])
def test_what_was_not_emulated_may_differ(step: Step) -> None:
    sentence = text("int8_accuracy_depends_on_cpu", elsewhere(step, ["avx512_vnni"]))
    assert "0.2 points (30.0 dB)" in sentence and "without it may differ" in sentence


@pytest.mark.parametrize(
    ("step", "emulated"),
    [
        (FULL_RANGE.model_copy(update={"weight_range": Range.REDUCED}), {}),
        (SIGNED.model_copy(update={"layout": Layout.QOPERATOR}), {}),
        (FULL_RANGE, {"emulated_samples": 0}),
        (FULL_RANGE, EMULATED | {"emulated_drop": interval(0.002, 0.001), "emulated_sqnr_db": 30.01}),
    ],
    ids=["7 bits", "signed sums", "small weights", "nothing saturated"],
)
def test_one_figure_holds_for_all_where_no_sum_saturates(step: Step, emulated: dict[str, object]) -> None:
    given = elsewhere(step, ["avx512_vnni"], **emulated)
    assert "0.2 points is the same on CPUs with and without VNNI" in text("int8_accuracy_same_on_cpus", given)
    assert finding("int8_accuracy_depends_on_cpu", given) is None


def test_a_step_with_nothing_to_do_is_quoted() -> None:
    sentence = text("nothing_to_quantize", report())
    assert "“dynamic int8” was skipped: No MatMul" in sentence and "13 Conv, MatMul and Gemm nodes" in sentence


def with_speedup(value: float, noise: Interval) -> Report:
    only = trial(1, "static int8", TrialState.REJECTED, speedup=value, drop=0)
    given = unimproved()
    environment = given.environment.model_copy(update={"noise_floor": noise})
    return given.model_copy(update={"trials": [only], "environment": environment, "profile_after": None})


def test_a_gain_below_the_noise_floor_is_not_told_from_noise() -> None:
    assert "1.02 times" in text("noise_floor", with_speedup(1.02, interval(1.0, 0.03)))
    assert finding("noise_floor", with_speedup(1.02, interval(1.0, 0.01))) is None


def limited(drop: Interval, limit: float | None) -> Report:
    comparison = Comparison(accuracy_drop=drop, sqnr_db=30)
    return report(comparison=comparison, recipe=Recipe(steps=[SimplifyGraph()], limits=Limits(accuracy_drop=limit)))


def test_too_few_samples_are_told_with_how_many_would_do() -> None:
    assert "597 samples cannot resolve 1 point" in text("few_samples", limited(interval(0.0, 0.02), None))
    assert "2,388 samples" in text("few_samples", limited(interval(0.0, 0.02), None))
    assert finding("few_samples", limited(interval(0.0, 0.008), None)) is None


def test_too_few_samples_for_a_limit_are_told_by_the_comparison_and_not_twice() -> None:
    assert finding("few_samples", limited(interval(0.0, 0.02), 0.005)) is None


def test_made_up_inputs_are_never_passed_over() -> None:
    environment = improved().environment.model_copy(update={"data_source": "synthetic"})
    assert "597 inputs were made up" in text("synthetic_inputs", report(environment=environment))


def test_a_trial_that_was_never_timed_does_not_matter() -> None:
    failed = Trial(id="t1", steps=[FULL_RANGE], label="static int8", state=TrialState.FAILED, reason="It crashed.")
    assert finding("format_matters", report(trials=[failed])) is None
