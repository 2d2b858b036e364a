"""What a file is, by its first bytes: so that a user who uploads the wrong thing is told what it was."""

from pathlib import Path

from engine.errors import ModelRejected
from engine.zips import open_archive

EXPORT = "Export the model to ONNX, for instance with torch.onnx.export, tf2onnx or skl2onnx, and upload that file."

MAGIC: dict[bytes, str] = {
    b"PK\x03\x04": "a zip archive",
    b"\x7fELF": "a Linux program or library",
    b"MZ": "a Windows program or library",
    b"\x1f\x8b": "a gzip archive",
    b"BZh": "a bzip2 archive",
    b"\xfd7zXZ\x00": "an xz archive",
    b"\x28\xb5\x2f\xfd": "a zstd archive",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"Rar!": "a rar archive",
    b"\x89HDF": "an HDF5 file, as Keras writes",
    b"\x93NUMPY": "a NumPy array",
    b"GGUF": "a GGUF model",
    b"ftrt": "a TensorRT engine",
    b"ptrt": "a TensorRT engine",
    b"%PDF": "a PDF document",
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"<": "a text or HTML file",
    b"{": "a JSON file",
}
AT_FOUR: dict[bytes, str] = {b"ORTM": "a model in ONNX Runtime's own format", b"TFL3": "a TensorFlow Lite model"}


def check_magic(path: Path) -> None:
    """Refuse what is plainly not ONNX, saying what it is."""
    with path.open("rb") as file:
        head = file.read(16)
    if not head:
        raise ModelRejected("model_not_onnx", "The file is empty.", EXPORT)
    found = describe(head)
    if _is_zip(path) and _holds_pickle(path):
        found = "a PyTorch checkpoint, a zip with a pickle inside"
    if found is not None:
        code = "model_is_pickle" if "pickle" in found else "model_not_onnx"
        raise ModelRejected(code, f"The file is {found}, not an ONNX model.", EXPORT)


def describe(head: bytes) -> str | None:
    """What these first bytes announce; None for what may be ONNX."""
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return "a Python pickle, as torch.save and joblib write"
    if head[8:10] == b'{"':
        return "a safetensors file, which holds weights without a graph"
    by_offset = ((MAGIC, 0), (AT_FOUR, 4))
    return next(
        (words for table, at in by_offset for magic, words in table.items() if head[at:].startswith(magic)), None
    )


def is_bundle(path: Path) -> bool:
    """Whether the file is a zip archive that may hold a model and its data files."""
    return _is_zip(path) and not _holds_pickle(path)


def _is_zip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"


def _holds_pickle(path: Path) -> bool:
    with open_archive(path, ModelRejected) as archive:
        return any(member.name.endswith(".pkl") for member in archive.members)
