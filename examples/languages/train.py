"""Trains a text model: which of 16 languages are these 64 bytes? (Pages of Debian's packages manpages-*.)

    python -m examples.languages.train [epochs]

writes model.onnx, a small BERT over bytes: embedding, two encoder blocks, mean over the text.
"""

import sys
from pathlib import Path

import torch
from torch import Tensor, nn

from examples.fashion.train import Block
from examples.languages.data import LANGUAGES, LENGTH, load
from examples.training import export, top1, train

FOLDER = Path(__file__).parent


class Reader(nn.Module):
    """(N, 64) int64 bytes → (N, 16) logits."""

    def __init__(self, width: int = 128, depth: int = 2, heads: int = 4) -> None:
        super().__init__()
        self.bytes = nn.Embedding(256, width)
        self.position = nn.Parameter(torch.randn(1, LENGTH, width) * 0.02)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(depth)))
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, len(LANGUAGES)))

    def forward(self, text: Tensor) -> Tensor:
        return self.head(self.blocks(self.bytes(text) + self.position).mean(1))


def main(epochs: int = 8) -> None:
    torch.manual_seed(0)
    text, labels = (torch.from_numpy(array) for array in load("train"))
    model = Reader()
    train(model, text, labels, epochs=epochs, learning_rate=1e-3)
    test = [torch.from_numpy(array) for array in load("test")]
    print(f"top-1 on {len(test[0])} pieces of other pages: {top1(model, *test):.4f}")
    export(model, text[:1], FOLDER / "model.onnx", name="text")


if __name__ == "__main__":
    main(*(int(number) for number in sys.argv[1:]))
