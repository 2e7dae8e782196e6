"""A study: cells of a table -> runs -> records -> printed beside reproduced.

    planning    the runs of a table on a data root
    costs       what a run will take
    batch       the runs of many tables, each once
    tables      the runs of a table, trained, and their records
    multiverse  joint draws over all readings; design balances them
    identity    the id of a run
    runs        one run, from the cache or trained now
    recorded    which numbers have records
    records     the files of records
    outcomes    right and wrong of each run, in counts, for a clone without data
    statistics  intervals and tests
    stale       records whose recipe or code is not the present one, told without data
    reruns      the recorded runs that a root would not give today, trained anew
    likeness    whether the inputs of a run are those of a printed score
    verdicts    what a run says of a printed score
    comparison  printed beside reproduced, for one table
    paired      two rows on the same test utterances
    pairs       two rows that a claim sets beside each other, on equal inputs
    claimed     the pairs of printed scores that the claims of a paper set beside each other
    claims      what the text claims, judged on our own runs; claims_page tells it
    power       how many seeds a claim needs, before training
    leaks       what training and test have in common; without_duplicates scores what they do not
    search      what validation selects of a system's settings
    report      all tables: summary, scoreboard, report.md
    front_page  what the README says of the results

Each name is loaded when it is first used, so that reading records needs no torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=[
        "batch",
        "claims",
        "claims_page",
        "comparison",
        "costs",
        "front_page",
        "identity",
        "leaks",
        "multiverse",
        "paired",
        "planning",
        "power",
        "records",
        "report",
        "reruns",
        "runs",
        "tables",
        "without_duplicates",
    ],
    submod_attrs={
        "batch": ["runs_of_batch"],
        "claims": ["judge_claims"],
        "comparison": ["compare"],
        "paired": ["against"],
        "planning": ["runs_of"],
        "recorded": ["recorded", "records_path"],
        "records": ["read_records", "write_records"],
        "report": ["scoreboard", "summary"],
        "runs": ["Run", "execute"],
        "search": ["searched"],
        "tables": ["run_table"],
    },
)  # fmt: skip
