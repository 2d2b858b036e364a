"""Networks in small whose channels are tied in every way that architectures know."""

from collections.abc import Callable, Sequence

import numpy as np
from onnx import TensorProto, helper

from tests.models import Net

IMAGE = ["batch", 3, 16, 16]


def scores(net: Net, x: str, width: int) -> Net:
    """A classifier on top of a feature map (N, C, H, W)."""
    net.gemm(net.op("Flatten", net.op("GlobalAveragePool", x)), (width, 5), name="scores")
    return net.output("scores", ["batch", 5])


def stem(net: Net, width: int) -> str:
    return net.op("Relu", net.conv(net.input("image", IMAGE), (3, width)))


# ── blocks: feature map in, feature map of the same width out ────────────────────────────────────────────────────────


def plain(net: Net, x: str, width: int) -> str:
    return net.op("Relu", net.norm(net.conv(x, (width, width)), width))


def residual(net: Net, x: str, width: int) -> str:
    return net.op("Relu", net.op("Add", net.conv(plain(net, x, width), (width, width)), x))


def inverted(net: Net, x: str, width: int) -> str:
    """As in mobile networks: wide, depthwise, narrow, with a shortcut."""
    wide = net.op("HardSwish", net.conv(x, (width, 2 * width), kernel=1))
    wide = net.op("HardSwish", net.conv(wide, (2 * width, 2 * width), group=2 * width))
    return net.op("Add", x, net.conv(squeeze_excite(net, wide, 2 * width), (2 * width, width), kernel=1))


