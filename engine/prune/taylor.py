"""How much the outputs change when a channel goes, to second order, from gradients.

    score_c = Σ over readers and samples  ( Σ over positions  x_c · ∂l/∂x_c )²

    scores of classes    l = log p(k), k drawn by the model's own probabilities p
    other outputs        l = Σ z · y / σ(y), z = ±1 by chance

A loss that compares with the model itself has no gradient at the model, so the score is its curvature instead: over
draws of k, the mean of squared gradients is the Fisher information, the curvature of the Kullback-Leibler divergence
from the model's own answers; over draws of z, it is that of the squared error over the variance. Gating a channel by
1 - g changes l by -g · Σ x_c · ∂l/∂x_c, so its square is what it costs to close the gate.
Channels that no gradient reaches, or that no tensor here carries, are ranked by the magnitude of their weights.
Molchanov et al. 2019, “Importance estimation for neural network pruning”; Theis et al. 2018 (Fisher pruning).
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from engine.differentiable import DifferentiableGraph
from engine.prune.importance import Scores, magnitudes
from engine.prune.walk import Key, Walk
from engine.quantize.calibrate import Calibrator
from engine.recover.targets import LEAST_PROBABILITY, Kind, Target, target_of


def taylor(walk: Walk, keys: Sequence[Key], calibrator: Calibrator, seed: int) -> Scores:
    """The scores of all channels along these axes of tensors; of others, their magnitudes."""
    keys = [(name, axis) for name, axis in keys if name not in walk.weights]
    names = list(dict.fromkeys(name for name, _ in keys))
    graph = DifferentiableGraph(walk.model, taps=names)
    outputs = [value.name for value in walk.model.graph.output]
    targets: list[Target] | None = None
    chance = torch.Generator().manual_seed(seed)
    sums: dict[Key, np.ndarray] = {}
    for feeds in calibrator.samples.batches(1):
        calibrator.pause()
        values = graph({name: torch.from_numpy(value) for name, value in feeds.items()})
        targets = targets if targets is not None else _targets(outputs, values)
        if not targets:
            break
        loss = torch.stack([_drawn(target, values[target.name], chance) for target in targets]).sum()
        for key, squares in _squares(loss, keys, values).items():
            sums[key] = sums.get(key, 0) + squares
    return _joined(walk, sums)


def _joined(walk: Walk, sums: Mapping[Key, np.ndarray]) -> Scores:
    scores, roots = magnitudes(walk), walk.channels.all_roots()
    places = {key: roots[ids] for key in sums if (ids := walk.along(key)) is not None}
    for channels in places.values():
        scores[channels] = 0
    for key, channels in places.items():
        np.add.at(scores, channels, sums[key])
    return scores


def _targets(outputs: Sequence[str], values: Mapping[str, Tensor]) -> list[Target]:
    learned = [name for name in outputs if isinstance(values[name], Tensor) and values[name].requires_grad]
    found = [target_of(name, values[name].detach().numpy()) for name in learned]
    return [target for target in found if target is not None]


def _drawn(target: Target, values: Tensor, chance: torch.Generator) -> Tensor:
    """What is differentiated of one output."""
    if target.kind is Kind.VALUES:
        signs = torch.randint(0, 2, values.shape, generator=chance) * 2 - 1
        return (signs * values).sum() / (target.power * values.numel()) ** 0.5
    rows = values.movedim(target.axis, -1).flatten(0, -2)
    if target.kind is Kind.PROBABILITIES:
        rows = rows.clamp_min(LEAST_PROBABILITY).log()
    logs = torch.log_softmax(rows, -1)
    drawn = torch.multinomial(logs.detach().exp(), 1, generator=chance)
    return logs.gather(-1, drawn).sum()


def _summed(values: Tensor) -> Tensor:
    """Over all axes but the first."""
    return values.reshape(len(values), -1).sum(1)


def _squares(loss: Tensor, keys: Sequence[Key], values: Mapping[str, Tensor]) -> dict[Key, np.ndarray]:
    """How much each channel moves the loss, squared; (channels,) for each tensor."""
    names = [name for name in dict.fromkeys(name for name, _ in keys) if values[name].requires_grad]
    if not names:
        return {}
    found = torch.autograd.grad(loss, [values[name] for name in names], allow_unused=True)
    moved = {name: (values[name] * one).detach() for name, one in zip(names, found, strict=True) if one is not None}
    return {
        (name, axis): _summed(moved[name].movedim(axis, 0)).square().double().numpy()
        for name, axis in keys
        if name in moved
    }
