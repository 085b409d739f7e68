# SPDX-License-Identifier: Apache-2.0
"""Marks of cameras in the scene."""

from collections.abc import Sequence
from typing import TypeAlias

import viser

Mark: TypeAlias = viser.CameraFrustumHandle | viser.IcosphereHandle  # a ball where it is a panorama


def show(marks: Sequence[Mark], client: viser.ClientHandle, is_shown: bool = True) -> None:
    """Shows marks, or none, without those that the page's camera is in: they would hide everything."""
    eye = client.camera.position
    for mark in marks:
        visible = is_shown and float(abs(mark.position - eye).max()) > mark.scale
        if mark.visible != visible:
            mark.visible = visible
