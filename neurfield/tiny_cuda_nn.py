# SPDX-License-Identifier: Apache-2.0
"""tiny-cuda-nn's torch bindings, `tinycudann`, where they are installed, and what they read of a block.

A block with `backend: tcnn` is built from them; parameters have the same layout, so the same block without it takes
over its state and gives it back.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from torch import Tensor, nn
from torch.func import functional_call

from neurfield.errors import UserError
from neurfield.ops.fused_mlp import ACTIVATIONS as OUR_ACTIVATIONS
from neurfield.ops.fused_mlp import ARGUMENTS
from neurfield.registry import lookup

BACKENDS = {"neurfield": False, "tcnn": True}
# otypes of encodings that both have, under the same name and with the same keys, but for OUR_ENCODING_KEYS
ENCODINGS = (
    "Identity",
    "Frequency",
    "TriangleWave",
    "OneBlob",
    "SphericalHarmonics",
    "Grid",
    "HashGrid",
    "TiledGrid",
    "DenseGrid",
    "Composite",
)
OUR_ENCODING_KEYS = ("init_range",)
NETWORKS = ("FullyFusedMLP", "MegakernelMLP", "CutlassMLP", "MLP")
NETWORK_KEYS = ("activation", "output_activation", "n_neurons", "n_hidden_layers")
ACTIVATIONS = tuple(name for name in OUR_ACTIVATIONS if name == "Sine" or name not in ARGUMENTS)
INSTALL = "pip install git+https://github.com/NVlabs/tiny-cuda-nn/#subdirectory=bindings/torch"

T = TypeVar("T")


def take_backend(block: dict[str, Any], kind: str) -> bool:
    """Takes `backend` out of a block and says whether that is tiny-cuda-nn.

    Raises:
        UserError: it is none of BACKENDS.
    """
    return lookup(BACKENDS, str(block.pop("backend", "neurfield")), f"{kind} backend")


def bindings(kind: str) -> Any:
    """The module `tinycudann`.

    Raises:
        UserError: it is not installed, or finds no device that it was built for.
    """
    try:
        import tinycudann
    except (ImportError, OSError) as error:
        raise UserError(
            f"{kind}: backend tcnn needs tiny-cuda-nn's torch bindings and a CUDA device ({error}); {INSTALL}, "
            "or leave backend out"
        ) from None
    return tinycudann


def check_encoding(kind: str, block: Mapping[str, Any]) -> None:
    """Raises UserError for an otype or a key that tiny-cuda-nn does not have, here or in a nested block."""
    if block.get("otype") not in ENCODINGS:
        raise UserError(f"{kind}: tiny-cuda-nn has no encoding {block.get('otype')!r} (valid: {', '.join(ENCODINGS)})")
    for key in OUR_ENCODING_KEYS:
        if key in block:
            raise UserError(f"{kind}: backend tcnn takes no {key}; leave one of them out")
    for nested in block.get("nested", ()):
        check_encoding(kind, nested)


def check_activations(kind: str, *names: str) -> None:
    """Raises UserError for activations that tiny-cuda-nn does not have."""
    known = {name.lower(): name for name in ACTIVATIONS}
    for name in names:
        if name.lower() not in known:
            raise UserError(f"{kind}: tiny-cuda-nn has no activation {name!r} (valid: {', '.join(ACTIVATIONS)})")


def built(kind: str, build: Callable[[], T]) -> T:
    """What `build` makes of the bindings; their refusal becomes a UserError."""
    try:
        return build()
    except RuntimeError as error:
        raise UserError(f"{kind}: backend tcnn refuses the block: {str(error).splitlines()[0]}") from None


def evaluate(kind: str, module: nn.Module, home: str, params: Tensor, x: Tensor) -> Tensor:
    """What a module of the bindings gives with these parameters, in x's dtype.

    Args:
        home: type of the device that the module was made for.

    Raises:
        UserError: x or the parameters are elsewhere; the bindings would move x and warn, or fail.
    """
    if x.device != params.device or x.device.type != home:
        raise UserError(
            f"{kind}: backend tcnn evaluates on {home}, got an input on {x.device} and parameters on {params.device}; "
            "use --device cuda, or leave backend out"
        )
    return functional_call(module, {"params": params}, (x,)).to(x.dtype)
