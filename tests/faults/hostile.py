"""Files that a stranger with bad intentions would upload. Each is a name and the bytes."""

import io
import pickle
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

PICKLE_PROTOCOLS = range(6)


class Bomb:
    """An object that makes a file when somebody unpickles it."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return (open, (str(self.canary), "w"))


def outside_data(canary: Path) -> Iterator[tuple[str, bytes]]:
    """Models whose weights lie where they should not, and bundles that would put files there."""
    up = "../" * 12
    locations = [
        f"{up}{canary}", str(canary), "/etc/passwd", "../request.json", "..\\request.json", "a/../../request.json",
        "/proc/self/environ", "/proc/self/fd/0", "/proc/1/environ", "/dev/zero", "/dev/stdin", "", ".", "./", "\x00",
        "data\x00.bin", "%2e%2e/request.json", "%2Fetc%2Fpasswd", "․․/request.json", "．．／request.json",
        "file:///etc/passwd", "C:\\Windows\\win.ini", "\\\\host\\share", "~/x", "$HOME/x", "upload", "inputs/upload",
        "../inputs/upload", "missing.bin", "a" * 5000,
    ]  # fmt: skip
    for location in locations:
        yield f"location {location[:30]!r}", external(location)
    for key, value in (("offset", "-1"), ("offset", str(1 << 62)), ("length", "-5"), ("length", str(1 << 63))):
        yield f"{key} {value}", bundle({"m.onnx": external("w.bin", **{key: value}), "w.bin": bytes(64)})
    for name in ("../w.bin", "/tmp/w.bin", "a/../../w.bin", "..\\w.bin", "C:\\w.bin"):
        yield f"member {name!r}", bundle({"m.onnx": external("w.bin"), name: bytes(64)})
    for mode, kind in ((0o120777, "link"), (0o010644, "pipe"), (0o020666, "device")):
        yield f"member is a {kind}", bundle({"m.onnx": external("w.bin"), "w.bin": str(canary).encode()}, mode=mode)


def bombs() -> Iterator[tuple[str, bytes]]:
    """Small files that would need gigabytes, or endless time, to be looked at."""
    huge = [1 << 20, 1 << 20]
    yield "ConstantOfShape", graph([helper.make_node("ConstantOfShape", ["n"], ["y"])], n=huge)
    yield "Expand", graph([helper.make_node("Expand", ["x", "n"], ["y"])], n=[1 << 20, 1 << 12, 4])
    yield "Tile", graph([helper.make_node("Tile", ["x", "n"], ["y"])], n=huge)
    yield "Pad", graph([helper.make_node("Pad", ["x", "n"], ["y"])], n=[0, 0, 1 << 20, 1 << 20])
    yield "OneHot", graph([helper.make_node("OneHot", ["i", "d", "v"], ["y"])], i=[1], d=1 << 40, v=[0.0, 1.0])
    yield "Range", graph([helper.make_node("Range", ["a", "b", "c"], ["y"])], a=0, b=1 << 40, c=1)
    doubled = [helper.make_node("Concat", [f"x{n}"] * 2, [f"x{n + 1}"], axis=0) for n in range(40)]
    yield "doubling", graph([helper.make_node("Identity", ["x"], ["x0"]), *doubled], output="x40")
    yield "dimension of 2⁶³", shaped([1 << 62, 1 << 62])
    yield "negative dimension", shaped([-5, 4])
    yield "lying tensor", graph([helper.make_node("Identity", ["w"], ["y"])], lying=True)
    nodes = [helper.make_node("Identity", [f"x{n}"], [f"x{n + 1}"]) for n in range(120_000)]
    yield "many nodes", graph([helper.make_node("Identity", ["x"], ["x0"]), *nodes], output="x120000")
    yield "long text", graph([helper.make_node("Identity", ["x"], ["y"], name="n" * (5 << 20))], output="y")


def pickles(canary: Path) -> Iterator[tuple[str, bytes]]:
    """Everything that some loader somewhere would unpickle."""
    bomb = Bomb(canary)
    for protocol in PICKLE_PROTOCOLS:
        yield f"pickle protocol {protocol}", pickle.dumps(bomb, protocol)
    payload = pickle.dumps(bomb, 2)
    for name in ("archive/data.pkl", "m/data.pkl", "data.pkl", "constants.pkl", "code/data.pkl"):
        yield f"torch archive {name}", bundle({name: payload, "archive/version": b"3"})
    yield "torch file of old", pickle.dumps(0x1950A86A20F9469CFC6C, 2) + payload
    objects = np.array([bomb], dtype=object)
    for name, save in (("npy", np.save), ("npz", np.savez)):
        file = io.BytesIO()
        save(file, objects, allow_pickle=True)
        yield f"{name} of objects", file.getvalue()
    yield "npz with a pickle", bundle({"x.npy": payload})
    yield "npz with two faces", bundle({"x.npy": _npy(), "archive/data.pkl": payload})
    yield "pickle behind a model", graph([helper.make_node("Identity", ["x"], ["y"])]) + payload
    yield "pickle called safetensors", (8).to_bytes(8, "little") + payload
    yield "joblib", b"\x80\x04" + payload


def external(location: str, **more: str) -> bytes:
    """A model whose weight lies in another file."""
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4, 4], data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, **more}.items():
        weight.external_data.add(key=key, value=value)
    return _model([helper.make_node("MatMul", ["x", "w"], ["y"])], [weight], "y")


def shaped(dims: list[int]) -> bytes:
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=dims, raw_data=bytes(16))
    return _model([helper.make_node("MatMul", ["x", "w"], ["y"])], [weight], "y")


def graph(nodes: list[onnx.NodeProto], output: str = "y", *, lying: bool = False, **constants: object) -> bytes:
    weights = [onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    if lying:
        weights.append(TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1 << 20], raw_data=bytes(16)))
    return _model(nodes, weights, output)


def bundle(members: dict[str, bytes], mode: int | None = None) -> bytes:
    """A zip; the mode of Unix is given to every member but the model."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            member = zipfile.ZipInfo(name)
            if mode is not None and not name.endswith(".onnx"):
                member.create_system, member.external_attr = 3, mode << 16
            archive.writestr(member, content)
    return file.getvalue()


def _model(nodes: list[onnx.NodeProto], weights: list[TensorProto], output: str) -> bytes:
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4, 4])]
    outputs = [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)]
    model = helper.make_model(
        helper.make_graph(nodes, "g", inputs, outputs, weights), opset_imports=[helper.make_opsetid("", 17)]
    )
    return model.SerializeToString()


def _npy() -> bytes:
    file = io.BytesIO()
    np.save(file, np.zeros((4, 4), np.float32))
    return file.getvalue()
