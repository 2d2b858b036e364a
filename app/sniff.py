"""What a file is, by its first bytes, before anything reads further: formats that can run code are refused at once.

This looks at bytes only and parses nothing; what passes is parsed by a confined child.
"""

from app import errors
from app.errors import Kind

HEAD_BYTES = 4096
ZIP = b"PK\x03\x04"

#: (offset, magic, what is refused); the first match counts.
FOREIGN: tuple[tuple[int, bytes, Kind], ...] = (
    (4, b"ORTM", errors.MODEL_IS_ORT_FORMAT),
    (4, b"TFL3", errors.MODEL_IS_TFLITE),
    (0, b"\x89HDF\r\n\x1a\n", errors.MODEL_IS_HDF5),
    (0, b"\x1f\x8b", errors.MODEL_IS_COMPRESSED),  # gzip
    (0, b"\xfd7zXZ\x00", errors.MODEL_IS_COMPRESSED),
    (0, b"\x28\xb5\x2f\xfd", errors.MODEL_IS_COMPRESSED),  # zstd
    (0, b"7z\xbc\xaf\x27\x1c", errors.MODEL_IS_COMPRESSED),
    (0, b"BZh", errors.MODEL_IS_COMPRESSED),
    (257, b"ustar", errors.MODEL_IS_COMPRESSED),
    (0, b"\x7fELF", errors.MODEL_IS_EXECUTABLE),
    (0, b"MZ", errors.MODEL_IS_EXECUTABLE),
    (0, b"ptrt", errors.MODEL_IS_ENGINE),
    (0, b"ftrt", errors.MODEL_IS_ENGINE),
)
#: Tags that may open a protobuf ModelProto: its fields with their wire types.
MODEL_TAGS = (
    b"\x08", b"\x12", b"\x1a", b"\x22", b"\x28", b"\x32", b"\x3a", b"\x42", b"\x72",
    b"\xa2\x01", b"\xca\x01", b"\xd2\x01",
)  # fmt: skip
TORCH_MEMBERS = (b"data.pkl", b"constants.pkl", b".format_version", b"model.json", b"archive/")


def refuse_model(head: bytes) -> Kind | None:
    """Why this cannot be an ONNX model or a bundle of one; None where it may be."""
    for offset, magic, kind in FOREIGN:
        if head.startswith(magic, offset):
            return kind
    if _is_pickle(head):
        return errors.MODEL_IS_PICKLE
    if head.startswith(ZIP):
        is_torch = any(member in head for member in TORCH_MEMBERS)
        return errors.MODEL_IS_TORCH_CHECKPOINT if is_torch else None
    return None if head.startswith(MODEL_TAGS) else errors.MODEL_IS_NOT_ONNX


def refuse_dataset(head: bytes) -> Kind | None:
    """Why this cannot be an .npz; None where it may be."""
    if _is_pickle(head):
        return errors.DATASET_IS_PICKLE
    return None if head.startswith(ZIP) else errors.DATASET_NOT_NPZ


def _is_pickle(head: bytes) -> bool:
    """Protocol 2 to 5; older, textual pickles are no ONNX model and no .npz either."""
    return len(head) >= 2 and head[0] == 0x80 and 2 <= head[1] <= 5
