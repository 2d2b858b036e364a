"""The whole public grammar on one page: what a user may ask of Strop.

    JobRequest = model + data + target + (steps | goal | compare | analyze) + limits + budget + seed

The discriminated union `Step` is the registry: the API's schema, the catalogue and the engine's table of techniques
(`engine.steps.STEPS`) all follow from it. Everything is frozen, every option has a unit and bounds, and no value a user
writes ever names an import or a path.
"""

from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

PRINTABLE = r"^[^\x00-\x1f\x7f]*$"  # a control character in a name is never meant


class Grammar(BaseModel):
    """A frozen part of a request; an unknown field is an error, so that a typo is never ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_enum_values=False)


# ── steps ────────────────────────────────────────────────────────────────────────────────────────────────────────────


class Activations(StrEnum):
    AUTO = "auto"  #: try unsigned and signed, keep what measures best
    UNSIGNED = "unsigned"  #: uint8; fastest on most x86 CPUs
    SIGNED = "signed"  #: int8; needed by some accelerators


class Range(StrEnum):
    AUTO = "auto"  #: try both, keep what measures best
    FULL = "full"  #: weights use all 8 bits
    REDUCED = "reduced"  #: weights use 7 bits, so that CPUs without VNNI do not saturate


class Scales(StrEnum):
    AUTO = "auto"  #: one per channel; one per tensor where that is faster or the only one that loads
    PER_CHANNEL = "per_channel"  #: one weight scale per output channel
    PER_TENSOR = "per_tensor"  #: one weight scale for the whole tensor


class Layout(StrEnum):
    AUTO = "auto"  #: try both, keep what measures best
    QDQ = "qdq"  #: QuantizeLinear and DequantizeLinear around float operators; every runtime reads it
    QOPERATOR = "qoperator"  #: QLinearConv and its kin, as ONNX Runtime computes them; a smaller graph


class Calibration(StrEnum):
    AUTO = "auto"  #: try all, keep what is most faithful
    MINMAX = "minmax"  #: the range is the smallest and largest value seen
    PERCENTILE = "percentile"  #: the range leaves out the most extreme values
    ENTROPY = "entropy"  #: the range whose 8-bit histogram tells least apart from the true one (Kullback-Leibler)
    MSE = "mse"  #: the range with the smallest mean squared error of clipping and rounding


Auto = Literal["auto"]
FIT_ROUNDING = "Round weights up or down so that their errors cancel in each layer's output."
KeepFloat = Annotated[
    tuple[Annotated[str, Field(max_length=1000, pattern=PRINTABLE)], ...],
    Field(max_length=10_000, description="Operator types, or names of nodes or their outputs, that stay in float."),
]


Name = Annotated[str, Field(max_length=1000, pattern=PRINTABLE)]
ModelId = Annotated[Name, Field(description="An uploaded model.", examples=["mdl_0123456789abcdef"])]


class UseModel(Grammar):
    """Go on with another uploaded model in the original's place, verified and measured like a result."""

    kind: Literal["use_model"] = "use_model"
    model: ModelId


class SimplifyGraph(Grammar):
    """Fold constants, fuse what can be fused and drop what has no effect; the outputs stay equal."""

    kind: Literal["simplify_graph"] = "simplify_graph"


class EightBits(Grammar):
    """How weights and activations are written down in 8 bits."""

    activations: Activations = Field(Activations.AUTO, description="Signedness of 8-bit activations.")
    symmetric: bool = Field(False, description="Activation ranges around zero (zero point 0 where signed).")
    weight_range: Range = Field(Range.AUTO, description="Whether 8-bit weights use the full range or 7 bits of it.")
    weight_scales: Scales = Field(Scales.AUTO, description="How many scales a weight has.")
    calibration: Calibration = Field(Calibration.AUTO, description="How activation ranges are learned.")
    percentile: float = Field(99.99, ge=90, le=100, description="Share of values inside the range, in percent.")
    samples: int = Field(256, ge=1, le=100_000, description="Calibration samples to read at most.")
    equalize: bool | Auto = Field("auto", description="Even out the weight ranges of layers that follow each other.")
    smooth: bool | Auto = Field("auto", description="Move outliers of activations into the weights they meet.")
    fit_rounding: bool | Auto = Field("auto", description=FIT_ROUNDING)
    correct_bias: bool | Auto = Field("auto", description="Take the mean error of rounding out of each layer's bias.")
    keep_float: KeepFloat = ()


