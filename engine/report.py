"""The evidence: what a job found, in figures that carry their unit and their spread.

One `Report` is written per job, as `report.json`; the HTML page and the terminal table are only views of it. Field
names carry units (`_ms`, `_bytes`). Intervals are 95 % unless a field says otherwise. Additive changes keep
SCHEMA_VERSION.
"""

from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from engine.recipe import Minimize, Move, Recipe, Step

SCHEMA_VERSION = "1.0"


class Part(BaseModel):
    """A frozen part of the report."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Interval(Part):
    """An estimate and its 95 % confidence interval."""

    value: float
    low: float
    high: float


# ── the model, as inspection saw it ──────────────────────────────────────────────────────────────────────────────────


class TensorInfo(Part):
    name: str
    dtype: str = Field(description="NumPy name of the element type, such as float32.")
    shape: list[int | str | None] | None = Field(
        description="A name or null stands for a dimension that may vary; null as a whole for an unknown rank."
    )


class StepFit(Part):
    """Whether one kind of step can do something for a model, and why not."""

    kind: str
    applies: bool
    reason: str | None = Field(None, description="Why it does not apply, in words a user understands.")


class ModelSummary(Part):
    """What `inspect` found out about a model, within seconds of its upload."""

    inputs: list[TensorInfo]
    outputs: list[TensorInfo]
    opset: int
    ir_version: int
    producer: str | None = None
    operators: dict[str, int] = Field(description="Number of nodes by operator, subgraphs included.")
    nodes: int
    parameters: int = Field(description="Elements of all initializers.")
    macs: int | None = Field(None, description="Multiply-accumulates of one sample; null where a shape is unknown.")
    size_bytes: int
    expected_memory_bytes: int = Field(description="Weights plus the largest activations alive at once, estimated.")
    steps: list[StepFit]
    warnings: list[str] = []


class ArrayInfo(Part):
    name: str
    dtype: str
    shape: list[int]


class DatasetSummary(Part):
    """What inspection found out about a data set: arrays of equal length, one per input, and perhaps labels."""

    samples: int
    arrays: list[ArrayInfo]
    size_bytes: int


# ── figures ──────────────────────────────────────────────────────────────────────────────────────────────────────────


class LatencySeries(Part):
    """One run of the model after another in one fresh process, in milliseconds, baseline and candidate interleaved."""

    baseline_ms: list[float]
    candidate_ms: list[float]


class Latency(Part):
    """Time of one run at the target's threads and batch size."""

    median_ms: float
    p90_ms: float
    p95_ms: float
    p99_ms: float
    runs: int
    processes: int
    load_ms: float = Field(description="Time to open the session.")
    first_run_ms: float
    throughput_per_s: float = Field(description="Samples per second, runs one after another.")


class Accuracy(Part):
    metric: str
    unit: str = Field(description="What one unit of the value is: share, dB, error…")
    higher_is_better: bool
    value: float | None = Field(description="Null where the metric is infinite, as the SQNR of equal outputs.")
    samples: int


class Figures(Part):
    """All that is measured of one file."""

    size_bytes: int
    parameters: int
    macs: int | None
    bytes_moved: int | None = Field(None, description="Weights and activations read and written by one run, estimated.")
    latency: Latency | None = None
    peak_memory_bytes: int | None = Field(None, description="Peak resident set of a process that runs just this model.")
    accuracy: Accuracy | None = None


class Comparison(Part):
    """A candidate against the original."""

    speedup: Interval | None = Field(
        None, description="Time of the original over that of the candidate: median of paired runs, mean over processes."
    )
    accuracy_drop: Interval | None = Field(None, description="Loss of the metric; positive is worse. Paired bootstrap.")
    sqnr_db: float | None = Field(None, description="Fidelity: signal to quantization noise of the outputs, in dB.")
    agreement: float | None = Field(None, description="Share of samples with the same decision as the original.")
    emulated_drop: Interval | None = Field(
        None,
        description="The drop on the other class of x86 CPU, emulated: without VNNI sums of 8-bit products saturate.",
    )
    emulated_sqnr_db: float | None = Field(None, description="The fidelity of that.")
    emulated_samples: int | None = Field(
        None, description="Samples that were emulated; 0 where no sum of this file can saturate, so that none differs."
    )


# ── where time goes ──────────────────────────────────────────────────────────────────────────────────────────────────


