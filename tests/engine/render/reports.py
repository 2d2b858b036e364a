"""A realistic report to render, and the ways in which one may be odd."""

import random

from engine.recipe import Budget, Goal, Limits, Minimize, QuantizeDynamic, QuantizeStatic, Recipe, SimplifyGraph
from engine.report import (
    Accuracy,
    Bound,
    Comparison,
    Environment,
    Figures,
    Finding,
    Interval,
    Latency,
    LatencySeries,
    Machine,
    ModelSummary,
    OperatorTime,
    Outcome,
    Profile,
    Report,
    StepFit,
    TensorInfo,
    Trial,
    TrialState,
    Verdict,
)

INT8 = QuantizeStatic(activations="unsigned", weight_range="reduced", calibration="minmax")


def latency(median: float) -> Latency:
    return Latency(
        median_ms=median,
        p90_ms=median * 1.04,
        p95_ms=median * 1.08,
        p99_ms=median * 1.31,
        runs=1240,
        processes=4,
        load_ms=41.2,
        first_run_ms=median * 2.2,
        throughput_per_s=1000 / median,
    )


def figures(median: float, size: int, accuracy: float) -> Figures:
    return Figures(
        size_bytes=size,
        parameters=272_474,
        macs=40_551_360,
        bytes_moved=3_210_000,
        latency=latency(median),
        peak_memory_bytes=61_300_000 + size * 3,
        accuracy=Accuracy(metric="top1", unit="share", higher_is_better=True, value=accuracy, samples=597),
    )


def interval(value: float, half: float) -> Interval:
    return Interval(value=value, low=value - half, high=value + half)


REASONS = {
    TrialState.KEPT: "1.74 times as fast as the original and inside the limit of 1 point.",
    TrialState.DOMINATED: "t03 is faster and as accurate.",
    TrialState.REJECTED: "It loses 5.6 points; the limit is 1 point.",
}


def trial(number: int, label: str, state: TrialState, *, speedup: float, drop: float) -> Trial:
    return Trial(
        id=f"t{number:02d}",
        steps=[SimplifyGraph(), INT8],
        label=label,
        state=state,
        reason=REASONS[state],
        figures=figures(2.314 / speedup, 291_000, 0.973 - drop),
        comparison=Comparison(
            speedup=interval(speedup, 0.03), accuracy_drop=interval(drop, 0.004), sqnr_db=31.4, agreement=0.991
        ),
        on_front=state is TrialState.KEPT,
        file=f"t{number:02d}.onnx" if state is TrialState.KEPT else None,
        seconds=3.4,
    )


def trials() -> list[Trial]:
    skipped = "No MatMul or Gemm weight with more than 1024 values that is not computed by a convolution."
    kept, dominated, rejected = TrialState.KEPT, TrialState.DOMINATED, TrialState.REJECTED
    return [
        trial(1, "simplified graph", kept, speedup=1.06, drop=0.0),
        trial(2, "static int8, signed activations, full range", dominated, speedup=0.71, drop=0.003),
        trial(3, "static int8, unsigned activations, reduced range", kept, speedup=1.74, drop=0.002),
        trial(4, "static int8, unsigned activations, full range", rejected, speedup=1.69, drop=0.056),
        Trial(id="t05", steps=[QuantizeDynamic()], label="dynamic int8", state=TrialState.SKIPPED, reason=skipped),
    ]


def screened(number: int) -> Trial:
    """A format that a quick look left behind."""
    seen = Comparison(speedup=interval(1.4, 0.1), sqnr_db=22.0)
    label, reason = f"static int8, format {number}", "1.40 times as fast and 22.0 dB of signal to noise."
    return Trial(
        id=f"t{number:02d}", steps=[INT8], label=label, state=TrialState.SCREENED, reason=reason, comparison=seen
    )


