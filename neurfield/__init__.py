# SPDX-License-Identifier: Apache-2.0
"""neurfield: fit neural fields to data, render, convert and export them, with and without a GPU."""

__version__ = "0.1.0"
