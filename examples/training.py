"""What the training scripts of the examples share: one loop, one export.

These scripts made the committed models. They need torch (`pip install torch==2.13.0 scikit-learn onnxscript`), which
neither the service nor the demo does.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn


def train(
    network: nn.Module,
    inputs: Tensor,
    labels: Tensor,
    *,
    epochs: int,
    batch_size: int = 128,
    learning_rate: float = 3e-3,
    varied: Callable[[Tensor], Tensor] | None = None,
) -> None:
    """Minimize cross-entropy with AdamW on a one-cycle schedule; `varied` changes a batch each time it is seen.

    inputs: (N, C, H, W) float32 images or whatever else the network takes, labels: (N,) int64.
    """
    steps = epochs * -(-len(inputs) // batch_size)
    optimizer = torch.optim.AdamW(network.parameters(), learning_rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=steps)
    for epoch in range(epochs):
        network.train()
        for rows in torch.randperm(len(inputs)).split(batch_size):
            batch = varied(inputs[rows]) if varied else inputs[rows]
            loss = nn.functional.cross_entropy(network(batch), labels[rows], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        print(f"epoch {epoch + 1} of {epochs}: loss {loss.item():.3f}", flush=True)


def shifted(images: Tensor) -> Tensor:
    """By up to one pixel."""
    down, right = (int(step) for step in torch.randint(-1, 2, (2,)))
    return images.roll((down, right), dims=(2, 3))


@torch.no_grad()
def top1(network: nn.Module, inputs: Tensor, labels: Tensor) -> float:
    """Share of inputs whose largest output is the label."""
    network.eval()
    hits = [(network(x).argmax(1) == y).sum().item() for x, y in zip(inputs.split(500), labels.split(500), strict=True)]
    return sum(hits) / len(inputs)


def export(network: nn.Module, example: Tensor, path: Path, *, opset: int = 17, name: str = "image") -> None:
    """Write the network as ONNX with a free batch axis, weights inside the file."""
    network.eval()
    torch.onnx.export(
        network,
        (example,),
        path,
        input_names=[name],
        output_names=["logits"],
        opset_version=opset,
        dynamic_axes={name: {0: "batch"}, "logits": {0: "batch"}},
        dynamo=False,
    )


def save_samples(path: Path, images: Tensor, labels: Tensor | None = None) -> None:
    """Write samples as Strop reads them: one array per input, and `labels`."""
    arrays = {"image": images.numpy()} | ({} if labels is None else {"labels": labels.numpy().astype(np.int64)})
    np.savez_compressed(path, allow_pickle=False, **arrays)
