# SPDX-License-Identifier: Apache-2.0
"""Benchmarks: `python -m benchmarks.run` runs all of them; each module can be run alone. Never part of the tests."""
