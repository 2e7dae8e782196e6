"""Leaves of a recipe by their dotted names, such as `train.lr` or `model.encoder.layers`."""

import difflib
import math
import tomllib
from collections.abc import Collection, Mapping
from decimal import Decimal
from typing import Any

from merlib.errors import DeclarationError, listed, one_of

KINDS = {"integer": "an integer", "number": "a number", "str": "text", "bool": "true or false", "list": "a list"}


class Typed(str):
    """A value as it was typed on the command line: what it means depends on what is expected in its place."""

    __slots__ = ()

    def like(self, expected: Any) -> Any:
        """Where text is expected, the text, with or without quotes; else a TOML literal (1e-3, true, [0, 1]), if it is
        one. expected: a value, or values by corpus."""
        try:
            value = tomllib.loads(f"value = {self}")["value"]
        except (ValueError, RecursionError):  # no literal; one that is nested too deeply; an integer of 5,000 digits
            return str(self)
        expected = expected.values() if isinstance(expected, Mapping) else [expected]
        text = all(isinstance(each, str) for each in expected)
        return str(self) if text and not isinstance(value, str | dict) else value


def sourced(tree: Mapping[str, Any], corpora: Collection[str]) -> dict[str, tuple[Any, str]]:
    """Dotted name -> (value, source), from nested sections or from names that are dotted already.

    A leaf is [value, source] or a bare value. A table whose keys are corpora is a value for each corpus; any other
    table is a section. Raises DeclarationError for a leaf outside a section.
    """
    leaves: dict[str, tuple[Any, str]] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping) and not (value and set(value) <= set(corpora)):
            inside = {f"{name}.{key}": inner for key, inner in value.items()}
            leaves |= sourced(inside, corpora)
        elif "." not in name:
            raise DeclarationError(f"{name!r} is no leaf: write section.name, such as train.lr (see papers/README.md)")
        else:
            has_source = isinstance(value, list) and len(value) == 2 and isinstance(value[1], str)
            leaves[name] = tuple(value) if has_source else (value, "")
    return leaves


def flat(tree: Mapping[str, Any], corpora: Collection[str]) -> dict[str, Any]:
    """Dotted name -> value; see `sourced`."""
    return {key: value for key, (value, _) in sourced(tree, corpora).items()}


def nested(leaves: Mapping[str, Any]) -> dict[str, Any]:
    """Nested sections from values by their dotted names: the inverse of `flat`."""
    tree: dict[str, Any] = {}
    for key, value in sorted(leaves.items()):
        *sections, name = key.split(".")
        section = tree
        for inner in sections:
            section = section.setdefault(inner, {})
        section[name] = value
    return tree


def checked(key: str, value: Any, leaves: Mapping[str, Any]) -> Any:
    """The value, if a leaf of that name is declared and has a value of the same type; otherwise DeclarationError."""
    if key not in leaves:
        near = difflib.get_close_matches(key, leaves, n=3)
        hint = f"did you mean {listed(near)}?" if near else f"there are: {listed(sorted(leaves))}"
        raise DeclarationError(f"unknown recipe key {key!r}; {hint}")
    value = value.like(leaves[key]) if isinstance(value, Typed) else value
    actual, declared = ({_kind(v) for v in (x.values() if isinstance(x, dict) else [x])} for x in (value, leaves[key]))
    if key.split(".")[0] in ("data", "protocol"):  # seconds and percents may be fractions where an integer is declared
        actual, declared = ({kind.replace("integer", "number") for kind in kinds} for kinds in (actual, declared))
    if not actual <= declared | ({"integer"} if "number" in declared else set()):
        like = leaves[key] if isinstance(leaves[key], dict) else [leaves[key]]
        what, expected = (" or ".join(sorted(KINDS.get(kind, kind) for kind in kinds)) for kinds in (actual, declared))
        raise DeclarationError(f"{key} = {value!r} is {what}; expected {expected}, such as {listed(like)}")
    least = min([0, *_numbers(leaves[key])])
    if wrong := [number for number in _numbers(value) if not (math.isfinite(number) and number >= least)]:
        raise DeclarationError(f"{key} = {wrong[0]}: expected a finite number from {least} on")
    return value


def _numbers(value: Any) -> list[int | float | Decimal]:
    values = value.values() if isinstance(value, dict) else [value]
    return [each for each in values if _kind(each) in ("integer", "number")]


def _kind(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return type(value).__name__
    return "integer" if isinstance(value, int) else "number"


def for_corpus(value: Any, corpus: str) -> Any:
    """The value for one corpus; a Decimal becomes a float."""
    if isinstance(value, dict):
        value = one_of(value, corpus, "corpus of a leaf")
    return float(value) if isinstance(value, Decimal) else value
