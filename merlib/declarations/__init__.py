"""Declarations: papers/<paper>/*.toml -> typed, checked cells and recipes. The grammar is in papers/README.md.

`schema` has the types, `leaves` the dotted names, `recipes` merges the recipe of a row, `printed` has the addresses of
printed numbers, `loading` reads the files.
"""

from merlib.declarations.loading import READ, folders, load, papers, search_path
from merlib.declarations.printed import addresses, cells, recipe_of, row_cells
from merlib.declarations.recipes import base_recipe, changed, needs, overruled, recipe
from merlib.declarations.schema import LETTERS, SCORES, Cell, Claim, Column, Paper, Row, Table

__all__ = [
    "LETTERS", "READ", "SCORES", "Cell", "Claim", "Column", "Paper", "Row", "Table", "addresses", "base_recipe",
    "cells", "changed", "folders", "load", "needs", "overruled", "papers", "recipe", "recipe_of", "row_cells",
    "search_path",
]  # fmt: skip
