# SPDX-License-Identifier: Apache-2.0
"""Videos through PyAV: every picture of the first video stream, upright, 8-bit RGB, in memory."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from neurfield.data.ffmpeg import opened
from neurfield.data.signals.grid import GridSignal, grid_signal
from neurfield.errors import UserError, retold
from neurfield.memory import available_bytes, readable
from neurfield.progress import Progress, silent

# FFmpeg's demuxer by suffix; its "m4v" is a bare stream, not the container of that suffix
DEMUXERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "matroska", ".avi": "avi"}
DEFAULT_FPS = 30.0
# FFmpeg's numbers (those of ITU-T H.273) for how codes become light, of videos that are not for sRGB
HDR = {16: "PQ, SMPTE ST 2084", 18: "HLG, ARIB STD-B67"}
log = logging.getLogger("neurfield.data")


def detect(path: Path) -> bool:
    return path.suffix.lower() in DEMUXERS


def read(path: Path, max_megapixels: float = 64.0, progress: Progress = silent) -> GridSignal:
    """Decodes a video into `[frames, height, width, 3]`.

    Raises:
        UserError: broken, without pictures, pictures larger than `max_megapixels` or of different sizes, or more of
            them than memory holds, which is known at the first.
    """
    free, n_expected, n = available_bytes(), count(path, max_megapixels), 0
    values = np.empty((0, 0, 0, 3), np.uint8)
    with stream_of(path, max_megapixels) as (container, stream):
        rate = stream.average_rate
        for frame in frames(path, container, stream, max_megapixels):
            picture = upright(frame)
            if n and picture.shape != values.shape[1:]:
                raise UserError(f"{path}: its pictures have different sizes; convert it to one size")
            if n == len(values):
                n_expected = max(n_expected, n + n // 4 + 1)
                needed = n_expected * picture.nbytes
                if free and needed > free:
                    raise UserError(
                        f"{path}: its pictures need {readable(needed)}, {readable(free)} are free; shorten it, or make "
                        "it smaller"
                    )
                shape = (n_expected, *picture.shape)
                if n:  # more than were counted; in place
                    values.resize(shape, refcheck=False)
                else:  # takes memory as pictures fill it
                    values = np.empty(shape, np.uint8)
            values[n] = picture
            n += 1
            progress(min(n / n_expected, 1.0))
    if not n:
        raise UserError(f"{path}: there are no pictures in it")
    fps = float(rate) if rate else DEFAULT_FPS
    known = {"low": 0.0, "high": 255.0, "fps": fps, "name": path.stem, "suffix": path.suffix.lower()}
    return grid_signal(values[:n], str(path), **known)


def count(path: Path, max_megapixels: float) -> int:
    """Pictures in a video: its packets are counted, as what its head says may be missing or wrong.

    Raises:
        UserError: as `stream_of`.
    """
    with stream_of(path, max_megapixels) as (container, stream):
        return sum(packet.size > 0 for packet in container.demux(stream))


@contextmanager
def stream_of(path: Path, max_megapixels: float) -> Iterator[tuple[Any, Any]]:
    """The container of a video and its first stream of pictures, as PyAV has them.

    Raises:
        UserError: no video, also when that shows within the block.
    """
    import av

    suffix = path.suffix.lower()
    try:
        with opened(path, DEMUXERS[suffix], max_megapixels) as container:
            if not container.streams.video:
                raise UserError(f"{path}: there is no video stream in it")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            _check_size(path, stream.codec_context, max_megapixels)
            yield container, stream
    except (av.error.FFmpegError, ValueError, IndexError) as error:
        what = f"{suffix} video that FFmpeg can decode, or pictures of more than {max_megapixels:g} megapixels within"
        raise retold(error, f"{path}: not a whole {what}") from None


def frames(path: Path, container: Any, stream: Any, max_megapixels: float) -> Iterator[Any]:
    """The pictures of a stream as av.VideoFrame, in their order; of HDR a warning is logged, once.

    Raises:
        UserError: one is larger than `max_megapixels`.
    """
    for number, frame in enumerate(container.decode(stream)):
        transfer = HDR.get(int(stream.codec_context.color_trc))
        if number == 0 and transfer is not None:
            log.warning(
                "%s: an HDR video (%s): its codes are taken as if they were sRGB, which makes pale and wrong colours; "
                "convert it to SDR first",
                path,
                transfer,
            )
        _check_size(path, frame, max_megapixels)
        yield frame


def upright(frame: Any) -> np.ndarray:
    """`[height, width, 3]` uint8: phones store pictures as the sensor has them, and beside them how to turn them."""
    return np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90)))


def _check_size(path: Path, picture: Any, max_megapixels: float) -> None:
    if picture.width * picture.height > max_megapixels * 1e6:
        raise UserError(
            f"{path}: its pictures have {picture.width} x {picture.height} pixels, more than the {max_megapixels:g} "
            "megapixels allowed; raise --max-megapixels if it is meant"
        )
