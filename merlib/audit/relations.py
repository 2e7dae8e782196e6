"""Checks between printed numbers: claims of the text, bold type, one quantity in two places, sweeps, quotations."""

import re
from collections.abc import Iterator
from itertools import pairwise

from merlib import declarations
from merlib.audit.evaluations import key_of
from merlib.audit.printed import Finding, Interval, finding, interval, is_score, number, percent, point, scale, show
from merlib.declarations.schema import SCORES, Cell, Claim, Paper, Row, Table

LOOSE = re.compile(r"\b(about|approximately|nearly|roughly|almost)\b", re.IGNORECASE)
FALLING = ("mae", "loss", "seconds", "parameters")  # the lower, the better


def check(paper: Paper) -> Iterator[Finding]:
    known = declarations.addresses(paper)
    for claim in paper.claims:
        yield from claimed(paper, claim, known)
    for table in paper.tables.values():
        yield from bold(paper, table)
        yield from sweeps(paper, table)
    yield from twice(paper)


def claimed(paper: Paper, claim: Claim, known: dict[str, Cell]) -> Iterator[Finding]:
    """A claim's relation, on intervals; a claim that calls itself approximate is noted, never an error."""
    cells = [known[address] for address in claim.of]
    told = _holds(paper, claim, cells) if cells and claim.kind != "constant" else None
    if told is None:
        return
    message, severity, value, possible = told
    severity = "note" if LOOSE.search(claim.says) else severity
    here = known.get(f"claims/{claim.id}") or cells[0].model_copy(
        update={"table": "claims", "row": claim.id, "column": "value", "printed": None}
    )
    note = f" ({claim.note})" if claim.note else ""
    yield finding(
        here,
        claim.kind,
        severity,
        value=value,
        possible=possible,
        message=f"{claim.where}: {claim.says}. {message}{note}",
    )


def _holds(paper: Paper, claim: Claim, cells: list[Cell]) -> tuple | None:
    """None where the relation holds; else what to say, the severity, the recomputed value and its interval."""
    if claim.kind in ("best", "order"):
        return _best(paper, claim, cells[0]) if claim.kind == "best" else _order(claim, cells)
    if claim.kind == "equal" and claim.printed is None:
        pairs = [(a, b) for i, a in enumerate(cells) for b in cells[i + 1 :] if not _one_number(a, b)]
        return (f"{show(pairs[0][0])} is not {show(pairs[0][1])}.", "error", None, None) if pairs else None
    exact = not any(is_score(c) for c in cells)
    for by in sorted({1.0, *(1 / scale(c) for c in cells)}):  # a text may print percent of a table in fractions
        possible, formula = _computed(claim, [Interval(*(end * by for end in percent(c))) for c in cells], cells)
        mine = interval(claim.printed, exact=exact)
        if mine.meets(possible) or (claim.kind in ("difference", "relative") and _flip(mine).meets(possible)):
            return None
    said = formula if claim.kind in ("value", "equal") else f"{formula} is {_told(possible)}"
    return f"{said}; {claim.printed} is printed.", "error", possible.middle, possible


def _computed(claim: Claim, ends: list[Interval], cells: list[Cell]) -> tuple[Interval, str]:
    names = [show(c) for c in cells]
    if claim.kind == "difference":
        return Interval(ends[0].low - ends[1].high, ends[0].high - ends[1].low), f"{names[0]} - {names[1]}"
    if claim.kind == "relative":
        corners = [100 * (a - b) / b for a in ends[0] for b in ends[1] if b]
        return Interval(min(corners), max(corners)), f"100 ({names[0]} - {names[1]}) / {cells[1].printed}"
    if claim.kind == "sum":
        return Interval(sum(e.low for e in ends), sum(e.high for e in ends)), " + ".join(names)
    other = next((e for e in ends if not e.meets(interval(claim.printed, exact=not is_score(cells[0])))), ends[0])
    return other, names[ends.index(other)]


def _flip(of: Interval) -> Interval:
    return Interval(-of.high, -of.low)


def _told(of: Interval) -> str:
    return f"{of.middle:.4g}" if of.high - of.low < 1e-9 else f"between {of.low:.6g} and {of.high:.6g}"


def _one_number(a: Cell, b: Cell) -> bool:
    return percent(a).meets(percent(b)) if is_score(a) or is_score(b) else number(a.printed) == number(b.printed)


def rivals(paper: Paper, claim: Claim, cell: Cell) -> list[Cell]:
    """The cells that a `best` claim compares with: the same column of the rows `among`."""
    table = paper.tables[cell.table]
    asked = claim.among if isinstance(claim.among, list) else [
        row.id for row in table.row if claim.among == "all" or row.cited
    ]  # fmt: skip
    found = declarations.cells(paper, cell.table)
    return [c for c in found if c.column == cell.column and c.row in asked and c.row != cell.row]


def _against(high: Cell, low: Cell) -> tuple[str, str] | None:
    """What speaks against high > low, (`over` or `equal`, severity); None where nothing does.

    Beyond all rounding is an error. Digits of one precision in the wrong order are a note: rounding by one rule keeps
    the order.
    """
    if percent(high).high < percent(low).low:
        return "over", "error"
    if number(high.printed) == number(low.printed) and high.unit == low.unit:
        return "equal", "note"
    places = {(c.unit, number(c.printed).as_tuple().exponent) for c in (high, low)}
    return ("over", "note") if len(places) == 1 and point(high) < point(low) else None


