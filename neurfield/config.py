# SPDX-License-Identifier: Apache-2.0
"""Configuration: YAML into frozen dataclasses and back, with errors that name file, line, key, value and the way out.

Every component owns a frozen dataclass whose annotations are the schema: `int float bool str`, `Literal[...]`,
`X | None`, `tuple[X, ...]`, nested dataclasses, one of several of them (`Annotated[A | B, OneOf(...)]`), and `Block`, a
mapping that another registry reads (`otype` and its keys). Ranges are written as `Annotated[int, Range(1, 24)]`.
Unknown and duplicate keys, wrong types and values out of range raise UserError.
"""

import contextlib
import dataclasses
import math
import types
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol, TypeVar

import yaml

from neurfield.checks import words
from neurfield.errors import UserError
from neurfield.registry import lookup, nearest

C = TypeVar("C")
E = TypeVar("E", bound="Entry")


@dataclass(frozen=True)
class Range:
    """Closed interval of allowed numbers."""

    low: float = -math.inf
    high: float = math.inf

    def __str__(self) -> str:
        if self.high == math.inf:
            return f"at least {self.low:g}"
        return f"{self.low:g} ... {self.high:g}"


@dataclass(frozen=True)
class OneOf:
    """Dataclasses by the `otype` that a mapping gives, `default` where it gives none. Each has a field of that name."""

    classes: Mapping[str, type]
    default: str


class Block(dict[str, Any]):
    """A mapping with an `otype` that an encoding or network registry reads; `where` is its place for error messages."""

    where = "configuration"


class Entry(Protocol):
    """Of a registry of blocks."""

    @property
    def config(self) -> type:
        """The keys of the block, a frozen dataclass."""


def read_block(registry: Mapping[str, E], block: Mapping[str, Any], kind: str) -> tuple[E, Any]:
    """The entry that the `otype` of a block names, and its other keys as the dataclass of that entry.

    Raises:
        UserError: no or unknown otype, unknown key, wrong type, value out of range.
    """
    keys = dict(block)
    otype = keys.pop("otype", None)
    if not isinstance(otype, str):
        raise UserError(f"{kind}: expected a key 'otype' with a name, got {otype!r} (valid: {', '.join(registry)})")
    entry = lookup(registry, otype, kind)
    return entry, from_dict(entry.config, keys, f"{kind} {otype}")


def load(cls: type[C], path: str | Path, bases: Mapping[str, Path] = MappingProxyType({})) -> C:
    """Reads a YAML file into the frozen dataclass `cls`; keys that are absent keep their defaults.

    Args:
        bases: files by name. A file with the key `base` takes from the one of that name what it does not say itself;
            a block with an `otype` says all of itself, one without changes single keys. `cls` must then have a `name`:
            that of a file which says none is the file's own without suffix, with a base or without.

    Raises:
        UserError: the file cannot be read, is no YAML, does not fit `cls`, or has a base that is none of `bases`.
    """
    with _flat_enough(str(path)):
        return _Reader(str(path)).dataclass(cls, _with_base(path, bases), "")


def loads(cls: type[C], text: str, name: str) -> C:
    """Reads YAML text like `load`; `name` stands for the file in messages."""
    with _flat_enough(name):
        return _Reader(name).dataclass(cls, _parse(text, name), "")


@contextlib.contextmanager
def _flat_enough(name: str) -> Iterator[None]:
    """One line for a text whose lists and mappings nest without end; reading them recurses."""
    try:
        yield
    except RecursionError:
        raise UserError(f"{name}: lists or mappings nest too deeply") from None


def _with_base(path: str | Path, bases: Mapping[str, Path]) -> yaml.Node:
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot read the configuration ({_reason(error)})") from None
    node, reader = _parse(text, str(path)), _Reader(str(path))
    if not bases:
        return node
    keys = {key: value for key, _, value in reader.items(node, "")}
    if "name" not in keys:  # a changed method is not the one that it changes, nor a whole one the default
        mark, text_tag = node.start_mark, "tag:yaml.org,2002:str"
        name_pair = (yaml.ScalarNode(text_tag, "name", mark), yaml.ScalarNode(text_tag, Path(path).stem, mark))
        node = yaml.MappingNode(node.tag, [*node.value, name_pair], mark)
    if "base" not in keys:
        return node
    said = keys["base"]
    name = reader.scalar(str, said, "base")
    if name not in bases:
        raise UserError(
            f"{reader.where(said)}: unknown base {name!r}{nearest(name, bases)} (valid: {', '.join(bases)})"
        )
    own = [pair for pair in node.value if pair[1] is not said]
    others = {other: file for other, file in bases.items() if other != name}  # a circle comes to an end
    return _merged(_with_base(bases[name], others), yaml.MappingNode(node.tag, own, node.start_mark))


