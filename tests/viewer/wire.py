# SPDX-License-Identifier: Apache-2.0
"""A page without a browser: speaks viser's protocol over the websocket, sends cameras and receives pictures."""

import io
import time
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import viser
import zstandard
from PIL import Image
from torch import Tensor
from websockets.sync.client import ClientConnection, connect

from neurfield.viewer.look import viser_pose


@dataclass(frozen=True)
class Frame:
    """A picture as it came, and when its message was complete (time.perf_counter)."""

    data: bytes
    at: float

    @property
    def size(self) -> tuple[int, int]:
        """Width and height; the picture is not decoded."""
        return Image.open(io.BytesIO(self.data)).size

    @property
    def image(self) -> np.ndarray:
        """uint8 `[h, w, 3]`."""
        return np.asarray(Image.open(io.BytesIO(self.data)).convert("RGB"))


class WirePage:
    """Connects on entry; `cookie` and `origin` as a browser would send them."""

    def __init__(
        self, url: str, cookie: str | None = None, origin: str | None = None, size: tuple[int, int] = (320, 240)
    ):
        self._url = url.replace("http://", "ws://")
        self._headers = {"Cookie": cookie} if cookie else None
        self._origin, self.size = origin, size

    def __enter__(self) -> "WirePage":
        self.socket: ClientConnection = connect(
            self._url, subprotocols=[f"viser-v{viser.__version__}"], max_size=None, compression=None,  # type: ignore[list-item]
            additional_headers=self._headers, origin=self._origin,  # type: ignore[arg-type]
        )  # fmt: skip
        self._zstd = zstandard.ZstdDecompressor()
        return self

    def __exit__(self, *exception: object) -> None:
        self.socket.close()

    def send(self, **message: Any) -> None:
        self.socket.send(msgspec.msgpack.encode(message))

    def look_from(self, c2w: Tensor, fov: float = 0.7) -> float:
        """Sends a camera at a pose `[3, 4]`; returns the time."""
        wxyz, position = viser_pose(c2w)
        width, height = self.size
        self.send(
            type="ViewerCameraMessage", wxyz=wxyz, position=position, fov=float(fov), near=0.01, far=100.0,
            image_height=height, image_width=width, look_at=(0.0, 0.0, 0.0), up_direction=(0.0, 0.0, 1.0),
        )  # fmt: skip
        return time.perf_counter()

    def messages(self, timeout: float) -> list[dict[str, Any]]:
        """Those of the next packet; raises TimeoutError."""
        packet = self.socket.recv(timeout=timeout)
        assert isinstance(packet, bytes)
        length = int.from_bytes(packet[8:16], "little")
        size = int.from_bytes(packet[:8], "little")
        content = msgspec.msgpack.decode(self._zstd.decompress(packet[16 : 16 + length], max_output_size=size))
        return content["messages"]

    def frame(self, timeout: float = 60.0) -> Frame:
        """The next picture; raises TimeoutError."""
        end = time.perf_counter() + timeout
        while True:
            for message in self.messages(max(end - time.perf_counter(), 0.001)):
                if message["type"] == "BackgroundImageMessage" and message["rgb_data"] is not None:
                    return Frame(message["rgb_data"], time.perf_counter())

    def frame_of(self, size: tuple[int, int], timeout: float = 60.0) -> Frame:
        """The next picture of a width and height."""
        end = time.perf_counter() + timeout
        while True:
            frame = self.frame(end - time.perf_counter())
            if frame.size == size:
                return frame
