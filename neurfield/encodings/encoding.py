# SPDX-License-Identifier: Apache-2.0
"""What every encoding is: a module that knows its widths."""

from torch import Tensor, nn


class Encoding(nn.Module):
    """Maps `[n, n_input_dims]` to `[n, n_output_dims]` of the same dtype. Subclasses say which input range they expect.

    Args:
        n_input_dims, n_output_dims: columns of input and output.

    Attributes:
        padding: what tiny-cuda-nn fills the columns with that a network reads past n_output_dims.
    """

    padding: float = 1.0

    def __init__(self, n_input_dims: int, n_output_dims: int) -> None:
        super().__init__()
        self.n_input_dims = n_input_dims
        self.n_output_dims = n_output_dims

    def check(self, x: Tensor) -> None:
        """For encodings whose operations would take columns of any number, or ignore some.

        Raises:
            TypeError: no tensor.
            ValueError: an input of another shape.
        """
        if not isinstance(x, Tensor):
            raise TypeError(f"encoding {type(self).__name__}: expected a torch.Tensor, got {type(x).__name__}")
        if x.dim() != 2 or x.shape[1] != self.n_input_dims:
            raise ValueError(
                f"encoding {type(self).__name__}: expected an input [n, {self.n_input_dims}], got {list(x.shape)}"
            )

    @property
    def wants_losses(self) -> bool:
        """Whether it does nothing useful unless `after_step` is called."""
        return False

    def after_step(self, x: Tensor, losses: Tensor, progress: float) -> None:
        """What an encoding learns from a training step beside gradients.

        Args:
            x: the step's input `[n, n_input_dims]`.
            losses: of each row `[n]`.
            progress: the part of the training that is over, 0 ... 1.
        """

    def extra_repr(self) -> str:
        return f"{self.n_input_dims} -> {self.n_output_dims}"
