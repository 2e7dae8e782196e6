"""What the row of a table unfolds into: its command, recipe, numbers, runs and cost, and what the audit says of it."""

import math
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any

import pandas as pd

from merlib import declarations
from merlib.audit import Finding
from merlib.declarations import Paper, Row, Table, works
from merlib.pages import markup
from merlib.pages.markup import html
from merlib.study.report import DOUBTS

SEEDS = "0,1,2"  # of the command for a row that has not run


_works = cache(works.works)


def unfolded(
    paper: Paper, table: Table, row: Row, *, ours: Mapping[str, Any], records: pd.DataFrame, findings: list[Finding],
    data: str,
) -> Iterator[str]:  # fmt: skip
    """The parts, as HTML. ours: column -> its line of `compare`; records, findings: those of this row."""
    if not row.runs:
        source = works.quoted(paper, row)
        quoted = works.citation(_works()[source]) if source else row.reference or "it names no source"
        yield f"<p>The paper quotes this row; it is not trained here. {html(quoted)}</p>"
    else:
        yield from _commands(f"{paper.id}/{table.id}/{row.id}", records, data)
        if row.kind != "fact":
            yield "<h4>Recipe</h4>"
            yield from _recipe(paper, table, row)
    if row.same_as:
        yield f"<p>Its printed numbers are those of the row <code>{html(row.same_as)}</code>.</p>"
    if ran := [line for line in ours.values() if not pd.isna(line.reproduced)]:
        yield "<h4>Numbers</h4>"
        yield from _numbers(ran)
    if len(records):
        yield "<h4>Runs and cost</h4>"
        yield _cost(records)
    if findings:
        yield "<h4>What the audit says of the printed numbers</h4>"
        yield f"<ul>{''.join(f'<li>{html(f.message)}</li>' for f in findings)}</ul>"


def _commands(address: str, records: pd.DataFrame, data: str) -> Iterator[str]:
    ran = len(records) > 0
    seeds = ",".join(map(str, sorted(records["seed"].unique()))) if ran else SEEDS
    made = "what is recorded here" if ran else "it on real data (it has not run so far)"
    yield f"<h4>Command</h4><p>To make {made}, with the corpora in the data root <code>{html(data)}</code>:</p>"
    yield markup.command(f"merlib run {address} --data {data} --seeds {seeds}")
    yield "<p>The same on a synthetic twin, without data or licence:</p>"
    yield markup.command(f"merlib run {address}")


def anchor(reading: str) -> str:
    """The place of a reading in the page of open points: the id that its heading gets."""
    return reading.removeprefix("readings.").replace("_", "-")


def _recipe(paper: Paper, table: Table, row: Row) -> Iterator[str]:
    """What the row changes, leaf by leaf, beside the base recipe; of another system, what it names itself."""
    leaves = paper.flat(row.change)
    if row.base:
        yield f"<p>Another system: <code>[base.{html(row.base)}]</code> of <code>paper.toml</code>.</p>"
    for leaf, option in leaves.items():
        if leaf.startswith("readings."):
            target = f"open_points.html#{anchor(leaf)}"
            yield f"<p>Reading {markup.link(target, leaf)}: <code>{html(option)}</code>.</p>"
    if row.base:
        head, lines = ("leaf", "here"), [(k, v) for k, v in leaves.items() if not k.startswith("readings.")]
    else:
        head, lines = ("leaf", "base recipe", "here"), list(_differences(paper, table, row))
    if lines:
        shown = [(f"<code>{html(leaf)}</code>", *map(markup.value, values)) for leaf, *values in lines]
        yield markup.table(head, shown)
    elif not row.base:
        yield f"<p>The {markup.link('recipe.html', 'base recipe')}, unchanged.</p>"


def _differences(paper: Paper, table: Table, row: Row) -> Iterator[tuple[str, Any, Any]]:
    """Each leaf that differs, with its value in the base recipe and in the row's; by corpus where these differ."""
    corpora = dict.fromkeys(cell.corpus for cell in declarations.row_cells(paper, table, row))
    before = {corpus: paper.flat(declarations.base_recipe(paper, corpus)) for corpus in corpora}
    here = {corpus: paper.flat(declarations.recipe(paper, row, corpus)) for corpus in corpora}
    for leaf in dict.fromkeys(leaf for recipes in (before, here) for of in recipes.values() for leaf in of):
        pair = tuple({corpus: of[corpus].get(leaf) for corpus in corpora} for of in (before, here))
        if pair[0] != pair[1]:
            yield leaf, *map(_one, pair)


def _one(by_corpus: dict[str, Any]) -> Any:
    """The value, where it is the same for all corpora."""
    values = list(by_corpus.values())
    return values[0] if all(value == values[0] for value in values) else by_corpus


def _numbers(ran: list[Any]) -> Iterator[str]:
    """The columns of `compare` that a cell of the table has no room for."""
    lines = []
    for line in ran:
        interval = "" if pd.isna(line.low) else f"{line.low:+.2f} to {line.high:+.2f}"
        difference = "" if pd.isna(line.difference) else f"{line.difference:+.2f}"
        numbers = map(markup.number, (line.printed, line.reproduced, line.test_peak))
        lines.append((html(line.score), *numbers, difference, interval, "<br>".join(map(html, _said(line)))))
    head = ("column", "printed", "ours", "peak on test", "ours - printed", "95 % interval", "inputs, verdict, doubts")
    yield markup.table(head, lines)
    features = dict.fromkeys(line.features for line in ran if line.features)
    yield f"<p>Features (text, audio, video):</p><ul>{''.join(f'<li>{html(text)}</li>' for text in features)}</ul>"


def _said(line: Any) -> Iterator[str]:
    """What `compare` says of a cell in words."""
    if line.inputs and not pd.isna(line.inputs):
        yield f"inputs: {line.inputs}"
    yield line.verdict or "no printed number"
    if line.never_predicted:
        yield f"never predicted: {line.never_predicted}"
    yield from (DOUBTS[name] for name in line.doubt.split())


def _cost(records: pd.DataFrame) -> str:
    """How many runs there are, of which seeds and folds, and what they took. Old records lack some columns."""
    runs = records.drop_duplicates("run")
    lines = [("seeds", ", ".join(map(str, sorted(records["seed"].unique()))))]
    lines += [("folds", records["fold"].nunique()), ("runs", len(runs))]
    for name, label, show in (
        ("seconds", "time of all runs", lambda seconds: _duration(seconds.sum())),
        ("peak_memory_mb", "most memory", lambda memory: f"{memory.max():.0f} MB"),
        ("device", "device", _distinct), ("torch", "PyTorch", _distinct), ("commit", "code", _distinct),
        ("substitutes", "stands in for what is printed", _distinct),
    ):  # fmt: skip
        known = runs[name].dropna() if name in runs else ()
        if len(known):
            lines.append((label, show(known)))
    return markup.table((), [(name, html(text)) for name, text in lines])


def _distinct(column: Iterable[str]) -> str:
    return "; ".join(dict.fromkeys(filter(None, column)))


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    return f"{math.ceil(seconds / 60)} minutes" if seconds < 3600 else f"{seconds / 3600:.1f} hours"
