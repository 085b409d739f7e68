# SPDX-License-Identifier: Apache-2.0
"""Which preset is taken when none is named."""

from neurfield.training.method import default_preset, presets


def test_the_default_follows_device_and_budget() -> None:
    for device, seconds, expected in (
        ("cuda", 600.0, "ngp"),
        ("cpu", None, "ngp-fast"),
        ("cpu", 119.0, "ngp-fast"),
        ("cpu", 120.0, "ngp-medium"),
    ):
        assert default_preset(device, seconds) == expected
        assert expected in presets()
