"""Leaves of a recipe: `section.name` and its value, with a source or by corpus, in declarations and changes of them."""

import difflib
from decimal import Decimal
from typing import Any

from merlib.grammar import DeclarationError, one_of


def sourced(tree: dict) -> dict[str, tuple[Any, str]]:
    """`section.name` -> (value, source). A leaf is [value, source] or a bare value, which may be a table by corpus."""
    found = {}
    for section, leaves in tree.items():
        if "." not in section and not isinstance(leaves, dict):
            raise DeclarationError(
                f"{section!r} is no leaf: write section.name, such as train.lr (see papers/README.md)"
            )
        inner = {section: leaves} if "." in section else {f"{section}.{name}": leaf for name, leaf in leaves.items()}
        found |= {key: tuple(leaf) if _has_source(leaf) else (leaf, "") for key, leaf in inner.items()}
    return found


def _has_source(leaf: Any) -> bool:
    return isinstance(leaf, list) and len(leaf) == 2 and isinstance(leaf[1], str)


def flat(tree: dict) -> dict[str, Any]:
    """`section.name` -> value, of a change or of sections of leaves."""
    return {key: value for key, (value, _) in sourced(tree).items()}


def checked(key: str, value: Any, leaves: dict[str, Any]) -> Any:
    if key not in leaves:
        near = difflib.get_close_matches(key, leaves, n=3)
        raise DeclarationError(
            f"unknown recipe key {key!r}; " + (f"did you mean {near}?" if near else f"there are: {sorted(leaves)}")
        )
    asked, declared = ({_kind(v) for v in (x.values() if isinstance(x, dict) else [x])} for x in (value, leaves[key]))
    # seconds and percents need not be whole, though the declared ones are
    if key.split(".")[0] in (
        "data",
        "protocol",
    ):
        asked, declared = ({kind.removeprefix("whole ") for kind in kinds} for kinds in (asked, declared))
    if not asked <= declared | ({"whole number"} if "number" in declared else set()):
        raise DeclarationError(
            f"{key} = {value!r} is a {asked}; expected a {declared}, as the declared {leaves[key]!r}"
        )
    return value


def _kind(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return type(value).__name__
    return "whole number" if isinstance(value, int) else "number"


def _plain(value: Any) -> Any:
    return float(value) if isinstance(value, Decimal) else value


def for_corpus(value: Any, corpus: str) -> Any:
    if isinstance(value, dict):
        value = one_of(value, corpus, "corpus of a leaf")
    return _plain(value)
