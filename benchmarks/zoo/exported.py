"""What torch exports, by both of its exporters, at operator sets from 9 to 23. Needs torch."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.zoo.specimen import Specimen


def seeded(build: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return build().eval()


# ── architectures ────────────────────────────────────────────────────────────────────────────────────────────────────


def block(inside: int, outside: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(inside, outside, 3, stride, 1, groups=groups, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outside), nn.ReLU())


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.one, self.two = block(3, 32, 2), block(32, 32), block(32, 32)
        self.head = nn.Linear(32, 10)

    def forward(self, image: Tensor) -> Tensor:
        x = self.stem(image)
        x = x + self.two(self.one(x))
        return self.head(x.mean((2, 3)))


def mobile() -> nn.Module:
    return nn.Sequential(
        block(3, 16, 2), block(16, 16, groups=16), nn.Conv2d(16, 48, 1), nn.Hardswish(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(48, 10),
    )  # fmt: skip


class Unet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down, self.deep, self.out = block(3, 16), block(16, 32, 2), nn.Conv2d(32, 4, 1)
        self.up = nn.ConvTranspose2d(32, 16, 2, 2)

    def forward(self, image: Tensor) -> Tensor:
        first = self.down(image)
        second = self.up(self.deep(first))
        smooth = nn.functional.interpolate(second, size=first.shape[2:], mode="bilinear", align_corners=False)
        return self.out(torch.cat([first, smooth], 1))


class Tagger(nn.Module):
    """Tokens through a bidirectional LSTM."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.lstm, self.head = (
            nn.Embedding(50, 32),
            nn.LSTM(32, 32, 2, bidirectional=True),
            nn.Linear(64, 9),
        )

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.lstm(self.table(tokens).transpose(0, 1))[0]).transpose(0, 1)