def _merged(base: yaml.Node, own: yaml.Node) -> yaml.Node:
    if not (isinstance(base, yaml.MappingNode) and isinstance(own, yaml.MappingNode)):
        return own
    said = {str(key.value) for key, _ in own.value}
    if "otype" in said:
        return own
    known = {str(key.value): value for key, value in base.value}
    changed = [(key, _merged(known.get(str(key.value), value), value)) for key, value in own.value]
    kept = [pair for pair in base.value if str(pair[0].value) not in said]
    return yaml.MappingNode(own.tag, kept + changed, own.start_mark)


def _parse(text: str, name: str) -> yaml.Node:
    try:
        alias = next((token for token in yaml.scan(text) if isinstance(token, yaml.AliasToken)), None)
        loader = yaml.SafeLoader(text)
        loader.name = name  # of its marks
        node = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise UserError(f"{name}:{line}: not valid YAML ({error.problem or error.context})") from None
    except yaml.YAMLError:
        raise UserError(f"{name}: not valid YAML (a character that YAML does not allow)") from None
    if alias is not None:  # they may nest without end
        raise UserError(
            f"{name}:{alias.start_mark.line + 1}: aliases (*{alias.value}) are not supported, repeat the value"
        )
    return node or yaml.MappingNode("tag:yaml.org,2002:map", [])


def from_dict(cls: type[C], values: dict[str, Any], name: str) -> C:
    """Reads plain values, as `to_dict` gives them, with the same checks; messages start with `name`, without a line."""
    with _flat_enough(name):
        try:
            text = yaml.safe_dump(to_dict(values), sort_keys=False)  # of Blocks within, their plain dicts
        except yaml.representer.RepresenterError as error:
            kind = type(error.args[-1]).__name__
            raise UserError(f"{name}: expected numbers, text, lists and mappings, got a {kind} among them") from None
        return _Reader(name, with_lines=False).dataclass(cls, _compose(text, name), "")


def to_dict(config: Any) -> dict[str, Any]:
    """Plain dicts, lists and scalars of a configuration dataclass or a mapping; numbers of NumPy become Python's."""

    def plain(value: Any) -> Any:
        if dataclasses.is_dataclass(value):
            return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        if isinstance(value, Mapping):
            return {key: plain(item) for key, item in value.items()}
        if isinstance(value, tuple | list):
            return [plain(item) for item in value]
        if isinstance(value, bool):
            return value
        if isinstance(value, Integral):
            return int(value)
        return float(value) if isinstance(value, Real) else value

    return plain(config)


def dumps(config: Any) -> str:
    """The whole configuration as YAML that `loads` reads back to an equal object."""
    return yaml.safe_dump(to_dict(config), sort_keys=False, default_flow_style=False, width=120)


def difference(a: Any, b: Any, key: str = "") -> str | None:
    """The first dotted key whose values differ between two configurations of the same class; None: they are equal."""
    a, b = to_dict(a), to_dict(b)
    if not (isinstance(a, dict) and isinstance(b, dict)):
        return None if a == b else key
    found = (difference(a.get(name), b.get(name), _join(key, name)) for name in a | b)
    return next((name for name in found if name), None)


def check_ranges(config: Any) -> None:
    """For configurations made in code: raises UserError for a number that is out of the range of its annotation, or no
    whole number where that says int."""
    for name, hint in typing.get_type_hints(type(config), include_extras=True).items():
        value = getattr(config, name)
        for part in (hint, *typing.get_args(hint)):  # an optional one has it within
            allowed = part.__metadata__[0] if typing.get_origin(part) is typing.Annotated else None
            if not isinstance(allowed, Range) or value is None:
                continue
            kind: Any  # a Real has no order for type checkers
            kind, expected = (Integral, "an integer") if int in typing.get_args(part) else (Real, "a number")
            if not isinstance(value, kind) or isinstance(value, bool):
                raise UserError(f"{name}: expected {expected}, got {value!r}")
            if not allowed.low <= value <= allowed.high:
                raise UserError(f"{name}: expected {allowed}, got {value}")


def check_readable(config: Any, name: str) -> None:
    """For configurations made in code, before they are written: raises UserError for what `from_dict` would not read,
    such as a dataclass that is none of OneOf. Messages start with `name`."""
    from_dict(type(config), to_dict(config), name)


