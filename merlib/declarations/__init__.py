"""Declarations: papers/<paper>/*.toml -> typed, checked cells and recipes. The grammar is in papers/README.md.

`schema` has the types, `leaves` the dotted names, `printed` the cells, `recipes` the recipe of a row, `readings` the
tables that readings make, `stand_ins` what runs where a root lacks what the paper used; `folder` reads the files,
`loading` checks what they declare, `works` has the bibliography.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=["works"],
    submod_attrs={
        "loading": ["folders", "load", "papers", "read", "search_path"],
        "printed": ["addresses", "cells", "number", "rivals", "row_cells"],
        "recipes": [
            "BASE", "base_recipe", "changed", "needs", "overruled", "recipe", "recipe_of", "with_stand_ins",
        ],
        "readings": ["READ", "Multiverse"],
        "learned": ["array_of", "encoder_of", "extracted", "wanted"],
        "schema": ["LETTERS", "SCORES", "Cell", "Claim", "Column", "Paper", "Row", "Table", "Work"],
        "stand_ins": ["standing_in", "substitutes"],
    },
)  # fmt: skip
