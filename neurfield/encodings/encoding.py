# SPDX-License-Identifier: Apache-2.0
"""What every encoding is: a module that knows its widths."""

from torch import nn


class Encoding(nn.Module):
    """Maps `[n, n_input_dims]` to `[n, n_output_dims]` of the same dtype. Subclasses say which input range they expect.

    Args:
        n_input_dims, n_output_dims: columns of input and output.
    """

    def __init__(self, n_input_dims: int, n_output_dims: int) -> None:
        super().__init__()
        self.n_input_dims = n_input_dims
        self.n_output_dims = n_output_dims

    def extra_repr(self) -> str:
        return f"{self.n_input_dims} -> {self.n_output_dims}"
