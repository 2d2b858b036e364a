"""Trains the benchmark's models on Fashion-MNIST (28×28 pixels, 10 classes; Debian package dataset-fashion-mnist).

    python -m examples.fashion.train plain|residual|depthwise|dense|transformer|recurrent [epochs]

writes plain.onnx (a small VGG), residual.onnx (a small ResNet), depthwise.onnx (a small MobileNet), dense.onnx (a small
DenseNet), transformer.onnx (patches of 4×4 pixels, encoder of 3 blocks) or recurrent.onnx (an LSTM over image rows).
"""

import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from examples.fashion.data import load
from examples.training import export, shifted, top1, train

FOLDER = Path(__file__).parent


def plain() -> nn.Module:
    parts: list[nn.Module] = []
    came = 1
    for width, count in ((32, 2), (64, 2), (128, 3)):
        parts += [nn.MaxPool2d(2)] if parts else []
        for _ in range(count):
            parts += [nn.Conv2d(came, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
            came = width
    return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(came, 10))


class Residual(nn.Module):
    """Two 3×3 convolutions and a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs),
        )  # fmt: skip
        self.shortcut = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.relu(self.body(x) + self.shortcut(x))


def residual() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU(),
        Residual(32, 32, 1), Residual(32, 64, 2), Residual(64, 128, 2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 10),
    )  # fmt: skip


class Inverted(nn.Module):
    """Widens by a 1×1 convolution, filters each channel by itself, narrows again; a shortcut where shapes agree.

    M. Sandler et al., MobileNetV2, 2018, arXiv:1801.04381.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, widening: int = 4) -> None:
        super().__init__()
        wide = widening * inputs
        self.body = nn.Sequential(
            nn.Conv2d(inputs, wide, 1, bias=False), nn.BatchNorm2d(wide), nn.ReLU6(),
            nn.Conv2d(wide, wide, 3, stride, 1, groups=wide, bias=False), nn.BatchNorm2d(wide), nn.ReLU6(),
            nn.Conv2d(wide, outputs, 1, bias=False), nn.BatchNorm2d(outputs),
        )  # fmt: skip
        self.keeps = inputs == outputs and stride == 1

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x) if self.keeps else self.body(x)


def depthwise() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU6(),
        Inverted(32, 48, 1), Inverted(48, 48, 1), Inverted(48, 80, 2), Inverted(80, 80, 1), Inverted(80, 80, 1),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(80, 10),
    )  # fmt: skip


class Growing(nn.Module):
    """Adds channels to all that came before: 1×1 to four times as many, 3×3, and a concatenation.

    G. Huang et al., Densely Connected Convolutional Networks, 2017, arXiv:1608.06993.
    """

    def __init__(self, inputs: int, growth: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.BatchNorm2d(inputs), nn.ReLU(), nn.Conv2d(inputs, 4 * growth, 1, bias=False),
            nn.BatchNorm2d(4 * growth), nn.ReLU(), nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.body(x)], 1)


def dense(growth: int = 16, layers: int = 4) -> nn.Module:
    parts: list[nn.Module] = [nn.Conv2d(1, 32, 3, padding=1, bias=False)]
    width = 32
    for block in range(3):
        if block:
            parts += [nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, width // 2, 1, bias=False), nn.AvgPool2d(2)]
            width //= 2
        parts += [Growing(width + growth * layer, growth) for layer in range(layers)]
        width += growth * layers
    end = [nn.BatchNorm2d(width), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10)]
    return nn.Sequential(*parts, *end)


class Attention(nn.Module):
    """Multi-head self-attention, spelled out so that the graph shows its matrix products."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.qkv, self.out = heads, nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        q, k, v = self.qkv(x).reshape(batch, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(-1, -2) * (width // self.heads) ** -0.5).softmax(-1)
        return self.out((weights @ v).transpose(1, 2).reshape(batch, tokens, width))


class Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm_1, self.norm_2, self.attention = nn.LayerNorm(width), nn.LayerNorm(width), Attention(width, heads)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm_1(x))
        return x + self.mlp(self.norm_2(x))


class Transformer(nn.Module):
    """A vision transformer: 49 patches, mean-pooled."""

    def __init__(self, width: int = 96, depth: int = 3, heads: int = 4) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, width, 4, 4)
        self.position = nn.Parameter(torch.randn(1, 49, width) * 0.02)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(depth)))
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 10))

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2) + self.position
        return self.head(self.blocks(tokens).mean(1))


class Recurrent(nn.Module):
    """An LSTM reads the image row by row."""

    def __init__(self, hidden: int = 192) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(28, hidden, batch_first=True), nn.Linear(hidden, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(x.squeeze(1))[0].mean(1))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "plain": plain,
    "residual": residual,
    "depthwise": depthwise,
    "dense": dense,
    "transformer": Transformer,
    "recurrent": Recurrent,
}


def main(name: str, epochs: int = 4) -> None:
    torch.manual_seed(0)
    images, labels = (torch.from_numpy(array) for array in load("train"))
    model = NETWORKS[name]()
    rate = 2e-3 if name == "transformer" else 3e-3
    train(model, images, labels, epochs=epochs, learning_rate=rate, varied=shifted)
    test = (torch.from_numpy(array) for array in load("test"))
    print(f"{name}: top-1 on the 10,000 test images {top1(model, *test):.4f}")
    export(model, images[:1], FOLDER / f"{name}.onnx")


if __name__ == "__main__":
    main(sys.argv[1], *(int(number) for number in sys.argv[2:]))
