"""Arrays that an encoder has to learn before a system reads them, one for each seed and fold: `[learned.*]`.

`merlib.roots.tuning` makes them; the names that recipes have for them hold `{seed}` and `{fold}`, which a run fills in.
"""

from collections.abc import Collection, Iterable, Mapping

from merlib.declarations.printed import row_cells
from merlib.declarations.recipes import recipe
from merlib.declarations.schema import LETTERS, Paper, Row


def array_of(name: str) -> str:
    """How a recipe names the array of each seed and fold."""
    return f"{name}_s{{seed}}_f{{fold}}"


def encoder_of(paper: Paper, name: str, corpus: str, arrays: Collection[str]) -> tuple[str, Row] | None:
    """The table and row whose network learns the arrays `name` on a root: the first whose own array the root has."""
    for address in paper.learned[name].rows:
        encoder = paper.row_at(address)
        if set(_read(paper, encoder, corpus)) <= set(arrays):
            return address.split("/")[0], encoder
    return None


def extracted(paper: Paper, array: str, modality: str, corpus: str) -> str:
    """The array that is extracted for one that an encoder learns: what the encoder reads; any other is itself."""
    for name, learned in paper.learned.items():
        if array == array_of(name):
            return recipe(paper, paper.row_at(learned.rows[0]), corpus)["data"][modality]
    return array


def wanted(paper: Paper, tables: Iterable[str], arrays: Mapping[str, Collection[str]]) -> list[tuple[str, str]]:
    """The (corpus, name) of all that rows of some tables read, and that a root can learn. arrays: of each corpus."""
    found = {}
    for table in map(paper.table, tables):
        for row in (row for row in table.row if row.trains):
            for corpus in {cell.corpus for cell in row_cells(paper, table, row)} & arrays.keys():
                read = _read(paper, row, corpus)
                for name in paper.learned:
                    if array_of(name) in read and encoder_of(paper, name, corpus, arrays[corpus]):
                        found[corpus, name] = True
    return list(found)


def _read(paper: Paper, row: Row, corpus: str) -> list[str]:
    """The arrays that a row names, as printed."""
    data = recipe(paper, row, corpus)["data"]
    return [data[modality] for letter, modality in LETTERS.items() if letter in data["modalities"]]
