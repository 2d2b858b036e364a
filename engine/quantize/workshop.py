"""One float graph and all the ways to write it down in 8 bits: what is learned of it is learned once.

base      the float graph, with its weights evened out or its outliers moved where the options say so
plan      which nodes compute in 8 bits, without those that stay in float
ranges    of the tensors in the plan, by the options' method of calibration
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx

from engine.data import Samples
from engine.graph import is_standard, save
from engine.quantize.calibrate import Calibrator, Ranges
from engine.quantize.guard import keep_weights_float
from engine.quantize.kept import LAYERS, kept_outputs
from engine.quantize.plan import Plan, plan
from engine.quantize.qdq import Format, quantized
from engine.quantize.qoperator import to_qoperator
from engine.quantize.remedies.bias import Errors, corrected, mean_errors
from engine.quantize.remedies.equalize import equalized
from engine.quantize.remedies.rounding import moments_of
from engine.quantize.remedies.smooth import channel_peaks, smoothed
from engine.quantize.rounding import TO_NEAREST, Rounding
from engine.recipe import Activations, Calibration, Layout, QuantizeStatic, Range, Scales

ANYWHERE = ("fit_rounding", "correct_bias")  #: remedies that always find something to do


@dataclass
class Workshop:
    original: onnx.ModelProto  #: as the user knows it
    graph: onnx.ModelProto  #: prepared, in float
    samples: Samples
    folder: Path
    threads: int
    pause: Callable[[], None]
    _written: int = 0
    _bases: dict[tuple[bool, bool], "Base"] = field(default_factory=dict)

    def nothing_to_do(self, options: QuantizeStatic) -> str | None:
        """Why no layer can be quantized, in words for the user."""
        base, kept = self.base(options), self.kept(options)
        if not plan(base.graph).layers:
            made = "; ConstantOfShape makes them" if _are_filled(self.graph) else ""
            return f"no Conv, Gemm or MatMul of the main graph has constant float32 weights{made}"
        if not plan(base.graph, keep_float=kept).layers:
            return "keep_float keeps all of its layers in float"
        if not base.plan(kept).layers:
            return "the activations of all its layers hold NaN or infinity on the calibration data"
        return None

    def write(self, options: QuantizeStatic) -> Path:
        """The file that these options, none of them `auto`, make. Raises StepFailed."""
        base, form = self.base(options), format_of(options)
        graph, planned = base.graph, self.plan(options)
        ranges = base.ranges(planned, options, form)
        rounding = base.rounding(planned) if options.fit_rounding is True else TO_NEAREST
        if options.correct_bias is True:
            graph = corrected(graph, base.errors(planned, form, rounding))
            planned = plan(graph, base.unusable, self.kept(options))
        model = quantized(graph, planned, ranges, form, rounding)
        keep_weights_float(model)
        if options.layout is Layout.QOPERATOR:
            model = to_qoperator(model) or model
        self._written += 1
        return save(model, self.folder / f"static-{self._written}.onnx")

    def plan(self, options: QuantizeStatic) -> Plan:
        return self.base(options).plan(self.kept(options))

    def kept(self, options: QuantizeStatic) -> tuple[str, ...]:
        """Outputs of the nodes of the prepared graph that stay in float."""
        return kept_outputs(self.original, self.graph, options.keep_float)

    def base(self, options: QuantizeStatic) -> "Base":
        return self._base(equalize=options.equalize is True, smooth=options.smooth is True)

    def can(self, remedy: str, options: QuantizeStatic) -> bool:
        """Whether the remedy finds anything to do."""
        return remedy in ANYWHERE or self.base(options.model_copy(update={remedy: True})) is not self.base(options)

    def _base(self, *, equalize: bool, smooth: bool) -> "Base":
        key = (equalize, smooth)
        if key not in self._bases:
            self._bases[key] = self._made_base(equalize=equalize, smooth=smooth)
        return self._bases[key]

    def _made_base(self, *, equalize: bool, smooth: bool) -> "Base":
        """A remedy that finds nothing to do leaves the base as it is without it."""
        if not equalize and not smooth:
            return self._calibrated(self.graph)
        before = self._base(equalize=equalize and smooth, smooth=False)
        graph = smoothed(before.graph, channel_peaks(before.calibrator)) if smooth else equalized(before.graph)
        return before if graph is None else self._calibrated(graph)

    def _calibrated(self, graph: onnx.ModelProto) -> "Base":
        return Base(graph, Calibrator(graph, self.samples, self.folder, self.threads, self.pause))


@dataclass
class Base:
    """A float graph, and what its calibration showed."""

    graph: onnx.ModelProto
    calibrator: Calibrator
    extremes: Ranges = field(default_factory=dict)
    unusable: set[str] = field(default_factory=set)  #: tensors that hold NaN or infinity
    _errors: dict[tuple[Format, bool], Errors] = field(default_factory=dict)
    _moments: dict[str, Any] = field(default_factory=dict)

    def plan(self, keep_float: tuple[str, ...] = ()) -> Plan:
        """A plan whose tensors all have a finite range."""
        while True:
            planned = plan(self.graph, self.unusable, keep_float)
            owners = set(planned.owners.values())
            missing = sorted(owners - set(self.extremes))
            self.extremes |= self.calibrator.minmax(missing) if missing else {}
            infinite = {name for name in owners if not all(map(math.isfinite, self.extremes[name]))}
            if not infinite:
                return planned
            self.unusable |= infinite

    def ranges(self, planned: Plan, options: QuantizeStatic, form: Format) -> Ranges:
        extremes = {name: self.extremes[name] for name in sorted(set(planned.owners.values()))}
        if options.calibration is Calibration.MINMAX:
            return extremes
        return self.calibrator.ranges(options.calibration, extremes, percent=options.percentile, form=form)

    def rounding(self, planned: Plan) -> Rounding:
        """By least squares; what each layer reads is looked at once."""
        missing = {name: layer for name, layer in planned.layers.items() if name not in self._moments}
        self._moments |= dict.fromkeys(missing) | dict(moments_of(self.calibrator, missing)) if missing else {}
        known = {name: self._moments[name] for name in planned.layers}
        return Rounding({name: moments for name, moments in known.items() if moments is not None})

    def errors(self, planned: Plan, form: Format, rounding: Rounding) -> Errors:
        """What rounding shifts the output of each layer of the plan by; each is learned once for a format."""
        known = self._errors.setdefault((form, bool(rounding.moments)), {})
        missing = {name: layer for name, layer in planned.layers.items() if name not in known}
        known |= mean_errors(self.calibrator, missing, form, rounding) if missing else {}
        return {name: known[name] for name in planned.layers if name in known}


def format_of(options: QuantizeStatic) -> Format:
    return Format(
        signed=options.activations is Activations.SIGNED,
        reduced=options.weight_range is Range.REDUCED,
        per_channel=options.weight_scales is not Scales.PER_TENSOR,
        symmetric=options.symmetric,
    )


def _are_filled(model: onnx.ModelProto) -> bool:
    """Whether layers multiply by tensors that are filled with one value when the model runs."""
    filled = {name for node in model.graph.node if is_standard(node, "ConstantOfShape") for name in node.output}
    return any(is_standard(node, *LAYERS) and not filled.isdisjoint(node.input[1:2]) for node in model.graph.node)
