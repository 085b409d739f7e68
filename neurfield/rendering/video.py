# SPDX-License-Identifier: Apache-2.0
"""Videos through PyAV: H.264 in mp4, 4:2:0, BT.709, playable from its first bytes on."""

from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

from torch import Tensor

from neurfield.errors import MachineError, UserError

SUFFIXES = (".mp4", ".mov", ".mkv")
DEFAULT_FPS, MAX_FPS = 30.0, 240.0
MAX_SIDE = 16384  # pixels, x264's
_BT709 = 1  # as matrix, primaries and transfer in the numbering of ISO 23091-2
_QUALITY = "18"  # x264's constant rate factor; visually lossless


def check_fps(fps: float) -> None:
    """Raises UserError for pictures a second that no video has."""
    if not 0 < fps <= MAX_FPS:
        raise UserError(f"--fps must be above 0 and at most {MAX_FPS:g}, got {fps:g}")


class VideoWriter:
    """Encodes pictures one by one. Use as a context manager; give it a temporary path and rename it afterwards.

    Args:
        path: file to create.
        fps: pictures per second, above 0 and at most MAX_FPS.

    Raises:
        UserError: PyAV or its H.264 encoder is not there.
        MachineError: the disk is full or cannot be written.
    """

    def __init__(self, path: Path, fps: float) -> None:
        check_fps(fps)
        try:
            import av
        except ImportError as error:
            raise UserError("videos need PyAV, which is not installed: pip install av") from error
        self._av = av
        self._rate = Fraction(fps).limit_denominator(1001)
        options = {"movflags": "+faststart"} if path.suffix in (".mp4", ".mov") else {}
        try:
            self._container = av.open(str(path), "w", options=options)
        except av.error.FFmpegError as error:
            raise MachineError(f"{path}: cannot write ({error.strerror})") from None
        self._path = path
        self._stream: Any = None

    def __enter__(self) -> "VideoWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None and self._stream:
                self._encode(None)
        finally:
            self._container.close()

    def add(self, image: Tensor) -> None:
        """One picture, uint8 `[h, w, 3]` sRGB; all have the size of the first. An odd last row or column is cut off."""
        height, width = (size - size % 2 for size in image.shape[:2])
        if not self._stream:
            self._stream = self._open_stream(width, height)
        pixels = image[:height, :width].contiguous().numpy()
        frame = self._av.VideoFrame.from_ndarray(pixels, format="rgb24")
        self._encode(frame.reformat(format="yuv420p", dst_colorspace="ITU709"))

    def _open_stream(self, width: int, height: int) -> Any:
        if width < 2 or height < 2:
            raise UserError("a video needs pictures of at least 2 x 2 pixels")
        if max(width, height) > MAX_SIDE:
            raise UserError(
                f"a video has at most {MAX_SIDE} pixels a side, and this one would be {width} x {height}; "
                "make its pictures smaller, or put less side by side"
            )
        try:
            stream = self._container.add_stream("libx264", rate=self._rate, options={"crf": _QUALITY})
        except (ValueError, self._av.error.FFmpegError):
            raise UserError("this PyAV has no H.264 encoder (libx264); pip install --force-reinstall av") from None
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        context = stream.codec_context
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        return stream

    def _encode(self, frame: Any) -> None:
        try:
            for packet in self._stream.encode(frame):
                self._container.mux(packet)
        except (OSError, self._av.error.FFmpegError) as error:
            raise MachineError(f"{self._path.name}: cannot write ({error.strerror or error})") from None