class QuantizeStatic(EightBits):
    """Store weights and compute activations in 8 bits, with ranges learned from calibration data."""

    kind: Literal["quantize_static"] = "quantize_static"
    layout: Layout = Field(Layout.AUTO, description="How 8-bit operators are written down.")
    mixed: bool | Auto = Field("auto", description="Keep the layers in float that cost most accuracy for least time.")


class QuantizeDynamic(Grammar):
    """Store the weights of matrix products in 8 bits and quantize their activations while the model runs."""

    kind: Literal["quantize_dynamic"] = "quantize_dynamic"
    activations: Activations = Field(Activations.UNSIGNED, description="Only unsigned activations have kernels.")
    weight_range: Range = Field(Range.AUTO, description="Whether 8-bit weights use the full range or 7 bits of it.")
    weight_scales: Scales = Field(Scales.AUTO, description="How many scales a weight has.")
    keep_float: KeepFloat = ()


class WeightLayout(StrEnum):
    AUTO = "auto"  #: try matmul_nbits and unpack, keep what measures best
    MATMUL_NBITS = "matmul_nbits"  #: ONNX Runtime's MatMulNBits: reads packed weights, rounds activations to 8 bits too
    DEQUANTIZE = "dequantize"  #: DequantizeLinear by blocks (opset 21), any runtime; ONNX Runtime mostly fuses it
    UNPACK = "unpack"  #: unpacked once, as the model is loaded; then it computes just as the original


class QuantizeWeights(Grammar):
    """Store the weights of matrix products in 4 or 8 bits, block by block; activations stay in float."""

    kind: Literal["quantize_weights"] = "quantize_weights"
    bits: Literal[4, 8] = Field(8, description="Bits of one weight.")
    block_size: Literal[16, 32, 64, 128, 256] = Field(32, description="Weights of a column that share one scale.")
    symmetric: bool = Field(True, description="Ranges around zero, without zero points.")
    fit_rounding: bool | Auto = Field("auto", description=FIT_ROUNDING + " `auto`: with 4 bits.")
    layout: WeightLayout = Field(WeightLayout.AUTO, description="How packed weights are written down.")
    keep_float: KeepFloat = ()


class Half(StrEnum):
    FLOAT16 = "float16"  #: 11 bits of precision, values up to 65504
    BFLOAT16 = "bfloat16"  #: 8 bits of precision, the range of float32; few kernels on CPUs


class Arithmetic(StrEnum):
    AUTO = "auto"  #: try both, keep what measures best
    FLOAT32 = "float32"  #: weights are unpacked once, as the model is loaded; then it computes just as the original
    HALF = "half"  #: activations are 16-bit floats as well


class ConvertFloat16(Grammar):
    """Store and compute in 16-bit floats; inputs and outputs keep their types."""

    kind: Literal["convert_float16"] = "convert_float16"
    format: Half = Field(Half.FLOAT16, description="Which 16-bit float.")
    arithmetic: Arithmetic = Field(Arithmetic.AUTO, description="What it computes in.")
    keep_float: KeepFloat = ()


class Learning(Grammar):
    """How long and how fast weights are taught by the original model, by labels, or by both."""

    steps: Annotated[int, Field(ge=1, le=1_000_000)] | Auto = Field(
        "auto", description="Training steps; `auto`: as many as the time allows."
    )
    minutes: float | None = Field(None, ge=0.01, le=1440, description="Minutes to train; none: what the budget leaves.")
    batch_size: Annotated[int, Field(ge=1, le=4096)] | Auto = Field("auto", description="Samples of one step.")
    learning_rate: Annotated[float, Field(gt=0, le=1)] | Auto = Field(
        "auto", description="The largest one; it comes down to nothing."
    )
    temperature: float = Field(2.0, ge=0.5, le=20, description="What scores are divided by before they are compared.")
    labels: bool | Literal["only"] = Field(
        False, description="Learn from the labels of the calibration data as well; `only`: from nothing else."
    )


class Distill(Learning):
    """Teach the weights to say what the original model says of the calibration data; no labels are needed."""

    kind: Literal["distill"] = "distill"
    width: float | None = Field(
        None, ge=0.05, lt=1, description="Teach a narrower copy, of this share of each layer's channels."
    )
    features: bool = Field(False, description="Compare inner tensors too, where the two have the same ones.")


class QuantizeAwareTraining(Learning, EightBits):
    """Quantize to 8 bits and teach the weights to say what the original says, rounded as they will be served."""

    kind: Literal["quantize_aware_training"] = "quantize_aware_training"
    learn_scales: bool | Auto = Field("auto", description="Teach scales too; `auto`: where 8 bits alone leave little.")


