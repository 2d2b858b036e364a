"""Channel pruning: whole channels leave the graph, and a smaller network is left that any runtime runs faster.

    leave    (1 - ratio) of each group, by a multiple that kernels like: those go that the others can best replace
    W ← W A,   b ← b + W m          least squares, layer after layer: what stays takes over what left

A group are channels that can only leave together: residual sums, concatenations, depthwise and grouped convolutions,
squeeze-and-excite, groups that are normalized, attention heads, widths of MLPs and hidden sizes of recurrent layers are
followed position by position (`engine.prune`). Heads leave whole, with the keys and values that they share, whether
attention is spelled in single products, as ONNX's Attention, or as ONNX Runtime's Attention and MultiHeadAttention; not
where keys and values of earlier steps enter or leave the model, nor in GroupQueryAttention. Inputs and outputs of the
model stay as they are. It takes a few hundred samples without labels; nothing is trained.

Pays in time nearly as much as in operations, on any runtime: half of the channels are a quarter of the work. It costs
accuracy, more than quantization does. On a residual network (92.1 % top-1 on Fashion-MNIST), a quarter of the channels
gave 1.6 times the speed at 91.3 %, half of them 3.4 times at 88.3 %; `distill` behind it wins back most of the rest.
Does not pay where time goes into something else than weights, nor in networks that are narrow already.
Li et al. 2017; He et al. 2017 (reconstruction); Fang et al. 2023 (DepGraph); Hassibi & Stork 1993 (elimination).

With ratio 0, only dead channels leave: always zero on the samples, or never read. That loses nothing.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx

from engine.graph import inlined, lift_constants, load, operator_of, save
from engine.measure.complexity import count
from engine.prune.basis import Basis
from engine.prune.choice import least, only_dead, widths
from engine.prune.elimination import eliminated
from engine.prune.groups import Group, followed, groups
from engine.prune.harm import SHARES
from engine.prune.importance import Scores, contributions, dead, magnitudes, met_keys
from engine.prune.moments import Moments, moments
from engine.prune.reconstruct import reconstructed
from engine.prune.surgery import without
from engine.prune.targets import Narrowing
from engine.prune.walk import Key, Walk
from engine.quantize.calibrate import Calibrator
from engine.quantize.prepare import LOWEST_OPSET, at_opset
from engine.recipe import Importance, PruneChannels
from engine.steps import learning
from engine.steps.base import Skipped, StepContext, Variant

MOST_SHARE_OF_TIME, FEWEST_SAMPLES, MOST_SAMPLES = 0.25, 16, 100_000
MOST_TO_NARROW = 64  #: samples on which groups are narrowed alone
MOST_NAMED = 3  #: operators in a reason
LAYERS = ("Conv", "ConvTranspose", "Einsum", "Gemm", "GRU", "LSTM", "MatMul", "RNN", "com.microsoft.Attention")


def refuse(model: onnx.ModelProto) -> str | None:
    """Why there is no channel to remove, as far as a glance can tell."""
    if sum(operator_of(node) in LAYERS for node in inlined(model).graph.node) < 2:
        return "its main graph has no two layers in a row: channels lie between one that makes and one that reads them"
    return None


def run(step: PruneChannels, model: Path, context: StepContext) -> list[Variant] | Skipped:
    """One narrower file."""
    reason = refuse(load(model)) or (learning.refusal(load(model)) if step.importance is Importance.TAYLOR else None)
    if reason is not None:
        return Skipped(reason)
    graph = _prepared(model, context)
    if isinstance(graph, str):
        return Skipped(graph)
    walk = followed(graph)
    found = groups(walk)
    if not found:
        return Skipped(_blocked(walk))
    step = _within_time(step, walk, context)
    samples = context.calibration.first(step.samples)
    calibrator = Calibrator(walk.model, samples, context.folder, context.target.threads, context.pause)
    basis = Basis(walk, found, _seen(walk, found, step, calibrator), calibrator)
    removed = _chosen(step, basis, context)
    if not len(removed):
        return Skipped(_nothing(step, found))
    rebuilds = step.reconstruct and not _only_dead(step)
    narrower = (
        reconstructed(walk, removed, basis.seen, calibrator, context.tell) if rebuilds else without(walk, removed)
    )
    path = save(narrower, context.folder / "narrower.onnx")
    label = _label(step, found, len(removed), graph, narrower) + _missed(step, walk, narrower, context)
    return [Variant(path, step, label)]


def _blocked(walk: Walk) -> str:
    """Why there is no group of channels."""
    words = "no channel can leave: each one is part of an input or an output, or meets all others"
    if walk.stopped:
        return f"{words}, or is lost where none can be followed: in {_named(walk.stopped)}"
    if walk.unshaped:
        return f"{words}, or is lost where shapes are not known: of what {_named(walk.unshaped)} reads"
    return words


def _named(operators: list[str]) -> str:
    """Each once, at most three of them."""
    names = list(dict.fromkeys(operators))
    shown = names[:MOST_NAMED]
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if shown[1:] else shown) + ", …" * (len(names) > MOST_NAMED)


def _prepared(model: Path, context: StepContext) -> onnx.ModelProto | str:
    from engine.simplify import simplified  # its libraries take a second to import, and inspection needs none of them

    graph = at_opset(model, LOWEST_OPSET, context.calibration, context.folder)
    if isinstance(graph, str):
        return graph
    lift_constants(graph)
    graph = simplified(graph) or graph
    lift_constants(graph)
    return graph


def _within_time(step: PruneChannels, walk: Walk, context: StepContext) -> PruneChannels:
    """With fewer samples where reconstruction, which runs them once for each layer, would take too long."""
    affordable = _affordable(1 + len(walk.readers) * step.reconstruct, context)
    return step.model_copy(update={"samples": min(step.samples, affordable)})


def _affordable(runs: int, context: StepContext) -> int:
    """How many samples can be run so often."""
    if context.glimpse is None or math.isinf(context.seconds):
        return MOST_SAMPLES
    seconds = context.glimpse.run_ms / 1000 * runs
    return max(int(MOST_SHARE_OF_TIME * context.seconds / seconds), FEWEST_SAMPLES)


def _seen(walk: Walk, found: list[Group], step: PruneChannels, calibrator: Calibrator) -> dict[Key, Moments]:
    """What layers read on samples, of the tensors along which channels may leave."""
    if step.importance is Importance.MAGNITUDE and not (step.reconstruct or _only_dead(step) or _has_target(step)):
        return {}
    free = np.concatenate([group.channels for group in found])
    readers = [
        reader
        for reader in walk.readers
        if (ids := walk.read_by(reader)) is not None and np.isin(walk.channels.roots(ids), free).any()
    ]
    return moments(walk, calibrator, readers)


def _chosen(step: PruneChannels, basis: Basis, context: StepContext) -> np.ndarray:
    found, silent = basis.found, dead(basis.walk, basis.seen)
    if _only_dead(step):
        return only_dead(found, silent, step.multiple)
    kept = None if _has_target(step) else widths(found, step.ratio, step.multiple)
    scores = _scores(step, basis, kept or [1] * len(found), context.seed)
    scores[sorted(silent)] = -1.0
    return least(found, scores, kept or _for_target(step, basis, scores, context))


def _has_target(step: PruneChannels) -> bool:
    return step.time_share is not None or step.macs_share is not None


def _only_dead(step: PruneChannels) -> bool:
    return not step.ratio and not _has_target(step)


def _scores(step: PruneChannels, basis: Basis, kept: Sequence[int], seed: int) -> Scores:
    if step.importance is Importance.MAGNITUDE:
        return magnitudes(basis.walk)
    if step.importance is Importance.TAYLOR:
        from engine.prune.taylor import taylor  # torch takes seconds to import, and no other importance needs it

        return taylor(basis.walk, [*basis.seen, *met_keys(basis.walk)], basis.calibrator, seed)
    if step.reconstruct:
        return eliminated(basis.walk, basis.found, basis.seen, kept)
    return contributions(basis.walk, basis.seen, centred=False)


def _for_target(step: PruneChannels, basis: Basis, scores: Scores, context: StepContext) -> Sequence[int]:
    """Widths as the target wants them."""
    affordable = _affordable(len(basis.found) * len(SHARES), context)
    samples = context.calibration.first(min(step.samples, affordable, MOST_TO_NARROW))
    fewer = replace(basis, calibrator=replace(basis.calibrator, samples=samples))
    narrowing = Narrowing(fewer, scores, step.multiple, _sizes(context), context.tell)
    if step.time_share is not None and context.glimpse is not None:
        return narrowing.for_time(step.time_share, context.glimpse)
    return narrowing.for_macs(step.macs_share or step.time_share or 1.0, _original_macs(basis.walk, context))


def _sizes(context: StepContext) -> dict[str, tuple[int, ...]]:
    """Shapes of the inputs of one run."""
    return {name: values.shape for name, values in next(context.calibration.batches(context.target.batch_size)).items()}


def _original_macs(walk: Walk, context: StepContext) -> int | None:
    original = load(context.original) if context.original else walk.model
    return count(original, sizes=_sizes(context)).macs


def _missed(step: PruneChannels, walk: Walk, narrower: onnx.ModelProto, context: StepContext) -> str:
    """What to say where more operations are left than were asked for."""
    if step.macs_share is None:
        return ""
    original, left = _original_macs(walk, context), count(narrower, sizes=_sizes(context)).macs
    if not original or left is None or left <= step.macs_share * original:
        return ""
    return f", as few as its widths allow; {100 * step.macs_share:.0f} % were asked for"


def _nothing(step: PruneChannels, found: list[Group]) -> str:
    total = sum(map(len, found))
    if _only_dead(step):
        return f"none of its {total} channels is dead, or too few for widths that are multiples of {step.multiple}"
    return f"all of its {len(found)} groups of channels are too narrow for widths that are multiples of {step.multiple}"


def _label(
    step: PruneChannels, found: list[Group], removed: int, before: onnx.ModelProto, after: onnx.ModelProto
) -> str:
    whose = "dead channels" if _only_dead(step) else "channels"
    words = f"{removed} of {sum(map(len, found))} {whose} removed"
    old, new = count(before).macs, count(after).macs
    if old and new is not None:
        words += f", {100 * new / old:.0f} % of the operations left"
    return words + (", reconstructed" if step.reconstruct and not _only_dead(step) else "")
