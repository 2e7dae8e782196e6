"""The sources of the site (`make site`): Markdown pages of all that the library knows of the study.

Nothing here computes a number: pages show what `merlib compare`, `claims`, `audit` and `doctor` show, from the
declarations and the committed records. Sphinx makes HTML of them (docs/site/conf.py).

    tables      a table; rows: what each of its rows unfolds into
    papers      the pages of a paper
    corpora     the pages of corpora
    notebooks   executed notebooks and lessons
    documents   docs/*.md, the notes on each paper, how to add one
    reference   docstrings
    start       the first page
    drawing     a network in boxes
    site        all of them, written into a folder
    markup      pieces of HTML and Markdown
"""
