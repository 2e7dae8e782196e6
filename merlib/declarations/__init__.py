"""Declarations: papers/<paper>/*.toml -> typed, checked cells and recipes. The grammar is in papers/README.md.

`schema` has the types, `leaves` the dotted names, `recipes` cells and the recipe of a row; `loading` reads the files.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "loading": ["READ", "folders", "load", "papers", "search_path"],
        "recipes": [
            "addresses", "base_recipe", "cells", "changed", "needs", "overruled", "recipe", "recipe_of", "row_cells",
        ],
        "schema": ["LETTERS", "SCORES", "Cell", "Claim", "Column", "Paper", "Row", "Table"],
    },
)  # fmt: skip
