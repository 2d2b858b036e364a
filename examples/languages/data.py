"""Pieces of text in 16 languages, from the manual pages of Debian's packages manpages-*.

Whole pages are set aside for the test, the same ones in every language, so a model cannot know a sentence by heart.
"""

import gzip
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

FOLDER = Path("/usr/share/man")
LANGUAGES = ("cs", "da", "de", "es", "fi", "fr", "hu", "it", "nb", "nl", "pl", "pt_BR", "ro", "ru", "sv", "uk")
PIECES = {"train": 1500, "test": 125}  #: of each language
LENGTH = 64  #: bytes of a piece
TEST_SHARE = 5  #: one page of so many is for the test
ESCAPES = re.compile(r"\\f\[?[A-Z]+\]?|\\\(\w\w|\\[&,/%:]?")  #: of roff: changes of font, special signs


def load(part: Literal["train", "test"]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Bytes of UTF-8 (N, 64) int64, and the languages as their place in LANGUAGES (N,) int64."""
    chosen = np.random.default_rng(0)
    pieces, labels = [], []
    for label, language in enumerate(LANGUAGES):
        text = b" ".join(_pages(language, part))
        found = np.frombuffer(text[: len(text) // LENGTH * LENGTH], np.uint8).reshape(-1, LENGTH)
        rows = chosen.permutation(len(found))[: PIECES[part]]
        pieces.append(found[rows].astype(np.int64))
        labels.append(np.full(len(rows), label))
    return np.concatenate(pieces), np.concatenate(labels)


def _pages(language: str, part: str) -> Iterator[bytes]:
    """The running text of one page after another."""
    paths = sorted((FOLDER / language).glob("man*/*.gz"))
    if not paths:
        package = f"manpages-{language.lower().replace('_', '-')}"
        raise FileNotFoundError(f"{FOLDER / language} has no pages: apt-get install {package}")
    for path in paths:
        if (zlib.crc32(path.name.encode()) % TEST_SHARE == 0) == (part == "test"):
            lines = gzip.decompress(path.read_bytes()).decode(errors="replace").splitlines()
            words = " ".join(line for line in lines if not line.startswith((".", "'")))
            yield " ".join(ESCAPES.sub("", words).split()).encode()
