"""The reference of the library, from its docstrings: read, not imported, so that it needs no torch.

Docstrings here are plain text in which backticks are code and indented lines a table: nearly Markdown, and written as
such. Names that start with an underscore are left out.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from merlib.pages import markup
from merlib.places import CHECKOUT

PACKAGE = CHECKOUT / "merlib"
Function = ast.FunctionDef | ast.AsyncFunctionDef


def packages() -> dict[str, list[Path]]:
    """Name of a page -> its modules: one page for each folder with modules, and one for those at the top."""
    pages: dict[str, list[Path]] = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        pages.setdefault(".".join(file.parent.relative_to(CHECKOUT).parts), []).append(file)
    return pages


def page(name: str, files: list[Path]) -> str:
    """The page of a folder: what its modules hold, in their own words."""
    parts = []
    for file in files:
        tree = ast.parse(file.read_text(encoding="utf-8"))
        module = name if file.stem == "__init__" else f"{name}.{file.stem}"
        public = [node for node in tree.body if isinstance(node, Function | ast.ClassDef) and node.name[0] != "_"]
        if public or ast.get_docstring(tree):
            parts += [f"## {markup.markdown(module)}", f"```{{py:module}} {module}\n```", docstring(tree)]
            parts += [entry for node in public for entry in _entry(node)]
    return markup.page(markup.markdown(name), *parts)


def _entry(node: Function | ast.ClassDef, *, inside: bool = False) -> Iterator[str]:
    """A function or a class as a directive; the public methods of a class stand inside it."""
    fence = "::::" if inside else ":::::"
    if isinstance(node, ast.ClassDef):
        methods = [each for each in node.body if isinstance(each, Function) and ast.get_docstring(each)]
        body = [docstring(node), *(e for m in methods if m.name[0] != "_" for e in _entry(m, inside=True))]
        first = next((each for each in node.body if isinstance(each, Function) and each.name == "__init__"), None)
        kind, signature = "class", f"({_arguments(first)})" if first else ""
    else:
        returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
        kind, signature, body = "method" if inside else "function", f"({_arguments(node)}){returns}", [docstring(node)]
    yield "\n".join([f"{fence}{{py:{kind}}} {node.name}{signature}", "", *filter(None, body), fence])


def _arguments(node: Function) -> str:
    return re.sub(r"^self(, )?", "", ast.unparse(node.args))


def docstring(node: ast.AST) -> str:
    """The docstring as Markdown; indented lines stay as they are, which makes them a block of code."""
    lines = (ast.get_docstring(node) or "").splitlines()
    return "\n".join(line if line.startswith("    ") else markup.markdown(line) for line in lines)
