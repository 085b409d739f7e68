# SPDX-License-Identifier: Apache-2.0
"""Untrusted files for FFmpeg: they are read as what their suffix says, open no other file, and decode to bounded sizes.

Left to itself FFmpeg looks at the content, and a playlist that is called clip.mp4 opens what it names.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Decoders count pixels with rows padded to 64 or 128: enough for pictures of 32768 rows, and little memory
PADDING = 1 << 22


@contextmanager
def opened(path: Path, container_format: str, max_megapixels: float) -> Iterator[Any]:
    """An av.container.InputContainer whose video streams are ready to be decoded.

    Args:
        container_format: FFmpeg's name of the demuxer, "mp4", "matroska", "png_pipe".
        max_megapixels: pictures of 4 megapixels more raise av.error.ArgumentError before they are decoded, whatever the
            container announces; the exact limit is for the caller to check.

    Raises:
        av.error.FFmpegError: it is no such container. ImportError: PyAV is not installed.
    """
    import av

    limits = {"max_pixels": str(round(max_megapixels * 1e6) + PADDING)}
    # the prefix keeps a name with a colon from being taken for a protocol
    options = {"protocol_whitelist": "file", **limits}
    with av.open(f"file:{path}", format=container_format, options=options) as container:
        for stream in container.streams.video:
            stream.codec_context.options = limits
        yield container
