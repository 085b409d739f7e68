# SPDX-License-Identifier: Apache-2.0
"""Plain-torch definitions of the operators: obvious, float64-clean, the oracle of the tests. Never a fallback."""