def squeeze_excite(net: Net, x: str, width: int) -> str:
    pooled = net.op("ReduceMean", x, axes=[2, 3], keepdims=1)
    gate = net.op("Relu", net.conv(pooled, (width, width // 4), kernel=1))
    return net.op("Mul", x, net.op("Sigmoid", net.conv(gate, (width // 4, width), kernel=1)))


def dense(net: Net, x: str, width: int) -> str:
    """Concatenation of what was there and what is new, then a narrower convolution."""
    joined = net.op("Concat", x, net.op("Relu", net.conv(x, (width, 8))), axis=1)
    return net.conv(net.op("Concat", joined, net.conv(joined, (width + 8, 8)), axis=1), (width + 16, width), kernel=1)


def shuffled(net: Net, x: str, width: int) -> str:
    """Half of the channels pass, half are computed, and the two are interleaved (ShuffleNet V2)."""
    first, second = f"{x}_first", f"{x}_second"
    net.nodes.append(helper.make_node("Split", [x, net.constant(np.array([width // 2] * 2))], [first, second], axis=1))
    second = net.op("Relu", net.conv(second, (width // 2, width // 2), kernel=1))
    return interleaved(net, net.op("Concat", first, second, axis=1), width, 2)


def interleaved(net: Net, x: str, width: int, groups: int) -> str:
    apart = net.op("Reshape", x, net.constant(np.array([0, groups, width // groups, 16, 16])))
    turned = net.op("Transpose", apart, perm=[0, 2, 1, 3, 4])
    return net.op("Reshape", turned, net.constant(np.array([-1, width, 16, 16])))


def grouped(net: Net, x: str, width: int) -> str:
    inner = net.op("Relu", net.conv(x, (width, 2 * width), kernel=1))
    inner = interleaved(net, net.conv(inner, (2 * width, 2 * width), group=4), 2 * width, 4)
    return net.conv(inner, (2 * width, width), kernel=1)


def up_and_down(net: Net, x: str, width: int) -> str:
    """As in a U-Net: pooled, computed, brought back by a transposed convolution and by resizing, and concatenated."""
    deep = net.conv(net.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2]), (width, 2 * width))
    up = net.op(
        "ConvTranspose", deep, net.weight(2 * width, width, 2, 2, fan_in=width), net.weight(width), strides=[2, 2]
    )
    sizes = net.op(
        "Concat", net.op("Slice", net.op("Shape", deep), *_ends(net, 0, 2)), net.constant(np.array([16, 16])), axis=0
    )
    wide = net.op("Resize", deep, "", "", sizes, mode="nearest")
    return net.conv(net.op("Concat", x, up, wide, axis=1), (4 * width, width), kernel=1)


def picked(net: Net, x: str, width: int) -> str:
    """Channels taken apart by slices and picked in another order."""
    half = width // 2
    front = net.op("Slice", x, *_ends(net, 0, half), net.constant(np.array([1])))
    back = net.op("Slice", x, *_ends(net, -half, 2**31), net.constant(np.array([1])))
    gate = net.op(
        "Mul", net.conv(front, (half, width), kernel=1), net.op("Sigmoid", net.conv(back, (half, width), kernel=1))
    )
    return net.op("Gather", gate, net.constant(np.arange(width)[::-1].copy()), axis=1)


def rearranged(net: Net, x: str, width: int) -> str:
    """Channels become positions and positions channels."""
    small = net.op("SpaceToDepth", x, blocksize=2)
    mixed = net.op("PRelu", net.conv(small, (4 * width, 4 * width), kernel=1), net.weight(4 * width, 1, 1))
    return net.op("DepthToSpace", mixed, blocksize=2, mode="CRD")


def _ends(net: Net, start: int, end: int) -> tuple[str, str]:
    return net.constant(np.array([start])), net.constant(np.array([end]))


BLOCKS: list[Callable[[Net, str, int], str]] = [
    plain, residual, inverted, dense, shuffled, grouped, up_and_down, picked, rearranged,
]  # fmt: skip


def stacked(blocks: Sequence[Callable[[Net, str, int], str]], width: int = 16) -> Net:
    """A classifier of these blocks."""
    net = Net(7)
    x = stem(net, width)
    for block in blocks:
        x = block(net, x, width)
    return scores(net, x, width)


# ── others ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def heads(width: int = 32, count: int = 4) -> Net:
    """Attention of several heads; its shapes are computed from the input's, as torch exports them."""
    net = Net(8)
    x = net.input("x", ["batch", "time", width])
    batch, time, last = (net.op("Gather", net.op("Shape", x), net.constant(np.array([axis]))) for axis in range(3))
    size = net.op("Div", last, net.constant(np.array([count])))
    apart = net.op("Concat", batch, time, net.constant(np.array([3, count])), size, axis=0)
    qkv = net.op("Reshape", net.linear(x, (width, 3 * width)), apart)
    parts = [f"part{index}" for index in range(3)]
    net.nodes.append(helper.make_node("Split", [net.op("Transpose", qkv, perm=[2, 0, 3, 1, 4])], parts, axis=0))
    query, key, value = (net.op("Squeeze", part, net.constant(np.array([0]))) for part in parts)
    scale = net.op("Sqrt", net.op("Cast", size, to=TensorProto.FLOAT))
    met = net.op("Div", net.op("MatMul", query, net.op("Transpose", key, perm=[0, 1, 3, 2])), scale)
    attended = net.op("MatMul", net.op("Softmax", met, axis=-1), value)
    joined = net.op(
        "Reshape", net.op("Transpose", attended, perm=[0, 2, 1, 3]), net.op("Concat", batch, time, last, axis=0)
    )
    x = net.op("Add", x, net.linear(joined, (width, width)))
    x = net.op("LayerNormalization", x, net.weight(width), net.weight(width), axis=-1)
    inner = net.op("Erf", net.linear(x, (width, 2 * width)))
    net.nodes.append(helper.make_node("Add", [x, net.linear(inner, (2 * width, width))], ["y"]))
    return net.output("y", ["batch", "time", width])


def both_ways(operator: str = "LSTM", gates: int = 4, width: int = 16) -> Net:
    """A recurrent layer in both directions that starts from zeros which are written out, and another one on top."""
    net = Net(9)
    x = net.input("sequence", [7, "batch", 6])
    batch = net.op("Slice", net.op("Shape", x), *_ends(net, 1, 2))
    shape = net.op("Concat", net.constant(np.array([2])), batch, net.constant(np.array([width])), axis=0)
    start = net.op("ConstantOfShape", shape)
    for came in (6, 2 * width):
        weights = [net.weight(2, gates * width, came, fan_in=came), net.weight(2, gates * width, width, fan_in=width)]
        inputs = [x, *weights, net.weight(2, 2 * gates * width), "", start, *([start] if operator == "LSTM" else [])]
        steps = net.op(operator, *inputs, hidden_size=width, direction="bidirectional")
        turned = net.op("Transpose", steps, perm=[0, 2, 1, 3])
        x = net.op("Reshape", turned, net.constant(np.array([0, 0, -1])))
    net.nodes.append(helper.make_node("MatMul", [x, net.weight(2 * width, 3)], ["y"]))
    return net.output("y", [7, "batch", 3])


def heads_in_the_batch(width: int = 32, count: int = 4) -> Net:
    """Attention as torch spells nn.MultiheadAttention: heads lie behind the batch, along one axis of both."""
    net = Net(10)
    size = width // count
    x = net.input("x", ["batch", "time", width])
    batch, time = (net.op("Shape", x, start=axis, end=axis + 1) for axis in range(2))
    both = net.op("Mul", batch, net.constant(np.array([count])))
    last = net.constant(np.array([size]))
    steps = net.op("Transpose", x, perm=[1, 0, 2])
    merged = net.op("Concat", time, both, last, axis=0)
    apart = net.op("Concat", batch, net.constant(np.array([count])), time, last, axis=0)
    query, key, value = (
        net.op("Reshape", net.op("Transpose", net.op("Reshape", made, merged), perm=[1, 0, 2]), apart)
        for made in (net.linear(steps, (width, width)) for _ in range(3))
    )
    flat = net.op("Reshape", key, net.op("Concat", net.constant(np.array([-1])), time, last, axis=0))
    turned = net.op("Concat", batch, net.constant(np.array([count])), last, time, axis=0)
    key = net.op("Reshape", net.op("Transpose", flat, perm=[0, 2, 1]), turned)
    met = net.op("Mul", net.op("MatMul", query, key), net.constant(np.float32(size**-0.5)))
    attended = net.op("MatMul", net.op("Softmax", met, axis=-1), value)
    rows = net.op(
        "Reshape", net.op("Transpose", attended, perm=[2, 0, 1, 3]), net.constant(np.array([-1, width]))
    )  # rows of all steps of all samples
    joined = net.op(
        "Reshape",
        net.gemm(rows, (width, width)),
        net.op("Concat", time, batch, net.constant(np.array([width])), axis=0),
    )
    net.nodes.append(helper.make_node("Add", [x, net.op("Transpose", joined, perm=[1, 0, 2])], ["y"]))
    return net.output("y", ["batch", "time", width])
