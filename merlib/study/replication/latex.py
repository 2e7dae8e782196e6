"""A document in LaTeX: pandas lays out tables, tabulate says what is escaped and how, mistune reads Markdown."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import mistune
import pandas as pd
import tabulate

from merlib.declarations import Work
from merlib.declarations.works import FIELDS
from merlib.study.replication.blocks import CITED, Block, Entry, Gap, Grid, Heading, Picture, Prose, Title

SUFFIX, PICTURES, UNDATED = "tex", "pdf", {"CreationDate": None, "Creator": None}
ESCAPED = str.maketrans(tabulate.LATEX_ESCAPE_RULES)
IN_ENTRIES = str.maketrans({key: text for key, text in tabulate.LATEX_ESCAPE_RULES.items() if key not in "{}"})
SECTIONS = {1: "section", 2: "subsection", 3: "paragraph"}
BREAKS = re.compile(r"(\\_|[/.=,])")  # after which a line of code may end, once it is escaped
UNCOUNTED = "\\addtocounter{table}{-1}\n"  # a longtable without a caption takes a number, too
BREAK = r"\1\\allowbreak{}"
PREAMBLE = r"""% Build: latexmk -pdf report.tex, or tectonic report.tex
\documentclass[10pt]{article}
\usepackage[a4paper, margin=2.4cm]{geometry}
\usepackage{iftex}
\ifPDFTeX\usepackage[T1]{fontenc}\usepackage{lmodern}\fi
\usepackage{array, booktabs, graphicx, longtable, microtype, parskip, xcolor}
\usepackage[numbers]{natbib}
\usepackage[hidelinks]{hyperref}
\setlength{\tabcolsep}{3pt}
\setlength{\LTcapwidth}{\linewidth}
\setlength{\extrarowheight}{2pt}
\setlength{\emergencystretch}{3em}
\newcommand{\gap}[1]{\par\noindent\fcolorbox{red!60!black}{yellow!15}{%
  \parbox{\dimexpr\linewidth-2\fboxsep-2\fboxrule}{\textbf{To be written:} #1}}\par}
"""


def text(document: Sequence[Block], cited: Mapping[str, Work]) -> str:
    """The whole file; its bibliography is references.bib beside it."""
    title = "".join(escape(block.text) for block in document if isinstance(block, Title))
    head = [PREAMBLE, rf"\title{{{title}}}", r"\author{\textbf{To be written:} authors}", r"\date{\today}"]
    body = [_block(block) for block in document]
    end = [r"\bibliographystyle{unsrtnat}", r"\bibliography{references}"] if cited else []
    return "\n".join([*head, r"\begin{document}", r"\maketitle", *body, *end, r"\end{document}", ""])


def escape(words: str) -> str:
    """Plain text on one line, with nothing in it that LaTeX would take for a command."""
    return " ".join(words.split()).translate(ESCAPED)


def bibliography(cited: Mapping[str, Work]) -> str:
    """The entries of works, for BibTeX."""
    return "\n\n".join(_entry(key, work) for key, work in cited.items()) + "\n"


def _entry(key: str, work: Work) -> str:
    kind = "article" if work.journal else "inproceedings" if work.booktitle else "misc"
    fields = {"author": work.authors, "title": f"{{{work.title}}}"} | {name: getattr(work, name) for name in FIELDS}
    lines = [f"  {name} = {{{value.translate(IN_ENTRIES)}}}," for name, value in fields.items() if value]
    return "\n".join([f"@{kind}{{{key},", *lines, "}"])


def _block(block: Block) -> str:
    match block:
        case Title():
            return ""
        case Heading():
            return f"\\{SECTIONS[block.level]}{{{escape(block.text)}}}\n"
        case Prose():
            return _nodes(_markdown(block.markdown))
        case Gap():
            return f"\\gap{{{escape(block.task)}}}\n"
        case Picture():
            shown = rf"\includegraphics[width=\linewidth, height=0.8\textheight, keepaspectratio]{{{block.name}.pdf}}"
            return "\n".join([r"\begin{figure}[htbp]", r"\centering", shown, rf"\caption{{{escape(block.caption)}}}",
                              rf"\label{{fig:{block.name}}}", r"\end{figure}", ""])  # fmt: skip
        case Grid():
            return _grid(block)


def _grid(grid: Grid) -> str:
    header = [tuple(map(escape, column)) for column in grid.columns]
    rows = [[_cell(cell) for cell in row] for row in grid.rows]
    return _longtable(header, rows, grid.widths, caption=escape(grid.caption), label=f"tab:{grid.name}")


def _cell(cell: Entry) -> str:
    text = escape(cell.text) if " " in cell.text else BREAKS.sub(BREAK, escape(cell.text))
    return f"{text}~\\cite{{{cell.cites}}}" if cell.cites else text


def _longtable(
    header: Sequence[tuple[str, ...]], rows: Sequence[Sequence[str]], widths: Sequence[float | None], **more: str
) -> str:
    """A table over as many pages as it takes, of cells that are LaTeX already."""
    columns = pd.MultiIndex.from_tuples(header) if len(header[0]) > 1 else pd.Index([name for (name,) in header])
    layout = "".join("r" if w is None else rf">{{\raggedright\arraybackslash}}p{{{w:.2f}\linewidth}}" for w in widths)
    styled = pd.DataFrame(rows, columns=columns).style.hide(axis="index")
    options = {"environment": "longtable", "hrules": True, "multicol_align": "c"}
    return f"{{\\footnotesize\n{styled.to_latex(column_format=layout, **options, **more)}}}\n"


def _cite(inline: Any, found: Any, state: Any) -> int:
    state.append_token({"type": "cite", "raw": found["cited"]})
    return found.end()


def _citations(parser: mistune.Markdown) -> None:
    parser.inline.register("cite", CITED.pattern.replace("(", "(?P<cited>", 1), _cite, before="link")


_markdown = mistune.create_markdown(renderer="ast", plugins=["table", _citations])


def _code(words: str) -> str:
    unjoined = words.translate(ESCAPED).replace("--", "-{}-")  # else the font joins them to a dash
    return rf"\texttt{{{BREAKS.sub(BREAK, unjoined)}}}"


def _nodes(nodes: Sequence[dict]) -> str:
    return "".join(map(_node, nodes))


def _node(node: dict) -> str:
    """A node of mistune's tree in LaTeX; what this study's notes do not use is an error."""
    inside = lambda: _nodes(node["children"])
    match node["type"]:
        case "text" | "inline_html":
            return node["raw"].translate(ESCAPED)
        case "softbreak" | "linebreak" | "blank_line":
            return "\n"
        case "cite":
            return f"\\cite{{{node['raw']}}}"
        case "codespan":
            return _code(node["raw"])
        case "strong" | "emphasis" as style:
            return f"\\{'textbf' if style == 'strong' else 'emph'}{{{inside()}}}"
        case "link":
            return f"{inside()} (\\url{{{node['attrs']['url'].translate(IN_ENTRIES)}}})"
        case "paragraph":
            return f"{inside()}\n\n"
        case "block_text" | "list_item":
            return f"\\item {inside()}\n" if node["type"] == "list_item" else inside()
        case "list":
            kind = "enumerate" if node["attrs"]["ordered"] else "itemize"
            return f"\\begin{{{kind}}}\n{inside()}\\end{{{kind}}}\n\n"
        case "block_code":
            lines = (f"{_code(line)}\\\\\n" for line in node["raw"].strip().splitlines())
            return "{\\footnotesize\\raggedright\n" + "".join(lines) + "}\n\n"
        case "heading":
            return f"\\paragraph{{{inside()}}}\n"
        case "table":
            (head, body) = node["children"]
            header = [(_nodes(cell["children"]),) for cell in head["children"]]
            rows = [[_nodes(cell["children"]) for cell in row["children"]] for row in body["children"]]
            return _longtable(header, rows, [1 / len(header) - 0.015] * len(header)) + UNCOUNTED
    raise ValueError(f"a report has no form for {node['type']!r} of Markdown: {node}")