class Bound(StrEnum):
    COMPUTE = "compute"
    MEMORY = "memory"
    OVERHEAD = "overhead"  #: neither: launch, layout and bookkeeping
    UNKNOWN = "unknown"


class OperatorTime(Part):
    """One executed operator of the runtime's own, fused graph."""

    name: str
    operator: str
    time_ms: float = Field(description="Mean time in one run.")
    time_share: float
    macs: int | None = None
    macs_share: float | None = None
    gflops: float | None = Field(None, description="Achieved 2·MACs per second, in 10⁹.")
    bytes_moved: int | None = None
    bound: Bound = Bound.UNKNOWN
    precision: str = Field("float32", description="Element type it computes in.")
    shape: list[int] | None = Field(None, description="Shape of its first output.")


class Profile(Part):
    """Where the time of one run goes."""

    operators: list[OperatorTime]
    total_ms: float
    quantize_dequantize_ms: float = Field(0, description="Time in QuantizeLinear and DequantizeLinear left standing.")


class ActivationLayer(Part):
    """What one activation of the original looks like on samples."""

    layer: str = Field(description="Name of the node, or of its output where it has none.")
    operator: str
    channels: int
    zero_share: float = Field(description="Share of values that are 0.")
    dead: int = Field(description="Channels that are 0 on all samples.")
    nearly_dead: int = Field(
        description="Channels that are 0 on more than 99.9 % of positions, the dead ones left out."
    )
    low: float
    high: float
    mean: float
    deviation: float = Field(description="Standard deviation.")
    outlier_share: float = Field(description="Share of values beyond six standard deviations from the mean.")


class Finding(Part):
    """One sentence of 'why it is (not) faster', with the figure that it rests on."""

    code: str = Field(description="Stable, such as int8_without_vnni or memory_bound.")
    text: str
    severity: Literal["good", "info", "warning"] = "info"


# ── what was tried ───────────────────────────────────────────────────────────────────────────────────────────────────


class TrialState(StrEnum):
    KEPT = "kept"  #: better than what was there, and inside the limits
    DOMINATED = "dominated"  #: valid, but another trial is better
    REJECTED = "rejected"  #: outside a limit, or not faster
    COMPARED = "compared"  #: measured beside the others; nothing was to be chosen
    SCREENED = "screened"  #: looked at quickly; another format of the same step went on
    SKIPPED = "skipped"  #: the step had nothing to do
    FAILED = "failed"  #: the step or its file broke; rolled back


class LayerChoice(Part):
    """One layer of a network in mixed precision: what 8 bits cost there and what they gain."""

    layer: str = Field(description="Name of the node, or of its output where it has none.")
    operator: str
    noise_share: float | None = Field(
        None, description="Noise over signal of the model's outputs when this layer alone computes in 8 bits."
    )
    gained_ms: float | None = Field(None, description="Time that 8 bits save here in one run, conversions included.")
    kept_float: bool


class LayerReplacement(Part):
    """One thing that could take the place of a layer or a residual block: what it saves, and what it costs."""

    layer: str = Field(description="Name of the node, or of its output; of a block, those of its addition.")
    operator: str
    move: Move
    saved_ms: float = Field(description="Time of a run that it saves where it is the only one.")
    noise_share: float = Field(
        description="Noise over signal of the model's outputs where it is the only one, after it was taught alone."
    )
    chosen: bool


class Replacements(Part):
    """Which layers were replaced, and how well the sum of what each saves predicts the whole."""

    whole_ms: float = Field(description="Time of a run before.")
    predicted_ms: float = Field(description="That less the sum of what the chosen ones save alone.")
    measured_ms: float = Field(description="Of the joined network; the choice was corrected by it.")
    layers: list[LayerReplacement] = Field(description="All that saved time, whether chosen or not.")


class LearningPoint(Part):
    """One look at a training on its way."""

    step: int
    loss: float | None = Field(description="Mean over the steps since the last point; null before the first step.")
    held_out: float = Field(description="Loss on samples that are never learned from.")


class Training(Part):
    """How the weights of a file were taught."""

    taught_by: str = Field(description="The original, labels, or both.")
    steps: int
    batch_size: int = Field(description="Samples of one step.")
    learning_rate: float = Field(description="The largest one.")
    samples: int = Field(description="Samples learned from, again and again.")
    held_out_samples: int
    best_step: int = Field(description="Whose weights were kept: the best ones on what was held out.")
    curve: list[LearningPoint]
    seconds: float
    notes: list[str] = Field([], description="What went otherwise than planned.")