class Speech(nn.Module):
    """Audio through strided 1D convolutions and a GRU with its state."""

    def __init__(self) -> None:
        super().__init__()
        self.ear = nn.Sequential(nn.Conv1d(1, 32, 16, 8), nn.GELU(), nn.Conv1d(32, 32, 4, 2), nn.GELU())
        self.gru, self.head = nn.GRU(32, 32, batch_first=True), nn.Linear(32, 5)

    def forward(self, wave: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        heard, state = self.gru(self.ear(wave[:, None]).transpose(1, 2), state)
        return self.head(heard), state


class Encoder(nn.Module):
    """Tokens and a mask through transformer layers."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.places = nn.Embedding(50, 64), nn.Parameter(torch.randn(128, 64))
        self.layers = nn.TransformerEncoder(nn.TransformerEncoderLayer(64, 4, 128, batch_first=True), 2)
        self.head = nn.Linear(64, 3)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        x = self.table(input_ids) + self.places[: input_ids.shape[1]]
        return self.head(self.layers(x, src_key_padding_mask=attention_mask == 0)[:, 0])


class Vision(nn.Module):
    """Patches through attention."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.norm = nn.Conv2d(3, 64, 8, 8), nn.LayerNorm(64)
        self.qkv, self.out, self.head = nn.Linear(64, 192), nn.Linear(64, 64), nn.Linear(64, 10)

    def forward(self, image: Tensor) -> Tensor:
        x = self.norm(self.patches(image).flatten(2).transpose(1, 2))
        q, k, v = self.qkv(x).unflatten(2, (3, 4, 16)).permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return self.head((x + self.out(mixed)).mean(1))


class Decoder(nn.Module):
    """One step of a decoder: token, keys and values so far; logits, keys and values from now on."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(100, 64)
        self.q, self.k, self.v, self.out = (nn.Linear(64, 64, bias=False) for _ in range(4))

    def forward(self, token: Tensor, past_keys: Tensor, past_values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = self.table(token)
        keys, values = torch.cat([past_keys, self.k(x)], 1), torch.cat([past_values, self.v(x)], 1)
        weights = torch.softmax(self.q(x) @ keys.transpose(1, 2) / 8, -1)
        return self.out(weights @ values) @ self.table.weight.T, keys, values


class Normalized(nn.Module):
    """GroupNorm, InstanceNorm, PReLU, pixel shuffle, roll."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 32, 3, padding=1), nn.Conv2d(32, 12, 3, padding=1)
        self.group, self.each, self.slope = nn.GroupNorm(4, 32), nn.InstanceNorm2d(32, affine=True), nn.PReLU(32)

    def forward(self, image: Tensor) -> Tensor:
        x = self.slope(self.each(self.group(self.first(image))))
        return nn.functional.pixel_shuffle(self.second(torch.roll(x, (1, 1), (2, 3))), 2)


class Recommender(nn.Module):
    """Dense and categorical columns, their dot products, a perceptron."""

    def __init__(self) -> None:
        super().__init__()
        self.bags = nn.ModuleList(nn.Embedding(20, 16) for _ in range(4))
        self.top = nn.Sequential(nn.Linear(16 + 16, 64), nn.ReLU(), nn.Linear(64, 1), nn.Sigmoid())
        self.bottom = nn.Linear(13, 16)

    def forward(self, dense: Tensor, categories: Tensor) -> Tensor:
        x = self.bottom(dense)
        found = torch.stack([x, *(bag(categories[:, at]) for at, bag in enumerate(self.bags))], 1)
        dots = (found @ found.transpose(1, 2)).flatten(1)[:, :16]
        return self.top(torch.cat([x, dots], 1))


class Loop(nn.Module):
    """A loop over time that the scripting exporter keeps."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.Linear(32, 32)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.zeros_like(x[0])
        for at in range(x.shape[0]):
            h = torch.tanh(self.cell(h) + x[at]) if bool(h.sum() < 1000) else h
        return h


# ── exporters ────────────────────────────────────────────────────────────────────────────────────────────────────────

Inputs = dict[str, Tensor]


def scripted(build: Callable[[], nn.Module], inputs: Inputs, opset: int, dynamic: dict[str, Any]) -> bytes:
    content = io.BytesIO()
    torch.onnx.export(
        seeded(build), tuple(inputs.values()), content, dynamo=False, opset_version=opset,
        input_names=list(inputs), dynamic_axes=dynamic,
    )  # fmt: skip
    return content.getvalue()


def traced(build: Callable[[], nn.Module], inputs: Inputs, opset: int, dynamic: dict[str, Any]) -> bytes:
    program = torch.onnx.export(
        seeded(build), tuple(inputs.values()), dynamo=True, opset_version=opset, verbose=False,
        input_names=list(inputs),
        dynamic_shapes=tuple(dict.fromkeys(dynamic.get(name, ()), torch.export.Dim.DYNAMIC) for name in inputs),
    )  # fmt: skip
    assert program is not None, "the exporter returns a program unless it fails"
    return program.model_proto.SerializeToString()


IMAGE = {"image": torch.randn(2, 3, 32, 32)}
TOKENS = {"tokens": torch.randint(0, 50, (2, 12))}
MASKED = {"input_ids": torch.randint(0, 50, (2, 12)), "attention_mask": torch.ones(2, 12, dtype=torch.int64)}
WAVE = {"wave": torch.randn(2, 800), "state": torch.zeros(1, 2, 32)}
STEP = {
    "token": torch.randint(0, 100, (2, 1)),
    "past_keys": torch.randn(2, 5, 64),
    "past_values": torch.randn(2, 5, 64),
}
COLUMNS = {"dense": torch.randn(2, 13), "categories": torch.randint(0, 20, (2, 4))}
BATCH = {"image": {0: "batch"}}
SIZE = {"image": {0: "batch", 2: "height", 3: "width"}}
TEXT = {"tokens": {0: "batch", 1: "length"}}
BOTH = {name: {0: "batch", 1: "length"} for name in MASKED}
PAST = {"token": {0: "batch"}, "past_keys": {0: "batch", 1: "past"}, "past_values": {0: "batch", 1: "past"}}
ROWS = {"dense": {0: "batch"}, "categories": {0: "batch"}}
Case = tuple[str, Callable[[], nn.Module], Inputs, dict[str, Any], tuple[int, ...], tuple[int, ...]]
#: name, module, inputs, axes that vary, opsets of the older exporter, opsets of the newer
CASES: tuple[Case, ...] = (
    ("residual CNN", Residual, IMAGE, BATCH, (9, 11, 13, 17, 20), (18, 21, 23)),
    ("mobile CNN", mobile, IMAGE, BATCH, (14,), (20,)),
    ("U-Net of any size", Unet, IMAGE, SIZE, (11, 16), (18,)),
    ("LSTM tagger", Tagger, TOKENS, TEXT, (9, 17), ()),
    ("speech GRU with state", Speech, WAVE, {}, (12,), (18,)),
    ("transformer encoder", Encoder, MASKED, BOTH, (14, 17), (18,)),
    ("vision transformer", Vision, IMAGE, BATCH, (14,), (18, 23)),
    ("decoder with cache", Decoder, STEP, PAST, (13,), (20,)),
    ("norms and pixel shuffle", Normalized, IMAGE, BATCH, (11,), (21,)),
    ("recommender", Recommender, COLUMNS, ROWS, (15,), (18,)),
)
#: sizes that tracing writes into the graph, though their axes are declared to vary
TRACED_SIZES = {"transformer encoder": {name: tuple(tensor.shape) for name, tensor in MASKED.items()}}


def specimens() -> list[Specimen]:
    found = []
    for name, build, inputs, dynamic, older, newer in CASES:
        for exporter, export, opsets in (("script", scripted, older), ("dynamo", traced, newer)):
            for opset in opsets:
                write = _writer(export, build, inputs, opset, dynamic)
                shapes = TRACED_SIZES.get(name, {}) if export is scripted else {}
                found.append(Specimen(f"{name}, opset {opset}", f"torch, {exporter}", write, shapes))
    half = {"image": IMAGE["image"].half()}
    found.append(Specimen("residual CNN in float16", "torch, script", _writer(scripted, _half, half, 17, BATCH)))
    loop = {"x": torch.randn(5, 32)}
    found.append(Specimen("loop and branch", "torch, script", _writer(scripted, _loop, loop, 17, {"x": {0: "time"}})))
    return found


def _half() -> nn.Module:
    return Residual().half()


def _loop() -> nn.Module:
    return torch.jit.script(Loop())


def _writer(
    export: Callable[..., bytes], build: Callable[[], nn.Module], inputs: Inputs, opset: int, dynamic: dict[str, Any]
) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(export(build, inputs, opset, dynamic))
