# SPDX-License-Identifier: Apache-2.0
"""Configuration: what is written comes back, and every wrong line is named with its place and a way out."""

import math
import re
from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

import numpy as np
import pytest

from neurfield import config
from neurfield.config import Block, Range
from neurfield.errors import UserError


@dataclass(frozen=True)
class Inner:
    rate: Annotated[float, Range(0, 1)] = 0.5
    kind: Literal["random", "white"] = "white"


@dataclass(frozen=True)
class Outer:
    name: str = "x"
    count: Annotated[int, Range(1)] = 4
    limit: float | None = None
    on: bool = True
    sizes: tuple[int, ...] = (1, 2)
    inner: Inner = field(default_factory=Inner)
    block: Block = field(default_factory=lambda: Block(otype="A", depth=1))


def test_reads_nested_values_and_keeps_defaults():
    text = "name: lego\ncount: 7\nlimit: 1e-3\nsizes: [3]\ninner: {rate: 1}\nblock: {otype: B, deep: {k: [1, 2]}}\n"
    got = config.loads(Outer, text, "f.yaml")
    assert (got.name, got.count, got.limit, got.on, got.sizes) == ("lego", 7, 1e-3, True, (3,))
    assert got.inner == Inner(rate=1.0) and isinstance(got.inner.rate, float)
    assert got.block == {"otype": "B", "deep": {"k": [1, 2]}}
    assert got.block.where == "f.yaml:6: block"


def test_an_empty_file_is_all_defaults():
    assert config.loads(Outer, "", "f.yaml") == Outer()


def test_round_trip():
    value = config.override(Outer(), ["inner.rate=0.25", "limit=2", "block.deep=[1, 2]", "name='1'", "on=false"])
    assert config.loads(Outer, config.dumps(value), "f.yaml") == value
    assert config.from_dict(Outer, config.to_dict(value), "header") == value
    assert value.name == "1" and value.block["deep"] == [1, 2] and value.on is False


def test_numbers_of_numpy_are_numbers():
    values = {
        "count": np.int64(3),
        "limit": np.float32(0.5),
        "sizes": (np.int16(2), 3),
        "block": {"k": [np.float64(2)]},
    }
    got = config.from_dict(Outer, values, "block")
    assert (got.count, got.limit, got.sizes, got.block["k"]) == (3, 0.5, (2, 3), [2.0])
    assert config.loads(Outer, config.dumps(replace(got, count=np.int32(3))), "f.yaml") == got
    for odd, kind in ((np.ones(2), "ndarray"), (object(), "object")):
        with pytest.raises(UserError, match=f"^block: expected numbers, text, lists and mappings, got a {kind} among"):
            config.from_dict(Outer, {"limit": odd}, "block")


def test_blocks_within_blocks_are_read_by_their_registry():
    """As a preset, an assignment or a checkpoint gives them: the blocks inside are Blocks, too."""
    text = "block: {otype: A, deep: {otype: B, deeper: {otype: C, k: [1, 2]}}}\n"
    block = config.override(config.loads(Outer, text, "f.yaml"), ["block.deep.deeper.more=2"]).block
    values = {"name": "y", "block": block}
    assert config.from_dict(Outer, values, "block").block == block


