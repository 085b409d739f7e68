# SPDX-License-Identifier: Apache-2.0
"""What lies behind the object of a scene, where the configuration leaves that to the images."""

import dataclasses

from neurfield.data.scene import Scene
from neurfield.rendering.color import flat_background
from neurfield.training.method import MethodConfig, RunConfig


def with_background(config: RunConfig, scene: Scene) -> RunConfig:
    """The configuration with what `training.background: auto` means for the training views of a scene.

    Renderings that were laid over white or black show that colour from all sides. Behind a field that must be opaque
    there is no such place: what is dark behind the object for one camera stands before it for another.
    """
    method = config.method
    if method.training.background != "auto":
        return config
    views, masks = scene.views("train"), scene.masks
    color = flat_background([scene.images[view] for view in views], masks and [masks[view] for view in views])
    training = dataclasses.replace(method.training, background=color or "random")
    # white is the presets' own, so over white images another one was asked for
    shown = method.background if color in (None, "white") else color
    return dataclasses.replace(config, method=dataclasses.replace(method, training=training, background=shown))


def like_teacher(method: MethodConfig, teacher: MethodConfig) -> MethodConfig:
    """The method of a student, with its teacher's backgrounds where it leaves that to the images."""
    if method.training.background != "auto":
        return method
    training = dataclasses.replace(method.training, background=teacher.training.background)
    return dataclasses.replace(method, training=training, background=teacher.background)