class Trial(Part):
    """One candidate file, or the reason why there is none."""

    id: str = Field(description="Such as t03; the candidate's file is candidates/t03.onnx where one is offered.")
    steps: list[Step] = Field(description="Steps with the options actually used, in order, from the original.")
    label: str = Field(description="In words, such as 'static int8, unsigned activations, reduced range'.")
    state: TrialState
    reason: str = Field(description="Why it has that state, with the figure that decided.")
    figures: Figures | None = None
    comparison: Comparison | None = None
    on_front: bool = Field(False, description="No other valid trial is both faster (smaller…) and more accurate.")
    file: str | None = Field(None, description="Name of the downloadable file, if it is offered.")
    sha256: str | None = None
    seconds: float = Field(0, description="What the trial cost.")
    layers: list[LayerChoice] = Field([], description="In mixed precision: the layers, the most harmful first.")
    training: Training | None = Field(None, description="How its weights were taught, if they were.")
    replacements: Replacements | None = Field(None, description="Which layers were replaced, if that was chosen.")
    profile: Profile | None = Field(None, description="Where its time goes, in a comparison of models.")


# ── the environment ──────────────────────────────────────────────────────────────────────────────────────────────────


class Machine(Part):
    """The machine all figures were taken on."""

    cpu: str
    flags: list[str] = Field(description="Vector and int8 instruction sets that the kernels may use.")
    cores: int
    memory_bytes: int
    os: str
    peak_gflops: float | None = Field(None, description="Measured, one thread per target thread, float32.")
    peak_gops_int8: float | None = Field(None, description="Measured int8 multiply-adds, counted as two each.")
    bandwidth_gb_s: float | None = Field(None, description="Measured copy bandwidth.")
    versions: dict[str, str] = Field(description="Python and each library whose code decides figures.")


class Environment(Part):
    machine: Machine
    sandbox: str = Field(description="Confinement the job ran under: none, rlimits, landlock, landlock+seccomp.")
    execution_provider: str
    seeds: dict[str, int]
    digests: dict[str, str] = Field(description="SHA-256 of the model and the data files.")
    calibration_samples: int | None = None
    evaluation_samples: int | None = None
    data_source: Literal["uploaded", "synthetic"] = "uploaded"
    noise_floor: Interval | None = Field(None, description="Speed-up of the original against itself.")
    notes: list[str] = []


# ── the whole ────────────────────────────────────────────────────────────────────────────────────────────────────────


class Outcome(StrEnum):
    IMPROVED = "improved"
    NO_IMPROVEMENT = "no_improvement"
    COMPARED = "compared"  #: models were measured side by side; nothing was to be improved
    ANALYZED = "analyzed"  #: the model was measured and explained as it is


class Verdict(Part):
    """The first thing a reader wants: is there a better file, and how sure is that?"""

    outcome: Outcome
    minimize: Minimize
    headline: str = Field(description="One sentence with the figures.")
    reasons: list[str] = Field(description="Why it is so; for no_improvement what stood in the way.")
    within_limit: bool | None = Field(None, description="Null where no limit was set.")
    chosen: str | None = Field(None, description="Id of the trial that is offered, null for the original.")
    complete: bool = Field(True, description="False while the job goes on, or where it was cut short.")


class Report(Part):
    schema_version: str = SCHEMA_VERSION
    created_at: str = Field(description="RFC 3339, UTC.")
    verdict: Verdict
    recipe: Recipe
    name: str = Field("the original", description="What the user calls the model.")
    reproduce: list[Step] = Field(description="The steps, with fixed options, that make the offered file again.")
    model: ModelSummary
    baseline: Figures
    optimized: Figures = Field(description="Of the offered file; equals the baseline where nothing was better.")
    comparison: Comparison
    series: list[LatencySeries] = Field([], description="Raw samples of the final measurement, one per process.")
    trials: list[Trial] = []
    profile_before: Profile | None = None
    profile_after: Profile | None = None
    activations: list[ActivationLayer] = Field([], description="Of the original, layer by layer.")
    findings: list[Finding] = Field([], description="Why it is (not) faster.")
    warnings: list[str] = []
    environment: Environment
    elapsed_seconds: float = 0
    extra: dict[str, Any] = Field({}, description="Parts that only some steps write, by step kind.")