class Importance(StrEnum):
    ACTIVATIONS = "activations"  #: what a channel brings to its readers on calibration samples, that no other one could
    MAGNITUDE = "magnitude"  #: how large its weights are
    TAYLOR = "taylor"  #: how much the outputs change without it, by gradients of the model's own answers; needs torch


class PruneChannels(Grammar):
    """Remove whole channels, the least important ones of each layer, so that a smaller network is left."""

    kind: Literal["prune_channels"] = "prune_channels"
    ratio: float = Field(0.5, ge=0, le=0.95, description="Share of each layer's channels to remove; 0: just dead ones.")
    time_share: float | None = Field(
        None, gt=0, lt=1, description="Instead of a ratio: share of the original's run time that may be left, unevenly."
    )
    macs_share: float | None = Field(None, gt=0, lt=1, description="The same as a share of the multiply-accumulates.")
    importance: Importance = Field(Importance.ACTIVATIONS, description="What tells which channels matter.")
    multiple: int = Field(8, ge=1, le=64, description="Widths stay a multiple of this, less in small layers.")
    reconstruct: bool = Field(True, description="Let the channels that stay take over what the removed ones brought.")
    samples: int = Field(256, ge=1, le=100_000, description="Calibration samples to read at most.")

    @model_validator(mode="after")
    def _one_target(self) -> Self:
        if self.time_share is not None and self.macs_share is not None:
            raise ValueError("give time_share or macs_share, not both")
        return self


class Move(StrEnum):
    DEPTHWISE = "depthwise"  #: a convolution of each channel for itself, then a 1×1 convolution
    DEPTHWISE_TWICE = "depthwise_twice"  #: the same with two kernels for each channel
    SMALLER_KERNEL = "smaller_kernel"  #: a convolution with a kernel smaller by 2, such as 1×1 for 3×3
    LOW_RANK = "low_rank"  #: two layers in a row of half the work, through a narrow middle
    LOWER_RANK = "lower_rank"  #: the same of a quarter of the work
    TUCKER = "tucker"  #: 1×1 convolution to half the channels, the kernel there, 1×1 convolution back (Tucker-2)
    NARROWER = "narrower"  #: a residual block with half of its inner channels
    SKIP = "skip"  #: nothing in its place: a layer or a residual block is left out


class Replacement(Grammar):
    """What takes the place of a layer or a residual block."""

    layer: Name = Field(description="Name of the node, or of its output; of a block, those of its addition.")
    move: Move = Field(description="What takes its place.")


class ReplaceLayers(Grammar):
    """Put cheaper layers in the place of others, chosen by measured time, and taught to give what those gave."""

    kind: Literal["replace_layers"] = "replace_layers"
    time_share: float = Field(
        0.5, ge=0.01, le=1, description="Share of the run time that the model may still take; as near as moves come."
    )
    moves: Annotated[tuple[Move, ...], Field(min_length=1, max_length=len(Move))] | Auto = Field(
        "auto", description="What may take the place of a layer; `auto`: anything."
    )
    replacements: Annotated[tuple[Replacement, ...], Field(min_length=1, max_length=10_000)] | Auto = Field(
        "auto", description="Which layers to replace by what; `auto`: least error of the outputs for the time."
    )
    samples: int = Field(256, ge=2, le=100_000, description="Calibration samples to learn from at most.")
    steps: Annotated[int, Field(ge=0, le=100_000)] | Auto = Field(
        "auto", description="Training steps for each replacement; `auto`: as many as a tenth of the time allows."
    )


class PruneWeights(Grammar):
    """Set the smallest weights to zero; the file compresses better, dense runtimes do not get faster."""

    kind: Literal["prune_weights"] = "prune_weights"
    ratio: float = Field(0.5, gt=0, lt=1, description="Share of the weights of each layer; not used with a pattern.")
    pattern: Annotated[str, Field(pattern=r"^([1-9]:(?:[2-9]|1[0-6]))$")] | None = Field(
        None, description="N:M keeps the N largest of each M weights that are summed up, as in 2:4.", examples=["2:4"]
    )

    @model_validator(mode="after")
    def _fewer_than_all(self) -> Self:
        if self.pattern is not None and int(self.pattern.split(":")[0]) >= int(self.pattern.split(":")[1]):
            raise ValueError("in a pattern N:M, N is less than M")
        return self


Step = Annotated[
    SimplifyGraph
    | QuantizeStatic
    | QuantizeDynamic
    | QuantizeWeights
    | ConvertFloat16
    | PruneChannels
    | ReplaceLayers
    | PruneWeights
    | Distill
    | QuantizeAwareTraining
    | UseModel,
    Field(discriminator="kind"),
]