def override(config: C, assignments: Iterable[str], name: str = "--set") -> C:
    """Applies `dotted.key=value` assignments (values are YAML scalars or flow lists) to a configuration.

    Another `otype` for one of several dataclasses keeps the values of the keys that both have; a mapping in its place
    says all of itself.

    Raises:
        UserError: no `=`, an unknown key, or a value that does not fit.
    """
    for assignment in words(assignments):
        key, equals, text = assignment.partition("=")
        if not equals or not key:
            raise UserError(f"{name}: expected key=value, got {assignment!r}")
        with _flat_enough(f"{name} {key}"):
            config = _replace(config, key.split("."), text, f"{name} {assignment}", "")
    return config


def assigned(assignment: str) -> list[str]:
    """Dotted keys that an assignment of `override` sets; where its value is a mapping, those of all values in it."""

    def leaves(key: str, value: Any) -> list[str]:
        if not isinstance(value, dict):
            return [key]
        return [leaf for name, item in value.items() for leaf in leaves(f"{key}.{name}", item)]

    key, _, text = assignment.partition("=")
    return leaves(key, _scalar(text, assignment))


def _replace(config: Any, keys: Sequence[str], text: str, name: str, prefix: str) -> Any:
    key, rest = keys[0], keys[1:]
    path = f"{prefix}{key}"
    if isinstance(config, dict):
        block = Block(config)
        block[key] = _replace(config.get(key, {}), rest, text, name, path + ".") if rest else _scalar(text, name)
        block.where = name
        return block
    hints = typing.get_type_hints(type(config), include_extras=True)
    if key not in hints:
        raise UserError(f"{name}: unknown key {path!r}{nearest(key, hints)} (valid: {', '.join(hints)})")
    if rest:
        inner = getattr(config, key)
        if not (dataclasses.is_dataclass(inner) or isinstance(inner, dict)):
            raise UserError(f"{name}: {path!r} is a single value, it has no key {'.'.join(rest)!r}")
        choice = next((part for part in typing.get_args(hints[key]) if isinstance(part, OneOf)), None)
        if choice and rest == ["otype"]:
            value = _of_otype(inner, choice, text, name, path)
        else:
            value = _replace(inner, rest, text, name, path + ".")
    else:
        value = _Reader(name, with_lines=False).value(hints[key], _compose(text, name), path)
    return dataclasses.replace(config, **{key: value})


def _of_otype(config: Any, choice: OneOf, text: str, name: str, path: str) -> Any:
    otype = str(_scalar(text, name))
    keys = {f.name for f in dataclasses.fields(choice.classes[otype])} if otype in choice.classes else set()
    kept = {key: value for key, value in to_dict(config).items() if key in keys}
    node = _compose(yaml.safe_dump(kept | {"otype": otype}, sort_keys=False), name)
    return _Reader(name, with_lines=False).one_of(choice, node, path)


def _compose(text: str, name: str) -> yaml.Node:
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError:
        node = None
    if node is None:
        raise UserError(f"{name}: the value {text!r} is not a YAML value; quote text")
    return node


def _scalar(text: str, name: str) -> Any:
    return _construct(_compose(text, name))


def _construct(node: yaml.Node) -> Any:
    """Plain Python value of a node; the safe loader refuses every tag that is no plain value."""
    loader = yaml.SafeLoader("")
    try:
        return loader.construct_object(node, deep=True)
    finally:
        loader.dispose()


def _reason(error: Exception) -> str:
    return error.strerror.lower() if isinstance(error, OSError) and error.strerror else type(error).__name__


_KINDS: dict[type[yaml.Node], str] = {yaml.MappingNode: "a mapping", yaml.SequenceNode: "a list"}


