# SPDX-License-Identifier: Apache-2.0
"""Scene files and method presets, installed as neurfield.scenes."""
