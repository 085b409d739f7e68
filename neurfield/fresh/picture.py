# SPDX-License-Identifier: Apache-2.0
"""A choice as a picture: the spectra on the left, the distances of the candidates, and its trials where it has any."""

import math
from collections.abc import Sequence

import torch
from PIL import Image, ImageDraw

from neurfield.fresh.choose import Choice

WIDTH, HEIGHT, MARGIN = 560, 400, 56
INK, GREY, CHOSEN, SIGNAL = (40, 40, 40), (200, 200, 200), (0, 120, 60), (200, 60, 20)


class _Axes:
    """One panel: data coordinates to pixels, with a frame and its numbers."""

    def __init__(self, draw: ImageDraw.ImageDraw, left: int, x: tuple[float, float], y: tuple[float, float]) -> None:
        self.draw, self.left, self.x, self.y = draw, left, x, y

    def at(self, x: float, y: float) -> tuple[float, float]:
        across = (x - self.x[0]) / (self.x[1] - self.x[0])
        up = min(max((y - self.y[0]) / (self.y[1] - self.y[0]), 0.0), 1.0)
        return self.left + MARGIN + across * (WIDTH - 2 * MARGIN), HEIGHT - MARGIN - up * (HEIGHT - 2 * MARGIN)

    def line(self, xs: Sequence[float], ys: Sequence[float], color: tuple[int, int, int], width: int) -> None:
        self.draw.line([self.at(x, y) for x, y in zip(xs, ys, strict=True)], fill=color, width=width)

    def frame(
        self, title: str, label: str, ticks: Sequence[tuple[float, str]], marks: Sequence[tuple[float, str]]
    ) -> None:
        corners = [self.at(self.x[i], self.y[j]) for i, j in ((0, 0), (1, 0), (1, 1), (0, 1), (0, 0))]
        self.draw.line(corners, fill=INK)
        self.draw.text((self.left + MARGIN, 16), title, fill=INK)
        self.draw.text((self.left + WIDTH / 2, HEIGHT - 22), label, fill=INK, anchor="mm")
        for x, text in ticks:
            px, py = self.at(x, self.y[0])
            self.draw.text((px, py + 10), text, fill=INK, anchor="mm")
        for y, text in marks:
            px, py = self.at(self.x[0], y)
            self.draw.text((px - 6, py), text, fill=INK, anchor="rm")


def draw(choice: Choice) -> Image.Image:
    """1120 x 400 RGB picture, with trials 1680 x 400; save it with `.save(path)`."""
    image = Image.new("RGB", ((3 if choice.trials else 2) * WIDTH, HEIGHT), "white")
    canvas = ImageDraw.Draw(image)
    _spectra(canvas, choice)
    _distances(canvas, choice)
    if choice.trials:
        _trials(canvas, choice)
    return image


def _spectra(canvas: ImageDraw.ImageDraw, choice: Choice) -> None:
    n = len(choice.target)
    bins = list(range(1, n + 1))
    shown = torch.stack([choice.target, choice.spectra[choice.index]])
    top, positive = float(choice.spectra.max().maximum(choice.target.max())), shown[shown > 0]
    floor = max(float(positive.min()) / 3, 1e-6 * top)
    axes = _Axes(canvas, 0, (1, max(n, 2)), (math.log10(floor), math.log10(top)))

    def log(values: Sequence[float]) -> list[float]:
        return [math.log10(max(v, floor)) for v in values]

    for i in {0, len(choice.values) // 2, len(choice.values) - 1} - {choice.index}:
        axes.line(bins, log(choice.spectra[i].tolist()), GREY, 1)
    axes.line(bins, log(choice.target.tolist()), SIGNAL, 2)
    axes.line(bins, log(choice.spectra[choice.index].tolist()), CHOSEN, 2)
    decades = [(float(k), f"1e{k}") for k in range(math.ceil(math.log10(floor)), math.floor(math.log10(top)) + 1)]
    nearest = f"{choice.key} = {choice.values[choice.index]:g}"
    title = f"spectra: signal (red), {nearest} (green), lowest, middle and highest (grey)"
    ticks = [(float(k), str(k)) for k in (1, *range(n // 4, n + 1, max(n // 4, 1)))]
    axes.frame(title, "L1 frequency, cycles per side", ticks, decades)


def _distances(canvas: ImageDraw.ImageDraw, choice: Choice) -> None:
    distances, last = choice.distances, len(choice.values) - 1
    largest = max(d + e for d, e in zip(distances, choice.errors, strict=True))
    axes = _Axes(canvas, WIDTH, (0, max(last, 1)), (0, 1.05 * largest))
    axes.line(range(last + 1), distances, GREY, 1)
    for i, (distance, error) in enumerate(zip(distances, choice.errors, strict=True)):
        color = CHOSEN if i == choice.index else INK
        axes.line([i, i], [distance - error, distance + error], color, 1)
        x, y = axes.at(i, distance)
        canvas.ellipse([x - 3, y - 3, x + 3, y + 3], fill=color)
    ticks = [(float(i), f"{choice.values[i]:g}") for i in sorted({0, choice.index, last})]
    marks = [(0.0, "0"), (largest, f"{largest:.3g}")]
    axes.frame("distance of the spectra, with standard errors", choice.key, ticks, marks)


def _trials(canvas: ImageDraw.ImageDraw, choice: Choice) -> None:
    last = len(choice.values) - 1
    results = [(t.value, max(t.psnr, 0.0)) for t in choice.trials]  # one that gave no numbers lies at the bottom
    lowest, highest = min(psnr for _, psnr in results), max(psnr for _, psnr in results)
    room = max(0.05 * (highest - lowest), 0.05)
    axes = _Axes(canvas, 2 * WIDTH, (0, max(last, 1)), (lowest - room, highest + room))
    for value, psnr in results:
        color = CHOSEN if value == choice.value else INK
        if value is None:
            axes.line([0, max(last, 1)], [psnr, psnr], color, 1)
            canvas.text(axes.at(0, psnr), " the method's own", fill=color, anchor="ls")
        else:
            x, y = axes.at(choice.values.index(value), psnr)
            canvas.ellipse([x - 3, y - 3, x + 3, y + 3], fill=color)
    places = {0, last, *(choice.values.index(value) for value, _ in results if value is not None)}
    ticks = [(float(i), f"{choice.values[i]:g}") for i in sorted(places)]
    marks = [(lowest, f"{lowest:.2f}"), (highest, f"{highest:.2f}")]
    axes.frame("short trainings: PSNR in dB of samples that they have not seen", choice.key, ticks, marks)
