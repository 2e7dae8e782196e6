"""A document in Markdown; citations are Pandoc's, `[@key]`, and the works stand at its end."""

from collections.abc import Mapping, Sequence

import pandas as pd

from merlib.declarations import Work
from merlib.declarations.works import citation
from merlib.study.replication.blocks import Block, Entry, Gap, Grid, Heading, Picture, Prose, Title

SUFFIX, PICTURES, UNDATED = "md", "png", {"Software": None}


def text(document: Sequence[Block], cited: Mapping[str, Work]) -> str:
    works = [f"- [@{key}] {citation(work)}" for key, work in cited.items()]
    end = ["## References", "\n".join(works)] if works else []
    return "\n\n".join([*map(_block, document), *end]) + "\n"


def _block(block: Block) -> str:
    match block:
        case Title():
            return f"# {block.text}"
        case Heading():
            return f"{'#' * (block.level + 1)} {block.text}"
        case Prose():
            return block.markdown.strip()
        case Gap():
            return f"> **To be written:** {block.task}"
        case Picture():
            return f"![{block.caption}]({block.name}.png)"
        case Grid():
            header = [_cell(Entry(": ".join(filter(None, column)))) for column in block.columns]
            frame = pd.DataFrame([[_cell(cell) for cell in row] for row in block.rows], columns=header)
            return f"{frame.to_markdown(index=False, disable_numparse=True)}\n\n*{block.caption}*"


def _cell(cell: Entry) -> str:
    plain = " ".join(cell.text.split()).replace("|", "\\|")
    return f"{plain} [@{cell.cites}]" if cell.cites else plain
