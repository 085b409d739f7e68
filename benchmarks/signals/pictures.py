# SPDX-License-Identifier: Apache-2.0
"""Ten small square pictures for benchmarks of signals: photos, renderings, a video frame, a slice of a brain, text.

All but the text come from the folder NEURFIELD_DATA (default: shared/data beside the repository), cut to their largest
middle square and averaged to the size asked for. STRINGS are further pictures of text, far emptier. What a benchmark
is given as a file joins them (`name_or_file`).
"""

import argparse
import os
import random
import string
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from neurfield.data import signals
from neurfield.data.signals.grid import GridSignal, grid_signal

DATA = Path(os.environ.get("NEURFIELD_DATA", Path(__file__).parents[3] / "shared/data"))
WORDS = (
    "Fields learn what images hold", "0123456789 (x, y, z)", "sharp edges, thin stems", "The quick brown fox jumps",
    "over the lazy dog; PACK MY BOX", "with five dozen liquor jugs", "a = b + c * (d - e) / f",
    "SPHINX OF BLACK QUARTZ,",
    "judge my vow! {[<>]} #$%&@", "lorem ipsum dolor sit amet",
)  # fmt: skip
INKS = ((20, 20, 120), (150, 20, 20), (10, 90, 30), (60, 60, 60))


def text(side: int) -> Image.Image:
    """Lines of coloured letters on white, about 26 over the width."""
    image = Image.new("RGB", (side, side), "white")
    draw, height = ImageDraw.Draw(image), side / 14
    font = ImageFont.load_default(size=0.8 * height)
    for line in range(14):
        words = WORDS[line % len(WORDS)]
        draw.text((0.2 * height, line * height), words, fill=INKS[line % len(INKS)], font=font)
    return image


def strings(seed: int, side: int) -> Image.Image:
    """Ten strings of random letters, sizes, colours and places on white.

    In the manner of the pictures of text of Tancik et al. 2020 as far as their two published examples show it: letters
    of 1/50 to 1/8 of the side, some strings upon others or over the edge, more than half of the picture empty.
    """
    draws = random.Random(seed)
    image = Image.new("RGB", (side, side), "white")
    draw = ImageDraw.Draw(image)
    for _ in range(10):
        letters = "".join(draws.choices(string.ascii_letters, k=draws.randint(2, 12)))
        font = ImageFont.load_default(size=side * 0.02 * (0.125 / 0.02) ** draws.random())
        ink = tuple(draws.randrange(256) for _ in range(3))
        draw.text((side * draws.uniform(-0.1, 0.9), side * draws.random()), letters, ink, font, anchor="lm")
    return image


def _file(name: str, side: int) -> Image.Image:
    paths = sorted(DATA.glob(name))
    if not paths:
        raise SystemExit(f"{DATA}: no {name}; set NEURFIELD_DATA")
    return _photo(paths[0], side)


def _photo(path: Path, side: int) -> Image.Image:
    image = Image.open(path)
    if image.mode == "RGBA":
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return _square(image.convert("RGB"), side)


def _frame(side: int) -> Image.Image:
    return _square(Image.fromarray(np.ascontiguousarray(signals.read(DATA / "video/bikes.mp4").values[60])), side)


def _brain(side: int) -> Image.Image:
    signal = signals.read(DATA / "volume/inia19-t1-brain.nii.gz")
    values = signal.normalized(signal.values[..., signal.info.sizes[2] // 2, 0])
    return _square(Image.fromarray((np.clip(values, 0, 1) * 255).astype(np.uint8)).convert("RGB"), side)


def _albert(side: int) -> Image.Image:
    signal = signals.read(DATA / "images/albert.exr")
    values = np.clip(signal.values[..., 0], 0, 1)
    return _square(Image.fromarray((values * 255).astype(np.uint8)).convert("RGB"), side)


def _square(image: Image.Image, side: int) -> Image.Image:
    width, height = image.size
    n = min(width, height)
    box = ((width - n) // 2, (height - n) // 2, (width + n) // 2, (height + n) // 2)
    return image.crop(box).resize((side, side), Image.Resampling.BOX)


PICTURES: dict[str, Callable[[int], Image.Image]] = {
    "kodim04": partial(_file, "images/kodim04.png"),
    "albert": _albert,
    "fox": partial(_file, "fox/images/*"),
    "door": partial(_file, "lund_door/images/*"),
    "lego": partial(_file, "lego/train/*.png"),
    "moving lego": partial(_file, "dnerf_lego/train/*.png"),
    "house": partial(_file, "dtu_scan24/image/*.png"),
    "bikes": _frame,
    "brain": _brain,
    "text": text,
}
STRINGS: dict[str, Callable[[int], Image.Image]] = {f"strings {seed}": partial(strings, seed) for seed in range(1, 5)}
ALL = PICTURES | STRINGS


def name_or_file(value: str) -> str:
    """The name of one of ALL for argparse; a file of a picture joins them under its name without the suffix."""
    if value in ALL:
        return value
    path = Path(value)
    if not path.is_file():
        raise argparse.ArgumentTypeError(f"no file, and none of {', '.join(ALL)}: {value}")
    ALL[path.stem] = partial(_photo, path)
    return path.stem


def picture(name: str, side: int) -> GridSignal:
    """One of ALL as a signal of 8-bit RGB values."""
    return _signal(name, ALL[name](side))


def cropped(name: str, side: int, whole: int, x: float, y: float) -> GridSignal:
    """A square of the picture that is `whole` pixels wide; x and y in 0 ... 1 move it from one edge to the other."""
    left, top = (round(part * (whole - side)) for part in (x, y))
    return _signal(name, ALL[name](whole).crop((left, top, left + side, top + side)))


def fullest(name: str, side: int, whole: int) -> GridSignal:
    """The square of those that part the picture, `whole` pixels wide, whose values vary most."""
    image, starts = ALL[name](whole), range(0, whole, side)
    squares = [image.crop((left, top, left + side, top + side)) for top in starts for left in starts]
    return _signal(name, max(squares, key=lambda square: np.asarray(square, np.float64).var()))


def _signal(name: str, image: Image.Image) -> GridSignal:
    return grid_signal(np.asarray(image), name, name=name, suffix=".png", low=0.0, high=255.0)
