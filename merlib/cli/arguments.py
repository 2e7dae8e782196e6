"""Arguments of the command line from text."""

import argparse
import re
import tomllib

from merlib.declarations.schema import LETTERS


def assignment(text: str) -> tuple[str, object]:
    """`key=value`, the value by `literal`."""
    key, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r}: write key=value, such as train.lr=1e-3 or readings.cell=slstm")
    return key, literal(value)


def literal(text: str) -> object:
    """A TOML literal (1e-3, true, "text", [0, 1]); anything else is the text itself."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def modalities(text: str) -> str:
    """Letters of T text, A audio, V visual."""
    if not text or set(text) - set(LETTERS):
        raise argparse.ArgumentTypeError(f"{text!r}: write letters of T text, A audio, V visual, such as AV")
    return text


def numbers(text: str) -> tuple[int, ...]:
    """Whole numbers, comma-separated."""
    if not all(re.fullmatch("[0-9]{1,9}", part) for part in text.split(",")):
        raise argparse.ArgumentTypeError(f"{text!r}: give whole numbers of at most nine digits, such as 0,1,2")
    return tuple(map(int, text.split(",")))
