"""Commands about what can be known before any training."""

from merlib.cli import arguments
from merlib.cli.arguments import AsJson, Root, Words
from merlib.errors import RequestError, one_of


def power(words: Words, as_json: AsJson = False, data: Root = "twin") -> None:
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