@dataclass(frozen=True)
class _Reader:
    """Turns YAML nodes into values of annotated types; knows the file for messages."""

    name: str
    with_lines: bool = True

    def where(self, node: yaml.Node) -> str:
        if not self.with_lines or not node.start_mark:
            return self.name
        return f"{node.start_mark.name}:{node.start_mark.line + 1}"  # a base's keys are in its file

    def fail(self, node: yaml.Node, key: str, expected: str) -> typing.NoReturn:
        got = repr(node.value) if isinstance(node, yaml.ScalarNode) else _KINDS[type(node)]
        raise UserError(f"{self.where(node)}: {key}: expected {expected}, got {got}")

    def items(self, node: yaml.Node, path: str) -> list[tuple[str, yaml.Node, yaml.Node]]:
        """Keys, their nodes and values of a mapping, duplicates refused."""
        if not isinstance(node, yaml.MappingNode):
            self.fail(node, path or "the file", "a mapping of keys to values")
        seen: dict[str, yaml.Node] = {}
        found: list[tuple[str, yaml.Node, yaml.Node]] = []
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag == "tag:yaml.org,2002:merge":
                self.fail(key_node, path or "the file", "plain text keys")
            key = key_node.value
            if key in seen:
                first = seen[key].start_mark.line + 1
                raise UserError(
                    f"{self.where(key_node)}: duplicate key {_join(path, key)!r}, first given in line {first}"
                )
            seen[key] = key_node
            found.append((key, key_node, value_node))
        return found

    def dataclass(self, cls: type[C], node: yaml.Node, path: str) -> C:
        hints = typing.get_type_hints(cls, include_extras=True)
        values = {}
        for key, key_node, value_node in self.items(node, path):
            if key not in hints:
                known = f"{nearest(key, hints)} (valid: {', '.join(hints)})"
                raise UserError(f"{self.where(key_node)}: unknown key {_join(path, key)!r}{known}")
            values[key] = self.value(hints[key], value_node, _join(path, key))
        missing = [
            f.name
            for f in dataclasses.fields(cls)  # type: ignore[arg-type]
            if f.name not in values and f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        ]
        if missing:
            raise UserError(f"{self.where(node)}: missing key {_join(path, missing[0])!r}")
        return cls(**values)

    def value(self, hint: Any, node: yaml.Node, path: str) -> Any:
        if isinstance(hint, type) and dataclasses.is_dataclass(hint):
            return self.dataclass(hint, node, path)
        if hint is Block:
            return self.block(node, path)
        origin, arguments = typing.get_origin(hint), typing.get_args(hint)
        if origin is typing.Annotated:
            if isinstance(arguments[1], OneOf):
                return self.one_of(arguments[1], node, path)
            return self.ranged(arguments[0], arguments[1], node, path)
        if origin in (types.UnionType, typing.Union):
            return self.optional(arguments, node, path)
        if origin is typing.Literal:
            names = {str(argument): argument for argument in arguments}
            if not isinstance(node, yaml.ScalarNode) or node.value not in names:
                self.fail(node, path, f"one of {', '.join(names)}{nearest(str(node.value), names)}")
            return names[node.value]
        if origin is tuple:
            if not isinstance(node, yaml.SequenceNode):
                self.fail(node, path, "a list")
            return tuple(self.value(arguments[0], item, f"{path}[{i}]") for i, item in enumerate(node.value))
        return self.scalar(hint, node, path)

    def one_of(self, choice: OneOf, node: yaml.Node, path: str) -> Any:
        otypes = [value for key, _, value in self.items(node, path) if key == "otype"]
        name = str(otypes[0].value) if otypes else choice.default
        if name not in choice.classes:
            self.fail(otypes[0], f"{path}.otype", f"one of {', '.join(choice.classes)}{nearest(name, choice.classes)}")
        return self.dataclass(choice.classes[name], node, path)

    def block(self, node: yaml.Node, path: str) -> Block:
        block = Block()
        for key, _, value_node in self.items(node, path):
            nested = isinstance(value_node, yaml.MappingNode)
            block[key] = self.block(value_node, _join(path, key)) if nested else self.plain(value_node, path)
        block.where = f"{self.where(node)}: {path}"
        return block

    def plain(self, node: yaml.Node, path: str) -> Any:
        try:
            return _construct(node)
        except yaml.YAMLError:
            self.fail(node, path, "a plain value")

    def optional(self, arguments: tuple[Any, ...], node: yaml.Node, path: str) -> Any:
        if isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null":
            return None
        (inner,) = [a for a in arguments if a is not types.NoneType]
        return self.value(inner, node, path)

    def ranged(self, hint: Any, allowed: Range, node: yaml.Node, path: str) -> Any:
        value = self.value(hint, node, path)
        if value is not None and not allowed.low <= value <= allowed.high:
            self.fail(node, path, str(allowed))
        return value

    def scalar(self, hint: type, node: yaml.Node, path: str) -> Any:
        expected = {int: "an integer", float: "a number", bool: "true or false", str: "text"}[hint]
        if not isinstance(node, yaml.ScalarNode):
            self.fail(node, path, expected)
        if hint is str:
            return node.value
        value: Any = self.plain(node, path)
        if hint is float and isinstance(value, str):
            value = _float_text(value)  # YAML 1.1 takes 1e-3 for text because it has no dot
        if hint is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if type(value) is not hint or value != value:  # NaN differs from itself
            self.fail(node, path, expected)
        return value


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _float_text(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text