def _best(paper: Paper, claim: Claim, cell: Cell) -> tuple | None:
    word = "low" if claim.lowest else "high"
    for other in sorted(rivals(paper, claim, cell), key=lambda c: percent(c).middle, reverse=not claim.lowest):
        if found := _against(other, cell) if claim.lowest else _against(cell, other):
            how = {"over": f"{word}er than", "equal": f"as {word} as"}[found[0]]
            return f"{show(other)} is {how} {show(cell)}.", found[1], None, None
    return None


def _order(claim: Claim, cells: list[Cell]) -> tuple | None:
    for first, second in pairwise(cells):
        high, low = (second, first) if claim.lowest else (first, second)
        if found := _against(high, low):
            equal = f"{show(first)} and {show(second)} are printed equal."
            return equal if found[0] == "equal" else f"{show(high)} is not above {show(low)}.", found[1], None, None
    return None


def bold(paper: Paper, table: Table) -> Iterator[Finding]:
    """Bold cells are not below other cells of their column."""
    by_column: dict[str, list[Cell]] = {}
    for cell in declarations.cells(paper, table.id):
        by_column.setdefault(cell.column, []).append(cell)
    for name, cells in by_column.items():
        marked = [c for c in cells if name in table.find(c.row).bold]
        falling = table.columns[name].metric in FALLING
        for cell in marked:
            better = [
                c
                for c in cells
                if (percent(c).high < percent(cell).low if falling else percent(c).low > percent(cell).high)
            ]
            better = [c for c in better if c not in marked]
            if better:
                yield finding(
                    cell, "bold", "note",
                    message=f"{show(cell)} is marked as best; {show(better[0])} is {'lower' if falling else 'higher'}.",
                )  # fmt: skip


def twice(paper: Paper) -> Iterator[Finding]:
    """One configuration (equal recipes by our reading), one corpus, one metric: one number, wherever it is printed."""
    first: dict[tuple, Cell] = {}
    for cell in declarations.cells(paper):
        if cell.table in paper.tables and cell.kind == "own" and is_score(cell):
            other = first.setdefault((*key_of(paper, cell), cell.metric, cell.emotion), cell)
            if not percent(cell).meets(percent(other)):
                label = paper.tables[cell.table].find(cell.row).label
                yield finding(
                    cell, "same_configuration", "note", value=point(other), possible=percent(other),
                    message=f"{show(cell)}, {label}, is the configuration that is printed as {show(other)} elsewhere, "
                    f"{abs(point(cell) - point(other)):.2f} points away. Two runs could differ so.",
                )  # fmt: skip


def sweeps(paper: Paper, table: Table) -> Iterator[Finding]:
    """The base recipe's value of a hyper-parameter against the best of the sweep over it."""
    swept: dict[tuple[str, str | None], list[Row]] = {}
    for row in table.row:
        keys = list(paper.flat(row.change))
        if len(keys) == 1 and row.reported and not row.cited:
            swept.setdefault((keys[0], row.base), []).append(row)
    for (key, base), rows in swept.items():
        for name in table.columns if len(rows) > 2 else ():
            cells = [
                c for row in rows for c in declarations.row_cells(paper, table, row) if c.column == name and c.printed
            ]
            falling = table.columns[name].metric in FALLING
            if len(cells) < 3 or not is_score(cells[0]):
                continue
            whole = declarations.recipe(paper, Row(id="base", label="base", base=base), cells[0].corpus)
            settled = next((c for c in cells if declarations.recipe_of(paper, c) == whole), None)
            top = (min if falling else max)(cells, key=lambda c: percent(c).middle)
            if settled and not percent(settled).meets(percent(top)):
                yield finding(
                    settled, "sweep", "note", value=point(top), possible=percent(top),
                    message=f"The paper settles on {table.find(settled.row).label}, which has {show(settled)}; the "
                    f"sweep over {key} is {'lowest' if falling else 'highest'} at {table.find(top.row).label}: "
                    f"{show(top)}.",
                )  # fmt: skip


def _system(label: str) -> str:
    """A quoted system's name without the modalities that some tables append to it."""
    return re.sub(r"[^a-z0-9]", "", re.split(r"[,(\[]", label)[0].casefold())


def across(papers: list[Paper]) -> Iterator[Finding]:
    """A quoted system has one number a corpus and metric, whichever paper quotes it."""
    quoted: dict[tuple, dict[tuple[str, str], list[Cell]]] = {}
    for paper in papers:
        for cell in declarations.cells(paper):
            if cell.kind == "cited" and cell.metric in (*SCORES, "f1") and cell.modalities is None:
                key = (_system(paper.tables[cell.table].find(cell.row).label), cell.corpus, cell.metric, cell.emotion)
                quoted.setdefault(key, {}).setdefault((paper.id, cell.table), []).append(cell)
    for places in quoted.values():
        single = [cells[0] for cells in places.values() if len(cells) == 1]  # several rows of one name: variants
        for cell in single[1:]:
            if not percent(cell).meets(percent(single[0])):
                first = single[0]
                yield finding(
                    cell, "quoted_twice", "note", value=point(first), possible=percent(first),
                    message=f"{paper_label(papers, cell)} is quoted with {show(cell)} in {cell.paper}, with "
                    f"{show(first)} in {first.paper}.",
                )  # fmt: skip


def paper_label(papers: list[Paper], cell: Cell) -> str:
    return next(p for p in papers if p.id == cell.paper).tables[cell.table].find(cell.row).label
