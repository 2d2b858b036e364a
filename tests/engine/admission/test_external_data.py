"""Data that a model keeps in other files: only what was uploaded with it, and nothing else on this machine."""

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from engine.admission import admit
from tests.engine.admission.refusals import refusal, with_weight, written
from tests.models import Net


def outside(location: str, **entries: str) -> onnx.ModelProto:
    def move(tensor: onnx.TensorProto) -> None:
        size = len(tensor.raw_data)
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in {"location": location, "length": str(size), **entries}.items():
            tensor.external_data.add(key=key, value=value)

    return with_weight(move)


ESCAPES = [
    "../secret",
    "a/../../secret",
    "/etc/passwd",
    "/proc/self/environ",
    "/dev/zero",
    "..\\secret",
    "C:secret",
    "a\0b",
    "",
    ".",
    "x" * 300,
    "e\u0301.bin",
    "a\u202eb",
]


@pytest.mark.parametrize("location", ESCAPES)
def test_locations_that_leave_the_bundle_are_refused(location: str, tmp_path: Path) -> None:
    assert refusal(written(tmp_path, outside(location))).code == "external_data_path"


def test_data_that_was_not_uploaded_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(bytes(100_000))  # beside the model, yet not of its bundle
    error = refusal(written(tmp_path, outside("weights.bin")))
    assert error.code == "external_data_missing"
    assert "zip" in error.remedy


@pytest.mark.parametrize("key", ["basepath", "__class__", "checksum_type"])
def test_unknown_keys_are_refused(key: str, tmp_path: Path) -> None:
    assert refusal(written(tmp_path, outside("weights.bin", **{key: "x"}))).code == "external_data_keys"


@pytest.mark.parametrize(
    "entries",
    [
        {"offset": "99999999"},
        {"offset": "-1"},
        {"offset": "9" * 30},
        {"length": "4"},
        {"length": "1e3"},
        {"offset": "٣"},
    ],
    ids=str,
)
def test_ranges_outside_of_the_data_are_refused(entries: dict[str, str], tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.write_bytes(bytes(100_000))
    path = written(tmp_path, outside("weights.bin", **entries))
    assert refusal(path, {"weights.bin": data}).code == "external_data_range"


@pytest.mark.parametrize("link", ["symbolic", "hard", "fifo"])
def test_companions_that_are_no_plain_files_are_refused(link: str, tmp_path: Path) -> None:
    secret, data = tmp_path / "secret", tmp_path / "data"
    secret.write_bytes(bytes(100_000))
    if link == "symbolic":
        data.symlink_to(secret)
    elif link == "hard":
        data.hardlink_to(secret)
    else:
        os.mkfifo(data)
    assert refusal(written(tmp_path, outside("weights.bin")), {"weights.bin": data}).code == "external_data_path"


def test_external_data_in_an_attribute_is_found(tmp_path: Path) -> None:
    net = Net()
    tensor = numpy_helper.from_array(np.zeros(4, np.float32), "inner")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../secret")
    net.nodes.append(helper.make_node("Constant", [], ["y"], value=tensor))
    net.input("x", [1])
    assert refusal(net.output("y", [4]).save(tmp_path / "model.onnx")).code == "external_data_path"


def test_more_than_one_file_can_hold_may_come_in_pieces(tmp_path: Path) -> None:
    def grow(tensor: onnx.TensorProto) -> None:
        tensor.ClearField("raw_data")
        tensor.dims[:] = [1 << 10, 1 << 19]
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="weights.bin")

    data, whole = tmp_path / "data", written(tmp_path, with_weight(grow))
    data.touch()
    os.truncate(data, 1 << 31)  # holes only, so that it takes no room on the disk
    assert admit(whole, {"weights.bin": data}).graph.node
    os.truncate(whole, 1 << 31)
    error = refusal(whole)
    assert error.code == "model_too_large"
    assert "2 GiB" in error.detail
    assert "zip" in error.remedy
