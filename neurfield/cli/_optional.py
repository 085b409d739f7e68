# SPDX-License-Identifier: Apache-2.0
"""How the command line shows options: those that may be left out as `--data PATH`, not `--data {None}|PATH`."""

import dataclasses
import typing
from typing import Annotated, Any

import tyro
from tyro.constructors import (
    ConstructorRegistry,
    PrimitiveConstructorSpec,
    PrimitiveTypeInfo,
    StructConstructorSpec,
    StructFieldSpec,
    StructTypeInfo,
    UnsupportedTypeAnnotationError,
)

REGISTRY = ConstructorRegistry()
_ASKED = object()  # marks a question that this rule passes on


@REGISTRY.primitive_rule
def _optional(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | UnsupportedTypeAnnotationError | None:
    """`X | None` is spelled like X: None is what an option is without being given."""
    parts = typing.get_args(info.type)
    if len(parts) != 2 or parts[1] is not type(None):
        return None
    spec = ConstructorRegistry.get_primitive_spec(PrimitiveTypeInfo.make(parts[0], info.markers))
    if not isinstance(spec, PrimitiveConstructorSpec):
        return spec
    return dataclasses.replace(
        spec,
        is_instance=lambda value: value is None or spec.is_instance(value),
        str_from_instance=lambda value: ["None"] if value is None else spec.str_from_instance(value),
    )


@REGISTRY.struct_rule
def _explained(info: StructTypeInfo) -> StructConstructorSpec | None:
    """Texts of options flow whatever lines the source has, without `(default: None)`: they say what that means."""
    if _ASKED in info.markers or not dataclasses.is_dataclass(info.type):
        return None
    spec = ConstructorRegistry.get_struct_spec(dataclasses.replace(info, markers=(*info.markers, _ASKED)))
    if not isinstance(spec, StructConstructorSpec):
        return None
    return dataclasses.replace(spec, fields=tuple(_told(field) for field in spec.fields))


def _told(field: StructFieldSpec) -> StructFieldSpec:
    def flowing() -> str | None:
        text = field.helptext() if callable(field.helptext) else field.helptext
        return text and " ".join(text.split())

    silent = tyro.conf.arg(help_behavior_hint="")
    shown: Any = Annotated[field.type, silent] if field.default is None else field.type
    return dataclasses.replace(field, type=shown, helptext=flowing)
