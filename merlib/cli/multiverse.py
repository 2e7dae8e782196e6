"""The command `merlib multiverse`."""

import json
from typing import Annotated

import typer

from merlib import declarations
from merlib.cli import arguments
from merlib.cli.arguments import AsJson, Device, OnePaper, Root, Seeds
from merlib.errors import RequestError

Draws = Annotated[int, typer.Option(min=1, help="How many joint choices of all readings.")]


def multiverse(
    words: OnePaper, draws: Draws = 24, seeds: Seeds = "0", device: Device = None, as_json: AsJson = False,
    data: Root = "twin",
) -> None:  # fmt: skip
    """Run a paper under many joint choices of its readings.

    Every option of a reading is drawn equally often. What has run is taken from the cache, so that the same command
    goes on where it was stopped. Shown is which share of the variance each reading explains.
    """
    from merlib import study, twins

    place = arguments.address(words)
    if place.table:
        raise RequestError(f"{'/'.join(words)}: draws are of a whole paper: `merlib multiverse {place.paper}`")
    paper = declarations.load(place.paper)
    twins.ensure(data, paper.corpora)
    study.multiverse.run(paper.id, draws, data=data, seeds=seeds, device=device)
    shown = {}
    for column in study.multiverse.headlines(paper):
        scores = study.multiverse.scores(paper, column, data)
        if len(scores):
            lines, shares = study.multiverse.beside(paper, column, data), study.multiverse.shares(scores)
            shown[column] = {"scores": scores.to_dict("records"), "beside": lines, "shares": shares.T.to_dict()}
            if not as_json:
                ends = f"{scores['score'].min():.1f} to {scores['score'].max():.1f}"
                named = "; ".join(f"{name} {value:.1f}" for name, value in lines.items())
                print(f"\n{column}: {scores['row'].nunique()} draws, {ends}; {named}\n{shares.to_string(na_rep='')}")
    if as_json:
        print(json.dumps(shown))
