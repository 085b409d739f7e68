# SPDX-License-Identifier: Apache-2.0
"""Trained fields in the formats of other programs."""