# ── goal, limits, budget ─────────────────────────────────────────────────────────────────────────────────────────────


class Minimize(StrEnum):
    LATENCY = "latency"  #: median time of one run, in milliseconds
    SIZE = "size"  #: bytes of the ONNX file
    MEMORY = "memory"  #: peak resident set of a process that runs just the model, in bytes


class Goal(Grammar):
    minimize: Minimize = Field(Minimize.LATENCY, description="What shall become as small as possible.")


class Limits(Grammar):
    accuracy_drop: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Largest loss of the metric allowed, in the metric's own unit (0.01 of top-1 is one point). "
        "Without labels: share of changed decisions (agreement), or noise power over signal power (SQNR).",
    )


class Budget(Grammar):
    minutes: float = Field(20, gt=0, le=24 * 60, description="Time for the whole job, in minutes.")
    trials: int | None = Field(None, ge=1, le=1000, description="Candidates to measure at most.")


# ── data and target ──────────────────────────────────────────────────────────────────────────────────────────────────


class Metric(StrEnum):
    AUTO = "auto"  #: top1 with labels; without: agreement for a classifier, else sqnr
    TOP1 = "top1"
    TOP5 = "top5"
    MSE = "mse"
    MAE = "mae"
    MIOU = "miou"
    COSINE = "cosine"
    F1 = "f1"
    AGREEMENT = "agreement"
    SQNR = "sqnr"


class Data(Grammar):
    """Samples of the model's inputs. With only `calibration`, it is split once by the seed."""

    calibration: str = Field(description="Data set the ranges are learned from.", examples=["dat_0123456789abcdef"])
    evaluation: str | None = Field(None, description="Data set the accuracy is measured on; never learned from.")
    labels: str | None = Field(
        None, max_length=200, pattern=PRINTABLE, description="Array of the labels; found by name when left out."
    )


class Device(StrEnum):
    CPU = "cpu"
    CUDA = "cuda"


class Target(Grammar):
    """Where the model will be served; all figures are measured so."""

    device: Device = Field(Device.CPU, description="Kind of processor.")
    threads: int = Field(1, ge=1, le=256, description="Threads one run of the model may use.")
    batch_size: int = Field(1, ge=1, le=4096, description="Samples in one run of the model.")


# ── the request ──────────────────────────────────────────────────────────────────────────────────────────────────────


class Recipe(Grammar):
    """What to do, apart from the files: steps in their order, a goal, models to compare with, or just a look."""

    steps: list[Step] | None = Field(None, min_length=1, max_length=32, description="Steps to take, in order.")
    goal: Goal | None = Field(None, description="Let Strop find the steps.")
    compare: list[ModelId] | None = Field(
        None, min_length=1, max_length=7, description="Measure these models beside the first; nothing is changed."
    )
    analyze: Literal[True] | None = Field(None, description="Measure and explain the model as it is; nothing else.")
    limits: Limits = Field(default_factory=Limits, description="What may not be crossed.")
    budget: Budget = Field(default_factory=Budget, description="What the job may cost.")
    target: Target = Field(default_factory=Target, description="Where the model will be served.")
    metric: Metric = Field(Metric.AUTO, description="How right the model is.")
    seed: int = Field(0, ge=0, lt=2**32, description="Seed of every random choice.")

    @model_validator(mode="after")
    def _one_thing(self) -> Self:
        if [self.steps, self.goal, self.compare, self.analyze].count(None) != 3:
            raise ValueError("give either steps or a goal, or compare, or analyze: one of them")
        return self

    @property
    def is_optimization(self) -> bool:
        """Whether a better file is looked for."""
        return self.steps is not None or self.goal is not None


class JobRequest(Recipe):
    """One optimization of an uploaded model."""

    model: str = Field(description="The uploaded model.", examples=["mdl_0123456789abcdef"])
    data: Data | None = Field(None, description="Uploaded samples; without them inputs are made up.")
    name: str | None = Field(None, max_length=200, pattern=PRINTABLE, description="A name for people.")

    def other_models(self) -> dict[str, str]:
        """Ids of the models that are named beside the first, by where in the request, as a JSON pointer."""
        compared = {f"/compare/{index}": model for index, model in enumerate(self.compare or [])}
        steps = enumerate(self.steps or [])
        return compared | {f"/steps/{index}/model": step.model for index, step in steps if isinstance(step, UseModel)}

    def recipe(self) -> Recipe:
        """The part of the request that the engine reads."""
        return Recipe(**{name: getattr(self, name) for name in Recipe.model_fields})