def series(seed: int = 0, processes: int = 4, runs: int = 200) -> list[LatencySeries]:
    rng = random.Random(seed)

    def spread(median: float) -> list[float]:
        return [median * (1 + abs(rng.gauss(0, 0.03)) + (rng.random() < 0.02) * rng.random()) for _ in range(runs)]

    return [LatencySeries(baseline_ms=spread(2.28), candidate_ms=spread(1.31)) for _ in range(processes)]


def profile(scale: float, *, quantized: bool, layers: int = 14) -> Profile:
    rng = random.Random(7)
    weights = [rng.random() + 0.1 for _ in range(layers)]
    macs = [rng.random() + 0.05 for _ in range(layers)]
    operators = [
        OperatorTime(
            name=f"/layer{index // 4 + 1}/conv{index}/Conv" + ("_quant" if quantized else ""),
            operator=("QLinearConv" if quantized else "Conv") if index % 5 else "MaxPool",
            time_ms=scale * weight / sum(weights),
            time_share=weight / sum(weights),
            macs=int(40e6 * mac / sum(macs)) if index % 5 else None,
            macs_share=mac / sum(macs) if index % 5 else None,
            gflops=12.4 * mac if index % 5 else None,
            bytes_moved=120_000,
            bound=Bound.COMPUTE if index % 3 else Bound.MEMORY,
            precision="uint8" if quantized else "float32",
            shape=[1, 32, 16, 16],
        )
        for index, (weight, mac) in enumerate(zip(weights, macs, strict=True))
    ]
    return Profile(operators=operators, total_ms=scale, quantize_dequantize_ms=0.11 if quantized else 0)


def machine() -> Machine:
    return Machine(
        cpu="AMD EPYC 7B13",
        flags=["avx2", "fma"],
        cores=2,
        memory_bytes=8_200_000_000,
        os="Linux 6.1, Debian 12",
        peak_gflops=71.2,
        peak_gops_int8=139.0,
        bandwidth_gb_s=11.7,
        versions={"python": "3.11.7", "onnxruntime": "1.32.0", "onnx": "1.23.2", "numpy": "2.4.6", "strop": "0.1.0"},
    )


def summary() -> ModelSummary:
    return ModelSummary(
        inputs=[TensorInfo(name="image", dtype="float32", shape=["batch", 1, 8, 8])],
        outputs=[TensorInfo(name="logits", dtype="float32", shape=["batch", 10])],
        opset=17,
        ir_version=8,
        producer="pytorch 2.13",
        operators={"Conv": 12, "Relu": 11, "Gemm": 1, "Add": 4},
        nodes=28,
        parameters=272_474,
        macs=40_551_360,
        size_bytes=1_096_000,
        expected_memory_bytes=2_400_000,
        steps=[StepFit(kind="quantize_static", applies=True)],
    )


def environment() -> Environment:
    return Environment(
        machine=machine(),
        sandbox="landlock+seccomp",
        execution_provider="CPUExecutionProvider",
        seeds={"recipe": 0, "bootstrap": 0},
        digests={"model": "9f" * 32, "calibration data": "3c" * 32},
        calibration_samples=256,
        evaluation_samples=597,
        noise_floor=interval(1.001, 0.012),
        notes=["CPU frequency scaling was not fixed."],
    )


