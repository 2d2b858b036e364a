"""What names a file for good: the digest of its bytes; of a model with its weights beside it, of these."""

import hashlib
from pathlib import Path

from engine.beside import data_of, is_apart


def sha256(path: Path) -> str:
    with (data_of(path) if is_apart(path) else path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
