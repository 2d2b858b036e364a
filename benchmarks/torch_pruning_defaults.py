"""torch-pruning on the torch original of the residual network:

    python -m benchmarks.torch_pruning_defaults MODEL RATIO RESULT

It imports nothing of the engine, so an interpreter with torch, torch-pruning and ONNX can run it. MODEL is the trained
ONNX file, whose weights go back into the module that it was exported from, normalizations folded as they are there.
The importance is what its own examples take: the norm of all weights of a group (DepGraph, Fang et al. 2023).
"""

import sys
from pathlib import Path

import onnx
import torch
import torch_pruning
from onnx import numpy_helper
from torch import nn

from examples.fashion.train import residual
from examples.training import export

WIDTHS = 8  #: are multiples of this, as ours


def network_of(model: Path) -> nn.Module:
    """The module with the weights of the file: its layers come in the same order."""
    graph = onnx.load(model).graph
    stored = {weight.name: torch.from_numpy(numpy_helper.to_array(weight).copy()) for weight in graph.initializer}
    layers = iter([node for node in graph.node if node.op_type in ("Conv", "Gemm")])
    network = _without_norms(residual())
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            weight, *bias = [stored[name] for name in next(layers).input[1:]]
            module.weight = nn.Parameter(weight)
            module.bias = nn.Parameter(bias[0]) if bias else None
    return network.eval()


def _without_norms(network: nn.Module) -> nn.Module:
    for module in network.modules():
        if isinstance(module, nn.Sequential):
            for place, part in enumerate(module):
                if isinstance(part, nn.BatchNorm2d):
                    module[place] = nn.Identity()
    return network


def main(model: Path, ratio: float, result: Path) -> None:
    network, image = network_of(model), torch.zeros(1, 1, 28, 28)
    pruner = torch_pruning.pruner.BasePruner(
        network,
        image,
        importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
        pruning_ratio=ratio,
        ignored_layers=[network[-1]],
        round_to=WIDTHS,
    )
    pruner.step()
    export(network, image, result)


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]), Path(sys.argv[3]))
