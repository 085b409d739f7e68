# SPDX-License-Identifier: Apache-2.0
"""Networks and grids in few bits (Lee et al. 2024, section 4.2: symmetric, scaled by the largest magnitude).

`fake_quantize` lets training see the rounding; `pack` and `unpack` are what a file in 8 bits holds, see
neurfield.training.packed.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from neurfield.errors import UserError

BITS = 8


def quantize(values: Tensor, bits: int = BITS, per_column: bool = False) -> tuple[Tensor, Tensor]:
    """Codes in int8 and their step: `values = codes * step` within half a step.

    Args:
        values: floating point, finite; 2 ... 8 bits.
        per_column: one step per entry of the last axis instead of one for all.

    Returns:
        Codes, shaped like values, in `+-(2^(bits - 1) - 1)`; step, float32, `[]` or `[n_columns]`. Zeros have step 0.
    """
    largest = values.detach().abs().flatten(0, -2).amax(0) if per_column else values.detach().abs().max()
    step = (largest / (2 ** (bits - 1) - 1)).float()
    codes = torch.where(step > 0, values.detach() / step.clamp_min(1e-38), torch.zeros_like(values))
    return codes.round().to(torch.int8), step


def dequantize(codes: Tensor, step: Tensor) -> Tensor:
    """float32 values of codes."""
    return codes.float() * step


def fake_quantize(values: Tensor, bits: int = BITS, per_column: bool = False) -> Tensor:
    """Rounded as `quantize` does; the gradient passes as if it were not."""
    rounded = dequantize(*quantize(values, bits, per_column)).to(values.dtype)
    return values + (rounded - values).detach()


def pack(module: nn.Module, bits: int = BITS) -> dict[str, Tensor]:
    """What a field is stored as: modules with a method `packed(bits)` as that says, other parameters in float16.

    Buffers keep their type. `unpack` reads it back.
    """
    packed: dict[str, Tensor] = {}
    taken: set[str] = set()
    for name, part in module.named_modules():
        if hasattr(part, "packed"):
            prefix = f"{name}." if name else ""
            packed |= {prefix + key: value for key, value in part.packed(bits).items()}
            taken |= {prefix + key for key, _ in part.named_parameters(recurse=False)}
    for name, value in module.named_parameters():
        if name not in taken:
            packed[name] = value.detach().half()
    return packed | {name: value for name, value in module.state_dict().items() if name not in taken | packed.keys()}


@torch.no_grad()
def unpack(module: nn.Module, packed: Mapping[str, Tensor]) -> None:
    """Sets the parameters of a module from what `pack` gave; UserError where a name or a shape does not fit."""
    left = dict(packed)
    try:
        for name, part in module.named_modules():
            if hasattr(part, "load_packed"):
                prefix = f"{name}." if name else ""
                part.load_packed({key: left.pop(prefix + key) for key in part.packed_names()})
        for name, value in module.state_dict().items():
            if name in left:
                value.copy_(left.pop(name))
    except (KeyError, RuntimeError) as error:
        raise UserError(f"packed field: expected what pack() gave for the same configuration ({error})") from None
    if left:
        raise UserError(f"packed field: unknown entries {sorted(left)}")


def n_bytes(packed: Mapping[str, Tensor]) -> int:
    """Bytes of the values, without a file's header."""
    return sum(value.numel() * value.element_size() for value in packed.values())
