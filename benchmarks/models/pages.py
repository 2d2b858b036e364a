"""Pictures of text that are turned, for other people's models that tell which way is up.

They are drawn here, so the labels are right. The text is Python's own documentation, the font is Pillow's.
"""

import textwrap
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL.Image import Image

Arrays = dict[str, NDArray[np.generic]]
SIDE = 224  #: pixels of a page, cut from one whose shorter side has 256
MEAN, DEVIATION = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])  #: of ImageNet, as in PP-LCNet's
LINE = (48, 192)  #: height and width of a line of text, in pixels


def pages(count: int, seed: int) -> Arrays:
    """Pages `x` (N, 3, 224, 224) float32, and quarter turns 0…3 as labels (N,)."""
    random = np.random.default_rng(seed)
    turns = random.integers(0, 4, count)
    pictures = [_pixels(_page(random).rotate(-90 * int(turn), expand=True)) for turn in turns]
    cut = slice((256 - SIDE) // 2, (256 + SIDE) // 2)
    images = ((np.stack(pictures)[:, cut, cut] - MEAN) / DEVIATION).transpose(0, 3, 1, 2)
    return {"x": images.astype(np.float32), "labels": turns}


def lines(count: int, seed: int) -> Arrays:
    """Lines of text `x` (N, 3, 48, 192) float32, and half turns 0…1 as labels (N,)."""
    random = np.random.default_rng(seed)
    turns = random.integers(0, 2, count)
    pictures = [_pixels(_line(random).rotate(180 * int(turn))) for turn in turns]
    return {"x": (2 * np.stack(pictures) - 1).transpose(0, 3, 1, 2).astype(np.float32), "labels": turns}


def _page(random: np.random.Generator) -> "Image":
    """A page, 256 pixels wide and high, full of text."""
    from PIL import Image

    size = int(random.integers(16, 40))
    page = _paper((512, 512), random)
    text = textwrap.fill(_passage(random, 360_000 // size**2), width=int(900 / size))
    _write(page, text, size, (int(random.integers(5, 40)), int(random.integers(5, 60))), random)
    page = page.rotate(float(random.uniform(-3, 3)), fillcolor=page.getpixel((0, 0)))
    return page.resize((256, 256), Image.Resampling.LANCZOS)


def _line(random: np.random.Generator) -> "Image":
    size = int(random.integers(20, 36))
    line = _paper((LINE[1], LINE[0]), random)
    _write(line, _passage(random, int(300 / size)), size, (2, int(random.integers(0, 48 - size))), random)
    return line


def _paper(size: tuple[int, int], random: np.random.Generator) -> "Image":
    from PIL import Image

    return Image.new("RGB", size, tuple(int(shade) for shade in random.integers(200, 256, 3)))


def _write(picture: "Image", text: str, size: int, place: tuple[int, int], random: np.random.Generator) -> None:
    from PIL import ImageDraw, ImageFont

    ink = tuple(int(shade) for shade in random.integers(0, 90, 3))
    ImageDraw.Draw(picture).multiline_text(place, text, fill=ink, font=ImageFont.load_default(size), spacing=size // 3)


def _passage(random: np.random.Generator, length: int) -> str:
    """Characters from somewhere in the documentation, from the start of a word on."""
    text = _documentation()
    start = text.index(" ", int(random.integers(0, len(text) - 2 * length))) + 1
    return text[start : start + length]


@cache
def _documentation() -> str:
    from pydoc_data.topics import topics

    return " ".join(" ".join(topics.values()).split())


def _pixels(picture: "Image") -> NDArray[np.float64]:
    return np.asarray(picture, np.float64) / 255
