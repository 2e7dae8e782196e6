"""Commands about what can be known before any training."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from merlib.cli import arguments
from merlib.cli.arguments import AsJson, PaperOrTable, Root, word
from merlib.cli.data import NAMED, Target
from merlib.errors import RequestError, one_of

Corpora = Annotated[list[str] | None, typer.Argument(metavar="CORPUS", help=f"{NAMED} Default: all.", parser=word)]
EPISODES = "Of MELD: the folder of its CSV files, which name the episode of each dialogue."
SCORES = "Show the headline scores of recorded runs, with and without the test utterances whose line training has."
WRITE = "Also write results/<ROOT>/leaks.csv, of all corpora of the root."


def power(words: PaperOrTable, as_json: AsJson = False, data: Root = "twin") -> None:
    """Show how many seeds the claims of a paper need.

    Each claimed gain beside the spread between seeds on record: the seeds that find it in 80 % of studies, by a
    two-sided test at 5 % (seeds_holm: at the strictest level of Holm's adjustment over all claims), and the smallest
    gain that 3, 5 and 10 seeds find. From declarations and records alone.
    """
    from merlib.study import power

    paper, table, rows = arguments.address(words, needs=1)
    if rows:
        raise RequestError(f"claims are of a paper or of a table: `merlib power {paper} {table}`")
    one_of(arguments.data_roots(), data, "data root")
    board = power.power(paper, table or None, data)
    if as_json:
        return print(board.to_json(orient="records"))
    shown = board.drop(columns=["paper", "central", "tested", "own"]).round(2)
    print(shown.to_string(index=False, na_rep=""))
    print(f"\n{power.sentence(board, data)}")


def leaks(
    data: Target,
    corpora: Corpora = None,
    as_json: AsJson = False,
    episodes: Annotated[Path | None, typer.Option(metavar="FOLDER", help=EPISODES)] = None,
    scores: Annotated[bool, typer.Option("--scores", help=SCORES)] = False,
    write: Annotated[bool, typer.Option("--write", help=WRITE)] = False,
) -> None:
    """Show what training and test have in common.

    For each protocol of the papers and each fold: speakers, dialogues, scripts and episodes of the test split that also
    train or validate, lines that stand there word for word or nearly, and what the encoders were trained on. Without
    the corpus, the counts of results/<ROOT>/leaks.csv are shown.
    """
    from merlib import twins
    from merlib.corpora import meld
    from merlib.study import leaks, without_duplicates

    if corpora and write:
        raise RequestError(f"--write is of all corpora of {data!r}: leave out {' '.join(corpora)!r}")
    twins.ensure(data, corpora or ())
    if scores:
        board = without_duplicates.scores(data, corpora or ())
        shown = board.drop(columns=["row", "column"]).round(2).to_string(index=False, na_rep="")
        return print(board.to_json(orient="records") if as_json else shown)
    board, from_file = leaks.gathered(data, corpora or (), episodes=meld.episodes(episodes) if episodes else None)
    if from_file:
        print(f"{data!r} has no {', '.join(from_file)}: counts from {leaks.path_of(data)}", file=sys.stderr)
    if write:
        leaks.write(board, data)
    print(board.to_json(orient="records") if as_json else leaks.as_text(board))
