"""The two tables that a paper's readings make: `readings` switches one at a time, `multiverse` all of them at once."""

from merlib.declarations.printed import cells
from merlib.declarations.schema import SCORES, Column, Paper, Reading, Row, Table
from merlib.errors import DeclarationError

READ = (  # leaves of `data` that a run reads; all others are settings of the extraction
    "data.unit", "data.modalities", "data.text", "data.audio", "data.visual", "data.standardize", "data.classes",
    "data.augment", "data.on_failure", "data.order",
)  # fmt: skip
JOIN = "+"  # between the options that a row of the table `multiverse` takes


class Multiverse(Table):
    """The headline scores under every joint choice of the readings, of which only some are ever drawn.

    No row is listed: `find` makes the row of an id, which names an option of each reading in the order of `readings`.
    """

    readings: dict[str, Reading]

    def find(self, row: str) -> Row:
        options = row.split(JOIN)
        chosen = dict(zip(self.readings, options, strict=False))
        known = all(option in self.readings[name].options for name, option in chosen.items())
        if not known or len(options) != len(self.readings):
            expected = f"expected an option of each of {', '.join(self.readings)}, with {JOIN} between them"
            raise DeclarationError(f"{row!r} is no row of {self.id}: {expected}; `merlib multiverse` draws rows")
        label = ", ".join(f"{name}: {option}" for name, option in chosen.items())
        return Row(id=row, label=label, change={f"readings.{name}": option for name, option in chosen.items()})

    @property
    def default(self) -> str:
        """The row in which every reading has its default option."""
        return JOIN.join(reading.default for reading in self.readings.values())


def tables_of_readings(paper: Paper) -> dict[str, Table]:
    """The table `readings` of a paper and, where it has readings to draw from, `multiverse`.

    Readings of leaves that no run reads are left out of both, since they are settled when features are extracted. A
    reading with a context has a row for its default option too, with which its other options are compared; in the
    table `multiverse`, which has no context, it would change nothing.
    """
    printed = {
        (cell.corpus, cell.metric)
        for name, table in paper.tables.items() for cell in cells(paper, name) if table.find(cell.row).runs
    }  # fmt: skip
    columns = {
        f"{corpus}_{metric}": Column(metric=metric, label=f"{corpus} {metric}", corpus=corpus)
        for corpus in paper.corpora for metric in SCORES if (corpus, metric) in printed
    }  # fmt: skip
    readings = {name: reading for name, reading in paper.readings.items() if _is_read(paper, reading)}
    rows = [Row(id="default", label="All default readings")]
    for name, reading in readings.items():
        context = paper.flat(reading.context)
        where = ", ".join(f"{leaf} = {value}" for leaf, value in context.items())
        for option in reading.options:
            if option != reading.default or reading.context:
                label = f"{name}: {option}" + f" (where {where})" * bool(where)
                change = context | {f"readings.{name}": option}
                rows.append(Row(id=f"{name}_{option}", label=label, change=change))
    joint = {name: reading for name, reading in readings.items() if not reading.context}
    same = {"where": "this study", "columns": columns, "when_named": True}  # longer than all other tables together
    tables = {"readings": Table(id="readings", caption="The range over all readings", row=rows, **same)}
    if joint:
        caption = "All readings at once"
        tables["multiverse"] = Multiverse(id="multiverse", caption=caption, row=[], readings=joint, **same)
    return tables


def _is_read(paper: Paper, reading: Reading) -> bool:
    """Whether a run reads a leaf of it."""
    leaves = {leaf for option in reading.options.values() for leaf in paper.flat(option)}
    return not all(leaf.startswith("data.") and leaf not in READ for leaf in leaves)
