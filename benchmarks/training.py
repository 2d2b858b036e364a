"""A training step through the differentiable graph, beside the same network as a native torch module.

Forward, loss, backward and the optimizer's step, one thread, in time of the processor. The two take turns in an order
that is drawn anew each time, so that what else the machine does hits both alike; the figure is the median ratio of the
turns and its 95 % interval.
"""

import itertools
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from benchmarks.table import Row
from engine.differentiable import DifferentiableGraph
from engine.graph import load
from engine.measure.spread import median_interval
from examples.fashion.train import NETWORKS
from examples.training import export

BATCH = 16
TURNS = 40


def run() -> list[Row]:
    torch.set_num_threads(1)
    return [_row(name) for name in NETWORKS]


def _row(name: str) -> Row:
    torch.manual_seed(0)
    network = _without_norms(NETWORKS[name]().eval())
    images, labels = torch.randn(BATCH, 1, 28, 28), torch.randint(10, (BATCH,))
    graph = _graph(network)
    (feed,), (output,) = graph.inputs, graph.outputs
    native = _step(network, lambda: network(images), labels)
    ours = _step(graph, lambda: graph({feed: images})[output], labels)
    times = _timed([native, ours])  # (turns, 2)
    low, middle, high = median_interval(times[:, 0] / times[:, 1])
    native_ms, graph_ms = 1000 * np.median(times, axis=0)
    return {
        "network": name,
        "batch": str(BATCH),
        "native ms": f"{native_ms:.1f}",
        "graph ms": f"{graph_ms:.1f}",
        "speed beside native": f"{middle:.2f} ({low:.2f}–{high:.2f})",
    }


def _without_norms(network: nn.Module) -> nn.Module:
    """Batch normalizations folded into the convolutions before them, as an exporter leaves them."""
    for module in network.modules():
        if isinstance(module, nn.Sequential):
            for place, (first, second) in enumerate(itertools.pairwise(module)):
                if isinstance(second, nn.BatchNorm2d):
                    module[place], module[place + 1] = fuse_conv_bn_eval(first, second), nn.Identity()
    return network.requires_grad_(True)  # noqa: FBT003 - fusing makes biases that are not trained


def _graph(network: nn.Module) -> DifferentiableGraph:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        export(network, torch.randn(1, 1, 28, 28), path)
        return DifferentiableGraph(load(path))


def _step(module: nn.Module, logits: Callable[[], Tensor], labels: Tensor) -> Callable[[], None]:
    module.train()
    optimizer = torch.optim.AdamW(module.parameters(), 1e-4)

    def step() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(logits(), labels).backward()
        optimizer.step()

    return step


def _timed(steps: list[Callable[[], None]]) -> np.ndarray:
    """Seconds of each step in each turn, after a few that are not counted."""
    for step in steps * 3:
        step()
    seconds = np.empty((TURNS, len(steps)))
    for turn in range(TURNS):
        for index in random.sample(range(len(steps)), len(steps)):
            begun = time.process_time()
            steps[index]()
            seconds[turn, index] = time.process_time() - begun
    return seconds
