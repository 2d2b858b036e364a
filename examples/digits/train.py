"""Trains the demo's model: a small CNN on scikit-learn's handwritten digits (8×8 pixels, 10 classes).

    python -m examples.digits.train

writes model.onnx, calibration.npz (300 training images, no labels) and test.npz (797 images it never saw, labelled).
"""

from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import nn

from examples.training import export, save_samples, shifted, top1, train

FOLDER = Path(__file__).parent


def block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )


def network() -> nn.Module:
    """A plain CNN: 0.2 million parameters, 10 million multiply-accumulates."""
    return nn.Sequential(
        block(1, 48), block(48, 96), block(96, 112), nn.MaxPool2d(2), block(112, 64),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10),
    )  # fmt: skip


def main() -> None:
    torch.manual_seed(0)
    digits = load_digits()
    images = torch.tensor(digits.images / 16, dtype=torch.float32).unsqueeze(1)
    labels = torch.tensor(digits.target)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    learn, test = order[:1000], order[1000:]
    model = network()
    train(model, images[learn], labels[learn], epochs=40, varied=shifted)
    print(f"top-1 on {len(test)} unseen images: {top1(model, images[test], labels[test]):.4f}")
    export(model, images[:1], FOLDER / "model.onnx")
    save_samples(FOLDER / "calibration.npz", images[learn[:300]])
    save_samples(FOLDER / "test.npz", images[test], labels[test])


if __name__ == "__main__":
    main()