def improved() -> Report:
    """What a good day looks like."""
    minimize = Minimize.LATENCY
    return Report(
        created_at="2026-11-24T05:00:00Z",
        verdict=Verdict(
            outcome=Outcome.IMPROVED,
            minimize=minimize,
            headline="1.74 times as fast (95 %: 1.71 to 1.77), at 0.2 points of top-1 less.",
            reasons=[
                "The interval of the speed-up lies above 1 and above the noise floor.",
                "Inside the limit of 1 point.",
            ],
            within_limit=True,
            chosen="t03",
        ),
        recipe=Recipe(goal=Goal(), limits=Limits(accuracy_drop=0.01), budget=Budget(minutes=5)),
        reproduce=[SimplifyGraph(), INT8],
        model=summary(),
        baseline=figures(2.314, 1_096_000, 0.973),
        optimized=figures(1.33, 291_000, 0.971),
        comparison=Comparison(
            speedup=interval(1.74, 0.03), accuracy_drop=interval(0.002, 0.004), sqnr_db=31.4, agreement=0.991
        ),
        series=series(),
        trials=trials(),
        profile_before=profile(2.3, quantized=False),
        profile_after=profile(1.3, quantized=True),
        findings=[
            Finding(
                code="int8_kernels",
                text="11 of 12 convolutions run in 8 bits and take 0.92 ms instead of 1.98 ms.",
                severity="good",
            ),
            Finding(
                code="int8_without_vnni",
                text="This CPU has no VNNI, so 8-bit products are built from 16-bit ones; one that has it gains more.",
            ),
            Finding(
                code="quantize_cost",
                text="QuantizeLinear and DequantizeLinear take 0.11 ms, 8 % of a run.",
                severity="warning",
            ),
        ],
        warnings=["597 evaluation samples cannot resolve a drop below 0.4 points."],
        environment=environment(),
        elapsed_seconds=38.2,
    )


def unimproved() -> Report:
    """Nothing helped: the original is offered, with the reasons."""
    report = improved()
    rejected = [
        one.model_copy(update={"state": TrialState.REJECTED, "on_front": False, "file": None})
        for one in report.trials
        if one.state is not TrialState.SKIPPED
    ]
    verdict = Verdict(
        outcome=Outcome.NO_IMPROVEMENT,
        minimize=Minimize.LATENCY,
        headline="No candidate is measurably faster than the original; the original is returned.",
        reasons=["The best candidate ran 1.01 times as fast (95 %: 0.98 to 1.04), which includes 1."],
        within_limit=None,
    )
    same = Comparison(speedup=None, accuracy_drop=None)
    update = {"verdict": verdict, "trials": rejected, "optimized": report.baseline, "comparison": same, "reproduce": []}
    return report.model_copy(update={**update, "profile_after": None, "series": []})


def compared() -> Report:
    """Two models side by side."""
    report = improved()
    verdict = Verdict(
        outcome=Outcome.COMPARED, minimize=Minimize.LATENCY, headline="b.onnx is 1.74 times as fast.", reasons=[]
    )
    other = trial(1, "b.onnx", TrialState.KEPT, speedup=1.74, drop=0.002).model_copy(
        update={"state": TrialState.COMPARED, "steps": [], "profile": profile(1.3, quantized=True), "on_front": False}
    )
    update = {"verdict": verdict, "name": "a.onnx", "trials": [other], "optimized": report.baseline, "reproduce": []}
    return report.model_copy(update={**update, "comparison": Comparison(), "profile_after": None})


def analyzed() -> Report:
    """One model by itself."""
    headline = "One run of a.onnx takes 183 µs; 4 × Conv take 93.1 % of it."
    verdict = Verdict(outcome=Outcome.ANALYZED, minimize=Minimize.LATENCY, headline=headline, reasons=[])
    return compared().model_copy(update={"verdict": verdict, "trials": [], "series": []})


def bare() -> Report:
    """As little as a report may hold: the job was cut short right after the size was known."""
    nothing = Figures(size_bytes=10, parameters=0, macs=None)
    verdict = Verdict(
        outcome=Outcome.NO_IMPROVEMENT, minimize=Minimize.SIZE, headline="Cut short.", reasons=[], complete=False
    )
    report = unimproved()
    lone = report.environment.machine.model_copy(update={"peak_gflops": None, "bandwidth_gb_s": None, "flags": []})
    place = report.environment.model_copy(
        update={"machine": lone, "noise_floor": None, "digests": {}, "data_source": "synthetic"}
    )
    update = {"verdict": verdict, "baseline": nothing, "optimized": nothing, "trials": [], "findings": []}
    return report.model_copy(update={**update, "profile_before": None, "warnings": [], "environment": place})
