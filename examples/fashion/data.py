"""Fashion-MNIST as arrays, from the files of Debian's package dataset-fashion-mnist (MIT)."""

import gzip
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

FOLDER = Path("/usr/share/datasets/fashion-mnist")


def load(part: Literal["train", "test"]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Images (N, 1, 28, 28) float32 in 0…1, and their labels (N,) int64; N is 60,000 or 10,000."""
    prefix = "t10k" if part == "test" else "train"
    images = _idx(FOLDER / f"{prefix}-images-idx3-ubyte.gz", header_bytes=16).reshape(-1, 1, 28, 28)
    labels = _idx(FOLDER / f"{prefix}-labels-idx1-ubyte.gz", header_bytes=8)
    return images.astype(np.float32) / np.float32(255), labels.astype(np.int64)


def _idx(path: Path, *, header_bytes: int) -> NDArray[np.uint8]:
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: apt-get install dataset-fashion-mnist")
    return np.frombuffer(gzip.decompress(path.read_bytes())[header_bytes:], np.uint8)