def test_a_file_says_what_it_changes_of_its_base(tmp_path):
    files = {name: tmp_path / f"{name}.yaml" for name in ("first", "second", "own")}
    files["first"].write_text("name: a\ncount: 7\ninner: {rate: 1}\nblock: {otype: B, k: 1, deep: {otype: C, m: 2}}\n")
    files["second"].write_text("base: first\nname: b\ninner: {kind: random}\nblock: {k: 3}\n")

    def own(text: str) -> Outer:
        files["own"].write_text(text)
        return config.load(Outer, files["own"], files)

    got = own("on: false\nbase: second\nblock:\n  deep: {m: 4}\n")
    assert (got.name, got.count, got.on, got.inner) == ("own", 7, False, Inner(1.0, "random"))
    assert own("base: second\nname: mine").name == "mine"
    assert got.block == {"otype": "B", "k": 3, "deep": {"otype": "C", "m": 4}}
    assert got.block.where == f"{files['own']}:4: block"
    assert own("base: second").block.where == f"{files['second']}:4: block"
    assert own("base: second\nblock: {otype: B, l: 1}").block == {"otype": "B", "l": 1}
    for text, message in (
        ("count: 3\nbase: frist", r"own.yaml:2: unknown base 'frist', did you mean 'first'\?"),
        ("base: [first]", r"own.yaml:1: base: expected text, got a list"),
        ("base: first\nbase: first", r"own.yaml:2: duplicate key 'base'"),
        ("base: first\ninner: {rate: 1}\ninner: {rate: 0}", r"own.yaml:3: duplicate key 'inner'"),
        ("base: first\ninner: 3", r"own.yaml:2: inner: expected a mapping"),
        ("base: first\ninner: {[1]: 2}", r"own.yaml:2: inner: expected plain text keys"),
        ("base: own", r"own.yaml:1: unknown base 'own' \(valid: first, second\)"),
    ):
        with pytest.raises(UserError, match=message):
            own(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: a\ncuont: 3", "f.yaml:2: unknown key 'cuont', did you mean 'count'? (valid: name, count,"),
        ("inner:\n  raet: 1", "f.yaml:2: unknown key 'inner.raet', did you mean 'rate'?"),
        ("count: 3\nname: b\ncount: 4", "f.yaml:3: duplicate key 'count', first given in line 1"),
        ("block: {otype: A, otype: B}", "f.yaml:1: duplicate key 'block.otype', first given in line 1"),
        ("count: three", "f.yaml:1: count: expected an integer, got 'three'"),
        ("count: 2.5", "f.yaml:1: count: expected an integer, got '2.5'"),
        ("count: true", "f.yaml:1: count: expected an integer, got 'true'"),
        ("count: 0", "f.yaml:1: count: expected at least 1, got '0'"),
        ("inner: {rate: 1.5}", "f.yaml:1: inner.rate: expected 0 ... 1, got '1.5'"),
        ("inner: {rate: .nan}", "f.yaml:1: inner.rate: expected a number, got '.nan'"),
        (
            "inner: {kind: whit}",
            "f.yaml:1: inner.kind: expected one of random, white, did you mean 'white'?, got 'whit'",
        ),
        ("inner: 3", "f.yaml:1: inner: expected a mapping of keys to values, got '3'"),
        ("on: 1", "f.yaml:1: on: expected true or false, got '1'"),
        ("name: [a]", "f.yaml:1: name: expected text, got a list"),
        ("sizes: 3", "f.yaml:1: sizes: expected a list, got '3'"),
        ("sizes: [1, a]", "f.yaml:1: sizes[1]: expected an integer, got 'a'"),
        ("- a", "f.yaml:1: the file: expected a mapping of keys to values, got a list"),
        ("name: a\nb: [", "f.yaml:2: not valid YAML"),
        ("name: \x00", "f.yaml: not valid YAML"),
        ("block: &a {otype: *a}", "f.yaml:1: aliases (*a) are not supported"),
        ("block: {otype: !!python/object/apply:os.system [ls]}", "f.yaml:1: block: expected a plain value"),
    ],
)
def test_errors_name_the_place(text, message):
    with pytest.raises(UserError) as error:
        config.loads(Outer, text, "f.yaml")
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("count", "--set: expected key=value, got 'count'"),
        ("=3", "--set: expected key=value, got '=3'"),
        ("cuont=3", "--set cuont=3: unknown key 'cuont', did you mean 'count'?"),
        ("inner.raet=3", "--set inner.raet=3: unknown key 'inner.raet', did you mean 'rate'?"),
        ("count.x=3", "--set count.x=3: 'count' is a single value, it has no key 'x'"),
        ("count=a", "--set count=a: count: expected an integer, got 'a'"),
        ("inner.rate=2", "--set inner.rate=2: inner.rate: expected 0 ... 1, got '2'"),
        ("count=", "the value '' is not a YAML value"),
    ],
)
def test_override_errors(assignment, message):
    with pytest.raises(UserError) as error:
        config.override(Outer(), [assignment])
    assert message in str(error.value)


@pytest.mark.parametrize("text", ["[" * 1200 + "]" * 1200, "{a: " * 1200 + "1" + "}" * 1200])
def test_what_nests_without_end_is_one_line(tmp_path, text):
    message = "lists or mappings nest too deeply"
    (tmp_path / "deep.yaml").write_text(f"block: {text}")
    with pytest.raises(UserError, match=f"deep.yaml: {message}"):
        config.load(Outer, tmp_path / "deep.yaml", {"x": tmp_path / "deep.yaml"})
    with pytest.raises(UserError, match=f"f.yaml: {message}"):
        config.loads(Outer, f"block: {text}", "f.yaml")
    with pytest.raises(UserError, match=f"--set block.x: {message}"):
        config.override(Outer(), [f"block.x={text}"])
    deep: list = []
    for _ in range(1200):
        deep = [deep]
    with pytest.raises(UserError, match=f"f: {message}"):
        config.from_dict(Outer, {"block": {"x": deep}}, "f")


def test_ranges_hold_for_what_is_made_in_code():
    @dataclass(frozen=True)
    class Limits:
        seconds: Annotated[float, config.Range(0)] | None = None
        rate: Annotated[float, config.Range(0, 1)] = 0.5
        steps: Annotated[int, config.Range(0)] | None = None
        name: str = "x"

    for good in (Limits(), Limits(0.0, 1.0), Limits(math.inf, 1), Limits(steps=np.int64(3))):
        config.check_ranges(good)
    for bad, message in (
        (Limits(-1.0), "seconds: expected at least 0, got -1.0"),
        (Limits(math.nan), "seconds: expected at least 0, got nan"),
        (Limits(rate=2.0), "rate: expected 0 ... 1, got 2.0"),
        (Limits(rate="1"), "rate: expected a number, got '1'"),
        (Limits(steps=1e3), "steps: expected an integer, got 1000.0"),
        (Limits(steps=True), "steps: expected an integer, got True"),
    ):
        with pytest.raises(UserError, match=re.escape(message)):
            config.check_ranges(bad)


def test_the_first_difference_is_named():
    a = Outer()
    assert config.difference(a, config.override(a, [])) is None
    assert config.difference(a, config.override(a, ["inner.rate=0.25"])) == "inner.rate"
    assert config.difference(a, config.override(a, ["block.x={y: 1}"])) == "block.x"


def test_a_missing_file_is_one_line(tmp_path):
    with pytest.raises(UserError, match="cannot read the configuration"):
        config.load(Outer, tmp_path / "none.yaml")
